//! The command operators (Envoy, "Access logging", command operators), as far as a waypoint's line can hold them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use http::{HeaderName, HeaderValue};

use super::time::TimeFormat;
use super::{Entry, Name, Wanted, lossy};
use crate::telemetry::cel::Expression;
use crate::telemetry::digits::push_number;

/// A command operator and how much of its value is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operator {
    kind: Kind,
    limit: Option<usize>,
}

/// What an operator stands for in one line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    Time(&'a TimeFormat, SystemTime),
    Address(SocketAddr),
    Ip(IpAddr),
    Name(Name<'a>),
    Absent,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    StartTime(TimeFormat),
    EmitTime(TimeFormat),
    Protocol,
    ResponseCode,
    ResponseFlags,
    ResponseFlagsLong,
    ResponseCodeDetails,
    TransportFailure,
    BytesReceived,
    BytesSent,
    Duration,
    ResponseDuration,
    ResponseTxDuration,
    Request(Field, Option<Field>),
    Response(HeaderName, Option<HeaderName>),
    Trailer(HeaderName, Option<HeaderName>),
    UpstreamHost(Part),
    UpstreamCluster,
    Attempts,
    Local(Part),
    Remote(Part),
    Direct(Part),
    PeerUri,
    ServerName,
    RouteName,
    Hostname,
    GrpcStatus(GrpcForm),
    TraceId,
    Expression(Expression),
    /// What a variable of this process held when the format was read.
    Literal(String),
    /// Of Envoy's own making: it never has a value here.
    Never,
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Method,
    Path,
    PathOnly,
    Authority,
    Scheme,
    Header(HeaderName),
}

/// Which part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Address,
    Port,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GrpcForm {
    Camel,
    Snake,
    Number,
}

/// The operators that take a length; of the others Envoy refuses one, too.
const CUT: [&str; 7] = [
    "REQ",
    "REQ_WITHOUT_QUERY",
    "RESP",
    "TRAILER",
    "FILTER_STATE",
    "ENVIRONMENT",
    "CEL",
];

/// gRPC's codes as Envoy spells them.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// Envoy's flags in full.
const FLAGS: [(&str, &str); 28] = [
    ("DC", "DownstreamConnectionTermination"),
    ("LH", "FailedLocalHealthCheck"),
    ("UH", "NoHealthyUpstream"),
    ("UT", "UpstreamRequestTimeout"),
    ("LR", "LocalReset"),
    ("UR", "UpstreamRemoteReset"),
    ("UF", "UpstreamConnectionFailure"),
    ("UC", "UpstreamConnectionTermination"),
    ("UO", "UpstreamOverflow"),
    ("URX", "UpstreamRetryLimitExceeded"),
    ("NR", "NoRouteFound"),
    ("DI", "DelayInjected"),
    ("FI", "FaultInjected"),
    ("RL", "RateLimited"),
    ("UAEX", "UnauthorizedExternalService"),
    ("RLSE", "RateLimitServiceError"),
    ("SI", "StreamIdleTimeout"),
    ("IH", "InvalidEnvoyRequestHeaders"),
    ("DPE", "DownstreamProtocolError"),
    ("UMSDR", "UpstreamMaxStreamDurationReached"),
    ("RFCF", "ResponseFromCacheFilter"),
    ("NFCF", "NoFilterConfigFound"),
    ("DT", "DurationTimeout"),
    ("UPE", "UpstreamProtocolError"),
    ("NC", "NoClusterFound"),
    ("OM", "OverloadManagerTerminated"),
    ("DF", "DnsResolutionFailed"),
    ("DO", "DropOverload"),
];

