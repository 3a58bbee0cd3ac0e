//! What this process may call: clusters, services, names and addresses.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::backends::{Directory, Frontend};
use super::binding::Bindings;
use super::carry::{Carry, Cells};
use super::labels;
use super::namespace::Namespaces;
use super::registry::Registry;
use super::route::{PortRef, RouteInput, add_to_service, connections_of_service};
use super::routing::{Routes, not_http, only_http};
use super::service::{Backing, Destination, Port};
use super::sessions::Sessions;
use super::traffic::{Applied, Demand, Traffic};
use super::virtual_service::{Connections, MESH, Scope, VirtualService, VirtualServices, glob};
use super::waypoint::{HBONE_PORT, Waypoint};
use super::workload::Members;
use crate::config::istio::destination_rule::Subset;
use crate::config::{Labels, Problem, Severity, contains};
use crate::matcher::HostPattern;
use crate::name::{Host, Kind, ResourceRef};
use crate::policy::balance::{Endpoint, EndpointCell, EndpointKey, EndpointSet, Rank};
use crate::policy::connection::{ConnectionTable, ConnectionTableBuilder};
use crate::policy::route::{ClusterId, RouteTable, RouteTableBuilder};
use crate::policy::tls::Origination;
use crate::snapshot::{
    AppProtocol, Cluster, Node, PodView, ServiceId, ServicePortView, ServiceView, Snapshot, Via,
    WaypointTarget,
};

/// What the outbound half is made of.
pub(crate) struct Outbound<'s, 'a> {
    pub(crate) node: &'s Node,
    /// This process's Gateway, if it is one.
    pub(crate) gateway: Option<&'s ResourceRef>,
    /// Those visible from here, in their order of precedence.
    pub(crate) destinations: &'s [&'s Destination<'a>],
    pub(crate) members: &'s Members<'a>,
    pub(crate) bindings: &'s Bindings<'s, 'a>,
    pub(crate) namespaces: &'s Namespaces<'a>,
    pub(crate) routes: &'s Routes<'a>,
    pub(crate) connections: &'s Routes<'a>,
    pub(crate) virtual_services: &'s VirtualServices<'a>,
    /// This process's own labels.
    pub(crate) labels: &'s Labels,
    pub(crate) carry: &'s Carry<'s>,
    pub(crate) traffic: &'s Traffic<'s>,
    pub(crate) sessions: &'s Sessions<'s>,
}

impl<'s, 'a> Outbound<'s, 'a> {
    /// All clusters; directory and registry learn of each. Those of ports come first, in the order in which
    /// [`Self::services`] counts them, then those of subsets.
    pub(crate) fn clusters(
        &self,
        directory: &mut Directory<'_>,
        registry: &mut Registry,
        problems: &mut Vec<Problem>,
    ) -> Vec<Arc<Cluster>> {
        let mut clusters = Vec::new();
        for it in self.destinations {
            directory.add(it.kind, &it.name.namespace, &it.name.name);
            let applied = self.traffic.rules.applied(&it.host, &it.name.namespace);
            for port in &it.ports {
                let id = ClusterId(clusters.len() as u32);
                let cluster = self.cluster(it, &applied, None, port, problems);
                directory.add_port(
                    (it.kind, &it.name.namespace, &it.name.name),
                    (&it.host, port.number),
                    id,
                    cluster.protocol,
                );
                registry.add(&glob(it).to_string(), port.number, id, self.via(it).is_some());
                clusters.push(cluster);
            }
        }
        for it in self.destinations {
            self.subsets(it, &mut clusters, registry, problems);
        }
        clusters
    }

    /// One cluster for each subset of each port. Behind a waypoint there are none: the waypoint tells them apart.
    fn subsets(
        &self,
        it: &Destination<'_>,
        clusters: &mut Vec<Arc<Cluster>>,
        registry: &mut Registry,
        problems: &mut Vec<Problem>,
    ) {
        let applied = self.traffic.rules.applied(&it.host, &it.name.namespace);
        let beyond_waypoint = self.via(it).is_some();
        for (subset, _) in &applied.subsets {
            for port in &it.ports {
                let id = (!beyond_waypoint).then(|| {
                    clusters.push(self.cluster(it, &applied, Some(subset), port, problems));
                    ClusterId((clusters.len() - 1) as u32)
                });
                registry.add_subset(&glob(it).to_string(), &subset.name, port.number, id);
            }
        }
    }

