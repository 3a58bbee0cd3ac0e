//! What expressions may ask about: the part of Envoy's attributes that is known of a request here.

use std::borrow::Cow;

use http::HeaderName;

use super::time::{Lapse, Time};
use super::value::Value;
use crate::telemetry::PartyLabels;
use crate::telemetry::access::{Entry, Fields, Name, Wanted, joined};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attribute {
    Method,
    Path,
    UrlPath,
    Host,
    Scheme,
    Protocol,
    RequestHeader(HeaderName),
    RequestSize,
    Code,
    CodeDetails,
    GrpcStatus,
    ResponseHeader(HeaderName),
    Trailer(HeaderName),
    ResponseSize,
    SourceAddress,
    SourcePort,
    DestinationAddress,
    DestinationPort,
    Mtls,
    ServerName,
    PeerUri,
    UpstreamAddress,
    UpstreamPort,
    RouteName,
    ClusterName,
    Query,
    Time,
    Duration,
    Flags,
    BackendLatency,
    TransportFailure,
    Attempts,
    Party(Side, Told),
    /// What might be there, and is not.
    Absent,
}

/// Which end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Downstream,
    Upstream,
}

/// What is said of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Workload,
    Namespace,
    Cluster,
    Service,
    Revision,
    App,
    Version,
    Identity,
}

impl Attribute {
    /// The attribute of this name, word by word: `request`, `headers`, `x-tenant`.
    pub(super) fn named(path: &[String]) -> Result<Self, String> {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        if let [
            group @ ("request" | "response"),
            headers @ ("headers" | "trailers"),
            rest @ ..,
        ] = &words[..]
        {
            let path = format!("{group}.{headers}");
            let make = match &*path {
                "request.headers" => Self::RequestHeader,
                "response.headers" => Self::ResponseHeader,
                "response.trailers" => Self::Trailer,
                _ => return Err(format!("`{path}` is no attribute that is known here")),
            };
            let [key] = rest else {
                return Err(format!("{path} needs a name in brackets: {path}['x-tenant']"));
            };
            let name = HeaderName::from_bytes(key.as_bytes());
            return name
                .map(make)
                .map_err(|_| format!("`{key}` is not the name of a header"));
        }
        let path = words.join(".");
        if let Some(found) = Self::plain(&path).or_else(|| Self::party(&path)) {
            return Ok(found);
        }
        Err(match words.split_last() {
            Some((_, first)) if Self::plain(&first.join(".")).is_some() => {
                format!("{} takes nothing in brackets, and has no fields", first.join("."))
            }
            _ => format!("`{path}` is no attribute that is known here"),
        })
    }

    fn plain(path: &str) -> Option<Self> {
        Some(match path {
            "request.method" => Self::Method,
            "request.path" => Self::Path,
            "request.url_path" => Self::UrlPath,
            "request.query" => Self::Query,
            "request.host" => Self::Host,
            "request.scheme" => Self::Scheme,
            "request.protocol" => Self::Protocol,
            "request.useragent" => Self::RequestHeader(http::header::USER_AGENT),
            "request.referer" => Self::RequestHeader(http::header::REFERER),
            "request.id" => Self::RequestHeader(HeaderName::from_static("x-request-id")),
            "request.size" => Self::RequestSize,
            "request.time" => Self::Time,
            "request.duration" => Self::Duration,
            "response.code" => Self::Code,
            "response.code_details" => Self::CodeDetails,
            "response.grpc_status" => Self::GrpcStatus,
            "response.size" => Self::ResponseSize,
            "response.flags" => Self::Flags,
            "response.backend_latency" => Self::BackendLatency,
            "source.address" => Self::SourceAddress,
            "source.port" => Self::SourcePort,
            "destination.address" => Self::DestinationAddress,
            "destination.port" => Self::DestinationPort,
            "connection.mtls" => Self::Mtls,
            "connection.requested_server_name" => Self::ServerName,
            "connection.uri_san_peer_certificate" => Self::PeerUri,
            "upstream.address" => Self::UpstreamAddress,
            "upstream.port" => Self::UpstreamPort,
            "upstream.transport_failure_reason" => Self::TransportFailure,
            "upstream.request_attempt_count" => Self::Attempts,
            "xds.route_name" => Self::RouteName,
            "xds.cluster_name" => Self::ClusterName,
            _ => return None,
        })
    }

