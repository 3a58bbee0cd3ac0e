//! What outlives a swap: the cells of endpoints and of clusters, and clusters that did not change.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::name::Host;
use crate::policy::balance::{Endpoint, EndpointCell, EndpointKey};
use crate::policy::tls::Origination;
use crate::policy::traffic::ClusterCell;
use crate::snapshot::{Cluster, Snapshot};

/// What stays the same of a cluster from one snapshot to the next: host, port and subset.
pub(crate) type ClusterKey<'k> = (&'k Host, u16, Option<&'k str>);

/// The parts of the previous snapshot that the next may share.
#[derive(Debug, Default)]
pub(crate) struct Carry<'p> {
    previous: Option<&'p Snapshot>,
    /// Made when somebody first asks: often nobody does.
    clusters: OnceCell<HashMap<ClusterKey<'p>, &'p Arc<Cluster>>>,
}

impl<'p> Carry<'p> {
    pub(crate) fn of(previous: Option<&'p Snapshot>) -> Self {
        Self {
            previous,
            clusters: OnceCell::new(),
        }
    }

    fn get(&self, cluster: &ClusterKey<'_>) -> Option<&'p Arc<Cluster>> {
        let index = self.clusters.get_or_init(|| {
            let clusters = self.previous.into_iter().flat_map(|it| &it.clusters);
            clusters.map(|it| (key(it), it)).collect()
        });
        index.get(cluster).copied()
    }

    /// The cells of the cluster's previous endpoints.
    pub(crate) fn cells(&self, cluster: ClusterKey<'_>) -> Cells<'p> {
        let endpoints = self.get(&cluster).map(|it| it.endpoints.endpoints());
        let endpoints = endpoints.unwrap_or_default();
        Cells {
            tls: endpoints.first().map(|it| &it.tls),
            endpoints: endpoints.iter().map(|it| (&it.key, it)).collect(),
        }
    }

    /// The cluster's live state: what it was, or a new one.
    pub(crate) fn cell(&self, cluster: ClusterKey<'_>) -> Arc<ClusterCell> {
        let previous = self.get(&cluster);
        previous.map_or_else(Arc::default, |it| Arc::clone(it.endpoints.cell()))
    }

    /// The cluster, or its previous self where nothing about it changed.
    pub(crate) fn cluster(&self, next: Cluster) -> Arc<Cluster> {
        match self.get(&key(&next)) {
            Some(previous) if is_same(previous, &next) => Arc::clone(previous),
            _ => {
                // Here rather than by the first request: a ring of many points takes its time.
                next.endpoints.prepare();
                Arc::new(next)
            }
        }
    }
}

/// The previous endpoints of one cluster.
#[derive(Debug)]
pub(crate) struct Cells<'p> {
    /// What was spoken to them; the same to all.
    tls: Option<&'p Origination>,
    endpoints: HashMap<&'p EndpointKey, &'p Arc<Endpoint>>,
}

impl Cells<'_> {
    /// The endpoint, or its previous self; a changed one keeps its cell if it must prove the same identity in the same
    /// way.
    pub(crate) fn endpoint(&self, mut next: Endpoint) -> Arc<Endpoint> {
        // What was made of the same settings once is not made again for a new endpoint.
        if let Some(tls) = self.tls.filter(|tls| **tls == next.tls) {
            next.tls = tls.clone();
        }
        match self.endpoints.get(&next.key) {
            Some(previous) if is_same_endpoint(previous, &next) => (*previous).clone(),
            // The cell holds idle connections that were checked for the identities of their time.
            Some(previous) if previous.identities == next.identities && previous.tls == next.tls => {
                next.cell = previous.cell.clone();
                Arc::new(next)
            }
            _ => {
                next.cell = Arc::new(EndpointCell::default());
                Arc::new(next)
            }
        }
    }
}

fn key(cluster: &Cluster) -> ClusterKey<'_> {
    (&cluster.host, cluster.port, cluster.subset.as_deref())
}

fn is_same(previous: &Cluster, next: &Cluster) -> bool {
    let (old, new) = (previous.endpoints.endpoints(), next.endpoints.endpoints());
    previous.service == next.service
        && previous.protocol == next.protocol
        && previous.via == next.via
        && previous.endpoints.policy() == next.endpoints.policy()
        && old.len() == new.len()
        && old.iter().zip(new).all(|(old, new)| Arc::ptr_eq(old, new))
}

fn is_same_endpoint(previous: &Endpoint, next: &Endpoint) -> bool {
    previous.addr == next.addr
        && previous.identities == next.identities
        && previous.tls == next.tls
        && previous.weight == next.weight
        && previous.rank == next.rank
        && previous.workload == next.workload
}