    fn cluster(
        &self,
        destination: &Destination<'_>,
        applied: &Applied<'_>,
        subset: Option<&Subset>,
        port: &Port,
        problems: &mut Vec<Problem>,
    ) -> Arc<Cluster> {
        let key = (
            &destination.host,
            port.number,
            subset.map(|subset| subset.name.as_str()),
        );
        let cells = self.carry.cells(key);
        let waypoint = self.via(destination);
        let mut protocol = port.protocol;
        let (endpoints, policy) = match waypoint {
            // Whatever the rule says of the workloads, the waypoint does it.
            Some(waypoint) => {
                let endpoints = through(waypoint, &authority(destination, port.number), &cells);
                (endpoints, Arc::clone(&self.traffic.default))
            }
            None => {
                let (policy, nearness) = self.traffic.of(destination, applied, subset, port.number);
                let demand = self.traffic.demand(destination, applied, subset, port, problems);
                // What is in the TLS that we begin is HTTP.
                if port.https && matches!(demand, Demand::Begun(_)) {
                    protocol = AppProtocol::Http1;
                }
                let backings: Vec<&Backing> = port
                    .backings
                    .iter()
                    .filter(|it| subset.is_none_or(|subset| self.is_of(it, subset)))
                    .collect();
                let ranks = self.traffic.ranks(&nearness, &backings, self.members);
                (direct(&demand, &backings, &ranks, &cells), policy)
            }
        };
        let cell = self.carry.cell(key);
        self.carry.cluster(Cluster {
            service: destination.name.clone(),
            host: destination.host.clone(),
            port: port.number,
            subset: subset.map(|subset| subset.name.as_str().into()),
            protocol,
            via: match waypoint {
                None => Via::Direct,
                Some(waypoint) => Via::Waypoint {
                    namespace: waypoint.reference.namespace.clone(),
                    name: waypoint.reference.name.clone(),
                },
            },
            endpoints: EndpointSet::with(endpoints, policy, cell),
        })
    }

    /// Whether a backing carries all labels of a subset; a subset without labels is everybody.
    fn is_of(&self, backing: &Backing, subset: &Subset) -> bool {
        match backing.labels(self.members) {
            Some(labels) => contains(labels, &subset.labels),
            None => subset.labels.is_empty(),
        }
    }

    /// The waypoint that calls from here pass. A waypoint never chains; an ingress follows only where it is told to.
    fn via(&self, destination: &Destination<'_>) -> Option<&'s Waypoint<'a>> {
        let object = destination.entry.reference();
        match self.gateway {
            None => self.bindings.for_caller(&object),
            Some(own) => {
                let waypoint = self.bindings.for_caller(&object)?;
                let own_label = destination
                    .labels
                    .get(labels::INGRESS_USE_WAYPOINT)
                    .map(String::as_str);
                let label = || {
                    self.namespaces
                        .label(&destination.name.namespace, labels::INGRESS_USE_WAYPOINT)
                };
                let told = own_label.or_else(label).is_some_and(is_true);
                (told && waypoint.reference != *own && self.is_ingress()).then_some(waypoint)
            }
        }
    }

    fn is_ingress(&self) -> bool {
        self.gateway.is_some_and(|own| !self.bindings.is_waypoint(own))
    }

