//! Origin: what all requests of one connection have in common, and the labels they are counted under.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use http::StatusCode;

use super::call::Served;
use super::{Asker, Draining, Interim, Reason, Refusal};
use crate::name::{Host, Peer, ServiceName, SpiffeId};
use crate::policy::balance::Workload;
use crate::snapshot::{InboundPolicy, Live, Misfit, Place, Snapshot};
use crate::telemetry::{
    Meter, PartyLabels, Protocol, Reporter, RequestLabels, RequestSeries, Security, ServiceLabels,
};

/// What all requests of one accepted connection have in common.
#[derive(Debug)]
pub struct Origin {
    pub(super) live: Arc<Live>,
    meter: Meter,
    pub(super) peer: Arc<Peer>,
    pub(super) place: Arc<Place>,
    pub(super) draining: Draining,
    pub(super) interim: Interim,
    /// Through whom external authorizers are asked.
    asker: Option<Asker>,
    /// The series used last and for whom: one connection mostly serves one pair.
    series: ArcSwapOption<CachedSeries>,
}

#[derive(Debug)]
struct CachedSeries {
    generation: u64,
    grpc: bool,
    destination: Option<Arc<Workload>>,
    series: Arc<RequestSeries>,
}

impl Origin {
    /// For a connection from `peer` that came in at `place`.
    pub fn new(
        live: Arc<Live>,
        meter: Meter,
        peer: Arc<Peer>,
        place: Arc<Place>,
        draining: Draining,
    ) -> Self {
        Self {
            live,
            meter,
            peer,
            place,
            draining,
            interim: Interim::default(),
            asker: None,
            series: ArcSwapOption::empty(),
        }
    }

    /// Where a request of the connection came in: at a Gateway its host says at which listener.
    pub(super) fn place_of(&self, view: &Snapshot, authority: &str) -> Result<Arc<Place>, Refusal> {
        let Place::Port { port, admitted } = &*self.place else {
            return Ok(Arc::clone(&self.place));
        };
        let sni = self.peer.tls.as_ref().and_then(|tls| tls.server_name.as_ref());
        let found = match view.gateway.port(*port) {
            // What was begun in the clear does not count as secure afterwards, nor the other way round.
            Some(at) if at.secure == self.peer.tls.is_some() => at.request(authority, sni, admitted.as_ref()),
            Some(_) => Err(Misfit::Misdirected),
            None => Err(Misfit::Nowhere),
        };
        match found {
            Ok(listener) => Ok(Arc::clone(&listener.place)),
            Err(Misfit::Nowhere) => Err(Refusal::new(
                Reason::NoRoute,
                format!("no listener on port {port} serves `{authority}`"),
            )),
            Err(Misfit::Misdirected) => Err(Refusal::new(
                Reason::NoRoute,
                format!(
                    "`{authority}` belongs to another listener than the one that the connection was made for"
                ),
            )
            .status(StatusCode::MISDIRECTED_REQUEST)),
        }
    }

    /// Lets external authorizers be asked; without, what must be asked about is denied.
    pub fn asking(mut self, asker: Asker) -> Self {
        self.asker = Some(asker);
        self
    }

    #[cfg(feature = "extauthz")]
    pub(super) fn asker(&self) -> Option<Asker> {
        self.asker.clone()
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The series for requests of this connection that `served` answered.
    pub(super) fn series(&self, view: &Snapshot, served: Option<&Served>, grpc: bool) -> Arc<RequestSeries> {
        let destination = served.map(|served| &served.endpoint.workload);
        if let Some(cached) = &*self.series.load()
            && cached.generation == view.generation
            && cached.grpc == grpc
            && match (&cached.destination, destination) {
                (None, None) => true,
                (Some(cached), Some(wanted)) => Arc::ptr_eq(cached, wanted),
                _ => false,
            }
        {
            return Arc::clone(&cached.series);
        }
        let series = self.meter.requests(&self.labels(view, served, grpc));
        self.series.store(Some(Arc::new(CachedSeries {
            generation: view.generation,
            grpc,
            destination: destination.cloned(),
            series: Arc::clone(&series),
        })));
        series
    }

    fn labels(&self, view: &Snapshot, served: Option<&Served>, grpc: bool) -> RequestLabels {
        let mut labels = match &*self.place {
            Place::Workload { port } => {
                let mut labels = RequestLabels::new(Reporter::Destination);
                labels.destination = party(&view.me, view.my_identity.as_ref());
                let guard = match &view.inbound {
                    InboundPolicy::Workload(policy) => {
                        policy.ports.get(port).and_then(|guards| guards.first())
                    }
                    _ => None,
                };
                if let Some(guard) = guard {
                    labels.service = service(&guard.service, &guard.host);
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
        let pod = view.pods.get(&self.peer.addr.ip().to_canonical()).filter(|pod| {
            // An address is a hint; it counts only if it agrees with what was proved.
            self.peer.identity.is_none() || pod.identity == self.peer.identity
        });
        let source = pod.map(|pod| Arc::clone(&pod.workload)).unwrap_or_default();
        labels.source = party(&source, self.peer.identity.as_ref());
        if labels.source.namespace.is_empty()
            && let Some(identity) = &self.peer.identity
        {
            labels.source.namespace = identity.namespace().into();
        }
        if let Some(served) = served {
            labels.destination = party(&served.endpoint.workload, served.endpoint.identities.first());
            if let Some(cluster) = served
                .cluster
                .as_deref()
                .filter(|_| labels.service.host.is_empty())
            {
                labels.service = service(&cluster.service, &cluster.host);
            }
        }
        labels.protocol = if grpc { Protocol::Grpc } else { Protocol::Http };
        labels.security = if self.peer.identity.is_some() {
            Security::MutualTls
        } else {
            Security::None
        };
        labels
    }
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

fn service(name: &ServiceName, host: &Host) -> ServiceLabels {
    ServiceLabels {
        host: host.as_str().into(),
        name: Arc::clone(&name.name),
        namespace: Arc::clone(&name.namespace),
    }
}

/// The series in which this process as the caller counts what `served` answered; kept with the endpoint.
pub(super) fn client_series(
    meter: &Meter,
    view: &Snapshot,
    served: &Served,
    grpc: bool,
) -> Arc<RequestSeries> {
    type Kept = [ArcSwapOption<(Arc<Workload>, Arc<RequestSeries>)>; 2];
    let make = || meter.requests(&client_labels(view, served, grpc));
    let Some(kept) = served.endpoint.cell.series::<Kept>(Kept::default) else {
        return make();
    };
    let kept = &kept[usize::from(grpc)];
    if let Some(kept) = &*kept.load()
        && Arc::ptr_eq(&kept.0, &view.me)
    {
        return Arc::clone(&kept.1);
    }
    let series = make();
    kept.store(Some(Arc::new((Arc::clone(&view.me), Arc::clone(&series)))));
    series
}

fn client_labels(view: &Snapshot, served: &Served, grpc: bool) -> RequestLabels {
    let mut labels = refused_labels(view, grpc);
    labels.destination = party(&served.endpoint.workload, served.endpoint.identities.first());
    if let Some(cluster) = served.cluster.as_deref() {
        labels.service = service(&cluster.service, &cluster.host);
    }
    // A caller leaves the judgement of security to the callee, as Istio's do.
    labels
}

pub(super) fn refused_labels(view: &Snapshot, grpc: bool) -> RequestLabels {
    let mut labels = RequestLabels::new(Reporter::Source);
    labels.source = party(&view.me, view.my_identity.as_ref());
    labels.protocol = if grpc { Protocol::Grpc } else { Protocol::Http };
    labels
}