impl Operator {
    /// Reads an operator: its name, what stands in its parentheses, and after its colon.
    pub(super) fn parse(name: &str, inner: Option<&str>, limit: Option<usize>) -> Result<Self, String> {
        let bare = |kind| match inner {
            None => Ok(kind),
            Some(_) => Err(format!("{name} takes nothing in parentheses")),
        };
        let kind = match name {
            "START_TIME" => Kind::StartTime(TimeFormat::parse(inner.unwrap_or_default())?),
            "EMIT_TIME" => Kind::EmitTime(TimeFormat::parse(inner.unwrap_or_default())?),
            "PROTOCOL" => bare(Kind::Protocol)?,
            "RESPONSE_CODE" => bare(Kind::ResponseCode)?,
            "RESPONSE_FLAGS" => bare(Kind::ResponseFlags)?,
            "RESPONSE_FLAGS_LONG" => bare(Kind::ResponseFlagsLong)?,
            // `ALLOW_WHITESPACES`, which details of ours do not need.
            "RESPONSE_CODE_DETAILS" => Kind::ResponseCodeDetails,
            "CONNECTION_TERMINATION_DETAILS" | "VIRTUAL_CLUSTER_NAME" | "UPSTREAM_LOCAL_ADDRESS" => {
                bare(Kind::Never)?
            }
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => bare(Kind::TransportFailure)?,
            "BYTES_RECEIVED" => bare(Kind::BytesReceived)?,
            "BYTES_SENT" => bare(Kind::BytesSent)?,
            "DURATION" => bare(Kind::Duration)?,
            "RESPONSE_DURATION" => bare(Kind::ResponseDuration)?,
            "RESPONSE_TX_DURATION" => bare(Kind::ResponseTxDuration)?,
            "REQ" => fields(name, inner, false)?,
            "REQ_WITHOUT_QUERY" => fields(name, inner, true)?,
            "RESP" => headers(name, inner).map(|(name, other)| Kind::Response(name, other))?,
            "TRAILER" => headers(name, inner).map(|(name, other)| Kind::Trailer(name, other))?,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => bare(Kind::UpstreamHost(Part::Whole))?,
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => bare(Kind::UpstreamHost(Part::Address))?,
            "UPSTREAM_REMOTE_PORT" => bare(Kind::UpstreamHost(Part::Port))?,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => bare(Kind::UpstreamCluster)?,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => bare(Kind::Attempts)?,
            "DOWNSTREAM_LOCAL_ADDRESS" => bare(Kind::Local(Part::Whole))?,
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => bare(Kind::Local(Part::Address))?,
            "DOWNSTREAM_LOCAL_PORT" => bare(Kind::Local(Part::Port))?,
            "DOWNSTREAM_REMOTE_ADDRESS" => bare(Kind::Remote(Part::Whole))?,
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => bare(Kind::Remote(Part::Address))?,
            "DOWNSTREAM_REMOTE_PORT" => bare(Kind::Remote(Part::Port))?,
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => bare(Kind::Direct(Part::Whole))?,
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => bare(Kind::Direct(Part::Address))?,
            "DOWNSTREAM_DIRECT_REMOTE_PORT" => bare(Kind::Direct(Part::Port))?,
            "DOWNSTREAM_PEER_URI_SAN" => bare(Kind::PeerUri)?,
            "REQUESTED_SERVER_NAME" => bare(Kind::ServerName)?,
            "ROUTE_NAME" => bare(Kind::RouteName)?,
            "HOSTNAME" => bare(Kind::Hostname)?,
            "GRPC_STATUS" => Kind::GrpcStatus(match inner {
                None | Some("" | "CAMEL_STRING") => GrpcForm::Camel,
                Some("SNAKE_STRING") => GrpcForm::Snake,
                Some("NUMBER") => GrpcForm::Number,
                Some(other) => return Err(format!("`{other}` is no form of GRPC_STATUS")),
            }),
            "GRPC_STATUS_NUMBER" => bare(Kind::GrpcStatus(GrpcForm::Number))?,
            "TRACE_ID" => bare(Kind::TraceId)?,
            "CEL" => {
                let read = Expression::parse(inner.unwrap_or_default());
                Kind::Expression(read.map_err(|error| format!("CEL: {error}"))?)
            }
            "FILTER_STATE" => peer(inner.unwrap_or_default())?,
            "ENVIRONMENT" => match inner.filter(|name| !name.is_empty()) {
                Some(name) => std::env::var(name).map_or(Kind::Never, Kind::Literal),
                None => return Err("ENVIRONMENT needs the name of a variable".to_owned()),
            },
            "" => return Err("a `%` begins no operator; write `%%` for one".to_owned()),
            other => return Err(format!("`{other}` is no operator that is known here")),
        };
        if limit.is_some() && !CUT.contains(&name) {
            return Err(format!("{name} takes no length; {} do", CUT.join(", ")));
        }
        Ok(Self { kind, limit })
    }