    /// Names, addresses and services, with the routes that apply here.
    pub(crate) fn services(
        &self,
        snapshot: &mut Snapshot,
        directory: &Directory<'_>,
        registry: &Registry,
        problems: &mut Vec<Problem>,
    ) {
        let empty = Arc::new(RouteTable::default());
        let unrouted = Arc::new(ConnectionTable::default());
        let mut next = 0;
        for (at, it) in self.destinations.iter().enumerate() {
            let id = ServiceId(at as u32);
            let virtual_services = self.virtual_services_of(it);
            let ports = it.ports.iter().map(|port| {
                let cluster = ClusterId(next);
                let protocol = snapshot
                    .clusters
                    .get(next as usize)
                    .map_or(port.protocol, |it| it.protocol);
                next += 1;
                let named = PortRef {
                    number: port.number,
                    name: port.name.as_deref(),
                };
                let rules = Rules {
                    routes: self.routes_of(self.routes, it, named),
                    virtual_services: &virtual_services,
                };
                let routes = match (rules.is_empty(), protocol) {
                    (true, _) => empty.clone(),
                    (false, AppProtocol::Tcp) => {
                        let unheard = rules.routes.iter();
                        problems.extend(unheard.map(|route| not_http(route.entry, &it.name, port.number)));
                        empty.clone()
                    }
                    (false, _) => {
                        let mut table = self.table(it, named, &rules, directory, registry, problems);
                        self.sessions.complete(&mut table, &snapshot.clusters);
                        if table.is_empty() {
                            empty.clone()
                        } else {
                            Arc::new(table)
                        }
                    }
                };
                let rules = Rules {
                    routes: self.routes_of(self.connections, it, named),
                    virtual_services: &virtual_services,
                };
                let connections = match (rules.is_empty(), protocol) {
                    (true, _) => unrouted.clone(),
                    (false, AppProtocol::Http1 | AppProtocol::Http2) => {
                        let unheard = rules.routes.iter();
                        problems.extend(unheard.map(|route| only_http(route.entry, &it.name, port.number)));
                        unrouted.clone()
                    }
                    (false, _) => {
                        let table = self.connection_table(it, port, &rules, directory, registry, problems);
                        if table.is_empty() {
                            unrouted.clone()
                        } else {
                            Arc::new(table)
                        }
                    }
                };
                let own = snapshot.clusters.get(cluster.0 as usize);
                ServicePortView {
                    number: port.number,
                    protocol,
                    routes,
                    connections,
                    cluster,
                    session: own.and_then(|it| self.sessions.of(it, "")),
                }
            });
            let ports = ports.collect();
            snapshot.services.push(Arc::new(ServiceView {
                name: it.name.clone(),
                host: it.host.clone(),
                ports,
            }));
            self.name(snapshot, id, it, problems);
        }
        self.short_names(snapshot);
    }

    /// The routes of one port, section after section, the oldest first. All of Gateway API is one section, as old as
    /// its oldest route, and comes first among equals.
    fn table(
        &self,
        it: &Destination<'_>,
        port: PortRef<'_>,
        rules: &Rules<'_, '_>,
        directory: &Directory<'_>,
        registry: &Registry,
        problems: &mut Vec<Problem>,
    ) -> RouteTable {
        let scope = self.scope(port.number, registry);
        let mut builder = RouteTableBuilder::default();
        let (before, after) = rules.by_age();
        for it in before {
            it.add(&mut builder, &[HostPattern::Any], &scope, problems);
        }
        let mut seen = directory.seen_from(Frontend::Mesh);
        add_to_service(&mut builder, &rules.routes, &it.name, port, &mut seen, problems);
        for it in after {
            it.add(&mut builder, &[HostPattern::Any], &scope, problems);
        }
        builder.build()
    }

    /// The routes of the connections to one port, in the same order.
    fn connection_table(
        &self,
        it: &Destination<'_>,
        port: &Port,
        rules: &Rules<'_, '_>,
        directory: &Directory<'_>,
        registry: &Registry,
        problems: &mut Vec<Problem>,
    ) -> ConnectionTable {
        let scope = self.scope(port.number, registry);
        let to = Connections {
            secure: port.secure,
            addresses: Some(&it.vips),
        };
        let named = PortRef {
            number: port.number,
            name: port.name.as_deref(),
        };
        let mut builder = ConnectionTableBuilder::default();
        let (before, after) = rules.by_age();
        for virtual_service in before {
            virtual_service.add_connections(&mut builder, to, &scope, problems);
        }
        let mut seen = directory.seen_from(Frontend::Mesh);
        connections_of_service(&mut builder, &rules.routes, &it.name, named, &mut seen, problems);
        for virtual_service in after {
            virtual_service.add_connections(&mut builder, to, &scope, problems);
        }
        builder.build()
    }

