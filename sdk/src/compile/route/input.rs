//! What routes of different kinds have in common.

use std::sync::Arc;

use super::time::created;
use crate::config::gateway::{
    BackendObjectReference, BackendRef, ConnectionRouteRule, GRPCRoute, GRPCRouteMatch, HTTPBackendRef,
    HTTPRoute, HTTPRouteFilter, HTTPRouteMatch, HTTPRouteRetry, HTTPRouteTimeouts, ParentRef,
    SessionPersistence, TCPRoute, TLSRoute,
};
use crate::config::{Entry, ObjectMeta};
use crate::name::Kind;

/// A route and where it was read.
#[derive(Clone, Copy, Debug)]
pub struct RouteInput<'a> {
    /// The route.
    pub route: Route<'a>,
    /// Its source, for problems.
    pub entry: &'a Arc<Entry>,
}

/// A route of Gateway API.
#[derive(Clone, Copy, Debug)]
pub enum Route<'a> {
    /// An HTTPRoute.
    Http(&'a HTTPRoute),
    /// A GRPCRoute.
    Grpc(&'a GRPCRoute),
    /// A TCPRoute.
    Tcp(&'a TCPRoute),
    /// A TLSRoute.
    Tls(&'a TLSRoute),
}

/// A rule of a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) matches: Matches<'a>,
    pub(super) filters: &'a [HTTPRouteFilter],
    pub(super) backend_refs: &'a [HTTPBackendRef],
    pub(super) timeouts: Option<&'a HTTPRouteTimeouts>,
    pub(super) retry: Option<&'a HTTPRouteRetry>,
    pub(super) session: Option<&'a SessionPersistence>,
}

/// The matches of a rule.
#[derive(Clone, Copy, Debug)]
pub(super) enum Matches<'a> {
    Http(&'a [HTTPRouteMatch]),
    Grpc(&'a [GRPCRouteMatch]),
}

macro_rules! any {
    ($self:expr, $it:ident => $body:expr) => {
        match $self {
            Self::Http($it) => $body,
            Self::Grpc($it) => $body,
            Self::Tcp($it) => $body,
            Self::Tls($it) => $body,
        }
    };
}

impl<'a> Route<'a> {
    /// The kind.
    pub fn kind(self) -> Kind {
        match self {
            Self::Http(_) => Kind::HTTPRoute,
            Self::Grpc(_) => Kind::GRPCRoute,
            Self::Tcp(_) => Kind::TCPRoute,
            Self::Tls(_) => Kind::TLSRoute,
        }
    }

    /// Metadata.
    pub fn metadata(self) -> &'a ObjectMeta {
        any!(self, it => &it.metadata)
    }

    /// The namespace.
    pub fn namespace(self) -> &'a Arc<str> {
        &self.metadata().namespace
    }

    /// When it was created, in seconds since 1970, if that is known.
    pub fn created(self) -> Option<u64> {
        created(self.metadata())
    }

    /// What it attaches to.
    pub fn parents(self) -> &'a [ParentRef] {
        any!(self, it => &it.spec.parent_refs)
    }

    /// The host names it serves.
    pub fn hostnames(self) -> &'a [String] {
        match self {
            Self::Http(it) => &it.spec.hostnames,
            Self::Grpc(it) => &it.spec.hostnames,
            Self::Tls(it) => &it.spec.hostnames,
            // A TCP connection names no host.
            Self::Tcp(_) => &[],
        }
    }

    /// Whether it is this very object.
    pub fn is(self, other: Self) -> bool {
        std::ptr::eq(self.metadata(), other.metadata())
    }

    /// Everything that requests or copies of them, questions about them, or connections may be sent to.
    pub fn targets(self) -> impl Iterator<Item = BackendObjectReference> {
        let of_connections = self.connection_rules().iter().flat_map(|rule| &rule.backend_refs);
        let of_connections = of_connections.map(BackendRef::target);
        let of_requests = self.rules().into_iter().flat_map(|rule| {
            let backends = rule.backend_refs.iter().map(HTTPBackendRef::target);
            let filters = rule.backend_refs.iter().flat_map(|backend| &backend.filters);
            let filters = rule.filters.iter().chain(filters);
            let named = filters.flat_map(|filter| {
                let mirror = filter.request_mirror.as_ref().map(|it| &it.backend_ref);
                mirror
                    .into_iter()
                    .chain(filter.external_auth.as_ref().map(|it| &it.backend_ref))
            });
            backends.chain(named.cloned())
        });
        of_connections.chain(of_requests)
    }

    /// How many rules of requests it has.
    pub(in crate::compile) fn rule_count(self) -> usize {
        match self {
            Self::Http(it) => it.spec.rules.len().max(1),
            Self::Grpc(it) => it.spec.rules.len(),
            Self::Tcp(_) | Self::Tls(_) => 0,
        }
    }

    /// The rules of a route of connections.
    pub(super) fn connection_rules(self) -> &'a [ConnectionRouteRule] {
        match self {
            Self::Http(_) | Self::Grpc(_) => &[],
            Self::Tcp(it) => &it.spec.rules,
            Self::Tls(it) => &it.spec.rules,
        }
    }

    /// The rules of a route of requests. The API server fills in a rule for everything where an HTTPRoute has none.
    pub(super) fn rules(self) -> Vec<Rule<'a>> {
        match self {
            Self::Http(route) if route.spec.rules.is_empty() => vec![Rule {
                name: None,
                matches: Matches::Http(&[]),
                filters: &[],
                backend_refs: &[],
                timeouts: None,
                retry: None,
                session: None,
            }],
            Self::Http(route) => {
                let rules = route.spec.rules.iter().map(|rule| Rule {
                    name: rule.name.as_deref(),
                    matches: Matches::Http(&rule.matches),
                    filters: &rule.filters,
                    backend_refs: &rule.backend_refs,
                    timeouts: rule.timeouts.as_ref(),
                    retry: rule.retry.as_ref(),
                    session: rule.session_persistence.as_ref(),
                });
                rules.collect()
            }
            Self::Grpc(route) => {
                let rules = route.spec.rules.iter().map(|rule| Rule {
                    name: rule.name.as_deref(),
                    matches: Matches::Grpc(&rule.matches),
                    filters: &rule.filters,
                    backend_refs: &rule.backend_refs,
                    timeouts: None,
                    retry: None,
                    session: rule.session_persistence.as_ref(),
                });
                rules.collect()
            }
            Self::Tcp(_) | Self::Tls(_) => Vec::new(),
        }
    }
}
