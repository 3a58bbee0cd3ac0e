//! Which routes apply where: producer and consumer routes in a client, those of the service's and its own namespace
//! in a waypoint, those of its listeners in an ingress; and what the routes' status says of it.

use std::collections::HashMap;

use super::backends::{Directory, Frontend};
use super::namespace::Namespaces;
use super::rivals;
use super::route::{PortRef, Route, RouteInput, to_listener, to_service};
use super::status::{ACCEPTED, Condition, RESOLVED_REFS, Reference, Statuses};
use crate::config::gateway::{Gateway, Listener, ParentRef};
use crate::config::{Entry, Problem, ResourceStore, Severity};
use crate::matcher::HostPattern;
use crate::name::{Kind, ResourceRef, ServiceName};

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The routes of the parents of one name, with the parent's kind.
#[derive(Debug, Default)]
struct Attached<'a> {
    routes: Vec<(Kind, RouteInput<'a>)>,
    /// Whether they are of several kinds, so that two may want the same requests.
    are_mixed: bool,
}

/// Routes by what they attach to.
#[derive(Debug, Default)]
pub(crate) struct Routes<'a> {
    all: Vec<RouteInput<'a>>,
    /// By the parent's namespace, then name.
    by_parent: HashMap<&'a str, HashMap<&'a str, Attached<'a>>>,
}

/// What a parent reference points at, if it is something routes attach to.
fn parent_kind(parent: &ParentRef) -> Option<Kind> {
    match (
        parent.group.as_deref().unwrap_or(GATEWAY_GROUP),
        parent.kind.as_deref().unwrap_or("Gateway"),
    ) {
        ("" | "core", "Service") => Some(Kind::Service),
        ("networking.istio.io", "ServiceEntry") => Some(Kind::ServiceEntry),
        (GATEWAY_GROUP, "Gateway") => Some(Kind::Gateway),
        _ => None,
    }
}

impl<'a> Routes<'a> {
    pub(crate) fn read(store: &'a ResourceStore) -> Self {
        let mut index = Self::default();
        let http = store
            .http_routes()
            .map(|(route, entry)| (Route::Http(route), entry));
        let grpc = store
            .grpc_routes()
            .map(|(route, entry)| (Route::Grpc(route), entry));
        for (route, entry) in http.chain(grpc) {
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

    /// Those that a Gateway's listener admits.
    pub(crate) fn for_listener(
        &self,
        gateway: &Gateway,
        listener: &Listener,
        namespaces: &Namespaces<'_>,
    ) -> Vec<RouteInput<'a>> {
        let meta = &gateway.metadata;
        let all = self.of(Kind::Gateway, &meta.namespace, &meta.name);
        let reference = ResourceRef::new(Kind::Gateway, meta.namespace.clone(), meta.name.clone());
        let routes = all.filter(|it| {
            admits(gateway, listener, it, namespaces) && to_listener(it.route, &reference, listener)
        });
        rivals::accepted(routes.collect(), &|a, b| overlap(listener, a, b))
    }

    /// The status of every route, and the problems of those that reach nobody.
    pub(crate) fn report(&self, sight: &Sight<'_>, problems: &mut Vec<Problem>, statuses: &mut Statuses) {
        for input in &self.all {
            sight.route(input, problems, statuses);
        }
    }
}

/// Whether two routes share a host name on a listener.
fn overlap(listener: &Listener, a: &RouteInput<'_>, b: &RouteInput<'_>) -> bool {
    let hosts = |it: &RouteInput<'_>| hosts(listener, it.route.hostnames());
    let (a, b) = (hosts(a), hosts(b));
    a.iter().any(|a| b.iter().any(|b| a.intersect(b).is_some()))
}

fn admits(
    gateway: &Gateway,
    listener: &Listener,
    input: &RouteInput<'_>,
    namespaces: &Namespaces<'_>,
) -> bool {
    let allowed = listener.allowed_routes.as_ref();
    let kinds = allowed.map(|it| it.kinds.as_slice()).unwrap_or_default();
    let of_kind = kinds.is_empty()
        || kinds.iter().any(|it| {
            it.kind == input.route.kind().as_str()
                && it.group.as_deref().is_none_or(|group| group == GATEWAY_GROUP)
        });
    of_kind && namespaces.admits(allowed, &gateway.metadata.namespace, input.route.namespace())
}

/// What a route's parents and backends are looked up in.
pub(crate) struct Sight<'s> {
    pub(crate) routes: &'s Routes<'s>,
    pub(crate) store: &'s ResourceStore,
    pub(crate) namespaces: &'s Namespaces<'s>,
    pub(crate) directory: &'s Directory<'s>,
    /// The namespace of the waypoint that a Service is bound to.
    pub(crate) waypoint: &'s dyn Fn(Kind, &str, &str) -> Option<&'s str>,
}

