//! The routes of service ports: requests by one table, connections by another.

use std::cell::RefCell;
use std::sync::Arc;

use super::{Known, Outbound, Standpoint};
use crate::compile::backends::{self, Directory, Frontend, Noted};
use crate::compile::memo::{Found, Same, same};
use crate::compile::numbers::Key;
use crate::compile::registry::{self, Registry};
use crate::compile::route::{PortRef, RouteInput, add_to_service, connections_of_service};
use crate::compile::routing::{Routes, not_http, only_http};
use crate::compile::service::{Destination, Port};
use crate::compile::virtual_service::{Connections, MESH, Scope, VirtualService, glob};
use crate::compile::waypoint::Waypoint;
use crate::config::{Entry, Problem};
use crate::matcher::HostPattern;
use crate::policy::connection::{ConnectionTable, ConnectionTableBuilder};
use crate::policy::route::{RouteTable, RouteTableBuilder};
use crate::snapshot::{AppProtocol, Cluster};

/// What the tables of a port are made of, besides what they ask on the way.
#[derive(Debug, PartialEq)]
pub(super) struct Written {
    /// The Service or ServiceEntry; of the destination only what its resource says has a part in it.
    service: Same<Entry>,
    protocol: AppProtocol,
    standpoint: Same<Standpoint>,
    routes: Vec<Same<Entry>>,
    connections: Vec<Same<Entry>>,
    virtual_services: Vec<Same<Entry>>,
}

/// The tables of a port, and what they were told on the way.
#[derive(Debug)]
pub(super) struct Made {
    tables: Found<Tables>,
    told: Told,
}

#[derive(Debug, Default)]
struct Told {
    backends: Vec<backends::Told>,
    registry: Vec<registry::Told>,
}

/// The tables of a port.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    pub(super) routes: Arc<RouteTable>,
    pub(super) connections: Arc<ConnectionTable>,
}

/// Where tables look things up.
#[derive(Clone, Copy)]
pub(super) struct Books<'b> {
    pub(super) directory: &'b Directory<'b>,
    pub(super) registry: &'b Registry<'b>,
    /// What routes point into.
    pub(super) clusters: &'b [Arc<Cluster>],
}

/// A port whose tables are asked for.
#[derive(Clone, Copy)]
pub(super) struct Front<'f, 's, 'a> {
    pub(super) destination: &'f Destination,
    /// The waypoint that calls go through.
    pub(super) via: Option<&'f Waypoint<'f>>,
    pub(super) port: &'f Port,
    pub(super) protocol: AppProtocol,
    /// The VirtualServices of the destination.
    pub(super) spoken: &'f Spoken<'s, 'a>,
}

/// The VirtualServices of a destination.
pub(super) struct Spoken<'s, 'a> {
    all: Vec<&'s VirtualService<'a>>,
    written: Vec<Same<Entry>>,
}

/// What is written for one port.
struct Rules<'r, 'a> {
    routes: Vec<RouteInput<'a>>,
    connections: Vec<RouteInput<'a>>,
    virtual_services: &'r [&'r VirtualService<'a>],
}

impl Told {
    fn holds(&self, books: Books<'_>) -> bool {
        self.backends.iter().all(|it| it.holds(books.directory))
            && self.registry.iter().all(|it| it.holds(books.registry))
    }
}

