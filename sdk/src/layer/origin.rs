//! Origin: what all requests of one connection have in common, and the series they are counted in.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use http::StatusCode;

use super::call::Served;
use super::labels::{self, Onward};
use super::{Asker, Draining, Interim, Reason, Refusal};
use crate::name::Peer;
use crate::policy::balance::Workload;
use crate::snapshot::{Cluster, Live, Misfit, Place, Snapshot};
use crate::telemetry::{Meter, MetricPlan, Protocol, RequestSeries};

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
    /// The series used of late: one connection mostly serves few pairs.
    series: ArcSwap<Cached>,
}

/// What is remembered within one generation of the configuration.
#[derive(Debug, Default)]
struct Cached {
    generation: u64,
    series: Vec<(Pair, Arc<RequestSeries>)>,
}

/// What tells the series of one connection apart.
#[derive(Clone, Debug)]
struct Pair {
    grpc: bool,
    told: Told,
}

/// Who answered, as far as labels tell.
#[derive(Clone, Debug)]
enum Told {
    /// This endpoint's workload, of this cluster.
    Workload(Arc<Workload>, Option<Arc<Cluster>>),
    /// Nobody, though it was for the service that was addressed: we did.
    Addressed,
    /// Nobody, and it was for no service: no route was found, or one that answers itself.
    Unrouted,
}

/// How many pairs a connection remembers. At 16 bytes compared each, a search through all costs less than a lock.
const PAIRS: usize = 32;

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
            series: ArcSwap::default(),
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

    /// Whether it is for what comes in at this place: the same one, not one that is alike.
    pub(crate) fn is_at(&self, place: &Arc<Place>) -> bool {
        Arc::ptr_eq(&self.place, place)
    }

    /// Lets external authorizers be asked; without, what must be asked about is denied.
    pub fn asking(mut self, asker: Asker) -> Self {
        self.asker = Some(asker);
        self
    }

    pub(super) fn asker(&self) -> Option<Asker> {
        self.asker.clone()
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The series for requests of this connection that were answered so.
    pub(super) fn series(&self, view: &Snapshot, answered: Answered<'_>, grpc: bool) -> Arc<RequestSeries> {
        let cached = self.series.load();
        if cached.generation == view.generation {
            let mut known = cached.series.iter();
            if let Some((_, series)) = known.find(|(pair, _)| pair.is(answered, grpc)) {
                return Arc::clone(series);
            }
        }
        let series = self.resolve(view, answered, grpc);
        let pair = Pair {
            grpc,
            told: answered.into(),
        };
        let mut kept = match cached.generation == view.generation {
            true => cached.series.clone(),
            false => Vec::new(),
        };
        if kept.len() == PAIRS {
            kept.remove(0);
        }
        kept.push((pair, Arc::clone(&series)));
        // Of two that are new at once one may be lost: it is found again when it comes next.
        self.series.store(Arc::new(Cached {
            generation: view.generation,
            series: kept,
        }));
        series
    }

    fn resolve(&self, view: &Snapshot, answered: Answered<'_>, grpc: bool) -> Arc<RequestSeries> {
        let onward = match answered {
            Answered::By(served) => Some(Onward::of(served)),
            _ => None,
        };
        let mut labels = labels::received(view, &self.place, &self.peer, onward, protocol(grpc));
        if let Answered::Unrouted = answered
            && !matches!(*self.place, Place::Workload { .. })
        {
            labels.service = Default::default();
        }
        self.meter.requests_as(&labels, self.plan(view))
    }

    /// Which metrics are told of what comes in here.
    pub(super) fn plan<'v>(&self, view: &'v Snapshot) -> &'v Arc<MetricPlan> {
        view.metrics.received(&self.place)
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answered<'a> {
    /// By an upstream.
    By(&'a Served),
    /// By us, for the service that was addressed.
    Here,
    /// By us, for no service.
    Unrouted,
}

impl From<Answered<'_>> for Told {
    fn from(answered: Answered<'_>) -> Self {
        match answered {
            Answered::By(served) => {
                Self::Workload(Arc::clone(&served.endpoint.workload), served.cluster.clone())
            }
            Answered::Here => Self::Addressed,
            Answered::Unrouted => Self::Unrouted,
        }
    }
}

