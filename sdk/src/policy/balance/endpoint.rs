//! One address that can serve a request, and what is known of it right now.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::name::SpiffeId;
use crate::policy::digest;

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

/// One address that can serve a request, with the identities any one of which it must prove.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub key: EndpointKey,
    /// The address the request is meant for: `podIP:targetPort`; equals `key.dial` in plaintext.
    pub addr: SocketAddr,
    /// Identities one of which the server must prove; empty only in plaintext.
    pub identities: Arc<[SpiffeId]>,
    /// Relative share.
    pub weight: u32,
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

/// The live state of an endpoint: atomics, shared by every snapshot that lists the endpoint.
#[derive(Default)]
pub struct EndpointCell {
    in_flight: AtomicU32,
    /// Whatever the sending end keeps per endpoint (its idle connections). Typed by that end alone, so that
    /// engines need not know what a connection is.
    connections: OnceLock<Box<dyn Any + Send + Sync>>,
    /// Likewise, what the measuring side keeps per endpoint.
    series: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl EndpointCell {
    /// Requests under way to this endpoint from this process.
    pub fn in_flight(&self) -> u32 {
        // Relaxed: a load hint; nothing is published through it.
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request in until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// The sending end's own state for this endpoint (its connections), made on first use.
    ///
    /// Returns `None` if another type sits there already.
    pub fn connections<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.connections.get_or_init(|| Box::new(make())).downcast_ref()
    }

    /// The measuring side's own state for this endpoint, made on first use.
    ///
    /// Returns `None` if another type sits there already.
    pub fn series<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.series.get_or_init(|| Box::new(make())).downcast_ref()
    }
}

impl std::fmt::Debug for EndpointCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointCell")
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// One request under way; dropping it counts the request out.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointCell>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
