//! Somebody whom a policy point asks, and who says whatever the fuzzer writes.

use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use inmesh::layer::{Ask, Asker, Asking, Call, MeshBody, Refusal};
use inmesh::name::{Peer, SpiffeId};
use inmesh::snapshot::{Place, Snapshot};
use tokio::runtime::{Builder, Runtime};
use tower_layer::Layer;
use tower_service::Service;

/// An answer: how it is framed, a head, and a body.
///
/// The first byte chooses a status and whether gRPC's frame is put around the body and its status behind it; the lines up
/// to an empty one are header fields.
#[derive(Clone, Debug)]
pub struct Said {
    /// The status.
    pub status: StatusCode,
    /// The head.
    pub headers: HeaderMap,
    /// The trailers.
    pub trailers: Option<HeaderMap>,
    /// The body.
    pub body: Bytes,
}

const STATUSES: [u16; 8] = [200, 200, 200, 200, 401, 302, 403, 503];
const FRAMED: u8 = 8;
const ENDED: u8 = 16;

impl Said {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (how, rest) = bytes.split_first()?;
        let status = StatusCode::from_u16(STATUSES[usize::from(how % 8)]).ok()?;
        let at = rest.windows(2).position(|two| two == b"\n\n");
        let (head, body) = at.map_or((&[][..], rest), |at| (&rest[..at], &rest[at + 2..]));
        let mut headers = HeaderMap::new();
        for line in head.split(|byte| *byte == b'\n').take(64) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let (name, value) = (
                HeaderName::from_bytes(&line[..colon]),
                HeaderValue::from_bytes(&line[colon + 1..]),
            );
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        let mut framed = BytesMut::new();
        if how & FRAMED != 0 {
            framed.put_u8(0);
            framed.put_u32(body.len() as u32);
        }
        framed.put_slice(body);
        let trailers = (how & ENDED != 0).then(|| {
            let status = (
                HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("0"),
            );
            HeaderMap::from_iter([status])
        });
        Some(Self {
            status,
            headers,
            trailers,
            body: framed.freeze(),
        })
    }

    /// The message that a gRPC answer carries, if it is one that ended well.
    pub fn message(&self) -> Option<Bytes> {
        let status = self.trailers.as_ref().and_then(|it| it.get("grpc-status"));
        let status = status.or_else(|| self.headers.get("grpc-status"))?;
        let framed = self.body.first() == Some(&0) && self.body.len() >= 5;
        let length = u32::from_be_bytes(*self.body.get(1..)?.first_chunk::<4>()?) as usize;
        (self.status == 200 && status == "0" && framed && self.body.len() == 5 + length)
            .then(|| self.body.slice(5..))
    }

    fn response(self) -> Response<MeshBody> {
        let trailers = self.trailers.map(Ok);
        let body = Full::new(self.body).with_trailers(std::future::ready(trailers));
        let mut response = Response::new(MeshBody::new(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

struct Oracle(Said);

impl Ask for Oracle {
    fn ask(&self, _: Request<MeshBody>) -> Asking {
        let response = self.0.clone().response();
        Box::pin(async move { Ok(response) })
    }
}

/// Where requests arrive that were let through.
#[derive(Clone, Default)]
pub struct Sink(Arc<Mutex<Option<Request<MeshBody>>>>);

impl Service<Call> for Sink {
    type Response = Response<MeshBody>;
    type Error = Refusal;
    type Future = std::future::Ready<Result<Response<MeshBody>, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        *self.0.lock().expect("nobody panicked") = Some(*call.request);
        std::future::ready(Ok(Response::new(MeshBody::empty())))
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime without threads")
});

/// What is sent in [`through`].
pub const HEADERS: [(&str, &str); 4] = [
    ("host", "web"),
    ("content-length", "2"),
    ("x-token", "one"),
    ("cookie", "a=b"),
];

/// Sends a request through a layer, where whoever is asked gives this answer; the request as it was let through, and what
/// its caller gets.
pub fn through<L>(
    view: &Arc<Snapshot>,
    said: Said,
    layer: impl FnOnce(Asker) -> L,
) -> (Option<Request<MeshBody>>, Result<Response<MeshBody>, Refusal>)
where
    L: Layer<Sink, Service: Service<Call, Response = Response<MeshBody>, Error = Refusal>>,
{
    let mut request = Request::builder().method(Method::POST).uri("/things?x=1&y=2");
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    let request = request.body(MeshBody::full("hi")).expect("it is a request");
    let curl = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/curl").expect("it is an identity");
    let mut call = Call::outgoing(request, Arc::clone(view));
    call.place = Some(Arc::new(Place::Workload { port: 8080 }));
    call.peer = Some(Arc::new(Peer::new(
        Some(curl),
        ([10, 0, 0, 9], 4711).into(),
        ([10, 0, 0, 1], 8080).into(),
    )));
    let sink = Sink::default();
    let mut service = layer(Asker::new(Oracle(said))).layer(sink.clone());
    let answer = RUNTIME.block_on(service.call(call));
    let reached = sink.0.lock().expect("nobody panicked").take();
    (reached, answer)
}

/// Whoever is asked may write headers, but none that frame a message or say whom it is for.
pub fn assert_framed(request: &Request<MeshBody>) {
    for name in [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "upgrade",
        "trailer",
    ] {
        let sent = HEADERS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value);
        let mut left = request.headers().get_all(name).iter();
        assert_eq!(
            left.next().map(HeaderValue::as_bytes),
            sent.map(str::as_bytes),
            "{name}"
        );
        assert!(left.next().is_none(), "{name} is there twice");
    }
    assert_eq!(request.uri().path(), "/things");
    assert_eq!(request.method(), Method::POST);
}
