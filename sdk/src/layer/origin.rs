//! Origin: what all requests of one connection have in common, and the series they are counted in.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use http::StatusCode;

use super::call::Served;
use super::labels::{self, Onward};
use super::{Asker, Draining, Interim, Reason, Refusal};
use crate::name::Peer;
use crate::policy::balance::Workload;
use crate::snapshot::{Live, Misfit, Place, Snapshot};
use crate::telemetry::{Meter, Protocol, RequestLabels, RequestSeries};

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
        let onward = served.map(Onward::of);
        labels::received(view, &self.place, &self.peer, onward, protocol(grpc))
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
    type Kept = [ArcSwapOption<(Arc<Workload>, Arc<RequestSeries>)>; 2];
    let make = || meter.requests(&labels::sent(view, Some(Onward::of(served)), protocol(grpc)));
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

/// The labels of a request of this process that nobody answered.
pub(super) fn refused_labels(view: &Snapshot, grpc: bool) -> RequestLabels {
    labels::sent(view, None, protocol(grpc))
}
