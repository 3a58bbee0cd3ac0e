//! An external authorizer: it speaks Envoy's `ext_authz` protocol by gRPC, and plain HTTP.
//!
//! It allows what carries `authorization: let-me-in` and answers everything else with 401; `authorization: break` makes
//! it fail.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use inmesh::Body;
use prost::Message;

/// What it was told of a request.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Whether by gRPC.
    pub grpc: bool,
    /// The method.
    pub method: String,
    /// The path and query; by HTTP with what was put in front.
    pub path: String,
    /// The host.
    pub host: String,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

/// The application.
#[derive(Clone, Debug, Default)]
pub struct Gatekeeper(Arc<Mutex<Vec<Told>>>);

impl Gatekeeper {
    /// What it was told since this was last asked.
    pub fn told(&self) -> Vec<Told> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, told: Told) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return status(StatusCode::BAD_REQUEST),
        };
        if parts.uri.path() == "/envoy.service.auth.v3.Authorization/Check" {
            return self.check(&body);
        }
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: BTreeMap<_, _> = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        let word = headers.get("authorization").cloned();
        self.note(Told {
            grpc: false,
            method: parts.method.to_string(),
            path: parts
                .uri
                .path_and_query()
                .map_or("", |path| path.as_str())
                .to_owned(),
            host: headers.get("host").cloned().unwrap_or_default(),
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        match word.as_deref() {
            Some("let-me-in") => {
                let mut response = Response::new(Body::from("yes"));
                for (name, value) in [("x-user", "jason"), ("x-other", "secret")] {
                    response
                        .headers_mut()
                        .insert(name, HeaderValue::from_static(value));
                }
                response
            }
            Some("break") => status(StatusCode::INTERNAL_SERVER_ERROR),
            _ => {
                let mut response = Response::new(Body::from("who are you?"));
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                let headers = response.headers_mut();
                headers.insert("www-authenticate", HeaderValue::from_static("Word"));
                response
            }
        }
    }

    fn check(&self, framed: &Bytes) -> Response<Body> {
        let Some(asked) = framed.get(5..).and_then(|bytes| CheckRequest::decode(bytes).ok()) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let request = asked.attributes.and_then(|it| it.request).and_then(|it| it.http);
        let request = request.unwrap_or_default();
        let word = request.headers.get("authorization").cloned();
        self.note(Told {
            grpc: true,
            method: request.method,
            path: request.path,
            host: request.host,
            headers: request.headers.into_iter().collect(),
            body: request.body,
        });
        let header = |key: &str, value: &str| HeaderValueOption {
            header: Some(Header {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
        };
        let (code, answer) = match word.as_deref() {
            Some("let-me-in") => {
                let headers = vec![header("x-user", "jason")];
                (
                    0,
                    CheckResponse {
                        status: Some(Status { code: 0 }),
                        denied: None,
                        ok: Some(OkHttpResponse { headers }),
                    },
                )
            }
            Some("break") => (13, CheckResponse::default()),
            _ => {
                let denied = DeniedHttpResponse {
                    status: Some(HttpStatus { code: 401 }),
                    headers: vec![header("www-authenticate", "Word")],
                    body: "who are you?".to_owned(),
                };
                (
                    0,
                    CheckResponse {
                        status: Some(Status { code: 16 }),
                        denied: Some(denied),
                        ok: None,
                    },
                )
            }
        };
        let message = answer.encode_to_vec();
        let mut bytes = BytesMut::with_capacity(5 + message.len());
        bytes.put_u8(0);
        bytes.put_u32(message.len() as u32);
        bytes.put_slice(&message);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(code));
        let frames = [Frame::data(bytes.freeze()), Frame::trailers(trailers)];
        let frames = frames.map(Ok::<_, Infallible>);
        let mut response = Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", grpc);
        response
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

impl tower_service::Service<Request<Body>> for Gatekeeper {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let keeper = self.clone();
        Box::pin(async move { Ok(keeper.answer(request).await) })
    }
}

/// As much of `envoy.service.auth.v3` as it looks at.
#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, Message)]
struct Attributes {
    #[prost(message, optional, tag = "4")]
    request: Option<RequestTold>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestTold {
    #[prost(message, optional, tag = "2")]
    http: Option<HttpTold>,
}

#[derive(Clone, PartialEq, Message)]
struct HttpTold {
    #[prost(string, tag = "2")]
    method: String,
    #[prost(map = "string, string", tag = "3")]
    headers: std::collections::HashMap<String, String>,
    #[prost(string, tag = "4")]
    path: String,
    #[prost(string, tag = "5")]
    host: String,
    #[prost(string, tag = "11")]
    body: String,
}

#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    denied: Option<DeniedHttpResponse>,
    #[prost(message, optional, tag = "3")]
    ok: Option<OkHttpResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct DeniedHttpResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<HttpStatus>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderValueOption>,
    #[prost(string, tag = "3")]
    body: String,
}

#[derive(Clone, PartialEq, Message)]
struct HttpStatus {
    #[prost(uint32, tag = "1")]
    code: u32,
}

#[derive(Clone, PartialEq, Message)]
struct OkHttpResponse {
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderValueOption>,
}

#[derive(Clone, PartialEq, Message)]
struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}
