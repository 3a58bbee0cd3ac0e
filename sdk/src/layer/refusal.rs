//! A "no": which part of the stack said it, why, and how a caller is shown it.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};

use super::MeshBody;
use super::body::BoxError;
use super::flags::Flags;
use crate::name::{ResourceRef, field};
use crate::policy::Outcome;
use crate::policy::balance::EndpointKey;

/// Why a request is not answered by an upstream. Closed: every "no" of inmesh is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request is malformed or ambiguous.
    BadRequest,
    /// An authorization policy, or the lack of configuration, denies it.
    Denied,
    /// It carries a token that is not believed.
    Unauthenticated,
    /// An external authorizer denies it, or cannot be asked.
    Authorizer,
    /// No such service, or no route of it matches.
    NoRoute,
    /// The route or its backend is configured, but invalidly.
    Misconfigured,
    /// The rule that decides cannot be carried out as written, and answers so.
    RuleFailed,
    /// The destination has nobody to ask.
    NoEndpoint,
    /// No connection could be made.
    Connect,
    /// The server at the other end proved to be somebody else.
    Identity,
    /// The connection ended before the response began.
    Reset,
    /// The peer reset the stream before the response began.
    RemoteReset,
    /// The peer broke the rules of its protocol.
    Protocol,
    /// A rate limit allows no more.
    Limited,
    /// Whoever keeps a rate limit cannot be asked.
    Limiter,
    /// As much as latency allows is under way, and this is not important enough.
    Shed,
    /// A fault was asked for.
    Fault,
    /// A deadline passed.
    Timeout,
    /// Shutting down, or over a limit.
    Overloaded,
    /// The application failed.
    Application,
}

impl Reason {
    /// The Envoy response flag that means the same, `-` if there is none.
    pub fn flag(self) -> &'static str {
        match self {
            Self::BadRequest => "DPE",
            Self::Denied | Self::Unauthenticated | Self::Application | Self::RuleFailed => "-",
            Self::Authorizer => "UAEX",
            Self::NoRoute => "NR",
            Self::Misconfigured => "NC",
            Self::NoEndpoint => "UH",
            Self::Connect | Self::Identity => "UF",
            Self::Reset => "UC",
            Self::RemoteReset => "UR",
            Self::Protocol => "UPE",
            Self::Limited => "RL",
            Self::Limiter => "RLSE",
            Self::Shed => "OM",
            Self::Fault => "FI",
            Self::Timeout => "UT",
            Self::Overloaded => "UO",
        }
    }

    /// A stable name for logs and spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Authorizer => "authorizer",
            Self::NoRoute => "no_route",
            Self::Misconfigured => "misconfigured",
            Self::RuleFailed => "rule_failed",
            Self::NoEndpoint => "no_endpoint",
            Self::Connect => "connect",
            Self::Identity => "identity",
            Self::Reset => "reset",
            Self::RemoteReset => "remote_reset",
            Self::Protocol => "protocol",
            Self::Limited => "rate_limited",
            Self::Limiter => "rate_limit_service",
            Self::Shed => "shed",
            Self::Fault => "fault",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Application => "application",
        }
    }
}

/// How Envoy begins to say that no response came.
const NO_RESPONSE: &str = "upstream connect error or disconnect/reset before headers. ";

/// A request that was not answered by an upstream.
///
/// `body` is what the caller reads: Envoy's words where Envoy has some, naming nothing of the policy. `detail` is
/// for logs and spans: it names the resource that decided.
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The status that a proxy would send.
    pub status: StatusCode,
    /// What the caller reads.
    pub body: Cow<'static, str>,
    /// What the operator reads.
    pub detail: Cow<'static, str>,
    /// How the attempt ended, where there was one: what retries are decided by.
    pub outcome: Option<Outcome>,
    /// The policy that decided, where one did.
    pub policy: Option<ResourceRef>,
    /// The index of its rule, where one decided.
    pub rule: Option<u32>,
    /// Which endpoint was asked, if one was.
    pub endpoint: Option<EndpointKey>,
    /// The gRPC status that a gRPC caller is shown, where it is not the one that belongs to `status`.
    pub grpc_status: Option<u16>,
    /// Whether the retry policy would have had it sent again, had it allowed for more attempts.
    pub(super) exhausted: bool,
    /// Whether a fault delayed it before.
    pub(super) delayed: bool,
    /// Whether the mesh does not know the host.
    pub(super) nowhere: bool,
    /// Headers that belong to the answer besides.
    headers: Option<Box<HeaderMap>>,
    /// The request, where it is certain that no byte of it was sent.
    ///
    /// A lock that nobody waits for: bodies need not be `Sync`, errors must.
    unsent: Option<Mutex<Box<Request<MeshBody>>>>,
    source: Option<BoxError>,
}

