//! A collector as the exporter sees it: how it is asked, and what its answers mean.

use std::fmt;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use prost::Message;

use super::parcel::{Encoding, Signal};

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// OTLP/HTTP: protobuf, posted.
    Http,
    /// OTLP/gRPC.
    Grpc,
    /// Zipkin's API v2: JSON, posted.
    Zipkin,
}

/// Where telemetry goes, and what is said there beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// How it is spoken to.
    pub(crate) protocol: Protocol,
    /// Scheme and authority.
    pub(crate) base: String,
    /// The path; of gRPC and where it is empty, the one that OTLP gives the signal.
    pub(crate) path: String,
    /// Header fields, or metadata of gRPC.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// Whether what is sent is compressed by gzip.
    pub(crate) gzip: bool,
}

/// Gets a request to a collector and the answer back, trailers among its header fields.
#[derive(Clone)]
pub(crate) struct Carrier(Arc<dyn Fn(Request<Bytes>) -> Carried + Send + Sync>);

/// An answer that is on its way, or why there will be none.
pub(crate) type Carried = Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send>>;

/// What a collector made of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It took all but so many.
    Taken { rejected: u64, why: String },
    /// It may take the same again, after so long if it says so.
    Later { after: Option<Duration>, why: String },
    /// It will not.
    Refused { why: String },
}

/// The answer to any of OTLP's three requests: they differ in names only.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

impl Carrier {
    /// Carries by this function.
    pub(crate) fn new(carry: impl Fn(Request<Bytes>) -> Carried + Send + Sync + 'static) -> Self {
        Self(Arc::new(carry))
    }

