//! Endpoints of workloads that are addressed by their own address instead of through a service.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::hbone::HBONE_PORT;
use crate::layer::call::Destination;
use crate::layer::{Directory, Reason, Refusal};
use crate::name::{Host, ServiceName};
use crate::policy::balance::{Endpoint, EndpointCell, EndpointKey, EndpointSet, Rank};
use crate::policy::tls::Origination;
use crate::snapshot::{AppProtocol, Cluster, Snapshot, Via};

/// How many addresses are remembered before those of older generations are forgotten.
const REMEMBERED: usize = 4096;

/// Finds (and remembers, so that connections are reused) the way to a workload's own address.
///
/// Readers take no lock: the table is replaced as a whole when an address is new or the configuration changed.
#[derive(Clone, Debug, Default)]
pub struct PodDirectory(Arc<ArcSwap<Table>>);

#[derive(Debug, Default)]
struct Table {
    generation: u64,
    known: HashMap<SocketAddr, Destination>,
}

impl PodDirectory {
    /// Every endpoint that is remembered.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let table = self.0.load();
        let of = |to: &Destination| match to {
            Destination::Endpoint(endpoint) => vec![Arc::clone(endpoint)],
            Destination::Cluster(cluster) => cluster.endpoints.endpoints().to_vec(),
        };
        table.known.values().flat_map(of).collect()
    }
}

impl Directory for PodDirectory {
    fn pod(&self, view: &Snapshot, ip: IpAddr, port: u16) -> Result<Destination, Refusal> {
        let addr = SocketAddr::new(ip, port);
        let table = self.0.load();
        if table.generation == view.generation
            && let Some(known) = table.known.get(&addr)
        {
            return Ok(known.clone());
        }
        let found = find(view, addr, &self.endpoints())?;
        self.0.rcu(|old| {
            let keep = old.generation >= view.generation && old.known.len() < REMEMBERED;
            let mut known = if keep { old.known.clone() } else { HashMap::new() };
            if old.generation <= view.generation {
                known.insert(addr, found.clone());
            }
            Table {
                generation: old.generation.max(view.generation),
                known,
            }
        });
        Ok(found)
    }
}

fn find(view: &Snapshot, addr: SocketAddr, before: &[Arc<Endpoint>]) -> Result<Destination, Refusal> {
    let Some(pod) = view.pods.get(&addr.ip()) else {
        return Err(Refusal::new(
            Reason::NoRoute,
            format!(
                "{addr} is no address of the mesh (generation {})",
                view.generation
            ),
        ));
    };
    let cell = |key: &EndpointKey, identities: &[crate::name::SpiffeId]| {
        before
            .iter()
            .find(|endpoint| endpoint.key == *key && *endpoint.identities == *identities)
            .map_or_else(
                || Arc::new(EndpointCell::default()),
                |endpoint| Arc::clone(&endpoint.cell),
            )
    };
    if let Some(instances) = &pod.waypoint {
        let endpoints = instances.iter().map(|instance| {
            let key = EndpointKey {
                dial: instance.addr,
                authority: Some(addr.to_string().into()),
            };
            let identities: Arc<[_]> = Arc::new([instance.identity.clone()]);
            Arc::new(Endpoint {
                cell: cell(&key, &identities),
                key,
                addr,
                identities,
                tls: Origination::None,
                weight: 1,
                rank: Rank::default(),
                workload: Arc::clone(&instance.workload),
            })
        });
        let host = Host::parse(&addr.ip().to_string())
            .map_err(|error| Refusal::new(Reason::BadRequest, error.to_string()))?;
        return Ok(Destination::Cluster(Arc::new(Cluster {
            service: ServiceName::new(
                Arc::clone(&pod.workload.namespace),
                Arc::clone(&pod.workload.name),
            ),
            host,
            port: addr.port(),
            subset: None,
            protocol: AppProtocol::Http1,
            via: Via::Waypoint {
                namespace: Arc::clone(&pod.workload.namespace),
                name: Arc::from(""),
            },
            endpoints: EndpointSet::new(endpoints.collect()),
        })));
    }
    let (key, identities): (_, Arc<[_]>) = match (&pod.identity, pod.hbone) {
        (Some(identity), true) => {
            let dial = SocketAddr::new(addr.ip(), HBONE_PORT);
            (
                EndpointKey {
                    dial,
                    authority: Some(addr.to_string().into()),
                },
                Arc::new([identity.clone()]),
            )
        }
        _ => (
            EndpointKey {
                dial: addr,
                authority: None,
            },
            Arc::new([]),
        ),
    };
    Ok(Destination::Endpoint(Arc::new(Endpoint {
        cell: cell(&key, &identities),
        key,
        addr,
        identities,
        tls: Origination::None,
        weight: 1,
        rank: Rank::default(),
        workload: Arc::clone(&pod.workload),
    })))
}
