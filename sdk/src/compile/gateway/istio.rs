//! Gateways of Istio's own API: servers of the pods that they select, whichever Gateway of Gateway API those belong to.
//!
//! ```text
//! Gateway ─ server ─┬▶ HTTP: all servers of a port share one list of routes, told apart by host
//!                   ├▶ HTTPS: each its own certificate and its own list
//!                   ├▶ TLS: the same, with routes of connections; unopened by `tls`, opened by `tcp` of VirtualServices
//!                   └▶ TCP: one server of a port, and `tcp` of VirtualServices
//! ```

mod server;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::server::{Served, ServerHost, Speaks, Unserved};

use super::Listeners;
use crate::compile::authz::{GatewayTarget, Target};
use crate::compile::files::Files;
use crate::compile::guard::Guards;
use crate::compile::registry::Registry;
use crate::compile::route::time::created;
use crate::compile::virtual_service::{Connections, Scope, Spoken, VirtualService, VirtualServices};
use crate::compile::workload::Members;
use crate::config::istio::IstioGateway;
use crate::config::{Entry, Problem, ResourceStore, Severity, contains};
use crate::matcher::HostPattern;
use crate::name::ResourceRef;
use crate::policy::authz::Layer;
use crate::policy::connection::{ConnectionTable, ConnectionTableBuilder};
use crate::policy::route::{RouteTable, RouteTableBuilder};
use crate::snapshot::{GatewayView, ListenerView, PassedOn, Place};

/// All Gateways of Istio's own API, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct IstioGateways<'a>(Vec<(&'a IstioGateway, &'a Arc<Entry>)>);

impl<'a> IstioGateways<'a> {
    pub(crate) fn read(store: &'a ResourceStore) -> Self {
        let mut all: Vec<_> = store.istio_gateways().collect();
        all.sort_by_cached_key(|(it, _)| {
            let meta = &it.metadata;
            let created = created(meta).unwrap_or(u64::MAX);
            (created, meta.namespace.clone(), meta.name.clone())
        });
        Self(all)
    }

    /// What the servers of the one of this name (`namespace/name`) speak, if there is one.
    pub(crate) fn spoken(&self, name: &str) -> Option<Spoken> {
        let (gateway, _) = self.0.iter().find(|(it, _)| name_of(it) == name)?;
        let mut spoken = Spoken::default();
        for server in &gateway.spec.servers {
            spoken += server::spoken(server);
        }
        Some(spoken)
    }

    /// Says of those that select nobody that nobody serves them, and of servers that nobody can serve as they are written:
    /// who reads this is seldom the process that would.
    pub(crate) fn report(&self, members: &Members<'_>, problems: &mut Vec<Problem>) {
        for (gateway, entry) in &self.0 {
            let selector = &gateway.spec.selector;
            if !members.iter().any(|it| contains(it.labels(), selector)) {
                problems.push(entry.problem(
                    Severity::Warning,
                    "spec.selector",
                    "no pod carries these labels; nobody serves the Gateway",
                    "run `waypoint run --gateway` as a pod with these labels",
                ));
            }
            for (index, server) in gateway.spec.servers.iter().enumerate() {
                if let Err(why) = server::written(server) {
                    problems.push(why.problem(entry, index));
                }
            }
        }
    }
}

/// What servers are made of, in the process that serves them.
pub(crate) struct Servers<'s, 'a> {
    pub(crate) gateways: &'s IstioGateways<'a>,
    pub(crate) listeners: &'s Listeners<'s, 'a>,
    /// The Gateway that this process runs as, whether or not Gateway API knows one of that name.
    pub(crate) own: &'s ResourceRef,
    pub(crate) class: &'s str,
    pub(crate) virtual_services: &'s VirtualServices<'a>,
    pub(crate) registry: &'s Registry<'s>,
    pub(crate) domain: &'s str,
    pub(crate) store: &'s ResourceStore,
    pub(crate) files: &'s Files<'s>,
}