impl Sight<'_> {
    fn route(&self, input: &RouteInput<'_>, problems: &mut Vec<Problem>, statuses: &mut Statuses) {
        let meta = input.route.metadata();
        for (at, parent) in input.route.parents().iter().enumerate() {
            let unresolved = self.unresolved(input, parent);
            let accepted = self.parent(input, parent);
            if let Err((reason, text)) = &accepted {
                problems.push(input.entry.problem(
                    Severity::Warning,
                    format!("spec.parentRefs[{at}]"),
                    format!("{reason}: {text}; the route does not apply there"),
                    "name a parent that exists and admits the route",
                ));
            } else {
                self.unheard(input, parent, at, problems);
            }
            let (reason, message) = match &accepted {
                Ok(()) => ("Accepted", "the route is attached".to_owned()),
                Err((reason, text)) => (*reason, text.clone()),
            };
            let reference = Reference::of_parent(parent, &meta.namespace);
            let status = statuses
                .of(input.entry)
                .parent(reference, "istio.io/gateway-controller");
            status.set(Condition::new(ACCEPTED, accepted.is_ok(), reason, message));
            let (reason, message) = match &unresolved {
                None => ("ResolvedRefs", "all backends are known".to_owned()),
                Some((reason, text)) => (*reason, text.clone()),
            };
            status.set(Condition::new(
                RESOLVED_REFS,
                unresolved.is_none(),
                reason,
                message,
            ));
        }
        if input.route.parents().is_empty() {
            problems.push(input.entry.problem(
                Severity::Warning,
                "spec.parentRefs",
                "the route has no parent and applies nowhere",
                "name a Service or a Gateway",
            ));
        }
    }

    /// The first backend that cannot be used. `for_service` reports each of those that matter here.
    fn unresolved(&self, input: &RouteInput<'_>, parent: &ParentRef) -> Option<(&'static str, String)> {
        let frontend = match parent_kind(parent) {
            Some(Kind::Service | Kind::ServiceEntry) => Frontend::Mesh,
            _ => Frontend::Gateway,
        };
        let from = input.entry.reference();
        let mut targets = input.route.targets();
        let unresolved = targets.find_map(|target| self.directory.find(frontend, &from, &target).err())?;
        Some((unresolved.reason.as_str(), unresolved.text))
    }

    fn parent(&self, input: &RouteInput<'_>, parent: &ParentRef) -> Result<(), (&'static str, String)> {
        let namespace = parent.namespace.as_deref().unwrap_or(input.route.namespace());
        let name = &parent.name;
        let missing = |what: &str| {
            Err((
                "NoMatchingParent",
                format!("{what} {namespace}/{name} does not exist"),
            ))
        };
        match parent_kind(parent) {
            Some(kind @ (Kind::Service | Kind::ServiceEntry)) => match self.ports(kind, namespace, name) {
                None => missing(kind.as_str()),
                Some(ports) => self.service(input, parent, kind, &ports),
            },
            Some(_) => match self.store.gateway(namespace, name) {
                None => missing("Gateway"),
                Some((gateway, _)) => self.listeners(input, parent, gateway),
            },
            None => {
                let kind = parent.kind.as_deref().unwrap_or("Gateway");
                let group = parent.group.as_deref().unwrap_or(GATEWAY_GROUP);
                Err((
                    "InvalidKind",
                    format!("routes do not attach to {kind} of group `{group}`"),
                ))
            }
        }
    }

    /// The ports of a Service or ServiceEntry, if it exists.
    fn ports(&self, kind: Kind, namespace: &str, name: &str) -> Option<Vec<PortRef<'_>>> {
        if kind == Kind::Service {
            let (service, _) = self.store.service(namespace, name)?;
            let ports = service.spec.ports.iter().map(|it| PortRef {
                number: it.port,
                name: it.name.as_deref(),
            });
            return Some(ports.collect());
        }
        let (entry, _) = self.store.service_entry(namespace, name)?;
        let ports = entry.spec.ports.iter();
        Some(
            ports
                .map(|it| PortRef::from((it.number, it.name.as_str())))
                .collect(),
        )
    }

    fn service(
        &self,
        input: &RouteInput<'_>,
        parent: &ParentRef,
        kind: Kind,
        ports: &[PortRef<'_>],
    ) -> Result<(), (&'static str, String)> {
        let own = input.route.namespace();
        let namespace = parent.namespace.as_deref().unwrap_or(own);
        let service = ServiceName::new(namespace, parent.name.as_str());
        let mut named = ports
            .iter()
            .filter(|it| {
                parent.port.is_none_or(|port| port == it.number)
                    && parent
                        .section_name
                        .as_deref()
                        .is_none_or(|section| Some(section) == it.name)
            })
            .peekable();
        if named.peek().is_none() && (parent.port.is_some() || parent.section_name.is_some()) {
            return Err((
                "NoMatchingParent",
                format!("{} {service} has no such port", kind.as_str()),
            ));
        }
        let wins = |port: &PortRef<'_>| {
            // As seen from the route's own namespace, which is who it is for.
            let routes = self.routes.for_client(kind, &service, *port, own);
            routes.iter().any(|it| it.route.is(input.route))
        };
        let loses =
            named.peek().is_some() && self.routes.has_rivals(namespace, &parent.name) && !named.any(wins);
        if loses { lost(input) } else { Ok(()) }
    }

    fn listeners(
        &self,
        input: &RouteInput<'_>,
        parent: &ParentRef,
        gateway: &Gateway,
    ) -> Result<(), (&'static str, String)> {
        let named = |it: &&Listener| {
            parent.port.is_none_or(|port| port == it.port)
                && parent
                    .section_name
                    .as_ref()
                    .is_none_or(|section| *section == it.name)
        };
        let matching: Vec<&Listener> = gateway.spec.listeners.iter().filter(named).collect();
        if matching.is_empty() {
            return Err((
                "NoMatchingParent",
                format!("Gateway {} has no such listener", parent.name),
            ));
        }
        let admitted: Vec<&Listener> = matching
            .into_iter()
            .filter(|it| admits(gateway, it, input, self.namespaces))
            .collect();
        if admitted.is_empty() {
            let text = format!("no listener of Gateway {} allows the route", parent.name);
            return Err(("NotAllowedByListeners", text));
        }
        let mut shared = admitted
            .iter()
            .filter(|it| !hosts(it, input.route.hostnames()).is_empty())
            .peekable();
        if shared.peek().is_some() {
            let wins = |listener: &&Listener| {
                let routes = self.routes.for_listener(gateway, listener, self.namespaces);
                routes.iter().any(|it| it.route.is(input.route))
            };
            let loses = self
                .routes
                .has_rivals(&gateway.metadata.namespace, &gateway.metadata.name)
                && !shared.any(wins);
            return if loses { lost(input) } else { Ok(()) };
        }
        let text = format!(
            "no listener of Gateway {} serves a host name of the route",
            parent.name
        );
        Err(("NoMatchingListenerHostname", text))
    }

    /// A consumer route is not heard by a waypoint of another namespace: only clients apply it, those that can.
    fn unheard(&self, input: &RouteInput<'_>, parent: &ParentRef, at: usize, problems: &mut Vec<Problem>) {
        let own = &**input.route.namespace();
        let namespace = parent.namespace.as_deref().unwrap_or(own);
        let Some(kind @ (Kind::Service | Kind::ServiceEntry)) = parent_kind(parent) else {
            return;
        };
        let Some(home) = (self.waypoint)(kind, namespace, &parent.name) else {
            return;
        };
        if own != namespace && own != home {
            problems.push(input.entry.problem(
                Severity::Ignored,
                format!("spec.parentRefs[{at}]"),
                format!(
                    "the waypoint of {namespace}/{} does not apply routes of namespace {own}; clients of that namespace \
                     do if they link inmesh",
                    parent.name
                ),
                "move the route to the service's or the waypoint's namespace, unless all its clients link inmesh",
            ));
        }
    }
}

/// The verdict on a route that another kind of route has the requests of.
fn lost(input: &RouteInput<'_>) -> Result<(), (&'static str, String)> {
    let other = match input.route.kind() {
        Kind::GRPCRoute => "an HTTPRoute",
        _ => "a GRPCRoute",
    };
    let text = format!("{other} that is older, or first by name, has the same requests");
    Err(("HostnameConflict", text))
}

/// The hosts that a route serves on a listener; none if the listener's own cannot be read.
fn hosts(listener: &Listener, hostnames: &[String]) -> Vec<HostPattern> {
    let Ok(own) = HostPattern::parse(listener.hostname.as_deref().unwrap_or("")) else {
        return Vec::new();
    };
    if hostnames.is_empty() {
        return vec![own];
    }
    let patterns = hostnames.iter().filter_map(|it| HostPattern::parse(it).ok());
    patterns.filter_map(|it| it.intersect(&own)).collect()
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
