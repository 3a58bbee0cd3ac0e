//! One request through the layers that a proxy sends it through, to an upstream that takes down what it gets.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use http::{HeaderMap, Request, Response, Uri};
use inmesh::layer::{Destination, Directed, Directory, MeshBody, Reason, Refusal, RetryLayer, stack};
use inmesh::snapshot::{Live, Snapshot};
use inmesh::telemetry::Meter;
use tower_service::Service;

/// What became of a request.
#[derive(Debug)]
pub(super) struct Exchange {
    /// What the caller got.
    pub(super) response: Response<MeshBody>,
    /// What upstreams got: the request, and copies of it.
    pub(super) taken: Vec<Taken>,
}

/// What an upstream got.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// The name of its service.
    pub(super) service: String,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl Exchange {
    /// What this service got.
    pub(super) fn by(&self, service: &str) -> Option<&Taken> {
        self.taken.iter().find(|it| it.service == service)
    }
}

/// Sends a request into what was compiled. Upstreams answer 200, with these headers.
pub(super) fn send(snapshot: Snapshot, request: Request<MeshBody>, answer: &HeaderMap) -> Result<Exchange> {
    let upstream = Upstream {
        taken: Arc::default(),
        answer: answer.clone(),
    };
    let taken = Arc::clone(&upstream.taken);
    let live = Arc::new(Live::new(snapshot));
    let meter = Meter::new();
    let retry = RetryLayer::new(meter.clone());
    let mut layers = stack::outbound(live, meter, &retry, Nowhere, None, upstream);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let response = runtime.block_on(async {
        let response = layers.call(request).await;
        // Copies are tasks of this thread that wait for nothing: they are done when they have had their turns.
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        response
    });
    let response = response.unwrap_or_else(|refusal| refusal.into_response(false));
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Exchange { response, taken })
}

/// The authority that a request names.
pub(super) fn authority(uri: &Uri, headers: &HeaderMap) -> Result<String> {
    Ok(match uri.authority() {
        Some(authority) => authority.to_string(),
        None => headers
            .get(http::header::HOST)
            .context("no authority")?
            .to_str()?
            .to_owned(),
    })
}

/// Takes down what it gets.
#[derive(Clone, Debug)]
struct Upstream {
    taken: Arc<Mutex<Vec<Taken>>>,
    answer: HeaderMap,
}

impl Service<Directed> for Upstream {
    type Response = Response<MeshBody>;
    type Error = Refusal;
    type Future = std::future::Ready<Result<Response<MeshBody>, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, directed: Directed) -> Self::Future {
        let routed = &directed.routed;
        let service = match &routed.to {
            Destination::Cluster(cluster) => cluster.service.name.to_string(),
            Destination::Endpoint(endpoint) => endpoint.addr.to_string(),
        };
        let taken = Taken {
            service,
            uri: routed.call.request.uri().clone(),
            headers: routed.call.request.headers().clone(),
        };
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(taken);
        let mut response = Response::new(MeshBody::empty());
        *response.headers_mut() = self.answer.clone();
        std::future::ready(Ok(response))
    }
}

/// Nothing is addressed by its own address here.
#[derive(Clone, Copy, Debug)]
struct Nowhere;

impl Directory for Nowhere {
    fn pod(&self, _: &Snapshot, ip: IpAddr, port: u16) -> Result<Destination, Refusal> {
        Err(Refusal::new(Reason::NoRoute, format!("{ip}:{port} is nowhere")))
    }
}

/// The text of a body.
pub(super) fn text(body: MeshBody) -> Result<String> {
    use http_body_util::BodyExt;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let body = runtime.block_on(body.collect());
    let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}
