//! The echo backend: answers with what it saw, and behaves as a request asks it to.
//!
//! | request | behaviour |
//! | --- | --- |
//! | `?delay=1s` | answers later |
//! | `/status/NNN` | answers with that status |
//! | `/retry/…?uuid=U&succeedAfter=N&responseCode=C` | the first N requests with this U are answered with C, or reset |
//! | `/ws` | WebSocket echo |
//! | `X-Echo-Set-Header: name:value,…` | those headers on the answer |
//! | `application/grpc` | see [`grpc`] |

pub mod grpc;
mod serve;
mod websocket;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use inmesh::Body;

use super::ledger::{Ledger, Seen};

pub use serve::{Door, serve};

/// How a request asks for headers on its answer.
pub const SET_HEADER: &str = "x-echo-set-header";

/// The application of one pod.
#[derive(Clone, Debug)]
pub struct Echo {
    who: Arc<Who>,
    ledger: Ledger,
    /// How often a `/retry/` request has come, by its `uuid`.
    tries: Arc<Mutex<HashMap<String, u32>>>,
    door: Arc<Door>,
}

/// Which pod this is.
#[derive(Clone, Debug)]
pub struct Who {
    /// The Deployment's namespace.
    pub namespace: String,
    /// The Deployment.
    pub deployment: String,
    /// The pod.
    pub pod: String,
}

/// On an answer: the connection is to be torn down instead.
#[derive(Clone, Copy, Debug)]
struct Reset;

impl Echo {
    /// The application of a pod.
    pub fn new(who: Who, ledger: Ledger) -> Self {
        Self {
            who: Arc::new(who),
            ledger,
            tries: Arc::default(),
            door: Arc::new(Door::default()),
        }
    }

    /// As it answers on one of the pod's ports.
    pub fn at(&self, door: Door) -> Self {
        Self {
            door: Arc::new(door),
            ..self.clone()
        }
    }

    async fn answer(self, mut request: Request<Body>) -> Response<Body> {
        if self.door.http2_only && request.version() != Version::HTTP_2 {
            return plain(StatusCode::BAD_REQUEST);
        }
        let seen = self.ledger.note(self.seen(&request));
        let query = Query::of(request.uri().query());
        if let Some(delay) = query.get("delay").and_then(duration) {
            tokio::time::sleep(delay).await;
        }
        let path = request.uri().path();
        let mut response = if self.door.grpc && grpc::is_grpc(request.headers()) {
            grpc::answer(path, self.door.any_method, &seen)
        } else if path == "/ws" && request.headers().contains_key(UPGRADE) {
            websocket::accept(&mut request)
        } else if path.starts_with("/retry/") {
            self.retry(&query, &seen).await
        } else {
            let asked = path.strip_prefix("/status/").and_then(|it| it.parse().ok());
            echo(asked.unwrap_or(StatusCode::OK), &seen)
        };
        set_headers(&mut response, &seen);
        // Read to its end, so that the connection can carry another request.
        while let Some(Ok(_)) = request.body_mut().frame().await {}
        response
    }

    fn seen(&self, request: &Request<Body>) -> Seen {
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in request.headers() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.entry(name.to_string()).or_default().push(value);
        }
        let host = request.headers().get(HOST).and_then(|it| it.to_str().ok());
        let authority = request.uri().authority().map(|it| it.as_str());
        Seen {
            number: 0,
            deployment: self.who.deployment.clone(),
            namespace: self.who.namespace.clone(),
            pod: self.who.pod.clone(),
            port: self.door.port,
            protocol: format!("{:?}", request.version()),
            method: request.method().to_string(),
            path: request
                .uri()
                .path_and_query()
                .map_or("/", |it| it.as_str())
                .to_owned(),
            host: authority.or(host).unwrap_or_default().to_owned(),
            headers,
            sni: self.door.sni.clone(),
        }
    }

    async fn retry(&self, query: &Query, seen: &Seen) -> Response<Body> {
        let uuid = query.get("uuid").unwrap_or_default();
        let after: u32 = query
            .get("succeedAfter")
            .and_then(|it| it.parse().ok())
            .unwrap_or(0);
        let earlier = {
            let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
            let tries = tries.entry(uuid.to_owned()).or_default();
            *tries += 1;
            *tries - 1
        };
        if earlier >= after {
            return echo(StatusCode::OK, seen);
        }
        if let Some(delay) = query.get("delayRetry").and_then(duration) {
            tokio::time::sleep(delay).await;
        }
        match query.get("responseCode").and_then(|it| it.parse().ok()) {
            Some(code) => echo(code, seen),
            None => {
                let mut response = plain(StatusCode::OK);
                response.extensions_mut().insert(Reset);
                response
            }
        }
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

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn echo(status: StatusCode, seen: &Seen) -> Response<Body> {
    let mut response = plain(status);
    let bodiless =
        status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if !bodiless {
        *response.body_mut() = Body::from(serde_json::to_string(seen).unwrap_or_default());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// Puts on the answer what the request asks for; repeated names are joined with `,`.
fn set_headers(response: &mut Response<Body>, seen: &Seen) {
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let asked = seen.headers.get(SET_HEADER).into_iter().flatten();
    for pair in asked.flat_map(|it| it.split(',')) {
        if let Some((name, value)) = pair.split_once(':') {
            wanted.entry(name.trim()).or_default().push(value.trim());
        }
    }
    for (name, values) in wanted {
        let value = HeaderValue::try_from(values.join(","));
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// The parameters of a query; of repeated ones the first counts.
struct Query(HashMap<String, String>);

impl Query {
    fn of(query: Option<&str>) -> Self {
        let mut known = HashMap::new();
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            known.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        Self(known)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Go's durations, as far as requests use them: `1s`, `500ms`, `1m`.
fn duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = number.parse::<f64>().ok()?
        * match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            _ => return None,
        };
    Duration::try_from_secs_f64(seconds).ok()
}
