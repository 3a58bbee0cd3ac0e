//! Which routes apply where: producer and consumer routes in a client, those of the service's and its own namespace
//! in a waypoint, those of its listeners in an ingress; and what the routes' status says of it.

mod parent;
mod report;

use std::collections::HashMap;
use std::sync::Arc;

use super::backend_tls::Uses;
use super::gateway::{Attaching, Checked, Listening, Looked, attach};
use super::namespace::Namespaces;
use super::rivals;
use super::route::{PortRef, Route, RouteInput, to_service};
use super::status::Statuses;
use crate::config::gateway::ParentRef;
use crate::config::{Entry, Problem, ResourceStore, Severity};
use crate::name::{Kind, ResourceRef, ServiceName};
pub(crate) use report::{Known, Sight};

/// The routes of the parents of one name, with the parent's kind.
#[derive(Debug, Default)]
struct Attached<'a> {
    routes: Vec<(Kind, RouteInput<'a>)>,
    /// Whether they are of several kinds, so that two may want the same requests.
    are_mixed: bool,
}

/// Routes by what they attach to: those of requests, or those of connections. Each family is told apart from the other, so
/// that a namespace's own TCPRoute leaves the HTTPRoutes of a service in force.
#[derive(Debug, Default)]
pub(crate) struct Routes<'a> {
    all: Vec<RouteInput<'a>>,
    /// By the parent's namespace, then name.
    by_parent: HashMap<&'a str, HashMap<&'a str, Attached<'a>>>,
}

/// What a parent reference points at, if it is something routes attach to.
fn parent_kind(parent: &ParentRef) -> Option<Kind> {
    let group = parent.group.as_deref().unwrap_or_else(|| Kind::Gateway.group());
    match (group, parent.kind.as_deref().unwrap_or("Gateway")) {
        ("" | "core", "Service") => Some(Kind::Service),
        (group, "ServiceEntry") if group == Kind::ServiceEntry.group() => Some(Kind::ServiceEntry),
        (group, "Gateway") if group == Kind::Gateway.group() => Some(Kind::Gateway),
        (group, "ListenerSet") if group == Kind::ListenerSet.group() => Some(Kind::ListenerSet),
        _ => None,
    }
}

impl<'a> Routes<'a> {
    /// Those of requests.
    pub(crate) fn read(store: &'a ResourceStore) -> Self {
        let http = store
            .http_routes()
            .map(|(route, entry)| (Route::Http(route), entry));
        let grpc = store
            .grpc_routes()
            .map(|(route, entry)| (Route::Grpc(route), entry));
        Self::index(http.chain(grpc))
    }

    /// Those of connections.
    pub(crate) fn of_connections(store: &'a ResourceStore) -> Self {
        let tcp = store
            .tcp_routes()
            .map(|(route, entry)| (Route::Tcp(route), entry));
        let tls = store
            .tls_routes()
            .map(|(route, entry)| (Route::Tls(route), entry));
        Self::index(tcp.chain(tls))
    }

    fn index(routes: impl Iterator<Item = (Route<'a>, &'a Arc<Entry>)>) -> Self {
        let mut index = Self::default();
        for (route, entry) in routes {
            let input = RouteInput { route, entry };
            index.all.push(input);
            for parent in route.parents() {
                let Some(kind) = parent_kind(parent) else { continue };
                let namespace = parent.namespace.as_deref().unwrap_or(route.namespace());
                let list = index
                    .by_parent
                    .entry(namespace)
                    .or_default()
                    .entry(parent.name.as_str())
                    .or_default();
                // Two references to the same parent (two ports) are one route.
                let mut latest = list.routes.iter().rev().take_while(|(_, it)| it.route.is(route));
                if !latest.any(|(known, _)| *known == kind) {
                    let other = |(_, first): &(Kind, RouteInput<'_>)| first.route.kind() != route.kind();
                    list.are_mixed |= list.routes.first().is_some_and(other);
                    list.routes.push((kind, input));
                }
            }
        }
        index
    }

    fn of(&self, kind: Kind, namespace: &str, name: &str) -> impl Iterator<Item = RouteInput<'a>> {
        let listed = self.by_parent.get(namespace).and_then(|it| it.get(name));
        let listed = listed.into_iter().flat_map(|it| &it.routes);
        listed
            .filter(move |(parent, _)| *parent == kind)
            .map(|(_, input)| *input)
    }

    /// Whether a route may lose a parent's requests to one of another kind.
    fn has_rivals(&self, namespace: &str, name: &str) -> bool {
        let listed = self.by_parent.get(namespace).and_then(|it| it.get(name));
        listed.is_some_and(|it| it.are_mixed)
    }