    pub(super) fn value<'a>(&self, entry: &'a Entry<'a>) -> Option<Value<'a>> {
        let text = |text: Option<&'a str>| {
            let text = text.filter(|text| !text.is_empty())?;
            Some(Value::Text(Cow::Borrowed(text)))
        };
        let name = |name: Option<Name<'a>>| {
            let text = name?.text();
            (!text.is_empty()).then_some(Value::Text(text))
        };
        let header = |fields: &'a Fields, name: &HeaderName| Some(Value::Text(fields.joined(name)?));
        let int = |number: u64| Some(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
        let address = |addr: Option<std::net::SocketAddr>| Some(Value::Text(Cow::Owned(addr?.to_string())));
        let port = |addr: Option<std::net::SocketAddr>| Some(Value::Int(addr?.port().into()));
        match self {
            Self::Method => text(Some(entry.method)),
            Self::Path => text(Some(entry.path)),
            Self::UrlPath => text(entry.path.split('?').next()),
            Self::Query => text(entry.path.split_once('?').map(|(_, query)| query)),
            Self::Host => text(Some(entry.authority)),
            Self::Scheme => text(Some(entry.scheme)),
            Self::Protocol => text(entry.protocol),
            Self::RequestHeader(name) => header(entry.request, name),
            Self::RequestSize => int(entry.received),
            Self::Code => int(entry.code.into()),
            Self::CodeDetails => text(entry.details),
            Self::GrpcStatus => int(entry.grpc_status?.into()),
            Self::ResponseHeader(name) => header(entry.response, name),
            Self::Trailer(name) => Some(Value::Text(joined(entry.trailers.get_all(name).iter())?)),
            Self::ResponseSize => int(entry.sent),
            Self::SourceAddress => address(entry.remote),
            Self::SourcePort => port(entry.remote),
            Self::DestinationAddress => address(entry.local),
            Self::DestinationPort => port(entry.local),
            Self::Mtls => Some(Value::Bool(entry.peer.is_some())),
            Self::ServerName => text(entry.sni),
            Self::PeerUri => text(entry.peer),
            Self::UpstreamAddress => address(entry.upstream),
            Self::UpstreamPort => port(entry.upstream),
            Self::RouteName => name(entry.route),
            Self::ClusterName => name(entry.cluster),
            Self::Time => Some(Value::Time(Time::of(entry.start))),
            Self::Duration => Some(Value::Lapse(Lapse::of(entry.duration))),
            Self::Flags => Some(Value::Int(flags(entry.flags))),
            Self::BackendLatency => Some(Value::Lapse(Lapse::of(
                entry.answered.filter(|_| entry.upstream.is_some())?,
            ))),
            Self::TransportFailure => text(entry.failure),
            Self::Attempts => int(entry.attempts.into()),
            Self::Absent => None,
            Self::Party(side, told) => {
                let labels = entry.labels?;
                text(Some(match side {
                    Side::Downstream => told.of(&labels.source),
                    Side::Upstream => told.of(&labels.destination),
                }))
            }
        }
    }

    /// A word on the workload at one end, as Istio's peer metadata names it.
    fn party(path: &str) -> Option<Self> {
        let path = path.strip_prefix("filter_state.").unwrap_or(path);
        let (side, token) = path.split_once('.')?;
        let side = match side {
            "downstream_peer" => Side::Downstream,
            "upstream_peer" => Side::Upstream,
            _ => return None,
        };
        let told = match token {
            "workload" => Told::Workload,
            "namespace" => Told::Namespace,
            "cluster" => Told::Cluster,
            "service" => Told::Service,
            "revision" => Told::Revision,
            "app" => Told::App,
            "version" => Told::Version,
            "identity" => Told::Identity,
            _ => return None,
        };
        Some(Self::Party(side, told))
    }

    /// Adds the header fields that it asks for.
    pub(super) fn want(&self, wanted: &mut Wanted) {
        match self {
            Self::RequestHeader(name) => wanted.request.push(name.clone()),
            Self::ResponseHeader(name) => wanted.response.push(name.clone()),
            Self::Trailer(name) => wanted.trailers.push(name.clone()),
            Self::BackendLatency => wanted.answered = true,
            _ => {}
        }
    }
}

/// Envoy's flags by their bits (Envoy `CoreResponseFlag`).
const FLAGS: [&str; 28] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX",
    "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO",
];

fn flags(told: &str) -> i64 {
    let bits = told
        .split(',')
        .filter_map(|flag| FLAGS.iter().position(|it| *it == flag));
    bits.fold(0, |all, bit| all | 1 << bit)
}

impl Told {
    fn of(self, party: &PartyLabels) -> &str {
        match self {
            Self::Workload => &party.workload,
            Self::Namespace => &party.namespace,
            Self::Cluster => &party.cluster,
            Self::Service => &party.canonical_service,
            Self::Revision => &party.canonical_revision,
            Self::App => &party.app,
            Self::Version => &party.version,
            Self::Identity => &party.principal,
        }
    }
}
