//! Calling another bookinfo service through the mesh.

use std::time::Duration;

use anyhow::{Context, ensure};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request};
use http_body_util::{BodyExt, Limited};
use inmesh::Client;
use serde_json::Value;

use super::{END_USER, PORT, hops};

/// No bookinfo answer is anywhere near this large.
const MAX_ANSWER: usize = 1 << 20;
/// How long a section of the page may keep the reader waiting. The sample's page gives up after three seconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// Another service's answer.
pub(super) struct Answer {
    /// Its JSON.
    pub(super) json: Value,
    /// Which services stood behind it.
    pub(super) hops: Vec<String>,
}

/// Asks `service` for `path`, on behalf of the user that `incoming` names.
pub(super) async fn get(
    client: &Client,
    service: &str,
    path: &str,
    incoming: &HeaderMap,
) -> anyhow::Result<Answer> {
    let mut request = Request::get(format!("http://{service}:{PORT}{path}"));
    if let Some(user) = incoming.get(END_USER) {
        request = request.header(END_USER, user);
    }
    let request = request.body(Body::empty())?;
    tokio::time::timeout(PATIENCE, send(client, request))
        .await
        .with_context(|| format!("{service} did not answer within {PATIENCE:?}"))?
        .with_context(|| format!("asking {service}"))
}

async fn send(client: &Client, request: Request<Body>) -> anyhow::Result<Answer> {
    let response = client.request(request).await?;
    let hops = hops::of(response.headers());
    let status = response.status();
    let body: Bytes = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("reading the answer: {error}"))?
        .to_bytes();
    ensure!(status.is_success(), "it answered {status}");
    let json = serde_json::from_slice(&body).context("the answer is not JSON")?;
    Ok(Answer { json, hops })
}
