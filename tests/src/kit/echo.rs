//! The application of the tests: it says what it saw.
//!
//! | path | answer |
//! | --- | --- |
//! | `/sleep/MS` | later |
//! | `/status/CODE` | with that status |
//! | `/fail/CODE/TIMES/…` | with that status as many times (by path), then JSON |
//! | `/late/CODE/TIMES/…` | likewise, after the whole body has come |
//! | `/grpc/CODE/TIMES/…` | likewise with that gRPC status in the head |
//! | `/header/NAME/VALUE` | with that header |
//! | `/source/BYTES` | that many bytes, streamed |
//! | `/sink` | how many bytes came |
//! | `/mirror` | the request's body, streamed, and its trailers |
//! | `/upgrade` | 101 (200 to an extended CONNECT), and then every byte comes back |
//! | `/fan?to=URL&to=URL` | what those answered, called with the application's own client; 502 if one failed |
//! | anything else | JSON: [`Seen`] |

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use inmesh::{Body, Client, PeerIdentity};
use serde::Deserialize;
use serde_json::json;

/// What the application saw of a request.
#[derive(Clone, Debug, Deserialize)]
pub struct Seen {
    /// Which pod answered.
    pub pod: String,
    /// The method.
    pub method: String,
    /// The path and query.
    pub path: String,
    /// The authority or `Host`.
    pub host: String,
    /// The header fields; of repeated ones the last.
    pub headers: BTreeMap<String, String>,
    /// The proved identity of the direct caller.
    pub peer: Option<String>,
    /// The caller that a waypoint introduced.
    pub original: Option<String>,
}

/// The application of a pod.
#[derive(Clone, Debug)]
pub struct Echo {
    pod: Arc<str>,
    client: Option<Client>,
    served: Arc<AtomicUsize>,
    sunk: Arc<AtomicU64>,
    sinking: Arc<AtomicU64>,
    failed: Arc<Mutex<BTreeMap<String, usize>>>,
    pause: Duration,
}

impl Echo {
    /// The application of the pod with this name; with a client it can fan out.
    pub fn new(pod: &str, client: Option<Client>) -> Self {
        Self {
            pod: pod.into(),
            client,
            served: Arc::default(),
            sunk: Arc::default(),
            sinking: Arc::default(),
            failed: Arc::default(),
            pause: Duration::ZERO,
        }
    }