    pub(super) fn carry(&self, request: Request<Bytes>) -> Carried {
        (self.0)(request)
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

impl Destination {
    pub(super) fn encoding(&self) -> Encoding {
        match self.protocol {
            Protocol::Http | Protocol::Grpc => Encoding::Otlp,
            Protocol::Zipkin => Encoding::Zipkin,
        }
    }

    /// The request that carries a batch.
    pub(super) fn request(&self, signal: Signal, batch: Bytes) -> Result<Request<Bytes>, String> {
        let path = match self.protocol {
            Protocol::Grpc => signal.method(),
            _ if self.path.is_empty() => signal.path(),
            _ => &self.path,
        };
        let uri: Uri = format!("{}{path}", self.base)
            .parse()
            .map_err(|error| format!("{}{path}: {error}", self.base))?;
        let batch = if self.gzip { zipped(&batch) } else { batch };
        let mut request = Request::new(batch);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        let kind = match self.protocol {
            Protocol::Http => "application/x-protobuf",
            Protocol::Grpc => "application/grpc",
            Protocol::Zipkin => "application/json",
        };
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.protocol == Protocol::Grpc {
            *request.version_mut() = Version::HTTP_2;
            let body = framed(request.body(), self.gzip);
            *request.body_mut() = body;
            let headers = request.headers_mut();
            if self.gzip {
                headers.insert(GRPC_ENCODING, GZIP);
            }
            headers.insert(TE, HeaderValue::from_static("trailers"));
            // At most eight digits.
            let millis = self.timeout.as_millis().min(99_999_999);
            if let Ok(value) = HeaderValue::try_from(format!("{millis}m")) {
                headers.insert(GRPC_TIMEOUT, value);
            }
        } else if self.gzip {
            request.headers_mut().insert(CONTENT_ENCODING, GZIP);
        }
        Ok(request)
    }

    /// What an answer means (OTLP specification, "OTLP/gRPC Response", "OTLP/HTTP Response").
    pub(super) fn judge(&self, answer: &Response<Bytes>) -> Verdict {
        match self.protocol {
            Protocol::Grpc => grpc(answer),
            Protocol::Http => http(answer, true),
            Protocol::Zipkin => http(answer, false),
        }
    }
}

fn http(answer: &Response<Bytes>, otlp: bool) -> Verdict {
    let status = answer.status();
    let why = || format!("the collector answered {status}");
    match status {
        status if status.is_success() => match otlp {
            true => taken(answer.body()),
            false => Verdict::Taken {
                rejected: 0,
                why: String::new(),
            },
        },
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Verdict::Later {
            after: retry_after(answer.headers()),
            why: why(),
        },
        _ => Verdict::Refused { why: why() },
    }
}

fn grpc(answer: &Response<Bytes>) -> Verdict {
    if answer.status() != StatusCode::OK {
        // Not from the collector but from somebody in front of it.
        return http(answer, false);
    }
    let headers = answer.headers();
    let message = headers
        .get(GRPC_MESSAGE)
        .map(|it| String::from_utf8_lossy(it.as_bytes()));
    let message = message.unwrap_or_default();
    let status = headers.get(GRPC_STATUS).and_then(|status| status.to_str().ok());
    match status.and_then(|status| status.parse::<u16>().ok()) {
        Some(0) => match unframed(answer.body()) {
            Some(message) => taken(&message),
            None => Verdict::Refused {
                why: "the collector's answer is no gRPC message".to_owned(),
            },
        },
        // RESOURCE_EXHAUSTED (8) only where the details say when, which are not read here.
        Some(code @ (1 | 4 | 10 | 11 | 14 | 15)) => Verdict::Later {
            after: None,
            why: format!("the collector answered grpc-status {code} {message}"),
        },
        Some(code) => Verdict::Refused {
            why: format!("the collector answered grpc-status {code} {message}"),
        },
        None => Verdict::Later {
            after: None,
            why: "the collector's answer has no grpc-status".to_owned(),
        },
    }
}

fn taken(message: &[u8]) -> Verdict {
    // An answer that cannot be read is still one of success.
    let partial = Answer::decode(message)
        .ok()
        .and_then(|answer| answer.partial_success);
    let partial = partial.unwrap_or_default();
    Verdict::Taken {
        rejected: u64::try_from(partial.rejected).unwrap_or(0),
        why: partial.error_message,
    }
}

/// In seconds; a date is as good as none, because our own back-off is of that order.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn zipped(batch: &[u8]) -> Bytes {
    let mut zip = GzEncoder::new(Vec::with_capacity(batch.len() / 4), Compression::default());
    // Writing into memory cannot fail.
    let zipped = zip.write_all(batch).and_then(|()| zip.finish());
    zipped.unwrap_or_default().into()
}

/// A message with the prefix that gRPC gives it: whether it is compressed, and its length.
fn framed(message: &[u8], compressed: bool) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.len());
    bytes.put_u8(compressed.into());
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