    /// Notes the header fields that it asks for.
    pub(super) fn want(&self, wanted: &mut Wanted) {
        let of = |field: &Field| match field {
            Field::Header(name) => Some(name.clone()),
            _ => None,
        };
        match &self.kind {
            Kind::Request(first, other) => wanted
                .request
                .extend(of(first).into_iter().chain(other.as_ref().and_then(of))),
            Kind::Response(first, other) => wanted
                .response
                .extend(std::iter::once(first).chain(other).cloned()),
            Kind::Trailer(first, other) => wanted
                .trailers
                .extend(std::iter::once(first).chain(other).cloned()),
            Kind::TraceId => wanted.trace = true,
            Kind::ResponseDuration | Kind::ResponseTxDuration => wanted.answered = true,
            Kind::Expression(expression) => *wanted = std::mem::take(wanted).and(expression.wanted()),
            _ => {}
        }
    }

    /// Writes what it stands for into a line; what is absent as `-`, unless it is left out.
    pub(super) fn write(&self, entry: &Entry<'_>, omits: bool, to: &mut String) {
        match self.value(entry) {
            Value::Absent if omits => {}
            Value::Absent => to.push('-'),
            value => self.push(&value, to),
        }
    }

    /// Writes a value of this operator's, as much of it as is shown. What is absent is nothing.
    #[inline]
    pub(super) fn push(&self, value: &Value<'_>, to: &mut String) {
        let start = to.len();
        match value {
            Value::Text(text) => to.push_str(text),
            // What is cut off is text; Envoy takes no length for numbers.
            Value::Number(number) => return push_number(*number, to),
            Value::Time(format, at) => format.write(*at, to),
            Value::Address(address) => push_address(*address, to),
            Value::Ip(ip) => push_ip(*ip, to),
            Value::Name(name) => name.push(to),
            Value::Absent => {}
        }
        if let Some(limit) = self.limit.filter(|limit| to.len() - start > *limit) {
            let end = (start..=start + limit).rev().find(|at| to.is_char_boundary(*at));
            to.truncate(end.unwrap_or(start));
        }
    }