impl<'a> Servers<'_, 'a> {
    /// Adds what is served here to the listeners of Gateway API.
    pub(crate) fn added(
        &self,
        mut view: GatewayView,
        guards: &mut Guards<'_, '_>,
        problems: &mut Vec<Problem>,
    ) -> GatewayView {
        let taken: BTreeSet<u16> = view.ports().map(|(port, _)| port).collect();
        let mut ports: BTreeMap<u16, Vec<Served<'a>>> = BTreeMap::new();
        let selected = |it: &&(&'a IstioGateway, _)| contains(self.listeners.labels, &it.0.spec.selector);
        for (gateway, entry) in self.gateways.0.iter().filter(selected) {
            for (index, server) in gateway.spec.servers.iter().enumerate() {
                let port = server.port.number;
                let of_port = ports.entry(port).or_default();
                let served = match taken.contains(&port) {
                    true => server::taken(self.own, port),
                    false => self.served(gateway, entry, index, of_port),
                };
                match served {
                    Ok(served) => of_port.push(served),
                    // There will be another compile when it has been read.
                    Err(Unserved { remedy: "", .. }) => {}
                    Err(why) => problems.push(why.problem(entry, index)),
                }
            }
        }
        for (port, servers) in &ports {
            self.port(*port, servers, &mut view, guards, problems);
        }
        view
    }

    fn port(
        &self,
        port: u16,
        servers: &[Served<'a>],
        view: &mut GatewayView,
        guards: &mut Guards<'_, '_>,
        problems: &mut Vec<Problem>,
    ) {
        let target = Target::Gateway {
            gateway: GatewayTarget {
                namespace: &self.own.namespace,
                name: &self.own.name,
                class: self.class,
            },
            labels: self.listeners.labels,
        };
        let mut listen = |name: Arc<str>, host, it: &Served<'a>, routes, problems: &mut Vec<Problem>| {
            let authz = it
                .speaks
                .of_connections()
                .then(|| guards.engine(Layer::Tcp, &target, problems));
            let connections = authz.map(|authz| PassedOn {
                routes: self.connections(port, it, problems),
                authz,
            });
            view.add(Arc::new(ListenerView {
                place: Arc::new(Place::Listener { name: name.clone() }),
                port,
                host,
                tls: it.speaks.terms().map(|terms| self.listeners.kept(&name, terms)),
                passes_tls: matches!(it.speaks, Speaks::Passed),
                name,
                routes,
                connections,
                gate: guards.gate(&target, problems),
            }));
        };
        for (at, it) in servers.iter().enumerate() {
            match it.speaks {
                // Hosts that no server has are none of the table's.
                Speaks::Http if at == 0 => {
                    let routes = self.routes(port, servers, problems);
                    listen(
                        format!("istio/{port}").into(),
                        HostPattern::Any,
                        it,
                        routes,
                        problems,
                    );
                }
                Speaks::Http => {}
                // Nothing tells such connections apart.
                Speaks::Tcp => {
                    let name = format!("{}/{}", name_of(it.gateway), it.index).into();
                    listen(name, HostPattern::Any, it, Arc::default(), problems);
                }
                Speaks::Https(_) | Speaks::Opened(_) | Speaks::Passed => {
                    let routes = match it.speaks {
                        Speaks::Https(_) => self.routes(port, std::slice::from_ref(it), problems),
                        _ => Arc::default(),
                    };
                    for (at, host) in it.hosts.iter().enumerate() {
                        let name = format!("{}/{}/{at}", name_of(it.gateway), it.index).into();
                        listen(name, host.host.clone(), it, routes.clone(), problems);
                    }
                }
            }
        }
    }

    /// What servers of one port route by: of each Gateway those VirtualServices that are bound to it, on the hosts that they
    /// have in common.
    fn routes(&self, port: u16, servers: &[Served<'a>], problems: &mut Vec<Problem>) -> Arc<RouteTable> {
        let mut builder = RouteTableBuilder::default();
        for it in servers {
            if it.redirects() {
                it.redirect(&mut builder);
                continue;
            }
            let name = name_of(it.gateway);
            let scope = self.scope(&name, port);
            for (bound, hosts) in self.bound(&name, it) {
                bound.add(&mut builder, &hosts, &scope, problems);
            }
        }
        let mut table = builder.build();
        self.listeners
            .sessions
            .complete(&mut table, self.listeners.clusters);
        Arc::new(table)
    }

    /// What connections to a server are led by: `tls` routes where TLS is passed on, else `tcp` routes.
    fn connections(&self, port: u16, it: &Served<'a>, problems: &mut Vec<Problem>) -> ConnectionTable {
        let name = name_of(it.gateway);
        let scope = self.scope(&name, port);
        let to = Connections {
            secure: matches!(it.speaks, Speaks::Passed),
            addresses: None,
        };
        let mut builder = ConnectionTableBuilder::default();
        for (bound, _) in self.bound(&name, it) {
            bound.add_connections(&mut builder, to, &scope, problems);
        }
        builder.build()
    }

    fn scope<'n>(&'n self, gateway: &'n str, port: u16) -> Scope<'n> {
        Scope {
            gateway,
            port,
            labels: Some(self.listeners.labels),
            namespace: &self.own.namespace,
            registry: self.registry,
            told: None,
            domain: self.domain,
        }
    }

    /// The VirtualServices that are bound to a server, with the hosts that they have in common with it.
    fn bound(&self, name: &str, it: &Served<'a>) -> Vec<(&VirtualService<'a>, Vec<HostPattern>)> {
        let hosts = |namespace: &str| {
            let admits = |it: &&ServerHost| it.namespace.as_ref().is_none_or(|own| **own == *namespace);
            it.hosts.iter().filter(admits).map(|it| it.host.clone()).collect()
        };
        self.virtual_services
            .for_gateway(name, &self.own.namespace, hosts)
    }
}

/// `namespace/name`, as VirtualServices mean it.
fn name_of(gateway: &IstioGateway) -> String {
    format!("{}/{}", gateway.metadata.namespace, gateway.metadata.name)
}