    fn scope<'r>(&'r self, port: u16, registry: &'r Registry) -> Scope<'r> {
        Scope {
            gateway: MESH,
            port,
            labels: self.gateway.is_none().then_some(self.labels),
            namespace: self.gateway.map_or(&*self.node.namespace, |it| &*it.namespace),
            registry,
            domain: &self.node.cluster_domain,
        }
    }

    fn virtual_services_of(&self, it: &Destination<'a>) -> Vec<&'s VirtualService<'a>> {
        let (host, own) = (glob(it), &*self.node.namespace);
        match self.gateway {
            None => match self.via(it) {
                None => self.virtual_services.for_client(&host, own),
                // As with routes: what the waypoint would not apply for its callers.
                Some(waypoint) if own != &*it.name.namespace && own != &*waypoint.reference.namespace => {
                    let mut seen = self.virtual_services.for_client(&host, own);
                    seen.retain(|it| it.namespace() == own);
                    seen
                }
                Some(_) => Vec::new(),
            },
            Some(gateway) if self.bindings.served_by(&it.entry.reference(), gateway).is_some() => self
                .virtual_services
                .for_waypoint(&host, &it.name.namespace, &gateway.namespace),
            Some(_) => Vec::new(),
        }
    }

    fn routes_of(&self, routes: &Routes<'a>, it: &Destination<'a>, port: PortRef<'_>) -> Vec<RouteInput<'a>> {
        match self.gateway {
            None => match self.via(it) {
                None => routes.for_client(it.kind, &it.name, port, &self.node.namespace),
                // The waypoint routes, but knows nothing of its callers' own routes.
                Some(waypoint) => routes.beside_waypoint(
                    it.kind,
                    &it.name,
                    port,
                    &self.node.namespace,
                    &waypoint.reference.namespace,
                ),
            },
            Some(own) if self.bindings.served_by(&it.entry.reference(), own).is_some() => {
                routes.for_waypoint(it.kind, &it.name, port, &own.namespace)
            }
            Some(_) => Vec::new(),
        }
    }

    fn name(
        &self,
        snapshot: &mut Snapshot,
        id: ServiceId,
        it: &Destination<'_>,
        problems: &mut Vec<Problem>,
    ) {
        let mut taken = |what: String| {
            problems.push(it.entry.problem(
                Severity::Warning,
                if it.kind == Kind::Service {
                    "spec.clusterIP"
                } else {
                    "spec.hosts"
                },
                format!("{what} already belongs to another service; this one is not called by it"),
                "give every service hosts and addresses of its own",
            ));
        };
        match &it.wildcard {
            Some(suffix) => {
                let pattern = HostPattern::Suffix(suffix.as_ref().into());
                snapshot.wildcard_hosts.add(&pattern, id);
            }
            None if *snapshot.hosts.entry(it.host.clone()).or_insert(id) != id => taken(it.host.to_string()),
            None => {}
        }
        for vip in &it.vips {
            if *snapshot.vips.entry(*vip).or_insert(id) != id {
                taken(vip.to_string());
            }
        }
    }

    /// `name`, `name.ns`, `name.ns.svc`: what a resolver's search list would complete. Written names come first.
    fn short_names(&self, snapshot: &mut Snapshot) {
        for (at, it) in self
            .destinations
            .iter()
            .enumerate()
            .filter(|(_, it)| it.kind == Kind::Service)
        {
            let (name, namespace) = (&it.name.name, &it.name.namespace);
            let own = (*namespace == self.node.namespace).then(|| name.to_string());
            for text in own
                .into_iter()
                .chain([format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")])
            {
                if let Ok(host) = Host::parse(&text) {
                    snapshot.hosts.entry(host).or_insert(ServiceId(at as u32));
                }
            }
        }
    }

    /// Workloads by address, for calls to pods.
    pub(crate) fn pods(&self) -> HashMap<IpAddr, Arc<PodView>> {
        let mut pods = HashMap::new();
        for (at, member) in self.members.iter().filter(|(_, it)| it.alive && !it.host_network) {
            let waypoint = match self.gateway {
                None => self.bindings.for_caller(&member.entry.reference()),
                Some(_) => None,
            };
            let view = Arc::new(PodView {
                workload: member.workload.clone(),
                identity: member.identity.clone(),
                hbone: member.hbone,
                waypoint: waypoint.map(|it| it.instances.clone()),
            });
            for address in member
                .addresses
                .iter()
                .filter(|it| self.members.at_address(**it) == Some(at))
            {
                pods.insert(*address, view.clone());
            }
        }
        pods
    }
}

/// What is written for one port.
struct Rules<'r, 'a> {
    routes: Vec<RouteInput<'a>>,
    virtual_services: &'r [&'r VirtualService<'a>],
}

impl<'r, 'a> Rules<'r, 'a> {
    fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.virtual_services.is_empty()
    }

    /// The VirtualServices that are older than all routes of Gateway API, and the others.
    fn by_age(&self) -> (Vec<&'r VirtualService<'a>>, Vec<&'r VirtualService<'a>>) {
        let ages = self.routes.iter();
        let oldest = ages.map(|it| it.route.created().unwrap_or(u64::MAX)).min();
        let all = self.virtual_services.iter().copied();
        all.partition(|it| oldest.is_some_and(|oldest| it.created.unwrap_or(u64::MAX) < oldest))
    }
}

/// Go's `strconv.ParseBool`, by which Istio reads such labels; what it cannot read is false.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// What a waypoint is asked for: the virtual address where there is one, else the host name.
fn authority(destination: &Destination<'_>, port: u16) -> Arc<str> {
    match destination.vips.first() {
        Some(vip) => SocketAddr::new(*vip, port).to_string().into(),
        None => format!("{}:{port}", destination.host).into(),
    }
}

fn through(waypoint: &Waypoint<'_>, authority: &Arc<str>, cells: &Cells<'_>) -> Vec<Arc<Endpoint>> {
    let endpoint = |it: &WaypointTarget| {
        cells.endpoint(Endpoint {
            key: EndpointKey {
                dial: it.addr,
                authority: Some(authority.clone()),
            },
            addr: it.addr,
            identities: Arc::new([it.identity.clone()]),
            // The waypoint begins TLS where it is demanded.
            tls: Origination::None,
            weight: 1,
            rank: Rank::default(),
            workload: it.workload.clone(),
            cell: Arc::new(EndpointCell::default()),
        })
    };
    waypoint.instances.iter().map(endpoint).collect()
}

fn direct(
    demand: &Demand,
    backings: &[&Backing],
    ranks: &[Option<Rank>],
    cells: &Cells<'_>,
) -> Vec<Arc<Endpoint>> {
    let mut found: Vec<Endpoint> = Vec::with_capacity(backings.len());
    // Who has no rank gets no traffic from here.
    let ranked = backings
        .iter()
        .zip(ranks)
        .filter_map(|(it, rank)| Some((it, (*rank)?)));
    for (it, rank) in ranked.filter(|(it, _)| it.ready) {
        let addr = SocketAddr::new(it.ip, it.port);
        if it.hbone && it.identities.is_empty() {
            // Nobody could be proved to be the right one: not called rather than called in plaintext.
            continue;
        }
        let key = match it.hbone {
            true => EndpointKey {
                dial: SocketAddr::new(it.ip, HBONE_PORT),
                authority: Some(addr.to_string().into()),
            },
            false => EndpointKey {
                dial: addr,
                authority: None,
            },
        };
        found.push(Endpoint {
            key,
            addr,
            identities: if it.hbone {
                it.identities.clone()
            } else {
                Arc::new([])
            },
            tls: demand.towards(it.hbone),
            weight: it.weight,
            rank,
            workload: it.workload.clone(),
            cell: Arc::new(EndpointCell::default()),
        });
    }
    // Two backings may lead to the same place (a pod and an entry with its address): the first counts.
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found.dedup_by(|b, a| a.key == b.key);
    found.into_iter().map(|it| cells.endpoint(it)).collect()
}
