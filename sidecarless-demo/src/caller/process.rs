//! The caller as a process.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use examples::bookinfo::health;
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use inmesh::{Client, Mesh};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use super::load::Running;
use super::streams::Streams;
use super::{CONTROL, Call, Counts, Load, Outcome, Samples, Stream, Tally, Volley};

/// At most this many failures are reported one by one.
const MAX_FAILURES: usize = 5;

/// What the handlers share.
struct Process {
    client: Client,
    load: Mutex<Option<Running>>,
    streams: Mutex<Streams>,
}

/// Takes questions until the process is stopped.
pub(crate) async fn run(mesh: Mesh) -> anyhow::Result<()> {
    let address: Ipv4Addr = std::env::var("POD_IP").context("POD_IP is not set")?.parse()?;
    let listener = TcpListener::bind((address, CONTROL)).await?;
    let process = Arc::new(Process {
        client: mesh.client(),
        load: Mutex::default(),
        streams: Mutex::default(),
    });
    let control = Router::new()
        .route("/ready", get(async || "ready"))
        .route("/call", post(call))
        .route("/volley", post(volley))
        .route("/load/start", post(start))
        .route("/load/stop", post(stop))
        .route("/streams", post(streams))
        .route("/samples", post(samples))
        .with_state(process);
    axum::serve(listener, control)
        .with_graceful_shutdown(examples::told_to_stop())
        .await?;
    mesh.shutdown(examples::GRACE).await;
    Ok(())
}

async fn call(State(process): State<Arc<Process>>, Json(call): Json<Call>) -> Json<Outcome> {
    Json(send(&process.client, &call).await)
}

async fn volley(State(process): State<Arc<Process>>, Json(volley): Json<Volley>) -> Json<Tally> {
    let call = Call {
        method: "GET".to_owned(),
        url: volley.url,
        grpc: volley.grpc,
    };
    let outcomes = stream::repeat_with(|| send(&process.client, &call)).take(volley.count);
    let mut outcomes = outcomes.buffer_unordered(volley.width.max(1));
    let mut tally = Tally::default();
    while let Some(outcome) = outcomes.next().await {
        tally.add(&outcome);
    }
    Json(tally)
}

async fn start(State(process): State<Arc<Process>>, Json(load): Json<Load>) -> Json<()> {
    *process.load.lock().await = Some(Running::start(&process.client, &load));
    Json(())
}

async fn stop(State(process): State<Arc<Process>>) -> Json<Counts> {
    let running = process.load.lock().await.take();
    Json(match running {
        Some(running) => running.stop().await,
        None => Counts::default(),
    })
}

async fn streams(State(process): State<Arc<Process>>, Json(streams): Json<Vec<Stream>>) -> Json<()> {
    *process.streams.lock().await = Streams::start(&process.client, streams);
    Json(())
}

async fn samples(State(process): State<Arc<Process>>) -> Json<Samples> {
    Json(process.streams.lock().await.take())
}

/// Makes one request and reads its answer to the end.
pub(super) async fn send(client: &Client, call: &Call) -> Outcome {
    match exchange(client, call).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome {
            error: Some(format!("{error:#}")),
            ..Outcome::default()
        },
    }
}

async fn exchange(client: &Client, call: &Call) -> anyhow::Result<Outcome> {
    let mut request = Request::builder().method(call.method.as_str()).uri(&call.url);
    let mut body = Full::default();
    if call.grpc {
        request = request
            .method("POST")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        body = Full::new(Bytes::from_static(&health::REQUEST));
    }
    let request = request.body(body)?;
    let response = client.request(request).await?;
    let status = response.status().as_u16();
    let mut headers = BTreeMap::new();
    let mut note = |fields: &HeaderMap| {
        for (name, value) in fields {
            headers
                .entry(name.to_string())
                .or_insert_with(|| String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
    };
    note(response.headers());
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("reading the body: {error}"))?;
    body.trailers().into_iter().for_each(note);
    Ok(Outcome {
        status: Some(status),
        headers,
        error: None,
    })
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        if let Some(fault) = outcome.fault() {
            if self.failures.len() < MAX_FAILURES {
                self.failures.push(fault);
            }
            return;
        }
        let served_by = outcome.header(examples::bookinfo::hops::SERVED_BY).to_owned();
        let peer = outcome.header(examples::bookinfo::hops::PEER).to_owned();
        *self
            .answers
            .entry(served_by)
            .or_default()
            .entry(peer)
            .or_default() += 1;
    }
}
