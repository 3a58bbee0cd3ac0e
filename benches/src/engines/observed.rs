//! Telemetry, as a request pays for it: a server's whole inbound stack in front of an application that answers at once.
//!
//! | world | what is told of a request |
//! | --- | --- |
//! | `plain` | what is told by default: metrics |
//! | `untold` | nothing |
//! | `all` | metrics, a line of the access log, and spans of one request in a hundred, which the mesh records |
//! | `all but …` | the same without that |
//! | `each recorded` | metrics, and a span of every request |
//! | `viewed` | metrics, and a live view that nobody looks at |
//! | `watched` | the same, and somebody looks: at 200 requests a second, which here are few |
//!
//! What telemetry costs is what these differ by. There is no socket, no TLS and no HTTP here.

use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::Full;
use inmesh::compile::{Handover, compile};
use inmesh::layer::stack::{self, Inbound};
use inmesh::layer::{Call, Drain, MeshBody, Origin, Refusal};
use inmesh::snapshot::{Live, Place, Wanted};
use inmesh::telemetry::Meter;
use inmesh::{Peer, SpiffeId};
use tower_service::Service;

use super::compile::{node, read, world};
use super::harness::Harness;

const PORT: u16 = 8080;

const NOT_COUNTED: &str = "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: none, namespace: istio-system}\n\
                           spec: {metrics: [{overrides: [{disabled: true}]}]}\n";
const LOG: &str = "    accessLogFile: /dev/null\n";
const SPANS: &str = "    extensionProviders: [{name: otel, opentelemetry: {service: otel.example, port: 4317}}]\n    \
                     defaultProviders: {tracing: [otel]}\n";
const EACH: &str = "    defaultConfig: {tracing: {sampling: 100}}\n";

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    for (name, yaml, wanted) in [
        ("plain", String::new(), Wanted::Nothing),
        ("untold", NOT_COUNTED.to_owned(), Wanted::Nothing),
        ("all", mesh(&[LOG, SPANS]), Wanted::Nothing),
        (
            "all but metrics",
            mesh(&[LOG, SPANS]) + NOT_COUNTED,
            Wanted::Nothing,
        ),
        ("all but log", mesh(&[SPANS]), Wanted::Nothing),
        ("all but spans", mesh(&[LOG]), Wanted::Nothing),
        ("each recorded", mesh(&[SPANS, EACH]), Wanted::Nothing),
        ("viewed", String::new(), Wanted::Remarkable),
        ("watched", String::new(), Wanted::All),
    ] {
        let mut server = Server::new(&yaml, wanted)?;
        ensure!(
            server.serve() == Some(StatusCode::OK),
            "{name}: it does not answer"
        );
        harness.operation(("request", name, 1), |_| server.serve());
    }
    Ok(())
}

/// A mesh configuration.
fn mesh(lines: &[&str]) -> String {
    let head = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n";
    format!("{head}{}", lines.concat())
}

struct Server {
    stack: Inbound<Application>,
    /// What was read of requests: hyper's are parts of such a buffer, which makes it cheap to keep something of them.
    read: BytesMut,
    /// Kept, or the process would be going away.
    _drain: Drain,
}

impl Server {
    fn new(yaml: &str, wanted: Wanted) -> Result<Self> {
        let store = read(&(world(0, 1)? + yaml))?;
        let compiled = compile(&store, &node(), &Handover::default(), None);
        let live = Arc::new(Live::new(compiled.snapshot));
        live.tap().want(wanted);
        let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/client0").context("an identity")?;
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 15008));
        let drain = Drain::new();
        let origin = Origin::new(
            live,
            Meter::new(),
            Arc::new(Peer::new(Some(id), address(9), address(1))),
            Arc::new(Place::Workload { port: PORT }),
            drain.watch(),
        );
        Ok(Self {
            stack: stack::inbound(Arc::new(origin), Application),
            read: BytesMut::with_capacity(16 * 1024),
            _drain: drain,
        })
    }

    /// One request, from its head to the end of its answer; nothing in it waits.
    fn serve(&mut self) -> Option<StatusCode> {
        self.read.extend_from_slice(b"/reviews/0reviews:9080bench/1");
        let head = self.read.split().freeze();
        let value = |range| HeaderValue::from_maybe_shared(head.slice(range)).ok();
        let mut request = Request::new(Full::<Bytes>::default());
        *request.uri_mut() = Uri::from_maybe_shared(head.slice(..10)).ok()?;
        request.headers_mut().insert(HOST, value(10..22)?);
        request.headers_mut().insert(USER_AGENT, value(22..29)?);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(response)) = pin!(self.stack.call(request)).poll(&mut cx) else {
            return None;
        };
        let (head, body) = response.into_parts();
        let mut body = pin!(body);
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
            frame.ok()?;
        }
        Some(head.status)
    }
}

/// As little as there can be.
#[derive(Clone)]
struct Application;

impl Service<Call> for Application {
    type Response = Response<MeshBody>;
    type Error = Refusal;
    type Future = Ready<Result<Response<MeshBody>, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Self::Future {
        ready(Ok(Response::new(MeshBody::full("hello"))))
    }
}