    /// What it stands for in the line of `entry`, as long as it is.
    #[inline]
    pub(super) fn value<'a>(&'a self, entry: &'a Entry<'a>) -> Value<'a> {
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match &self.kind {
            Kind::StartTime(format) => Value::Time(format, entry.start),
            Kind::EmitTime(format) => Value::Time(format, entry.start + entry.duration),
            Kind::Protocol => Value::text(entry.protocol),
            Kind::ResponseCode => Value::Number(entry.code.into()),
            Kind::ResponseFlags => Value::text(Some(entry.flags).filter(|flags| *flags != "-")),
            Kind::ResponseFlagsLong => long(entry.flags),
            Kind::ResponseCodeDetails => details(entry.details),
            Kind::TransportFailure => Value::text(entry.failure),
            Kind::BytesReceived => Value::Number(entry.received),
            Kind::BytesSent => Value::Number(entry.sent),
            Kind::Duration => Value::Number(millis(entry.duration)),
            Kind::ResponseDuration => Value::number(entry.answered.map(millis)),
            Kind::ResponseTxDuration => Value::number(
                entry
                    .answered
                    .map(|head| millis(entry.duration.saturating_sub(head))),
            ),
            Kind::Request(first, other) => {
                let found = field(entry, first).or_else(|| field(entry, other.as_ref()?));
                found.map_or(Value::Absent, Value::Text)
            }
            Kind::Response(first, other) => header(|name| entry.response.get(name), first, other.as_ref()),
            Kind::Trailer(first, other) => header(|name| entry.trailers.get(name), first, other.as_ref()),
            Kind::UpstreamHost(part) => part.of(entry.upstream),
            Kind::UpstreamCluster => Value::name(entry.cluster),
            Kind::Attempts => Value::Number(entry.attempts.into()),
            Kind::Local(part) => part.of(entry.local),
            Kind::Remote(part) => part.of(entry.remote),
            Kind::Direct(part) => part.of(entry.direct),
            Kind::PeerUri => Value::text(entry.peer),
            Kind::ServerName => Value::text(entry.sni),
            Kind::RouteName => Value::name(entry.route),
            Kind::Hostname => Value::text(entry.hostname),
            Kind::GrpcStatus(form) => grpc(entry.grpc_status, *form),
            Kind::TraceId => Value::text(entry.trace),
            Kind::Expression(expression) => expression.text(entry).map_or(Value::Absent, Value::Text),
            Kind::Literal(text) => Value::text(Some(text)),
            Kind::Never => Value::Absent,
        }
    }
}

impl<'a> Value<'a> {
    fn text(text: Option<&'a str>) -> Self {
        match text {
            Some(text) if !text.is_empty() => Self::Text(text.into()),
            _ => Self::Absent,
        }
    }

    fn name(name: Option<Name<'a>>) -> Self {
        match name {
            Some(Name::Said("")) | None => Self::Absent,
            Some(name) => Self::Name(name),
        }
    }

    fn number(number: Option<u64>) -> Self {
        number.map_or(Self::Absent, Self::Number)
    }
}

/// Those of IPv4 by hand, as all numbers.
fn push_address(address: SocketAddr, to: &mut String) {
    match address {
        SocketAddr::V4(address) => {
            push_ip((*address.ip()).into(), to);
            to.push(':');
            push_number(address.port().into(), to);
        }
        // Writing to a `String` cannot fail.
        SocketAddr::V6(address) => drop(write!(to, "{address}")),
    }
}

fn push_ip(ip: IpAddr, to: &mut String) {
    match ip {
        IpAddr::V4(ip) => {
            for (at, octet) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    to.push('.');
                }
                push_number(octet.into(), to);
            }
        }
        IpAddr::V6(ip) => drop(write!(to, "{ip}")),
    }
}

impl Part {
    fn of<'a>(self, address: Option<SocketAddr>) -> Value<'a> {
        let Some(address) = address else {
            return Value::Absent;
        };
        match self {
            Self::Whole => Value::Address(address),
            Self::Address => Value::Ip(address.ip()),
            Self::Port => Value::Number(address.port().into()),
        }
    }
}

/// `KEY:FIELD:NAME` of the workload at one end, as Istio's filter state names it.
fn peer(inner: &str) -> Result<Kind, String> {
    let mut parts = inner.split(':');
    let found = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("downstream_peer" | "downstream_peer_obj"), Some("FIELD"), Some(field), None) => {
            Expression::parse(&format!("downstream_peer.{field}"))
        }
        (Some("upstream_peer" | "upstream_peer_obj"), Some("FIELD"), Some(field), None) => {
            Expression::parse(&format!("upstream_peer.{field}"))
        }
        _ => {
            let why = "of filter state there are the fields of downstream_peer and upstream_peer: \
                       FILTER_STATE(downstream_peer:FIELD:workload)";
            return Err(why.to_owned());
        }
    };
    found.map(Kind::Expression).map_err(|error| error.to_string())
}

