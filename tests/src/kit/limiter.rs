//! A rate limit service: `envoy.service.ratelimit.v3.RateLimitService`, as much of it as tests need.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpListener;

/// `RateLimitRequest`.
#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `RateLimitResponse`.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    overall_code: i32,
    #[prost(message, repeated, tag = "2")]
    statuses: Vec<Status>,
    #[prost(message, repeated, tag = "3")]
    response_headers_to_add: Vec<Header>,
    #[prost(message, repeated, tag = "4")]
    request_headers_to_add: Vec<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(message, optional, tag = "2")]
    current_limit: Option<Limit>,
    #[prost(uint32, tag = "3")]
    limit_remaining: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Limit {
    #[prost(uint32, tag = "1")]
    requests_per_unit: u32,
    #[prost(int32, tag = "2")]
    unit: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

const OK: i32 = 1;
const OVER_LIMIT: i32 = 2;

/// How many requests of one domain it allows by descriptor (`key=value`, several with `;` between), for good: nothing is
/// ever given back.
#[derive(Clone, Debug)]
pub struct Limiter {
    domain: Arc<str>,
    left: Arc<Mutex<BTreeMap<String, (u32, u32)>>>,
}

impl Limiter {
    /// Allows so many of each; `DESCRIPTOR:COUNT`, several with commas between.
    ///
    /// # Errors
    /// If a limit has no count.
    pub fn new(domain: &str, limits: &str) -> Result<Self> {
        let one = |text: &str| {
            let (descriptor, count) = text.rsplit_once(':').context("a limit is DESCRIPTOR:COUNT")?;
            let count: u32 = count.parse()?;
            anyhow::Ok((descriptor.to_owned(), (count, count)))
        };
        let left: Result<BTreeMap<_, _>> = limits.split(',').filter(|it| !it.is_empty()).map(one).collect();
        Ok(Self {
            domain: domain.into(),
            left: Arc::new(Mutex::new(left?)),
        })
    }

    /// Serves gRPC at an address, until the task ends.
    ///
    /// # Errors
    /// If nothing can be listened on there.
    pub async fn serve(self, at: SocketAddr) -> Result<()> {
        let listener = TcpListener::bind(at).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let limiter = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| limiter.clone().answer(request));
                // A caller that goes away is not this server's concern.
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
        let right = request.uri().path() == "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
        let body = request.into_body().collect().await.map(|body| body.to_bytes());
        let judged = match (right, body) {
            (true, Ok(body)) => self.judge(&body),
            (true, Err(error)) => Err(error.into()),
            (false, _) => Err(anyhow::anyhow!("no such method")),
        };
        let mut trailers = HeaderMap::new();
        let mut frames: Vec<Result<Frame<Bytes>, Infallible>> = Vec::new();
        match judged {
            Ok(answer) => {
                let mut message = BytesMut::new();
                message.put_u8(0);
                message.put_u32(answer.encoded_len() as u32);
                message.put_slice(&answer.encode_to_vec());
                frames.push(Ok(Frame::data(message.freeze())));
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
            }
            Err(_) => drop(trailers.insert("grpc-status", HeaderValue::from_static("3"))),
        }
        frames.push(Ok(Frame::trailers(trailers)));
        let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        Ok(response)
    }

    fn judge(&self, body: &[u8]) -> Result<Answer> {
        let asked = Asked::decode(body.get(5..).context("no message")?)?;
        if asked.domain != *self.domain {
            bail!("another domain: {}", asked.domain);
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = Answer {
            overall_code: OK,
            ..Answer::default()
        };
        for descriptor in &asked.descriptors {
            let text: Vec<String> = descriptor
                .entries
                .iter()
                .map(|it| format!("{}={}", it.key, it.value))
                .collect();
            let mut status = Status {
                code: OK,
                ..Status::default()
            };
            if let Some((limit, left)) = left.get_mut(&text.join(";")) {
                if *left == 0 {
                    (status.code, answer.overall_code) = (OVER_LIMIT, OVER_LIMIT);
                }
                *left = left.saturating_sub(1);
                status.limit_remaining = *left;
                status.current_limit = Some(Limit {
                    requests_per_unit: *limit,
                    unit: 2,
                });
            }
            answer.statuses.push(status);
        }
        let header = |key: &str, value: &str| Header {
            key: key.into(),
            value: value.into(),
        };
        answer
            .response_headers_to_add
            .push(header("x-limited-by", &self.domain));
        answer.request_headers_to_add.push(header("x-counted", "yes"));
        Ok(answer)
    }
}