    /// The same, but each answer comes so much later.
    pub fn pausing(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// How many bytes `/sink` has read to the end of a body.
    pub fn sunk(&self) -> u64 {
        self.sunk.load(Ordering::SeqCst)
    }

    /// How many bytes `/sink` has read, of bodies that go on too.
    pub fn sinking(&self) -> u64 {
        self.sinking.load(Ordering::SeqCst)
    }

    /// The code that `/fail/CODE/TIMES/…`, or another such path, still has to give.
    fn failure(&self, prefix: &str, path: &str) -> Option<u16> {
        let mut parts = path.strip_prefix(prefix)?.split('/');
        let code = parts.next()?.parse().ok()?;
        let times: usize = parts.next()?.parse().ok()?;
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failed.entry(path.to_owned()).or_default();
        *count += 1;
        (*count <= times).then_some(code)
    }

    /// How many requests have reached the application.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    async fn answer(self, mut request: Request<Body>) -> Response<Body> {
        self.served.fetch_add(1, Ordering::SeqCst);
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        let path = request.uri().path().to_owned();
        let number = |prefix: &str| path.strip_prefix(prefix)?.parse::<u64>().ok();
        if let Some(pause) = number("/sleep/") {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            return Response::new(Body::from("awake"));
        }
        if let Some(code) = number("/status/") {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::from_u16(code as u16).unwrap_or_default();
            return response;
        }
        if path.starts_with("/late/") {
            sink(std::mem::take(request.body_mut())).await;
        }
        let failure = self.failure("/fail/", &path);
        if let Some(code) = failure.or_else(|| self.failure("/late/", &path)) {
            let mut response = Response::new(Body::from("not yet"));
            *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
            return response;
        }
        if let Some(code) = self.failure("/grpc/", &path) {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert("grpc-status", code.into());
            return response;
        }
        if let Some(("header", field)) = path[1..].split_once('/')
            && let Some((name, value)) = field.split_once('/')
            && let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value))
        {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert(name, value);
            return response;
        }
        if let Some(bytes) = number("/source/") {
            return Response::new(Body::new(source(bytes)));
        }
        match path.as_str() {
            "/sink" => {
                let bytes = counted(request.into_body(), &self.sinking).await;
                self.sunk.fetch_add(bytes, Ordering::SeqCst);
                Response::new(Body::from(bytes.to_string()))
            }
            "/mirror" => {
                let kind = request.headers().get(header::CONTENT_TYPE).cloned();
                let mut response = Response::new(request.into_body());
                if let Some(kind) = kind {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind);
                }
                response
            }
            "/upgrade" => {
                let protocol = request.headers().get(header::UPGRADE).cloned();
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    if let Ok(stream) = upgrade.await {
                        let (mut read, mut write) = tokio::io::split(hyper_util::rt::TokioIo::new(stream));
                        let _ = tokio::io::copy(&mut read, &mut write).await;
                    }
                });
                let mut response = Response::new(Body::empty());
                if request.method() == http::Method::CONNECT {
                    // RFC 8441: over HTTP/2 a tunnel stands with 200.
                    return response;
                }
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(
                    header::UPGRADE,
                    protocol.unwrap_or(HeaderValue::from_static("echo")),
                );
                response
            }
            "/fan" => self.fan(request.uri().query().unwrap_or_default()).await,
            _ => self.seen(&request),
        }
    }

    async fn fan(&self, query: &str) -> Response<Body> {
        let mut answers = String::new();
        let mut status = StatusCode::OK;
        for url in query.split('&').filter_map(|pair| pair.strip_prefix("to=")) {
            let answer = match &self.client {
                Some(client) => client.get(url).await,
                None => continue,
            };
            match answer {
                Ok(response) if response.status().is_success() => {
                    answers.push_str(&format!("{url} {}\n", response.status()));
                    continue;
                }
                Ok(response) => answers.push_str(&format!("{url} {}\n", response.status())),
                Err(refusal) => answers.push_str(&format!("{url} {refusal}\n")),
            }
            status = StatusCode::BAD_GATEWAY;
        }
        let mut response = Response::new(Body::from(answers));
        *response.status_mut() = status;
        response
    }

    fn seen(&self, request: &Request<Body>) -> Response<Body> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: BTreeMap<_, _> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        let host = request.uri().authority().map(ToString::to_string);
        let identity = request.extensions().get::<PeerIdentity>();
        let peer = identity.and_then(PeerIdentity::spiffe_id);
        let original = identity.and_then(|identity| identity.original.as_ref());
        let seen = json!({
            "pod": &*self.pod,
            "method": request.method().as_str(),
            "path": request.uri().path_and_query().map_or("", |path| path.as_str()),
            "host": host.or_else(|| headers.get("host").cloned()).unwrap_or_default(),
            "headers": headers,
            "peer": peer.map(|peer| peer.as_str()),
            "original": original.map(|original| original.id.as_str()),
        });
        let mut response = Response::new(Body::from(seen.to_string()));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        let pod = HeaderValue::from_str(&self.pod).unwrap_or(HeaderValue::from_static("?"));
        response.headers_mut().insert("x-pod", pod);
        response
    }
}

impl tower_service::Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move { Ok(echo.answer(request).await) })
    }
}

/// A body of that many bytes in frames of 64 KiB.
pub fn source(bytes: u64) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let frame = Bytes::from(vec![b'x'; 64 << 10]);
    let frames = (0..bytes.div_ceil(frame.len() as u64)).map(move |n| {
        let left = bytes - n * frame.len() as u64;
        Ok(Frame::data(frame.slice(..frame.len().min(left as usize))))
    });
    StreamBody::new(futures_util::stream::iter(frames))
}

/// A body of one frame and trailers.
pub fn with_trailers(
    data: Bytes,
    trailers: HeaderMap,
) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
    StreamBody::new(futures_util::stream::iter([
        Ok(Frame::data(data)),
        Ok(Frame::trailers(trailers)),
    ]))
}

/// Reads a body to its end and says how long it was.
pub async fn sink(body: Body) -> u64 {
    counted(body, &AtomicU64::new(0)).await
}

/// As [`sink`], telling meanwhile.
async fn counted(mut body: Body, so_far: &AtomicU64) -> u64 {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let more = frame.data_ref().map_or(0, |data| data.len() as u64);
        so_far.fetch_add(more, Ordering::SeqCst);
        bytes += more;
    }
    bytes
}