fn fields(name: &str, inner: Option<&str>, without_query: bool) -> Result<Kind, String> {
    let read = |text: &str| -> Result<Field, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            ":method" => Field::Method,
            ":path" if without_query => Field::PathOnly,
            ":path" => Field::Path,
            ":authority" | "host" => Field::Authority,
            ":scheme" => Field::Scheme,
            other => Field::Header(named(other)?),
        })
    };
    let (first, other) = halves(name, inner)?;
    Ok(Kind::Request(read(first)?, other.map(read).transpose()?))
}

fn headers(name: &str, inner: Option<&str>) -> Result<(HeaderName, Option<HeaderName>), String> {
    let (first, other) = halves(name, inner)?;
    Ok((named(first)?, other.map(named).transpose()?))
}

/// `X?Y`: the first, or else the other.
fn halves<'t>(name: &str, inner: Option<&'t str>) -> Result<(&'t str, Option<&'t str>), String> {
    let inner = inner.filter(|inner| !inner.is_empty());
    let inner = inner.ok_or_else(|| format!("{name} needs the name of a header: {name}(user-agent)"))?;
    Ok(match inner.split_once('?') {
        Some((first, other)) => (first, Some(other)),
        None => (inner, None),
    })
}

/// Fields that lines and filters mostly ask for. Their names are constants, so that keeping one counts no references.
const KNOWN: [HeaderName; 7] = [
    HeaderName::from_static("x-client-trace-id"),
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-envoy-upstream-service-time"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-request-id"),
];

fn named(text: &str) -> Result<HeaderName, String> {
    if let Some(known) = KNOWN.iter().find(|it| it.as_str().eq_ignore_ascii_case(text)) {
        return Ok(known.clone());
    }
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("`{text}` is not the name of a header"))
}

fn field<'a>(entry: &'a Entry<'a>, field: &Field) -> Option<Cow<'a, str>> {
    let text = |text: &'a str| (!text.is_empty()).then_some(Cow::Borrowed(text));
    match field {
        Field::Method => text(entry.method),
        Field::Path => text(entry.path),
        Field::PathOnly => text(entry.path.split('?').next().unwrap_or_default()),
        Field::Authority => text(entry.authority),
        Field::Scheme => text(entry.scheme),
        Field::Header(name) => entry.request.get(name).map(lossy),
    }
}

/// The first that there is of two.
fn header<'a>(
    get: impl Fn(&HeaderName) -> Option<&'a HeaderValue>,
    first: &HeaderName,
    other: Option<&HeaderName>,
) -> Value<'a> {
    let found = get(first).or_else(|| get(other?));
    found.map_or(Value::Absent, |value| Value::Text(lossy(value)))
}

/// As Envoy writes them where a line is split at spaces: none in them.
fn details(details: Option<&str>) -> Value<'_> {
    match details {
        Some(text) if text.contains(' ') => Value::Text(text.replace(' ', "_").into()),
        text => Value::text(text),
    }
}

fn long(flags: &str) -> Value<'_> {
    if flags == "-" {
        return Value::Absent;
    }
    let full = |flag| {
        let known = FLAGS.iter().find(|(short, _)| *short == flag);
        known.map_or(flag, |(_, long)| *long)
    };
    Value::Text(flags.split(',').map(full).collect::<Vec<_>>().join(",").into())
}

fn grpc<'a>(status: Option<u16>, form: GrpcForm) -> Value<'a> {
    let Some(status) = status else {
        return Value::Absent;
    };
    match (form, GRPC.get(usize::from(status))) {
        (GrpcForm::Number, _) => Value::Number(status.into()),
        (GrpcForm::Camel, Some((camel, _))) => Value::Text((*camel).into()),
        (GrpcForm::Snake, Some((_, snake))) => Value::Text((*snake).into()),
        (_, None) => Value::Text(status.to_string().into()),
    }
}
