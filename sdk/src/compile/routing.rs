//! Which routes apply where: producer and consumer routes in a client, those of the service's and its own namespace
//! in a waypoint, those of its listeners in an ingress; and what the routes' status says of it.

use std::collections::HashMap;
use std::sync::Arc;

use super::backend_tls::Uses;
use super::backends::{Directory, Frontend, Told};
use super::gateway::{Attaching, Checked, Controllers, Fault, Gateways, Looked, attach};
use super::memo::{Address, Found, Same, Table};
use super::namespace::Namespaces;
use super::rivals;
use super::route::{PortRef, Route, RouteInput, ills, to_service};
use super::status::{
    ACCEPTED, Condition, PARTIALLY_INVALID, RESOLVED_REFS, RESOLVED_WAYPOINTS, Reference, ResourceStatus,
    Statuses,
};
use super::waypoint::Waypoint;
use crate::config::gateway::ParentRef;
use crate::config::{Entry, Problem, ResourceStore, Severity};
use crate::name::{Kind, ResourceRef, ServiceName};

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

    /// Those that attach to a Gateway's listener.
    pub(crate) fn for_listener(
        &self,
        gateway: &Looked<'_>,
        listener: &Checked<'_>,
        namespaces: &Namespaces<'_>,
    ) -> Vec<RouteInput<'a>> {
        let meta = &gateway.gateway.metadata;
        let all = self.of(Kind::Gateway, &meta.namespace, &meta.name);
        let attaches = |it: &RouteInput<'a>| {
            it.route.parents().iter().any(|parent| {
                is_parent(parent, it, &meta.namespace, &meta.name)
                    && attach(gateway, parent, attaching(it), namespaces)
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

/// What the status of a route is made of, all of whose parents are services, besides what its backends mean.
#[derive(Debug, PartialEq)]
pub(crate) struct Written {
    route: Same<Entry>,
    parents: Vec<Standing>,
}

/// A parent that is a service.
#[derive(Debug, PartialEq)]
struct Standing {
    /// The Service or ServiceEntry, if there is one.
    entry: Option<Same<Entry>>,
    /// The waypoint that it is bound to.
    waypoint: Option<ResourceRef>,
    controller: Box<str>,
}

/// The status of a route, and what its backends meant.
#[derive(Debug)]
pub(crate) struct Reported {
    statuses: Found<Vec<Arc<ResourceStatus>>>,
    told: Vec<Told>,
}

/// The statuses that were said last time.
pub(crate) type Known = Table<Written, Reported>;

/// Whether two routes share a host name on a listener.
fn overlap(listener: &Checked<'_>, a: &RouteInput<'_>, b: &RouteInput<'_>) -> bool {
    let hosts = |it: &RouteInput<'_>| listener.hosts(it.route.hostnames());
    let (a, b) = (hosts(a), hosts(b));
    a.iter().any(|a| b.iter().any(|b| a.intersect(b).is_some()))
}

/// Whether a reference of a route means this Gateway.
fn is_parent(parent: &ParentRef, input: &RouteInput<'_>, namespace: &str, name: &str) -> bool {
    let own = &**input.route.namespace();
    parent_kind(parent) == Some(Kind::Gateway)
        && parent.name == name
        && parent.namespace.as_deref().unwrap_or(own) == namespace
}

fn attaching<'r>(input: &'r RouteInput<'_>) -> Attaching<'r> {
    Attaching {
        kind: input.route.kind(),
        namespace: input.route.namespace(),
        hostnames: input.route.hostnames(),
    }
}

/// What a route's parents and backends are looked up in.
pub(crate) struct Sight<'s, 'a> {
    pub(crate) routes: &'s Routes<'s>,
    pub(crate) store: &'s ResourceStore,
    pub(crate) namespaces: &'s Namespaces<'s>,
    pub(crate) directory: &'s Directory<'s>,
    pub(crate) gateways: &'s Gateways<'a>,
    pub(crate) controllers: &'s Controllers<'s>,
    /// The waypoint that a Service is bound to.
    pub(crate) waypoint: &'s dyn Fn(Kind, &str, &str) -> Option<&'s Waypoint<'s>>,
}

/// What is to be said of a route's rules, whatever they are attached to.
#[derive(Default)]
struct Verdict {
    /// Why the route as a whole is not accepted: none of its rules can be carried out.
    refusal: Option<Fault>,
    /// Which rules cannot be carried out, if others can.
    dropped: Option<String>,
}

impl Verdict {
    fn of(input: &RouteInput<'_>) -> Self {
        let ills = ills(input);
        let Some((_, first, text)) = ills.first() else {
            return Self::default();
        };
        if ills.len() == input.route.rule_count() {
            let fault = Fault::new(first.as_str(), format!("no rule can be carried out: {text}"));
            return Self {
                refusal: Some(fault),
                dropped: None,
            };
        }
        let list: Vec<String> = ills
            .iter()
            .map(|(index, ill, text)| format!("{index} ({}: {text})", ill.as_str()))
            .collect();
        // The API wants it said in these words. They are not let through to other rules, but answered with an error.
        let text = format!(
            "Dropped Rule {}; its requests are answered with an error",
            list.join(", ")
        );
        Self {
            refusal: None,
            dropped: Some(text),
        }
    }
}

/// A parent that a route is attached to.
enum Parent<'s, 'a> {
    /// A service.
    Service,
    /// These listeners of a Gateway.
    Listeners(&'s Looked<'a>, Vec<&'s Checked<'a>>),
}

impl<'s, 'a> Sight<'s, 'a> {
    /// What the status of a route is made of; nothing of one that has to do with Gateways, or with a route of another kind.
    fn written(&self, input: &RouteInput<'_>) -> Option<Written> {
        let parents = input.route.parents().iter().map(|parent| {
            let kind = parent_kind(parent).filter(|kind| *kind != Kind::Gateway)?;
            let namespace = parent.namespace.as_deref().unwrap_or(input.route.namespace());
            if self.routes.has_rivals(namespace, &parent.name) {
                return None;
            }
            let reference = ResourceRef::new(kind, namespace, parent.name.as_str());
            let waypoint = (self.waypoint)(kind, namespace, &parent.name);
            Some(Standing {
                entry: self.store.get(&reference).map(Same::of),
                waypoint: waypoint.map(|it| it.reference.clone()),
                controller: self.controllers.of_service(waypoint).into(),
            })
        });
        Some(Written {
            route: Same::of(input.entry),
            parents: parents.collect::<Option<_>>()?,
        })
    }

    /// The status of such a route: as it was said of the same last time, else anew.
    fn known(
        &self,
        input: &RouteInput<'_>,
        written: Written,
        known: &mut Known,
        problems: &mut Vec<Problem>,
        statuses: &mut Statuses,
    ) {
        let reported = known.checked(
            Address::of(input.entry),
            written,
            |known| known.told.iter().all(|it| it.holds(self.directory)),
            |_| Reported {
                statuses: Found::by(|problems| {
                    let (mut own, mut uses) = (Statuses::default(), Uses::default());
                    self.route(input, problems, &mut own, &mut uses);
                    own.observe();
                    own.into_shared()
                }),
                told: self
                    .directory
                    .told(Frontend::Mesh, &input.entry.reference(), input.route.targets()),
            },
        );
        for status in reported.statuses.tell(problems) {
            statuses.share(status);
        }
    }

    fn route(
        &self,
        input: &RouteInput<'_>,
        problems: &mut Vec<Problem>,
        statuses: &mut Statuses,
        uses: &mut Uses,
    ) {
        let meta = input.route.metadata();
        let verdict = Verdict::of(input);
        let mut attached: Vec<(ResourceRef, usize)> = Vec::new();
        for (at, parent) in input.route.parents().iter().enumerate() {
            let accepted = self.parent(input, parent);
            match &accepted {
                Err(fault) => problems.push(input.entry.problem(
                    Severity::Warning,
                    format!("spec.parentRefs[{at}]"),
                    format!("{}: {}; the route does not apply there", fault.reason, fault.text),
                    "name a parent that exists and admits the route",
                )),
                Ok(Parent::Service) => self.unheard(input, parent, at, problems),
                Ok(Parent::Listeners(gateway, listeners)) => {
                    self.used(input, &gateway.entry.reference(), uses);
                    for listener in listeners.iter().filter(|_| verdict.refusal.is_none()) {
                        let key = (gateway.entry.reference(), listener.at);
                        if !attached.contains(&key) {
                            let status = statuses.of(gateway.entry);
                            status.listener(&listener.listener.name).attached_routes += 1;
                            attached.push(key);
                        }
                    }
                }
            }
            let reference = Reference::of_parent(parent, &meta.namespace);
            let controller = self.controller(input, parent);
            let status = statuses.of(input.entry).parent(reference, controller);
            let waypoint = match &accepted {
                Ok(Parent::Service) => Some(self.bound(input, parent)),
                _ => None,
            };
            status.set(match (accepted, &verdict.refusal) {
                (Err(fault), _) => Condition::new(ACCEPTED, false, fault.reason, fault.text),
                (Ok(_), Some(fault)) => Condition::new(ACCEPTED, false, fault.reason, &*fault.text),
                (Ok(_), None) => Condition::new(ACCEPTED, true, "Accepted", "the route is attached"),
            });
            if let Some(text) = &verdict.dropped {
                status.set(Condition::new(PARTIALLY_INVALID, true, "UnsupportedValue", text));
            }
            if let Some(text) = waypoint {
                status.set(Condition::new(RESOLVED_WAYPOINTS, true, RESOLVED_WAYPOINTS, text));
            }
            status.set(match self.unresolved(input, parent) {
                None => Condition::new(RESOLVED_REFS, true, "ResolvedRefs", "all backends are known"),
                Some(fault) => Condition::new(RESOLVED_REFS, false, fault.reason, fault.text),
            });
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

    /// What is said of the waypoint of a parent that is a service.
    fn bound(&self, input: &RouteInput<'_>, parent: &ParentRef) -> String {
        let namespace = parent.namespace.as_deref().unwrap_or(input.route.namespace());
        let kind = parent_kind(parent).unwrap_or(Kind::Service);
        match (self.waypoint)(kind, namespace, &parent.name) {
            Some(waypoint) => {
                let gateway = &waypoint.reference;
                format!("bound to waypoint {}/{}", gateway.namespace, gateway.name)
            }
            None => "no waypoint is asked for; clients that link inmesh apply the route".to_owned(),
        }
    }

    /// Notes where a Gateway leads.
    fn used(&self, input: &RouteInput<'_>, gateway: &ResourceRef, uses: &mut Uses) {
        let from = input.entry.reference();
        for target in input.route.targets() {
            let is_service = target
                .kind
                .as_deref()
                .is_none_or(|kind| kind == Kind::Service.as_str());
            if is_service && self.directory.find(Frontend::Gateway, &from, &target).is_ok() {
                let namespace = target.namespace.as_deref().unwrap_or(&from.namespace);
                uses.add(ServiceName::new(namespace, target.name.as_str()), gateway.clone());
            }
        }
    }

    /// Who answers for a parent.
    fn controller(&self, input: &RouteInput<'_>, parent: &ParentRef) -> &'s str {
        let namespace = parent.namespace.as_deref().unwrap_or(input.route.namespace());
        match parent_kind(parent) {
            Some(kind @ (Kind::Service | Kind::ServiceEntry)) => self
                .controllers
                .of_service((self.waypoint)(kind, namespace, &parent.name)),
            _ => {
                let gateway = self.gateways.get(namespace, &parent.name);
                let class = gateway.map_or("", |it| &it.gateway.spec.gateway_class_name);
                self.controllers.of(class)
            }
        }
    }

    /// The first backend that cannot be used. `for_service` reports each of those that matter here.
    fn unresolved(&self, input: &RouteInput<'_>, parent: &ParentRef) -> Option<Fault> {
        let frontend = match parent_kind(parent) {
            Some(Kind::Service | Kind::ServiceEntry) => Frontend::Mesh,
            _ => Frontend::Gateway,
        };
        let from = input.entry.reference();
        let mut targets = input.route.targets();
        targets
            .find_map(|target| self.directory.find(frontend, &from, &target).err())
            .map(|it| Fault::new(it.reason.as_str(), it.text))
    }

    fn parent(&self, input: &RouteInput<'_>, parent: &ParentRef) -> Result<Parent<'s, 'a>, Fault> {
        let namespace = parent.namespace.as_deref().unwrap_or(input.route.namespace());
        let name = &parent.name;
        let lost = |text: String| Err(Fault::new("NoMatchingParent", text));
        match parent_kind(parent) {
            Some(kind @ (Kind::Service | Kind::ServiceEntry)) => match self.ports(kind, namespace, name) {
                None => lost(format!("{kind} {namespace}/{name} does not exist")),
                Some(ports) => self.service(input, parent, kind, &ports),
            },
            Some(_) => match self.gateways.get(namespace, name) {
                None => lost(format!("Gateway {namespace}/{name} does not exist")),
                Some(gateway) => self.listeners(input, parent, gateway),
            },
            None => {
                let kind = parent.kind.as_deref().unwrap_or("Gateway");
                let group = parent.group.as_deref().unwrap_or_else(|| Kind::Gateway.group());
                Err(Fault::new(
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
    ) -> Result<Parent<'s, 'a>, Fault> {
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
            let text = format!("{} {service} has no such port", kind.as_str());
            return Err(Fault::new("NoMatchingParent", text));
        }
        let wins = |port: &PortRef<'_>| {
            // As seen from the route's own namespace, which is who it is for.
            let routes = self.routes.for_client(kind, &service, *port, own);
            routes.iter().any(|it| it.route.is(input.route))
        };
        let loses =
            named.peek().is_some() && self.routes.has_rivals(namespace, &parent.name) && !named.any(wins);
        if loses {
            Err(lost(input))
        } else {
            Ok(Parent::Service)
        }
    }

    fn listeners(
        &self,
        input: &RouteInput<'_>,
        parent: &ParentRef,
        gateway: &'s Looked<'a>,
    ) -> Result<Parent<'s, 'a>, Fault> {
        let mut listeners = attach(gateway, parent, attaching(input), self.namespaces)?;
        let meta = &gateway.gateway.metadata;
        if self.routes.has_rivals(&meta.namespace, &meta.name) {
            listeners.retain(|listener| {
                let routes = self.routes.for_listener(gateway, listener, self.namespaces);
                routes.iter().any(|it| it.route.is(input.route))
            });
        }
        match listeners.is_empty() {
            true => Err(lost(input)),
            false => Ok(Parent::Listeners(gateway, listeners)),
        }
    }

    /// A consumer route is not heard by a waypoint of another namespace: only clients apply it, those that can.
    fn unheard(&self, input: &RouteInput<'_>, parent: &ParentRef, at: usize, problems: &mut Vec<Problem>) {
        let own = &**input.route.namespace();
        let namespace = parent.namespace.as_deref().unwrap_or(own);
        let Some(kind @ (Kind::Service | Kind::ServiceEntry)) = parent_kind(parent) else {
            return;
        };
        let Some(waypoint) = (self.waypoint)(kind, namespace, &parent.name) else {
            return;
        };
        let home = &*waypoint.reference.namespace;
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
fn lost(input: &RouteInput<'_>) -> Fault {
    let other = match input.route.kind() {
        Kind::GRPCRoute => "an HTTPRoute",
        _ => "a GRPCRoute",
    };
    let text = format!("{other} that is older, or first by name, has the same requests");
    Fault::new("HostnameConflict", text)
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
