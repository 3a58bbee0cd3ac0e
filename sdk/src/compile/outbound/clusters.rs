//! Clusters: one for each port of a destination, and one for each subset of it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Known, Outbound, Standpoint};
use crate::compile::backends::Directory;
use crate::compile::carry::Cells;
use crate::compile::memo::{Found, Same, same};
use crate::compile::numbers::Key;
use crate::compile::registry::Registry;
use crate::compile::service::{Backing, Destination, Port};
use crate::compile::traffic::{Applied, Demand};
use crate::compile::waypoint::{HBONE_PORT, Waypoint};
use crate::config::istio::destination_rule::Subset;
use crate::config::{Entry, Problem, contains};
use crate::name::ResourceRef;
use crate::policy::balance::{Endpoint, EndpointCell, EndpointKey, EndpointSet, Rank};
use crate::policy::route::ClusterId;
use crate::policy::tls::Origination;
use crate::snapshot::{AppProtocol, Cluster, Via, WaypointTarget};

/// All clusters.
#[derive(Debug)]
pub(crate) struct Clusters {
    /// By their numbers.
    pub(crate) all: Vec<Arc<Cluster>>,
    /// The numbers of ports, destination after destination.
    pub(crate) of_ports: Vec<ClusterId>,
}

/// What a cluster is made of.
#[derive(Debug, PartialEq)]
pub(super) struct Written {
    destination: Same<Destination>,
    standpoint: Same<Standpoint>,
    /// The DestinationRules that apply.
    rules: Vec<Same<Entry>>,
    /// Which of their subsets it is.
    subset: Option<usize>,
    /// The XBackendTrafficPolicy that applies.
    constraint: Option<Same<Entry>>,
    distribution: Option<&'static str>,
    waypoint: Option<(ResourceRef, Same<[WaypointTarget]>)>,
}

pub(super) type Made = Found<Arc<Cluster>>;

/// A cluster to be.
struct Wanted<'w, 'a> {
    at: usize,
    port: &'w Port,
    applied: &'w Applied<'a>,
    subset: Option<usize>,
}

impl<'s, 'a> Outbound<'s, 'a> {
    /// All clusters; directory and registry learn of each. Without numbers given before those of ports come first, then
    /// those of subsets.
    pub(crate) fn clusters(
        &self,
        known: &mut Known,
        directory: &mut Directory<'s>,
        registry: &mut Registry<'s>,
        problems: &mut Vec<Problem>,
    ) -> Clusters {
        let applied: Vec<Applied<'s>> = self
            .destinations
            .iter()
            .map(|it| self.traffic.rules.applied(&it.host, &it.name.namespace))
            .collect();
        let wanted = self.wanted(&applied);
        let keys: Vec<Key> = wanted.iter().map(|it| self.key(it)).collect();
        let numbers = known.numbers.give(&keys);
        for it in self.destinations {
            directory.add(it.kind, &it.name.namespace, &it.name.name);
        }
        let mut of_ports = Vec::with_capacity(self.destinations.len());
        let mut all: Vec<Option<Arc<Cluster>>> = vec![None; wanted.len()];
        for ((wanted, key), id) in wanted.iter().zip(&keys).zip(&numbers) {
            let it = &self.destinations[wanted.at];
            let cluster = self.part(wanted, *key, known, problems);
            let number = wanted.port.number;
            match wanted.subset {
                None => {
                    of_ports.push(*id);
                    let name = (it.kind, &*it.name.namespace, &*it.name.name);
                    directory.add_port(name, (&it.host, number), *id, cluster.protocol);
                    if !self.virtual_services.is_empty() {
                        registry.add(it.host.as_str(), number, *id, self.vias[wanted.at].is_some());
                    }
                }
                Some(at) => {
                    let (subset, _) = wanted.applied.subsets[at];
                    registry.add_subset(it.host.as_str(), &subset.name, number, Some(*id));
                }
            }
            if let Some(place) = all.get_mut(id.0 as usize) {
                *place = Some(cluster);
            }
        }
        self.beyond(&applied, registry);
        Clusters {
            // Every number is given once.
            all: all.into_iter().flatten().collect(),
            of_ports,
        }
    }

