//! What this process may call: clusters, services, names and addresses.

mod clusters;
mod tables;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use clusters::Clusters;
use tables::{Books, Front};

use super::backends::Directory;
use super::binding::Bindings;
use super::carry::Carry;
use super::labels;
use super::memo::{Same, Table};
use super::namespace::Namespaces;
use super::numbers::{Key, Numbers};
use super::registry::Registry;
use super::routing::Routes;
use super::service::Destination;
use super::sessions::Sessions;
use super::traffic::Traffic;
use super::virtual_service::VirtualServices;
use super::waypoint::Waypoint;
use super::workload::Members;
use crate::config::{Labels, Problem, Severity};
use crate::matcher::HostPattern;
use crate::name::{Kind, ResourceRef};
use crate::policy::balance::Locality;
use crate::snapshot::{Node, PodView, ServiceId, ServicePortView, ServiceView, Snapshot};

/// What was made last time of the outbound half.
#[derive(Debug, Default)]
pub(crate) struct Known {
    numbers: Numbers,
    clusters: Table<clusters::Written, clusters::Made, Key>,
    tables: Table<tables::Written, tables::Made, Key>,
    /// The tables of a port without routes.
    nothing: tables::Tables,
}

impl Known {
    /// Forgets what was of no use in this run.
    pub(crate) fn sweep(&mut self) {
        self.clusters.sweep();
        self.tables.sweep();
    }
}

/// What is compiled differently for one workload than for another.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Standpoint {
    pub(crate) labels: Labels,
    pub(crate) locality: Locality,
    pub(crate) node: Option<Arc<str>>,
}

/// What the outbound half is made of.
pub(crate) struct Outbound<'s, 'a> {
    pub(crate) node: &'s Node,
    /// Who we are, as far as it makes a difference.
    pub(crate) standpoint: &'s Same<Standpoint>,
    /// This process's Gateway, if it is one.
    pub(crate) gateway: Option<&'s ResourceRef>,
    /// Those visible from here, in their order of precedence.
    pub(crate) destinations: &'s [Arc<Destination>],
    /// The waypoint of each that calls from here pass.
    pub(crate) vias: &'s [Option<&'s Waypoint<'a>>],
    pub(crate) members: &'s Members<'a>,
    pub(crate) bindings: &'s Bindings<'s, 'a>,
    pub(crate) routes: &'s Routes<'a>,
    pub(crate) connections: &'s Routes<'a>,
    pub(crate) virtual_services: &'s VirtualServices<'a>,
    /// This process's own labels.
    pub(crate) labels: &'s Labels,
    pub(crate) carry: &'s Carry<'s>,
    pub(crate) traffic: &'s Traffic<'s>,
    pub(crate) sessions: &'s Sessions<'s>,
}

/// Finds the waypoint of each destination that calls from a process pass.
pub(crate) struct Vias<'s, 'a> {
    /// This process's Gateway, if it is one.
    pub(crate) gateway: Option<&'s ResourceRef>,
    pub(crate) bindings: &'s Bindings<'s, 'a>,
    pub(crate) namespaces: &'s Namespaces<'a>,
}

impl<'s, 'a> Vias<'s, 'a> {
    /// The waypoint that calls from here pass. A waypoint never chains; an ingress follows only where it is told to.
    pub(crate) fn of(&self, destination: &Destination) -> Option<&'s Waypoint<'a>> {
        if self.bindings.is_empty() {
            return None;
        }
        let object = destination.entry.reference();
        match self.gateway {
            None => self.bindings.for_caller(&object),
            Some(own) => {
                let waypoint = self.bindings.for_caller(&object)?;
                let own_label = destination
                    .labels()
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
}

impl<'s, 'a> Outbound<'s, 'a> {
    /// Names, addresses and services, with the routes that apply here.
    pub(crate) fn services(
        &self,
        snapshot: &mut Snapshot,
        clusters: &Clusters,
        known: &mut Known,
        directory: &Directory<'_>,
        registry: &Registry<'_>,
        problems: &mut Vec<Problem>,
    ) {
        let books = Books {
            directory,
            registry,
            clusters: &clusters.all,
        };
        let mut numbers = clusters.of_ports.iter().copied();
        let count = self.destinations.len();
        snapshot.services.reserve(count);
        snapshot.hosts.reserve(4 * count);
        snapshot.vips.reserve(count);
        for (at, it) in self.destinations.iter().enumerate() {
            let id = ServiceId(at as u32);
            let via = self.vias[at];
            let spoken = self.spoken(it, via);
            let ports = it.ports.iter().zip(&mut numbers).map(|(port, cluster)| {
                let own = clusters.all.get(cluster.0 as usize);
                let protocol = own.map_or(port.protocol, |it| it.protocol);
                let front = Front {
                    destination: it,
                    via,
                    port,
                    protocol,
                    spoken: &spoken,
                };
                let tables = self.tables(front, books, known, problems);
                ServicePortView {
                    number: port.number,
                    protocol,
                    routes: tables.routes,
                    connections: tables.connections,
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

    fn name(&self, snapshot: &mut Snapshot, id: ServiceId, it: &Destination, problems: &mut Vec<Problem>) {
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

    /// What a resolver's search list would complete. Written names come first.
    fn short_names(&self, snapshot: &mut Snapshot) {
        for (at, it) in self.destinations.iter().enumerate() {
            for host in &it.short {
                snapshot.hosts.entry(host.clone()).or_insert(ServiceId(at as u32));
            }
        }
    }

    /// Workloads by address, for calls to pods.
    pub(crate) fn pods(&self) -> HashMap<IpAddr, Arc<PodView>> {
        let mut pods = HashMap::new();
        for member in self.members.iter().filter(|it| it.alive && !it.host_network) {
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
            for address in self.members.addresses(member) {
                pods.insert(address, view.clone());
            }
        }
        pods
    }
}

/// Go's `strconv.ParseBool`, by which Istio reads such labels; what it cannot read is false.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}
