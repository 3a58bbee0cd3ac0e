//! Under which labels a request or connection is counted: who called, what was called, who answered.

use std::sync::Arc;

use super::call::Served;
use crate::name::{Host, Peer, ServiceName, SpiffeId};
use crate::policy::balance::{Endpoint, Workload};
use crate::snapshot::{Cluster, InboundPolicy, Place, Snapshot};
use crate::telemetry::{PartyLabels, Protocol, Reporter, RequestLabels, Security, ServiceLabels};

/// Istio's names for the services of requests that are for none.
const PASSTHROUGH: &str = "PassthroughCluster";
const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
const BLACK_HOLE: &str = "BlackHoleCluster";

/// Whom something was passed on to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Onward<'a> {
    /// The endpoint.
    pub(crate) endpoint: &'a Endpoint,
    /// The cluster that it was chosen from.
    pub(crate) cluster: Option<&'a Cluster>,
}

impl<'a> Onward<'a> {
    pub(super) fn of(served: &'a Served) -> Self {
        Self {
            endpoint: &served.endpoint,
            cluster: served.cluster.as_deref(),
        }
    }
}

/// The labels of what came in from `peer` at `place`, and was passed on if at all to `onward`.
pub(crate) fn received(
    view: &Snapshot,
    place: &Place,
    peer: &Peer,
    onward: Option<Onward<'_>>,
    protocol: Protocol,
) -> RequestLabels {
    let mut labels = match place {
        Place::Workload { port } => {
            let mut labels = RequestLabels::new(Reporter::Destination);
            labels.destination = party(&view.me, view.my_identity.as_ref());
            let guard = match &view.inbound {
                InboundPolicy::Workload(policy) => policy.ports.get(port).and_then(|guards| guards.first()),
                _ => None,
            };
            match guard {
                Some(guard) => labels.service = service(&guard.service, &guard.host),
                // As Envoy's clusters for what no service leads to; ztunnel has no such name.
                None if protocol != Protocol::Tcp => labels.service.name = INBOUND_PASSTHROUGH.into(),
                None => {}
            }
            labels
        }
        Place::Service { host, .. } => {
            let mut labels = RequestLabels::new(Reporter::Waypoint);
            if let Some(found) = view.service_by_host(host).and_then(|id| view.service(id)) {
                labels.service = service(&found.name, &found.host);
            }
            labels
        }
        Place::Pod { .. } => RequestLabels::new(Reporter::Waypoint),
        Place::Port { .. } | Place::Listener { .. } => RequestLabels::new(Reporter::Source),
    };
    let pod = view.pods.get(&peer.addr.ip().to_canonical()).filter(|pod| {
        // An address is a hint; it counts only if it agrees with what was proved.
        peer.identity.is_none() || pod.identity == peer.identity
    });
    let source = pod.map(|pod| Arc::clone(&pod.workload)).unwrap_or_default();
    labels.source = party(&source, peer.identity.as_ref());
    if labels.source.namespace.is_empty()
        && let Some(identity) = &peer.identity
    {
        labels.source.namespace = identity.namespace().into();
    }
    if let Some(Onward { endpoint, cluster }) = onward {
        labels.destination = party(&endpoint.workload, endpoint.identities.first());
        // Whose endpoint was chosen, not who was addressed: a route may lead to another service.
        if let Some(cluster) = cluster {
            labels.service = service(&cluster.service, &cluster.host);
        }
    }
    labels.protocol = protocol;
    labels.security = if peer.identity.is_some() {
        Security::MutualTls
    } else {
        Security::None
    };
    labels
}

/// The labels of what this process itself sent, to `onward` if to anybody.
pub(crate) fn sent(view: &Snapshot, onward: Option<Onward<'_>>, protocol: Protocol) -> RequestLabels {
    let mut labels = RequestLabels::new(Reporter::Source);
    labels.source = party(&view.me, view.my_identity.as_ref());
    labels.protocol = protocol;
    let Some(Onward { endpoint, cluster }) = onward else {
        return labels;
    };
    labels.destination = party(&endpoint.workload, endpoint.identities.first());
    match cluster {
        Some(cluster) => labels.service = service(&cluster.service, &cluster.host),
        None if protocol != Protocol::Tcp => labels.service.name = PASSTHROUGH.into(),
        None => {}
    }
    // A caller leaves the judgement of a request's security to the callee, as Istio's do; of a connection it tells what
    // it made, as ztunnel does.
    if protocol == Protocol::Tcp {
        if endpoint.is_tunnelled() {
            labels.security = Security::MutualTls;
        } else {
            // Nothing was proved to anybody.
            labels.source.principal = Arc::default();
            labels.destination.principal = Arc::default();
        }
    }
    labels
}

/// The labels of what this process wanted to send to a host that the mesh does not know.
pub(super) fn sent_nowhere(view: &Snapshot, protocol: Protocol) -> RequestLabels {
    let mut labels = sent(view, None, protocol);
    labels.service.name = BLACK_HOLE.into();
    labels
}

/// Istio's name for what is of no service, if that is what the labels say.
pub(super) fn of_no_service(labels: &RequestLabels) -> Option<&str> {
    let service = &labels.service;
    (service.host.is_empty() && !service.name.is_empty()).then_some(&*service.name)
}

fn party(workload: &Workload, identity: Option<&SpiffeId>) -> PartyLabels {
    PartyLabels {
        workload: Arc::clone(&workload.owner),
        namespace: Arc::clone(&workload.namespace),
        principal: identity
            .map(|identity| identity.as_str().into())
            .unwrap_or_default(),
        app: Arc::clone(&workload.app),
        version: Arc::clone(&workload.version),
        canonical_service: Arc::clone(&workload.canonical_service),
        canonical_revision: Arc::clone(&workload.canonical_revision),
        cluster: Arc::clone(&workload.cluster),
        ..PartyLabels::default()
    }
}

/// A service as a label set names it.
pub(crate) fn service(name: &ServiceName, host: &Host) -> ServiceLabels {
    ServiceLabels {
        host: host.as_str().into(),
        name: Arc::clone(&name.name),
        namespace: Arc::clone(&name.namespace),
    }
}