    /// One cluster for each port, then one for each subset of each port. Behind a waypoint there are none of these: the
    /// waypoint tells them apart.
    fn wanted<'w>(&'w self, applied: &'w [Applied<'s>]) -> Vec<Wanted<'w, 's>> {
        let all = || self.destinations.iter().zip(applied).enumerate();
        let of_ports = all().flat_map(|(at, (it, applied))| {
            it.ports.iter().map(move |port| Wanted {
                at,
                port,
                applied,
                subset: None,
            })
        });
        let direct = all().filter(|(at, _)| self.vias[*at].is_none());
        let of_subsets = direct.flat_map(|(at, (it, applied))| {
            (0..applied.subsets.len()).flat_map(move |subset| {
                it.ports.iter().map(move |port| Wanted {
                    at,
                    port,
                    applied,
                    subset: Some(subset),
                })
            })
        });
        of_ports.chain(of_subsets).collect()
    }

    /// Tells of the subsets that a waypoint tells apart.
    fn beyond(&self, applied: &[Applied<'_>], registry: &mut Registry<'s>) {
        for (at, it) in self
            .destinations
            .iter()
            .enumerate()
            .filter(|(at, _)| self.vias[*at].is_some())
        {
            for (subset, _) in &applied[at].subsets {
                for port in &it.ports {
                    registry.add_subset(it.host.as_str(), &subset.name, port.number, None);
                }
            }
        }
    }

    fn key(&self, wanted: &Wanted<'_, '_>) -> Key {
        let subset = wanted.subset.map(|at| wanted.applied.subsets[at].0.name.as_str());
        Key::new(self.destinations[wanted.at].address(), wanted.port.number, subset)
    }

    /// The cluster as it was made of the same last time, else a new one.
    fn part(
        &self,
        wanted: &Wanted<'_, '_>,
        key: Key,
        known: &mut Known,
        problems: &mut Vec<Problem>,
    ) -> Arc<Cluster> {
        let destination = &self.destinations[wanted.at];
        let via = self.vias[wanted.at];
        // What TLS is begun with is in Secrets and files, wherever these are.
        if wanted.applied.begins_tls() {
            return self.cluster(destination, via, wanted, problems);
        }
        let written = Written {
            destination: Same::of(destination),
            standpoint: self.standpoint.clone(),
            rules: same(wanted.applied.rules.iter().copied()),
            subset: wanted.subset,
            constraint: self
                .traffic
                .constraints
                .written(destination.kind, &destination.name),
            distribution: self.traffic.distribution(destination),
            waypoint: via.map(|it| (it.reference.clone(), Same::of(&it.instances))),
        };
        let make = |_: &Written| Found::by(|problems| self.cluster(destination, via, wanted, problems));
        let made = known.clusters.checked(key, written, |_| true, make);
        Arc::clone(made.tell(problems))
    }

    fn cluster(
        &self,
        destination: &Destination,
        waypoint: Option<&Waypoint<'_>>,
        wanted: &Wanted<'_, '_>,
        problems: &mut Vec<Problem>,
    ) -> Arc<Cluster> {
        let (applied, port) = (wanted.applied, wanted.port);
        let subset = wanted.subset.map(|at| applied.subsets[at].0);
        let key = (
            &destination.host,
            port.number,
            subset.map(|subset| subset.name.as_str()),
        );
        let cells = self.carry.cells(key);
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
                    .filter(|it| subset.is_none_or(|subset| is_of(it, subset)))
                    .collect();
                let ranks = self.traffic.ranks(&nearness, &backings);
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
}

/// Whether a backing carries all labels of a subset; a subset without labels is everybody.
fn is_of(backing: &Backing, subset: &Subset) -> bool {
    match backing.labels() {
        Some(labels) => contains(labels, &subset.labels),
        None => subset.labels.is_empty(),
    }
}

/// What a waypoint is asked for: the virtual address where there is one, else the host name.
fn authority(destination: &Destination, port: u16) -> Arc<str> {
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
