//! The messages of `envoy.service.auth.v3`, as far as they are used, and how a request is told in them.
//!
//! Field numbers are those of Envoy's `external_auth.proto` and `attribute_context.proto`. Written out by hand: a dozen
//! messages, beside a hundred that generated code would bring.

use std::collections::HashMap;
use std::net::SocketAddr;

use ::http::{HeaderMap, Request, Version};
use http_body::Body;
use prost::{Enumeration, Message, Oneof};

use super::body::{Held, PARTIAL};
use crate::layer::call::authority;
use crate::layer::{Call, MeshBody};
use crate::name::SpiffeId;
use crate::policy::ConnectionHead;

#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) attributes: Option<AttributeContext>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributeContext {
    #[prost(message, optional, tag = "1")]
    pub(super) source: Option<Party>,
    #[prost(message, optional, tag = "2")]
    pub(super) destination: Option<Party>,
    #[prost(message, optional, tag = "4")]
    pub(super) request: Option<RequestTold>,
    #[prost(map = "string, string", tag = "10")]
    pub(super) context_extensions: HashMap<String, String>,
    #[prost(message, optional, tag = "12")]
    pub(super) tls_session: Option<TlsSession>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Party {
    #[prost(message, optional, tag = "1")]
    pub(super) address: Option<Address>,
    #[prost(string, tag = "4")]
    pub(super) principal: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Address {
    #[prost(message, optional, tag = "1")]
    pub(super) socket_address: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SocketAddress {
    #[prost(string, tag = "2")]
    pub(super) address: String,
    #[prost(uint32, tag = "3")]
    pub(super) port_value: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestTold {
    #[prost(message, optional, tag = "1")]
    pub(super) time: Option<Timestamp>,
    #[prost(message, optional, tag = "2")]
    pub(super) http: Option<HttpRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) method: String,
    #[prost(map = "string, string", tag = "3")]
    pub(super) headers: HashMap<String, String>,
    #[prost(string, tag = "4")]
    pub(super) path: String,
    #[prost(string, tag = "5")]
    pub(super) host: String,
    #[prost(string, tag = "6")]
    pub(super) scheme: String,
    #[prost(int64, tag = "9")]
    pub(super) size: i64,
    #[prost(string, tag = "10")]
    pub(super) protocol: String,
    #[prost(string, tag = "11")]
    pub(super) body: String,
    #[prost(bytes = "bytes", tag = "12")]
    pub(super) raw_body: bytes::Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TlsSession {
    #[prost(string, tag = "1")]
    pub(super) sni: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(oneof = "HttpAnswer", tags = "2, 3")]
    pub(super) http_response: Option<HttpAnswer>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum HttpAnswer {
    #[prost(message, tag = "2")]
    Denied(DeniedHttpResponse),
    #[prost(message, tag = "3")]
    Ok(OkHttpResponse),
}

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeniedHttpResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<HttpStatus>,
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<HeaderValueOption>,
    #[prost(string, tag = "3")]
    pub(super) body: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpStatus {
    #[prost(uint32, tag = "1")]
    pub(super) code: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OkHttpResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "5")]
    pub(super) headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(super) response_headers_to_add: Vec<HeaderValueOption>,
    #[prost(message, repeated, tag = "7")]
    pub(super) query_parameters_to_set: Vec<QueryParameter>,
    #[prost(string, repeated, tag = "8")]
    pub(super) query_parameters_to_remove: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(message, optional, tag = "2")]
    pub(super) append: Option<BoolValue>,
    #[prost(enumeration = "AppendAction", tag = "3")]
    pub(super) append_action: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BoolValue {
    #[prost(bool, tag = "1")]
    pub(super) value: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(super) enum AppendAction {
    AppendIfExistsOrAdd = 0,
    AddIfAbsent = 1,
    OverwriteIfExistsOrAdd = 2,
    OverwriteIfExists = 3,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) raw_value: bytes::Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryParameter {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// A request as an authorizer is told of it, with the headers that it `is_told`.
pub(super) fn of_request(call: &Call, held: Option<&Held>, is_told: impl Fn(&str) -> bool) -> CheckRequest {
    let head = call.head();
    let request = &call.request;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut headers = joined(request.headers());
    headers.retain(|name, _| is_told(name));
    for (name, value) in [
        (":authority", authority(request)),
        (":method", request.method().as_str()),
        (":path", path),
        (":scheme", head.scheme),
    ] {
        headers.insert(name.to_owned(), value.to_owned());
    }
    // Whatever the caller says of it.
    headers.remove(PARTIAL.as_str());
    if let Some(says) = held.and_then(Held::partial) {
        headers.insert(PARTIAL.to_string(), says.to_owned());
    }
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let (body, raw_body) = match held {
        None => Default::default(),
        Some(held) if held.raw => (String::new(), held.bytes.clone()),
        Some(held) => (
            String::from_utf8_lossy(&held.bytes).into_owned(),
            bytes::Bytes::new(),
        ),
    };
    let http = HttpRequest {
        id: header("x-request-id"),
        method: request.method().to_string(),
        path: path.to_owned(),
        host: authority(request).to_owned(),
        scheme: head.scheme.to_owned(),
        size: size(request),
        protocol: match request.version() {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_11 => "HTTP/1.1",
            _ => "HTTP/2",
        }
        .to_owned(),
        body,
        raw_body,
        headers,
    };
    attributes(
        Party::new(
            head.caller.addr,
            call.peer.as_ref().map_or(0, |peer| peer.addr.port()),
            head.caller.identity,
        ),
        Party::at(head.destination, call.view.my_identity.as_ref()),
        Some(http),
        head.sni,
    )
}

/// How long the body is; -1 where that is not known.
fn size(request: &Request<MeshBody>) -> i64 {
    let known = request.body().size_hint().exact();
    known.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1)
}

/// A connection as an authorizer is told of it.
pub(super) fn of_connection(head: &ConnectionHead<'_>, own: Option<&SpiffeId>) -> CheckRequest {
    attributes(
        Party::new(head.caller.addr, 0, head.caller.identity),
        Party::at(head.destination, own),
        None,
        head.sni,
    )
}

fn attributes(source: Party, destination: Party, http: Option<HttpRequest>, sni: &str) -> CheckRequest {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let time = Timestamp {
        seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        nanos: now.subsec_nanos().try_into().unwrap_or(0),
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(source),
            destination: Some(destination),
            request: Some(RequestTold {
                time: Some(time),
                http,
            }),
            context_extensions: HashMap::new(),
            tls_session: (!sni.is_empty()).then(|| TlsSession { sni: sni.to_owned() }),
        }),
    }
}

impl Party {
    fn new(addr: std::net::IpAddr, port: u16, identity: Option<&SpiffeId>) -> Self {
        Self::at(SocketAddr::new(addr, port), identity)
    }

    fn at(addr: SocketAddr, identity: Option<&SpiffeId>) -> Self {
        let socket_address = SocketAddress {
            address: addr.ip().to_string(),
            port_value: addr.port().into(),
        };
        Self {
            address: Some(Address {
                socket_address: Some(socket_address),
            }),
            principal: identity.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        }
    }
}

/// Headers by name, repeated ones joined with a comma; what is not UTF-8 is told as far as it is.
fn joined(headers: &HeaderMap) -> HashMap<String, String> {
    let mut joined: HashMap<String, String> = HashMap::with_capacity(headers.keys_len() + 4);
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let known = joined.entry(name.as_str().to_owned()).or_default();
        if !known.is_empty() {
            known.push(',');
        }
        known.push_str(&value);
    }
    joined
}