    /// Those a client applies on a port: its own namespace's if it wrote any (consumer routes override), else the
    /// producer's.
    pub(crate) fn for_client(
        &self,
        kind: Kind,
        service: &ServiceName,
        port: PortRef<'_>,
        client: &str,
    ) -> Vec<RouteInput<'a>> {
        let of = |namespace: &str| -> Vec<RouteInput<'a>> {
            self.of(kind, &service.namespace, &service.name)
                .filter(|it| &**it.route.namespace() == namespace && to_service(it.route, service, port))
                .collect()
        };
        let own = of(client);
        let routes = if own.is_empty() {
            of(&service.namespace)
        } else {
            own
        };
        rivals::accepted(routes, &rivals::always)
    }

    /// Those a client applies although the service has a waypoint: its own namespace's (consumer routes), which the
    /// waypoint would not apply, not even for its own client.
    pub(crate) fn beside_waypoint(
        &self,
        kind: Kind,
        service: &ServiceName,
        port: PortRef<'_>,
        client: &str,
        waypoint: &str,
    ) -> Vec<RouteInput<'a>> {
        if client == &*service.namespace || client == waypoint {
            return Vec::new();
        }
        let all = self.of(kind, &service.namespace, &service.name);
        let routes =
            all.filter(|it| &**it.route.namespace() == client && to_service(it.route, service, port));
        rivals::accepted(routes.collect(), &rivals::always)
    }

    /// Those a waypoint applies: of the service's namespace and of its own (ambient.md §5.1).
    pub(crate) fn for_waypoint(
        &self,
        kind: Kind,
        service: &ServiceName,
        port: PortRef<'_>,
        waypoint: &str,
    ) -> Vec<RouteInput<'a>> {
        let all = self.of(kind, &service.namespace, &service.name);
        let counts = |namespace: &str| namespace == &*service.namespace || namespace == waypoint;
        let routes = all.filter(|it| counts(it.route.namespace()) && to_service(it.route, service, port));
        rivals::accepted(routes.collect(), &rivals::always)
    }

    /// Those that attach to a listener of a Gateway or of a ListenerSet.
    pub(crate) fn for_listener(
        &self,
        gateway: &Looked<'_>,
        listener: &Checked<'_>,
        namespaces: &Namespaces<'_>,
    ) -> Vec<RouteInput<'a>> {
        let (owner, _) = gateway.owner(listener.set);
        let listening = Listening {
            gateway,
            set: listener.set,
        };
        let all = self.of(owner.kind, &owner.namespace, &owner.name);
        let attaches = |it: &RouteInput<'a>| {
            it.route.parents().iter().any(|parent| {
                is_parent(parent, it, owner)
                    && attach(listening, parent, attaching(it), namespaces)
                        .is_ok_and(|to| to.iter().any(|to| to.at == listener.at))
            })
        };
        rivals::accepted(all.filter(attaches).collect(), &|a, b| overlap(listener, a, b))
    }

    /// The status of every route, and the problems of those that reach nobody; notes which Gateways lead to which
    /// Services.
    pub(crate) fn report(
        &self,
        sight: &Sight<'_, '_>,
        known: &mut Known,
        problems: &mut Vec<Problem>,
        statuses: &mut Statuses,
        uses: &mut Uses,
    ) {
        for input in &self.all {
            match sight.written(input) {
                Some(written) => sight.known(input, written, known, problems, statuses),
                None => sight.route(input, problems, statuses, uses),
            }
        }
    }
}

/// Whether two routes share a host name on a listener.
fn overlap(listener: &Checked<'_>, a: &RouteInput<'_>, b: &RouteInput<'_>) -> bool {
    let hosts = |it: &RouteInput<'_>| listener.hosts(it.route.hostnames());
    let (a, b) = (hosts(a), hosts(b));
    a.iter().any(|a| b.iter().any(|b| a.intersect(b).is_some()))
}

/// Whether a reference of a route means this.
fn is_parent(parent: &ParentRef, input: &RouteInput<'_>, owner: &ResourceRef) -> bool {
    let own = &**input.route.namespace();
    parent_kind(parent) == Some(owner.kind)
        && parent.name == *owner.name
        && parent.namespace.as_deref().unwrap_or(own) == &*owner.namespace
}

fn attaching<'r>(input: &'r RouteInput<'_>) -> Attaching<'r> {
    Attaching {
        kind: input.route.kind(),
        namespace: input.route.namespace(),
        hostnames: input.route.hostnames(),
    }
}

/// A route of connections on a port that speaks HTTP never decides anything.
pub(crate) fn only_http(entry: &Entry, service: &ServiceName, port: u16) -> Problem {
    entry.problem(
        Severity::Ignored,
        "spec.parentRefs",
        format!("port {port} of {service} speaks HTTP; the route of connections does not apply there"),
        "name the parent's TCP or TLS port, or route the requests by an HTTPRoute",
    )
}

/// A route on a port that does not speak HTTP never decides anything.
pub(crate) fn not_http(entry: &Entry, service: &ServiceName, port: u16) -> Problem {
    entry.problem(
        Severity::Ignored,
        "spec.parentRefs",
        format!("port {port} of {service} does not speak HTTP; the route does not apply there"),
        "name the parent's HTTP port, or declare the port's appProtocol",
    )
}
