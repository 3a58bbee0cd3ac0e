//! One address that can serve a request, and what is known of it right now.

use std::net::SocketAddr;
use std::sync::Arc;

use super::EndpointCell;
use crate::name::SpiffeId;
use crate::policy::digest;
use crate::policy::tls::Origination;

/// What tells endpoints apart, across snapshots too: where to dial and what to ask for there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// What TCP connects to: `podIP:15008` through a tunnel, `podIP:targetPort` in plaintext.
    pub dial: SocketAddr,
    /// The authority of the CONNECT; `None` in plaintext.
    pub authority: Option<Arc<str>>,
}

/// The workload behind an endpoint, for labels of metrics and spans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Pod or WorkloadEntry name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// The workload's owner (Deployment) as Istio's `destination_workload`; the pod's name if unknown.
    pub owner: Arc<str>,
    /// Label `app`, or the canonical service's name.
    pub app: Arc<str>,
    /// Label `version`, or the canonical revision.
    pub version: Arc<str>,
    /// Label `service.istio.io/canonical-name`, else `app`, else the owner.
    pub canonical_service: Arc<str>,
    /// Label `service.istio.io/canonical-revision`, else `version`, else `latest`.
    pub canonical_revision: Arc<str>,
    /// Cluster id, `Kubernetes` if unknown.
    pub cluster: Arc<str>,
}

/// When an endpoint's turn comes, seen from here: decided by where it is, at compile time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rank {
    /// Lower comes first; a higher one gets what those before it cannot take.
    pub priority: u32,
    /// The locality among those of one priority that traffic is distributed over by weight.
    pub group: u32,
    /// The weight of that locality; 0 if nothing is distributed by locality.
    pub share: u32,
}

/// One address that can serve a request, with the identities any one of which it must prove.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub key: EndpointKey,
    /// The address the request is meant for: `podIP:targetPort`; equals `key.dial` in plaintext.
    pub addr: SocketAddr,
    /// Identities one of which the server must prove; empty only in plaintext.
    pub identities: Arc<[SpiffeId]>,
    /// What is spoken below HTTP, inside the tunnel if there is one.
    pub tls: Origination,
    /// Relative share.
    pub weight: u32,
    /// When its turn comes.
    pub rank: Rank,
    /// The workload behind it.
    pub workload: Arc<Workload>,
    /// What is known of it right now; shared across snapshots.
    pub cell: Arc<EndpointCell>,
}

impl Endpoint {
    /// A number that stands for the endpoint wherever it is seen from: its address, and the workload's name, because
    /// addresses are given to other workloads later.
    pub fn digest(&self) -> u64 {
        let address = self.addr.to_string();
        let Workload { name, namespace, .. } = &*self.workload;
        digest([address.as_bytes(), namespace.as_bytes(), name.as_bytes()])
    }

    /// Whether the endpoint is reached through an HBONE tunnel.
    pub fn is_tunnelled(&self) -> bool {
        self.key.authority.is_some()
    }
}
