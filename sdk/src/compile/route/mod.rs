//! `HTTPRoute` and `GRPCRoute` to [`RouteTable`]; `TCPRoute` and `TLSRoute` to the rules of a
//! [`ConnectionTable`](crate::policy::connection::ConnectionTable).
//!
//! What cannot be carried out as written is reported and answered with 500, never skipped: a filter that is not
//! supported, a value that cannot be read, a backend that does not exist. The rest of the route stands. Only a
//! match whose path or method cannot be read matches nothing, since nobody can tell what it was meant for.

mod attach;
mod backend;
mod connection;
mod cors;
mod external_auth;
mod filter;
pub(super) mod header;
mod input;
mod matching;
mod method;
mod mirror;
pub(super) mod path;
mod rule;
pub(super) mod session;
#[cfg(test)]
mod tests;
pub(super) mod time;

use attach::to_listener;
pub(crate) use attach::to_service;
pub(crate) use connection::{connections_of_listener, connections_of_service};
pub use input::{Route, RouteInput};
pub(crate) use rule::ills;

use crate::config::gateway::{BackendObjectReference, Listener};
use crate::config::{Problem, Severity};
use crate::matcher::HostPattern;
use crate::name::{Host, ResourceRef, ServiceName};
use crate::policy::route::{ClusterId, RouteTable, RouteTableBuilder};

/// Finds the clusters of backends.
pub trait Backends {
    /// The cluster that a reference by a route means.
    ///
    /// # Errors
    /// If there is no such thing, or it may not be referred to.
    fn resolve(
        &mut self,
        from: &ResourceRef,
        target: &BackendObjectReference,
    ) -> Result<ClusterId, Unresolved>;

    /// By what host and port a cluster is dialled; `None` if it cannot be.
    fn address(&mut self, _: ClusterId) -> Option<(Host, u16)> {
        None
    }
}

/// Why a backend cannot be used: its share is answered with 500.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The reason, as Gateway API's `ResolvedRefs` condition names it.
    pub reason: UnresolvedReason,
    /// What is wrong.
    pub text: String,
}

/// The reasons of Gateway API's `ResolvedRefs` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnresolvedReason {
    /// There is no such object, or it has no such port.
    BackendNotFound,
    /// It is in another namespace and no ReferenceGrant admits the route.
    RefNotPermitted,
    /// Its kind cannot be a backend.
    InvalidKind,
    /// What it speaks is not HTTP.
    UnsupportedProtocol,
}

impl UnresolvedReason {
    /// What to do about it.
    fn remedy(self) -> &'static str {
        match self {
            Self::BackendNotFound => "name a Service that is configured, and one of its ports",
            Self::RefNotPermitted => "add a ReferenceGrant in the backend's namespace",
            Self::InvalidKind => "refer to a Service",
            Self::UnsupportedProtocol => "refer to a port that speaks HTTP",
        }
    }

    /// As the condition spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BackendNotFound => "BackendNotFound",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::InvalidKind => "InvalidKind",
            Self::UnsupportedProtocol => "UnsupportedProtocol",
        }
    }
}

/// A port of a service, by number and, where it is known, name (for `sectionName`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRef<'a> {
    /// The number.
    pub number: u16,
    /// The name.
    pub name: Option<&'a str>,
}

impl From<u16> for PortRef<'_> {
    fn from(number: u16) -> Self {
        Self { number, name: None }
    }
}

impl<'a> From<(u16, &'a str)> for PortRef<'a> {
    fn from((number, name): (u16, &'a str)) -> Self {
        Self {
            number,
            name: Some(name),
        }
    }
}

/// The routes of one port of a service in the mesh: those among `routes` with a `parentRef` to it.
///
/// Host names have no meaning in a mesh (GEP-1294): the service is recognized by what was dialled.
pub fn for_service<'p>(
    routes: &[RouteInput<'_>],
    service: &ServiceName,
    port: impl Into<PortRef<'p>>,
    resolve: &mut dyn Backends,
    problems: &mut Vec<Problem>,
) -> RouteTable {
    let mut builder = RouteTableBuilder::default();
    add_to_service(&mut builder, routes, service, port.into(), resolve, problems);
    builder.build()
}

/// As [`for_service`], as a section of a table that has others.
pub(crate) fn add_to_service(
    builder: &mut RouteTableBuilder,
    routes: &[RouteInput<'_>],
    service: &ServiceName,
    port: PortRef<'_>,
    resolve: &mut dyn Backends,
    problems: &mut Vec<Problem>,
) {
    builder.section();
    for input in routes {
        if !to_service(input.route, service, port) {
            continue;
        }
        if !input.route.hostnames().is_empty() {
            problems.push(input.entry.problem(
                Severity::Ignored,
                "spec.hostnames",
                "host names have no effect on a route whose parent is a Service",
                "remove them, or match a header",
            ));
        }
        rule::add(
            builder,
            input,
            &[HostPattern::Any],
            port.number,
            resolve,
            problems,
        );
    }
}

/// The routes of one listener of a Gateway or of a ListenerSet: those among `routes` with a `parentRef` to it that share a host name
/// with it. Whether the listener admits the route's namespace and kind is the caller's to check.
pub fn for_listener(
    routes: &[RouteInput<'_>],
    owner: &ResourceRef,
    listener: &Listener,
    resolve: &mut dyn Backends,
    problems: &mut Vec<Problem>,
) -> RouteTable {
    let mut builder = RouteTableBuilder::default();
    for input in routes {
        if !to_listener(input.route, owner, listener) {
            continue;
        }
        let hosts = attach::hosts(input, listener, problems);
        if !hosts.is_empty() {
            rule::add(&mut builder, input, &hosts, listener.port, resolve, problems);
        }
    }
    builder.build()
}