impl Refusal {
    /// A refusal with the status and words that belong to the reason.
    ///
    /// Cold, which moves whatever leads here out of the way of requests that pass.
    #[cold]
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        let (status, body) = match reason {
            Reason::BadRequest => (StatusCode::BAD_REQUEST, ""),
            Reason::Denied => (StatusCode::FORBIDDEN, "RBAC: access denied"),
            Reason::Unauthenticated => (StatusCode::UNAUTHORIZED, ""),
            Reason::Authorizer => (StatusCode::FORBIDDEN, ""),
            Reason::NoRoute => (StatusCode::NOT_FOUND, ""),
            Reason::Misconfigured | Reason::RuleFailed | Reason::Application | Reason::Limiter => {
                (StatusCode::INTERNAL_SERVER_ERROR, "")
            }
            Reason::NoEndpoint => (StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream"),
            Reason::Connect | Reason::Identity => (
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
            ),
            Reason::Reset => (
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            ),
            Reason::RemoteReset => (
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream connect error or disconnect/reset before headers. reset reason: remote reset",
            ),
            Reason::Protocol => (
                StatusCode::BAD_GATEWAY,
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
            ),
            Reason::Limited => (StatusCode::TOO_MANY_REQUESTS, "local_rate_limited"),
            Reason::Shed => (StatusCode::SERVICE_UNAVAILABLE, "reached concurrency limit"),
            Reason::Fault => (StatusCode::SERVICE_UNAVAILABLE, "fault filter abort"),
            Reason::Timeout => (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"),
            Reason::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            ),
        };
        Self {
            reason,
            status,
            body: Cow::Borrowed(body),
            detail: detail.into(),
            outcome: None,
            endpoint: None,
            grpc_status: None,
            exhausted: false,
            delayed: false,
            nowhere: false,
            policy: None,
            rule: None,
            headers: None,
            unsent: None,
            source: None,
        }
    }

    /// A token that is not believed, with the challenge that belongs to the answer: `Bearer realm="…",
    /// error="invalid_token"` (RFC 6750 §3).
    pub fn unauthenticated(detail: impl Into<Cow<'static, str>>, realm: &str) -> Self {
        let realm = realm.replace('\\', "%5C").replace('"', "%22");
        let challenge = format!("Bearer realm=\"{realm}\", error=\"invalid_token\"");
        let mut headers = HeaderMap::new();
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        Self::new(Reason::Unauthenticated, detail).with_headers(headers)
    }

    /// An error that was asked for, for tests of whoever calls.
    pub fn fault(status: StatusCode, grpc_status: Option<u16>) -> Self {
        let mut refusal = Self::new(Reason::Fault, "the route asks for it").status(status);
        refusal.grpc_status = grpc_status;
        refusal
    }

    /// With another status.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With the way the attempt ended.
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// With what the caller reads.
    pub fn body(mut self, body: impl Into<Cow<'static, str>>) -> Self {
        self.body = body.into();
        self
    }

    /// Said of an attempt that was not the first (`retried`), or for which there were no more (`exhausted`).
    pub(super) fn retried(mut self, retried: bool, exhausted: bool) -> Self {
        self.exhausted = exhausted;
        if retried && let Some(cause) = self.body.strip_prefix(NO_RESPONSE) {
            self.body = format!("{NO_RESPONSE}retried and the latest {cause}").into();
        }
        self
    }

