//! HTTP without the mesh: for probes, admin pages, the browser's way in, and calls that ought to be refused.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take. Volleys of thousands of requests are one question.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection may take on one machine.
const CONNECT: Duration = Duration::from_secs(2);
/// The largest answer: a dump of the configuration.
const MAX_ANSWER: usize = 32 << 20;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body, as text.
    pub(crate) body: String,
}

/// GETs `path` from `authority`, which is `address:port`.
pub(crate) async fn get(authority: &str, path: &str) -> anyhow::Result<Answer> {
    send(authority, Request::get(path), Bytes::new()).await
}

/// POSTs a question as JSON and reads the answer as JSON.
pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(
    authority: &str,
    path: &str,
    question: &Q,
) -> anyhow::Result<A> {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    let answer = send(authority, request, serde_json::to_vec(question)?.into()).await?;
    anyhow::ensure!(
        answer.status.is_success(),
        "{authority}{path} answered {}",
        answer.status
    );
    serde_json::from_str(&answer.body).with_context(|| format!("{authority}{path} answered something else"))
}

async fn send(authority: &str, request: http::request::Builder, body: Bytes) -> anyhow::Result<Answer> {
    let request = request.header(header::HOST, authority).body(Full::new(body))?;
    timeout(PATIENCE, exchange(authority, request))
        .await
        .context("no answer in time")?
}

async fn exchange(authority: &str, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let stream = timeout(CONNECT, TcpStream::connect(authority))
        .await
        .context("no connection in time")??;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(anyhow::Error::from_boxed)?
        .to_bytes();
    connection.abort();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