impl Pair {
    fn is(&self, answered: Answered<'_>, grpc: bool) -> bool {
        self.grpc == grpc
            && match (&self.told, answered) {
                (Told::Workload(workload, cluster), Answered::By(served)) => {
                    Arc::ptr_eq(workload, &served.endpoint.workload)
                        && cluster.as_ref().map(Arc::as_ptr) == served.cluster.as_ref().map(Arc::as_ptr)
                }
                (Told::Addressed, Answered::Here) | (Told::Unrouted, Answered::Unrouted) => true,
                _ => false,
            }
    }
}

fn protocol(grpc: bool) -> Protocol {
    if grpc { Protocol::Grpc } else { Protocol::Http }
}

/// The series in which this process as the caller counts what `served` answered; kept with the endpoint.
pub(super) fn client_series(
    meter: &Meter,
    view: &Snapshot,
    served: &Served,
    grpc: bool,
) -> Arc<RequestSeries> {
    type Kept = [ArcSwapOption<(u64, usize, Arc<RequestSeries>)>; 2];
    let make = || {
        let labels = labels::sent(view, Some(Onward::of(served)), protocol(grpc));
        meter.requests_as(&labels, &view.metrics.clients)
    };
    // An endpoint may be in the clusters of several services, of which the generation has one each.
    let cluster = served.cluster.as_ref().map_or(0, |it| Arc::as_ptr(it) as usize);
    let Some(kept) = served.endpoint.cell.series::<Kept>(Kept::default) else {
        return make();
    };
    let kept = &kept[usize::from(grpc)];
    if let Some(kept) = &*kept.load()
        && (kept.0, kept.1) == (view.generation, cluster)
    {
        return Arc::clone(&kept.2);
    }
    let series = make();
    kept.store(Some(Arc::new((view.generation, cluster, Arc::clone(&series)))));
    series
}

/// What all requests that this process makes have in common.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) meter: Meter,
    /// The series of requests that nobody answered: known hosts and unknown ones, plain and gRPC; each with its generation.
    nobody: [ArcSwapOption<(u64, Arc<RequestSeries>)>; 4],
}

impl Caller {
    pub(super) fn new(meter: Meter) -> Self {
        Self {
            meter,
            nobody: Default::default(),
        }
    }

    /// The series of requests of this process that nobody answered.
    pub(super) fn refused_series(
        &self,
        view: &Snapshot,
        refusal: &Refusal,
        grpc: bool,
    ) -> Arc<RequestSeries> {
        let kept = &self.nobody[usize::from(refusal.nowhere) * 2 + usize::from(grpc)];
        if let Some(kept) = &*kept.load()
            && kept.0 == view.generation
        {
            return Arc::clone(&kept.1);
        }
        let labels = match refusal.nowhere {
            true => labels::sent_nowhere(view, protocol(grpc)),
            false => labels::sent(view, None, protocol(grpc)),
        };
        let series = self.meter.requests_as(&labels, &view.metrics.clients);
        kept.store(Some(Arc::new((view.generation, Arc::clone(&series)))));
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_again_takes_no_lock() {
        let caller = Caller::new(Meter::new());
        let refusals = [false, true].map(|nowhere| {
            let mut refusal = Refusal::new(Reason::NoRoute, "");
            refusal.nowhere = nowhere;
            refusal
        });
        let view = Snapshot::default();
        let mut all = Vec::new();
        for (refusal, grpc) in refusals.iter().flat_map(|it| [(it, false), (it, true)]) {
            let first = caller.refused_series(&view, refusal, grpc);
            assert!(Arc::ptr_eq(&first, &caller.refused_series(&view, refusal, grpc)));
            assert!(
                !all.iter().any(|other| Arc::ptr_eq(other, &first)),
                "each is its own"
            );
            all.push(first);
        }
        let next = Snapshot {
            generation: view.generation + 1,
            ..Snapshot::default()
        };
        let again = caller.refused_series(&next, &refusals[0], false);
        assert!(
            Arc::ptr_eq(&all[0], &again),
            "labels that are alike are counted together"
        );
    }
}