    /// Why, in the words of Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub fn response_code_details(&self) -> Cow<'static, str> {
        let reset = |why: &str| format!("upstream_reset_before_response_started{{{why}}}").into();
        match self.reason {
            Reason::BadRequest => "bad_request".into(),
            Reason::Denied => match &self.policy {
                Some(it) => {
                    let rule = self.rule.map(|rule| format!("-rule[{rule}]")).unwrap_or_default();
                    let (namespace, name) = (&it.namespace, &it.name);
                    format!("rbac_access_denied_matched_policy[ns[{namespace}]-policy[{name}]{rule}]").into()
                }
                None => "rbac_access_denied_matched_policy[none]".into(),
            },
            Reason::Unauthenticated => self.detail.clone(),
            Reason::Authorizer => "ext_authz_denied".into(),
            Reason::NoRoute => "route_not_found".into(),
            Reason::Misconfigured => "cluster_not_found".into(),
            Reason::RuleFailed => "direct_response".into(),
            Reason::NoEndpoint => "no_healthy_upstream".into(),
            Reason::Connect | Reason::Identity => reset("remote_connection_failure"),
            Reason::Reset => reset("connection_termination"),
            Reason::RemoteReset => reset("remote_reset"),
            Reason::Protocol => reset("protocol_error"),
            Reason::Overloaded => reset("overflow"),
            Reason::Timeout => match self.outcome {
                Some(Outcome::PerTryTimeout) => "upstream_per_try_timeout".into(),
                _ => "response_timeout".into(),
            },
            // The service of a global limit says nothing that a caller reads.
            Reason::Limited if self.body.is_empty() => "request_rate_limited".into(),
            Reason::Limited => "local_rate_limited".into(),
            Reason::Limiter => "rate_limiter_error".into(),
            Reason::Shed => "reached_concurrency_limit".into(),
            Reason::Fault => "fault_filter_abort".into(),
            Reason::Application => "internal_error".into(),
        }
    }

    /// Envoy's response flags.
    pub fn flags(&self) -> &'static str {
        Flags {
            cause: self.reason.flag(),
            delayed: self.delayed,
            exhausted: self.exhausted,
        }
        .as_str()
    }

    /// With headers that the answer carries besides its own.
    pub(crate) fn with_headers(mut self, headers: HeaderMap) -> Self {
        if !headers.is_empty() {
            self.headers.get_or_insert_default().extend(headers);
        }
        self
    }

    /// With the error behind it.
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With the endpoint that was asked.
    pub fn at(mut self, endpoint: &EndpointKey) -> Self {
        self.endpoint = Some(endpoint.clone());
        self
    }

    /// With the request that certainly was not sent.
    pub(crate) fn giving_back(mut self, request: Box<Request<MeshBody>>) -> Self {
        self.unsent = Some(Mutex::new(request));
        self
    }

    /// Takes the request back, if certainly no byte of it was sent.
    pub(crate) fn take_unsent(&mut self) -> Option<Box<Request<MeshBody>>> {
        let unsent = self.unsent.take()?;
        Some(unsent.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The refusal as a response: plain text, or a trailers-only gRPC answer if the request was gRPC
    /// (`spec/traffic.md` §11 of the design notes; gRPC "HTTP to gRPC Status Code Mapping").
    pub fn into_response(self, grpc: bool) -> Response<MeshBody> {
        let mut response = Response::new(MeshBody::empty());
        if let Some(headers) = self.headers {
            *response.headers_mut() = *headers;
        }
        if self.reason == Reason::Overloaded {
            let overloaded = HeaderValue::from_static("true");
            response.headers_mut().insert("x-envoy-overloaded", overloaded);
        }
        // A client must see this one to make another connection.
        if grpc && self.status != StatusCode::MISDIRECTED_REQUEST {
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let status = self.grpc_status.unwrap_or_else(|| grpc_status(self.status));
            headers.insert("grpc-status", HeaderValue::from(status));
            if !self.body.is_empty()
                && let Ok(message) = HeaderValue::try_from(percent_encoded(&self.body))
            {
                headers.insert("grpc-message", message);
            }
            return response;
        }
        *response.status_mut() = self.status;
        if !self.body.is_empty() {
            response
                .headers_mut()
                .entry(CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("text/plain"));
            *response.body_mut() = match self.body {
                Cow::Borrowed(text) => MeshBody::from(text),
                Cow::Owned(text) => MeshBody::from(text),
            };
        } else {
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        response
    }
}

/// Whether a request is gRPC, by its content type.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    field(headers, &CONTENT_TYPE).is_some_and(|value| {
        matches!(
            value.as_bytes().strip_prefix(b"application/grpc"),
            Some([] | [b'+' | b';', ..])
        )
    })
}

/// As `grpc-message` is written: everything but printable ASCII, and `%` itself, as `%XX` (gRPC over HTTP/2,
/// "Responses").
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// The gRPC status that stands for an HTTP status (gRPC, "HTTP to gRPC Status Code Mapping").
pub fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("reason", &self.reason)
            .field("status", &self.status)
            .field("detail", &self.detail)
            .field("outcome", &self.outcome)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_to_grpc_is_trailers_only() {
        let response = Refusal::new(Reason::Denied, "by AuthorizationPolicy a/b").into_response(true);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "7");
        assert_eq!(response.headers()["grpc-message"], "RBAC: access denied");
    }

    #[test]
    fn a_grpc_message_is_percent_encoded() {
        for (text, expected) in [
            ("no healthy upstream", "no healthy upstream"),
            ("100%", "100%25"),
            ("zwölf\n", "zw%C3%B6lf%0A"),
            ("~\u{7f}", "~%7F"),
        ] {
            assert_eq!(percent_encoded(text), expected);
        }
    }

    #[test]
    fn a_retry_is_told_of() {
        let refusal = Refusal::new(Reason::Connect, "").retried(true, true);
        assert_eq!(
            refusal.body,
            "upstream connect error or disconnect/reset before headers. \
             retried and the latest reset reason: remote connection failure"
        );
        assert_eq!(refusal.flags(), "UF,URX");
    }

    #[test]
    fn a_refusal_never_shows_its_detail() {
        use http_body_util::BodyExt;
        let response = Refusal::new(Reason::Denied, "by AuthorizationPolicy a/b").into_response(false);
        assert_eq!(response.status(), 403);
        let body = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(response.into_body().collect())
            .unwrap()
            .to_bytes();
        assert_eq!(body, "RBAC: access denied");
    }

    #[test]
    fn grpc_is_told_by_content_type() {
        let is = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            is_grpc(&headers)
        };
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc;x=y"));
        assert!(!is("application/grpc-web") && !is("text/plain"));
    }
}
