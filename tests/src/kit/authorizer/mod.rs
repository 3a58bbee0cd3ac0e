//! An external authorizer: Envoy's protocol by gRPC and by HTTP, on one port. What it answers, each request says itself.
//!
//! ```text
//! POST /envoy.service.auth.v3.Authorization/Check   gRPC: a CheckRequest, answered with a CheckResponse
//! anything else                                     HTTP: the request that is asked about, without its body or with
//! ```
//!
//! A request that carries a [`Script`] in `x-script` is answered by it, every other as the server was told at its start.
//! What the authorizer was told comes back in `x-saw` ([`Saw`]), so that two peers that ask it can be compared.

mod grpc;
mod message;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Result;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use inmesh::Body;
use serde::{Deserialize, Serialize};

use super::plain::Plain;

/// Where a request carries its script.
pub const SCRIPT: &str = "x-script";
/// Where an answer carries what the authorizer was told.
pub const SAW: &str = "x-saw";

/// What the authorizer is to answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Script {
    /// The HTTP status; 0 and 200 allow.
    pub status: u16,
    /// Headers for the request that goes on, or of the denial; they take the place of what is there.
    pub set: Vec<(String, String)>,
    /// Likewise, beside what is there (gRPC only).
    pub append: Vec<(String, String)>,
    /// Headers that the request loses.
    pub remove: Vec<String>,
    /// Headers for the response to an allowed request.
    pub respond: Vec<(String, String)>,
    /// Query parameters that are set and removed (gRPC only).
    pub query: (Vec<(String, String)>, Vec<String>),
    /// The body of a denial.
    pub body: String,
    /// How long to wait first, in milliseconds.
    pub pause: u64,
    /// Another end than an answer.
    pub fault: Option<Fault>,
}

/// Ends that are no answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The status 500; by gRPC, `INTERNAL`.
    Status,
    /// A body that is none of the protocol's.
    Garbage,
    /// By gRPC, a denial without HTTP part.
    Bare,
}

/// What the authorizer was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saw {
    /// The method.
    pub method: String,
    /// The path and query.
    pub path: String,
    /// The host.
    pub host: String,
    /// The scheme (gRPC only).
    pub scheme: String,
    /// The protocol (gRPC only).
    pub protocol: String,
    /// The size of the body as declared (gRPC only).
    pub size: i64,
    /// The body as text.
    pub body: String,
    /// The body as bytes (gRPC only).
    pub raw: String,
    /// Who called (gRPC only).
    pub source: String,
    /// Header fields; repeated ones joined.
    pub headers: BTreeMap<String, String>,
}

/// The server.
#[derive(Clone, Debug)]
pub struct Authorizer {
    allows: bool,
    asked: Arc<AtomicUsize>,
}

impl Authorizer {
    /// One that allows what brings no script, or denies it.
    pub fn new(allows: bool) -> Self {
        Self {
            allows,
            asked: Arc::default(),
        }
    }

    /// Starts it on an address in this process; port 0 takes a free one.
    pub async fn start(&self, ip: impl Into<IpAddr>, port: u16) -> Result<Plain> {
        Plain::http(ip, port, self.clone()).await
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn script(&self, text: Option<&str>) -> Script {
        let scripted = text.and_then(|text| serde_json::from_str(text).ok());
        scripted.unwrap_or_else(|| Script {
            status: if self.allows { 200 } else { 403 },
            ..Script::default()
        })
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if request.uri().path() == grpc::PATH {
            return grpc::answer(&self, request).await;
        }
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let saw = Saw {
            method: parts.method.to_string(),
            path: parts
                .uri
                .path_and_query()
                .map_or("", |path| path.as_str())
                .to_owned(),
            host: text(parts.headers.get("host")),
            body: String::from_utf8_lossy(&body).into_owned(),
            headers: parts
                .headers
                .keys()
                .map(|name| {
                    let values: Vec<_> = parts
                        .headers
                        .get_all(name)
                        .iter()
                        .map(|it| text(Some(it)))
                        .collect();
                    (name.to_string(), values.join(","))
                })
                .collect(),
            ..Saw::default()
        };
        let script = self.script(saw.headers.get(SCRIPT).map(String::as_str));
        tokio::time::sleep(Duration::from_millis(script.pause)).await;
        http_answer(&script, &saw)
    }
}

fn http_answer(script: &Script, saw: &Saw) -> Response<Body> {
    let mut response = Response::new(Body::from(script.body.clone()));
    *response.status_mut() = match script.fault {
        Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
        None => StatusCode::from_u16(script.status.max(200)).unwrap_or(StatusCode::FORBIDDEN),
    };
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    };
    for (name, value) in script.set.iter().chain(&script.append).chain(&script.respond) {
        add(name, value);
    }
    if !script.remove.is_empty() {
        add("x-envoy-auth-headers-to-remove", &script.remove.join(","));
    }
    add(SAW, &saw.text());
    response
}

impl Saw {
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads it from an answer.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(serde_json::from_str(text)?)
    }
}

fn text(value: Option<&HeaderValue>) -> String {
    value.map_or_else(String::new, |value| {
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    })
}

impl tower_service::Service<Request<Body>> for Authorizer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let authorizer = self.clone();
        Box::pin(async move { Ok(authorizer.answer(request).await) })
    }
}

/// Resources that make the authorizer at an address known under a host: a ServiceEntry.
pub fn service_entry(name: &str, host: &str, at: SocketAddr, protocol: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         hosts: [{host}]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: {port}, name: authz, protocol: \
         {protocol}}}]\n  endpoints: [{{address: {ip}}}]\n",
        ip = at.ip(),
        port = at.port(),
    )
}
