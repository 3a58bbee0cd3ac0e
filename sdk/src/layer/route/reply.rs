//! Reply: what a rule does to the answer on its way back.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, Response};

use super::settle::Pin;
use crate::layer::call::{Call, Served, Won};
use crate::layer::{MeshBody, Refusal};
use crate::policy::digest;
use crate::policy::route::{Backend, Cors, HeaderEdits, RouteRule, Session, Token};
use crate::snapshot::Cluster;

/// What is still to be done when the answer comes.
#[derive(Debug)]
pub struct Reply {
    /// The rule; `None` where there is only a session.
    won: Option<Won>,
    /// Whether the request came from another origin, and from which if that one may.
    origin: Option<Option<HeaderValue>>,
    /// For a session.
    sitting: Option<Sitting>,
    /// Headers that an external authorizer gave.
    granted: HeaderMap,
}

/// One request of a session.
#[derive(Debug)]
pub(super) struct Sitting {
    session: Arc<Session>,
    /// The token that came with it.
    token: Option<Token>,
    /// What of the path the rule matched.
    path: Box<str>,
    /// Whether the request came over TLS as the application sees it.
    secure: bool,
}

impl Reply {
    /// `None` if the answer can pass as it is.
    pub(super) fn new(
        won: &Won,
        origin: Option<Option<HeaderValue>>,
        sitting: Option<Sitting>,
    ) -> Option<Box<Self>> {
        let (rule, backend) = (won.rule()?, won.backend());
        let edited = edits(rule, backend).any(|edits| !edits.is_empty());
        (edited || origin.is_some() || sitting.is_some()).then(|| {
            Box::new(Self {
                won: Some(won.clone()),
                origin,
                sitting,
                granted: HeaderMap::new(),
            })
        })
    }

    /// Where no rule was needed.
    pub(super) fn unruled(sitting: Sitting) -> Self {
        Self {
            won: None,
            origin: None,
            sitting: Some(sitting),
            granted: HeaderMap::new(),
        }
    }

    /// As `reply`, and with headers that are set whatever the answer says of them.
    pub(super) fn granting(reply: Option<Box<Self>>, won: &Won, granted: HeaderMap) -> Box<Self> {
        let nothing_else = || {
            Box::new(Self {
                won: Some(won.clone()),
                origin: None,
                sitting: None,
                granted: HeaderMap::new(),
            })
        };
        let mut reply = reply.unwrap_or_else(nothing_else);
        reply.granted = granted;
        reply
    }

    /// Finishes an answer that came from an upstream.
    pub(super) fn finish(&self, response: &mut Response<MeshBody>) {
        let rule = self.won.as_ref().and_then(Won::rule);
        let backend = self.won.as_ref().and_then(Won::backend);
        for edits in rule.into_iter().flat_map(|rule| edits(rule, backend)) {
            edits.apply(response.headers_mut());
        }
        if let Some(header) = self.sitting.as_ref().and_then(|sitting| sitting.header(response)) {
            let _ = response.headers_mut().try_append(header.0, header.1);
        }
        for (name, value) in &self.granted {
            let _ = response.headers_mut().try_insert(name, value.clone());
        }
        if let Some(rule) = rule {
            self.allow(rule, backend, response.headers_mut());
        }
    }

    /// Finishes a refusal: a page may read of an error what it may read of an answer.
    pub(super) fn refused(&self, refusal: Refusal) -> Refusal {
        let Some(won) = &self.won else { return refusal };
        let Some(rule) = won.rule() else { return refusal };
        let mut headers = HeaderMap::new();
        self.allow(rule, won.backend(), &mut headers);
        refusal.with_headers(headers)
    }

    fn allow(&self, rule: &RouteRule, backend: Option<&Backend>, headers: &mut HeaderMap) {
        if let (Some(cors), Some(origin)) = (cors(rule, backend), &self.origin) {
            cors.finish(origin.as_ref(), headers);
        }
    }
}

impl Sitting {
    /// A request that came with the token of the endpoint that it is pinned to; `matched` is the part of its path that
    /// the rule matched.
    pub(super) fn new(session: &Arc<Session>, call: &Call, matched: &str, pin: Option<&Pin>) -> Self {
        Self {
            session: Arc::clone(session),
            token: pin.map(|pin| pin.token),
            path: matched.into(),
            secure: call.head().scheme == "https",
        }
    }

    /// The header that keeps the session where it went.
    fn header(&self, response: &Response<MeshBody>) -> Option<(http::HeaderName, HeaderValue)> {
        let served = response.extensions().get::<Served>()?;
        let now = now();
        let token = Token {
            backend: backend_digest(served.cluster.as_deref()?),
            endpoint: served.endpoint.digest(),
            began: self.token.map_or(now, |token| token.began),
            used: now,
        };
        self.session
            .write(&token, self.token.as_ref(), &self.path, self.secure)
    }
}

/// What stands for a backend in tokens: host and port of its service, which do not change with the configuration.
pub(super) fn backend_digest(cluster: &Cluster) -> u64 {
    digest([cluster.host.as_str().as_bytes(), &cluster.port.to_be_bytes()])
}

/// Seconds since 1970.
pub(super) fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// The policy on other origins: the backend's own, else the rule's.
pub(super) fn cors<'w>(rule: &'w RouteRule, backend: Option<&'w Backend>) -> Option<&'w Cors> {
    backend
        .and_then(|backend| backend.cors.as_ref())
        .or(rule.cors.as_ref())
}

fn edits<'w>(rule: &'w RouteRule, backend: Option<&'w Backend>) -> impl Iterator<Item = &'w HeaderEdits> {
    let backend = backend.map(|backend| &backend.response);
    backend.into_iter().chain([&rule.response])
}