/// The message of an answer; `None` if it is compressed or cut off.
fn unframed(bytes: &Bytes) -> Option<Bytes> {
    let [0, a, b, c, d] = *bytes.first_chunk::<5>()? else {
        return None;
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    (bytes.len() == 5 + length).then(|| bytes.slice(5..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(protocol: Protocol) -> Destination {
        Destination {
            protocol,
            base: "http://otel:4317".into(),
            path: String::new(),
            headers: vec![(
                HeaderName::from_static("x-tenant"),
                HeaderValue::from_static("shop"),
            )],
            timeout: Duration::from_millis(2_500),
            gzip: false,
        }
    }

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Response<Bytes> {
        let mut response = Response::new(Bytes::copy_from_slice(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        response
    }

    #[test]
    fn each_protocol_asks_in_its_own_way() {
        let batch = Bytes::from_static(b"abc");
        let http = to(Protocol::Http).request(Signal::Logs, batch.clone()).unwrap();
        assert_eq!(http.uri(), "http://otel:4317/v1/logs");
        assert_eq!(http.headers()["content-type"], "application/x-protobuf");
        assert_eq!(http.headers()["x-tenant"], "shop");
        let grpc = to(Protocol::Grpc).request(Signal::Traces, batch.clone()).unwrap();
        assert_eq!(
            grpc.uri().path(),
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        );
        assert_eq!(grpc.headers()["grpc-timeout"], "2500m");
        assert_eq!(&grpc.body()[..], b"\0\0\0\0\x03abc");
        let mut own = to(Protocol::Zipkin);
        own.path = "/api/v2/spans".into();
        let zipkin = own.request(Signal::Traces, batch).unwrap();
        assert_eq!(zipkin.uri().path(), "/api/v2/spans");
        assert_eq!(zipkin.headers()["content-type"], "application/json");
    }

    #[test]
    fn what_is_compressed_says_so_where_its_protocol_has_it() {
        let batch = Bytes::from("abc".repeat(1_000));
        let unzipped = |zipped: &[u8]| {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(zipped), &mut text).unwrap();
            text
        };
        for protocol in [Protocol::Http, Protocol::Zipkin, Protocol::Grpc] {
            let to = Destination {
                gzip: true,
                ..to(protocol)
            };
            let request = to.request(Signal::Traces, batch.clone()).unwrap();
            let (of_http, of_grpc) = ("content-encoding", "grpc-encoding");
            let (said, other, body) = match protocol {
                Protocol::Grpc => (of_grpc, of_http, &request.body()[5..]),
                _ => (of_http, of_grpc, &request.body()[..]),
            };
            assert_eq!(request.headers()[said], "gzip");
            assert!(!request.headers().contains_key(other));
            assert!(body.len() < 100, "{protocol:?}: {}", body.len());
            assert_eq!(unzipped(body), batch);
            if protocol == Protocol::Grpc {
                let length = u32::try_from(body.len()).unwrap().to_be_bytes();
                assert_eq!(request.body()[..5], [&[1][..], &length].concat());
            }
        }
    }

    #[test]
    fn what_may_be_sent_again_is_told_from_what_may_not() {
        let later = |status, headers: &[(&'static str, &str)]| {
            to(Protocol::Http).judge(&answer(status, headers, b""))
        };
        for status in [429, 502, 503, 504] {
            assert!(
                matches!(later(status, &[]), Verdict::Later { after: None, .. }),
                "{status}"
            );
        }
        let after = later(503, &[("retry-after", "7")]);
        assert!(matches!(after, Verdict::Later { after: Some(it), .. } if it == Duration::from_secs(7)));
        for status in [400, 401, 404, 413, 500] {
            assert!(matches!(later(status, &[]), Verdict::Refused { .. }), "{status}");
        }
        let grpc =
            |code: &str| to(Protocol::Grpc).judge(&answer(200, &[("grpc-status", code)], b"\0\0\0\0\0"));
        assert_eq!(
            grpc("0"),
            Verdict::Taken {
                rejected: 0,
                why: String::new()
            }
        );
        for code in ["1", "4", "10", "11", "14", "15"] {
            assert!(matches!(grpc(code), Verdict::Later { .. }), "{code}");
        }
        for code in ["3", "5", "7", "8", "12", "16"] {
            assert!(matches!(grpc(code), Verdict::Refused { .. }), "{code}");
        }
        assert!(matches!(
            to(Protocol::Grpc).judge(&answer(200, &[], b"")),
            Verdict::Later { .. }
        ));
    }

    #[test]
    fn a_partial_success_says_how_many_were_rejected() {
        let body = Answer {
            partial_success: Some(PartialSuccess {
                rejected: 3,
                error_message: "too old".into(),
            }),
        }
        .encode_to_vec();
        let expected = Verdict::Taken {
            rejected: 3,
            why: "too old".into(),
        };
        assert_eq!(to(Protocol::Http).judge(&answer(200, &[], &body)), expected);
        let grpc = answer(200, &[("grpc-status", "0")], &framed(&body, false));
        assert_eq!(to(Protocol::Grpc).judge(&grpc), expected);
        // What cannot be read does not make a success a failure.
        let odd = answer(200, &[], b"{}");
        assert!(matches!(
            to(Protocol::Http).judge(&odd),
            Verdict::Taken { rejected: 0, .. }
        ));
    }
}