impl<'s, 'a> Outbound<'s, 'a> {
    /// The tables of a port: as they were made of the same last time, else new ones.
    pub(super) fn tables(
        &self,
        front: Front<'_, 's, 'a>,
        books: Books<'_>,
        known: &mut Known,
        problems: &mut Vec<Problem>,
    ) -> Tables {
        let rules = Rules {
            routes: self.routes_of(self.routes, front),
            connections: self.routes_of(self.connections, front),
            virtual_services: &front.spoken.all,
        };
        if rules.are_none() {
            return known.nothing.clone();
        }
        let make = || {
            let mut told = Told::default();
            let tables = Found::by(|problems| Tables {
                routes: self.requests(front, &rules, books, &mut told, problems),
                connections: self.passing(front, &rules, books, &mut told, problems),
            });
            Made { tables, told }
        };
        // Which sessions there are depends on more than what is asked for.
        if !self.sessions.is_empty() {
            return make().tables.tell(problems).clone();
        }
        let entries = |all: &[RouteInput<'_>]| same(all.iter().map(|it| it.entry));
        let written = Written {
            service: Same::of(&front.destination.entry),
            protocol: front.protocol,
            standpoint: self.standpoint.clone(),
            routes: entries(&rules.routes),
            connections: entries(&rules.connections),
            virtual_services: front.spoken.written.clone(),
        };
        let key = Key::new(front.destination.address(), front.port.number, None);
        let holds = |made: &Made| made.told.holds(books);
        let made = known.tables.checked(key, written, holds, |_| make());
        made.tables.tell(problems).clone()
    }

    /// The routes of requests, section after section, the oldest first. All of Gateway API is one section, as old as
    /// its oldest route, and comes first among equals.
    fn requests(
        &self,
        front: Front<'_, 's, 'a>,
        rules: &Rules<'_, '_>,
        books: Books<'_>,
        told: &mut Told,
        problems: &mut Vec<Problem>,
    ) -> Arc<RouteTable> {
        let (routes, service) = (&rules.routes, &front.destination.name);
        if routes.is_empty() && rules.virtual_services.is_empty() {
            return Arc::default();
        }
        if front.protocol == AppProtocol::Tcp {
            problems.extend(
                routes
                    .iter()
                    .map(|route| not_http(route.entry, service, front.port.number)),
            );
            return Arc::default();
        }
        let asked = RefCell::default();
        let scope = self.scope(front.port.number, books.registry, &asked);
        let mut builder = RouteTableBuilder::default();
        let (before, after) = rules.by_age(routes);
        for it in before {
            it.add(&mut builder, &[HostPattern::Any], &scope, problems);
        }
        let mut seen = Noted::new(books.directory.seen_from(Frontend::Mesh));
        add_to_service(&mut builder, routes, service, front.named(), &mut seen, problems);
        for it in after {
            it.add(&mut builder, &[HostPattern::Any], &scope, problems);
        }
        told.backends.extend(seen.into_told());
        told.registry.append(&mut asked.borrow_mut());
        let mut table = builder.build();
        self.sessions.complete(&mut table, books.clusters);
        Arc::new(table)
    }

    /// The routes of the connections to one port, in the same order.
    fn passing(
        &self,
        front: Front<'_, 's, 'a>,
        rules: &Rules<'_, '_>,
        books: Books<'_>,
        told: &mut Told,
        problems: &mut Vec<Problem>,
    ) -> Arc<ConnectionTable> {
        let (routes, service) = (&rules.connections, &front.destination.name);
        if routes.is_empty() && rules.virtual_services.is_empty() {
            return Arc::default();
        }
        if matches!(front.protocol, AppProtocol::Http1 | AppProtocol::Http2) {
            problems.extend(
                routes
                    .iter()
                    .map(|route| only_http(route.entry, service, front.port.number)),
            );
            return Arc::default();
        }
        let asked = RefCell::default();
        let scope = self.scope(front.port.number, books.registry, &asked);
        let to = Connections {
            secure: front.port.secure,
            addresses: Some(&front.destination.vips),
        };
        let mut builder = ConnectionTableBuilder::default();
        let (before, after) = rules.by_age(routes);
        for virtual_service in before {
            virtual_service.add_connections(&mut builder, to, &scope, problems);
        }
        let mut seen = Noted::new(books.directory.seen_from(Frontend::Mesh));
        connections_of_service(&mut builder, routes, service, front.named(), &mut seen, problems);
        for virtual_service in after {
            virtual_service.add_connections(&mut builder, to, &scope, problems);
        }
        told.backends.extend(seen.into_told());
        told.registry.append(&mut asked.borrow_mut());
        Arc::new(builder.build())
    }

    fn scope<'r>(
        &'r self,
        port: u16,
        registry: &'r Registry<'r>,
        told: &'r RefCell<Vec<registry::Told>>,
    ) -> Scope<'r> {
        Scope {
            gateway: MESH,
            port,
            labels: self.gateway.is_none().then_some(self.labels),
            namespace: self.gateway.map_or(&*self.node.namespace, |it| &*it.namespace),
            registry,
            told: Some(told),
            domain: &self.node.cluster_domain,
        }
    }

    /// The VirtualServices that apply here to a destination.
    pub(super) fn spoken(&self, it: &Destination, via: Option<&Waypoint<'_>>) -> Spoken<'s, 'a> {
        let all = match self.virtual_services.is_empty() {
            true => Vec::new(),
            false => self.virtual_services_of(it, via),
        };
        let written = all.iter().flat_map(|it| it.written()).collect();
        Spoken { all, written }
    }

    fn virtual_services_of(
        &self,
        it: &Destination,
        via: Option<&Waypoint<'_>>,
    ) -> Vec<&'s VirtualService<'a>> {
        let (host, own) = (glob(it), &*self.node.namespace);
        match self.gateway {
            None => match via {
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

    fn routes_of(&self, routes: &Routes<'a>, front: Front<'_, 's, 'a>) -> Vec<RouteInput<'a>> {
        let (it, port) = (front.destination, front.named());
        match self.gateway {
            None => match front.via {
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
}

impl Front<'_, '_, '_> {
    fn named(&self) -> PortRef<'_> {
        PortRef {
            number: self.port.number,
            name: self.port.name.as_deref(),
        }
    }
}

impl<'r, 'a> Rules<'r, 'a> {
    fn are_none(&self) -> bool {
        self.routes.is_empty() && self.connections.is_empty() && self.virtual_services.is_empty()
    }

    /// The VirtualServices that are older than all of these routes of Gateway API, and the others.
    fn by_age(
        &self,
        routes: &[RouteInput<'_>],
    ) -> (Vec<&'r VirtualService<'a>>, Vec<&'r VirtualService<'a>>) {
        let ages = routes.iter();
        let oldest = ages.map(|it| it.route.created().unwrap_or(u64::MAX)).min();
        let all = self.virtual_services.iter().copied();
        all.partition(|it| oldest.is_some_and(|oldest| it.created.unwrap_or(u64::MAX) < oldest))
    }
}
