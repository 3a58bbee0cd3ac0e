//! What a route rule does once it has been chosen.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use super::{Backends, Cors, HeaderEdits, Mirror, Redirect, Rewrite, Session};
use crate::name::{Kind, ResourceRef};
use crate::policy::authorizer::Authorizer;
use crate::policy::fault::FaultPolicy;
use crate::policy::retry::RetryPolicy;
use crate::policy::timeout::Timeouts;

/// One rule of a route.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// Where it was written.
    pub origin: RuleOrigin,
    /// What becomes of the request.
    pub action: Action,
    /// Edits of the request's headers, before those of the backend.
    pub request: HeaderEdits,
    /// Edits of the response's headers, after those of the backend.
    pub response: HeaderEdits,
    /// The rewrite of host and path.
    pub rewrite: Option<Rewrite>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// When to try again.
    pub retry: Arc<RetryPolicy>,
    /// Who gets copies.
    pub mirrors: Box<[Mirror]>,
    /// What is done to requests before anything else, to try whoever sends them.
    pub fault: Option<FaultPolicy>,
    /// Which other origins may use it.
    pub cors: Option<Cors>,
    /// Who must allow a request before it is sent anywhere.
    pub authorizer: Option<Arc<Authorizer>>,
    /// How the requests of a session are kept together, whatever its backends say of that.
    pub session: Option<Arc<Session>>,
}

impl RouteRule {
    /// A rule that does nothing but this: no edits, no time limits, retries as Istio makes them unasked.
    pub fn new(origin: RuleOrigin, action: Action) -> Self {
        Self {
            origin,
            action,
            request: HeaderEdits::default(),
            response: HeaderEdits::default(),
            rewrite: None,
            timeouts: Timeouts::default(),
            retry: Arc::new(RetryPolicy::istio_default()),
            mirrors: Box::default(),
            fault: None,
            cors: None,
            authorizer: None,
            session: None,
        }
    }

    /// The status for requests that cannot be sent because of what the rule says: 500 as Gateway API asks, which gRPC
    /// must read as `UNAVAILABLE` (GRPCRouteRule.backendRefs); 503 for a VirtualService, as Envoy answers for a cluster
    /// that it does not know.
    pub fn failure(&self) -> StatusCode {
        match self.origin.resource.kind {
            Kind::GRPCRoute | Kind::VirtualService => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Where a rule was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOrigin {
    /// The route.
    pub resource: ResourceRef,
    /// Index in its `spec.rules`.
    pub rule: u32,
    /// The rule's own name.
    pub name: Option<Arc<str>>,
    /// `namespace/name/index`, for spans.
    pub label: Arc<str>,
    /// The paths it is for, as Istio names operations: `/reviews*`, `/reviews/0`, an expression; `None` if it has several, or
    /// is for all.
    pub path: Option<Arc<str>>,
}

impl RuleOrigin {
    /// The rule with this index in a route.
    pub fn new(resource: ResourceRef, rule: u32, name: Option<Arc<str>>) -> Self {
        let label = format!("{}/{}/{rule}", resource.namespace, resource.name).into();
        Self {
            resource,
            rule,
            name,
            label,
            path: None,
        }
    }

    /// The same, for the paths of these matches.
    pub fn paths<'p>(mut self, paths: impl IntoIterator<Item = PathName<'p>>) -> Self {
        let mut paths = paths.into_iter();
        let first = paths.next();
        self.path = first
            .filter(|first| paths.all(|other| other == *first))
            .and_then(PathName::operation);
        self
    }
}

/// What a match says of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathName<'p> {
    /// Nothing.
    Any,
    /// How it begins.
    Prefix(&'p str),
    /// All of it.
    Exact(&'p str),
    /// An expression for it.
    Regex(&'p str),
}

impl PathName<'_> {
    /// As Istio writes it behind the host in the name of an operation; `None` where it is `/*`.
    fn operation(self) -> Option<Arc<str>> {
        match self {
            Self::Any | Self::Prefix("" | "/") => None,
            Self::Prefix(prefix) => Some(format!("{prefix}*").into()),
            Self::Exact(path) | Self::Regex(path) => Some(path.into()),
        }
    }
}

/// What becomes of a request. The set is closed.
#[derive(Clone, Debug)]
pub enum Action {
    /// It is sent on.
    Forward(Backends),
    /// The caller is sent elsewhere.
    Redirect(Redirect),
    /// It is answered right here (Istio, HTTPDirectResponse).
    Respond {
        /// The status.
        status: StatusCode,
        /// The body.
        body: Bytes,
    },
    /// It is answered with an error, because the rule cannot be carried out as written.
    ///
    /// The status is [`RouteRule::failure`].
    Fail {
        /// Why.
        why: Arc<str>,
    },
}

impl Action {
    /// The answer of a rule that cannot be carried out.
    pub fn fail(why: impl Into<Arc<str>>) -> Self {
        Self::Fail { why: why.into() }
    }
}
