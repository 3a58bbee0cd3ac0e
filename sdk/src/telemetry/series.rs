//! Resolved label sets: what is kept beside a route, so that counting a request is a short search and an add.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::flow::{Durations, Flow};
use super::labels::{HttpSet, Kind, Outcome, RequestLabels};
use super::meter::Budget;

/// The buckets of every `istio_*` histogram, milliseconds and bytes alike: the defaults of Envoy, which Istio
/// leaves as they are.
pub(super) const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// How many outcomes one label set tells apart before it turns coarse. A peer may invent status codes.
const OUTCOMES: usize = 64;

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The status code; `0` when no response was sent.
    pub response_code: u16,
    /// Envoy's short flags, comma separated; `-` when there are none.
    pub flags: &'static str,
    /// The `grpc-status` of a gRPC response.
    pub grpc_status: Option<u16>,
    /// From the request's first byte to the response's last.
    pub duration: Duration,
    /// The request's size.
    pub request_bytes: u64,
    /// The response's size.
    pub response_bytes: u64,
}

/// The families that requests are counted in.
#[derive(Clone, Debug)]
pub(super) struct HttpFamilies {
    pub(super) requests: Family<HttpSet, Counter>,
    pub(super) duration: Family<HttpSet, Histogram, fn() -> Histogram>,
    pub(super) request_bytes: Family<HttpSet, Histogram, fn() -> Histogram>,
    pub(super) response_bytes: Family<HttpSet, Histogram, fn() -> Histogram>,
    pub(super) budget: Arc<Budget>,
}

/// Counts the requests of one label set. Equal labels share one.
#[derive(Debug)]
pub struct RequestSeries {
    labels: Arc<RequestLabels>,
    families: HttpFamilies,
    cells: ArcSwap<Vec<Cell>>,
    growing: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Cell {
    outcome: Outcome,
    requests: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

// ===== impl HttpFamilies =====

impl HttpFamilies {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(histogram),
            request_bytes: Family::new_with_constructor(histogram),
            response_bytes: Family::new_with_constructor(histogram),
            budget,
        }
    }

    fn cell(&self, outcome: Outcome, set: &HttpSet) -> Cell {
        Cell {
            outcome,
            requests: self.requests.get_or_create_owned(set),
            duration: self.duration.get_or_create_owned(set),
            request_bytes: self.request_bytes.get_or_create_owned(set),
            response_bytes: self.response_bytes.get_or_create_owned(set),
        }
    }
}

// ===== impl RequestSeries =====

impl RequestSeries {
    pub(super) fn new(labels: Arc<RequestLabels>, families: HttpFamilies) -> Self {
        Self {
            labels,
            families,
            cells: ArcSwap::default(),
            growing: Mutex::new(()),
        }
    }

    /// The labels of this series.
    pub fn labels(&self) -> &RequestLabels {
        &self.labels
    }

    /// What has been counted so far, apart from how long it took: for that the histograms come along.
    pub(super) fn flow(&self) -> (Flow, Vec<Histogram>) {
        let cells = self.cells.load();
        let mut flow = Flow {
            labels: Arc::clone(&self.labels),
            requests: 0,
            failed: 0,
            denied: 0,
            durations: Durations::default(),
        };
        for cell in cells.iter() {
            let requests = cell.requests.get();
            flow.requests += requests;
            match cell.outcome.kind() {
                Kind::Failed => flow.failed += requests,
                Kind::Denied => flow.denied += requests,
                Kind::Fine => {}
            }
        }
        (flow, cells.iter().map(|cell| cell.duration.clone()).collect())
    }

    /// Counts one finished request.
    ///
    /// Allocates only for the first of each (code, flags, gRPC status).
    pub fn record(&self, sample: &Sample) {
        let outcome = Outcome {
            code: sample.response_code,
            flags: sample.flags,
            grpc: sample.grpc_status,
        };
        match find(&self.cells.load(), outcome) {
            Some(cell) => cell.record(sample),
            None => self.record_new(outcome, sample),
        }
    }

    #[cold]
    fn record_new(&self, outcome: Outcome, sample: &Sample) {
        let _one_grows = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let cells = self.cells.load_full();
        if let Some(cell) = find(&cells, outcome) {
            return cell.record(sample);
        }
        let outcome = if cells.len() < OUTCOMES {
            outcome
        } else {
            outcome.coarse()
        };
        let cell = self.families.cell(outcome, &self.set(outcome));
        cell.record(sample);
        let mut grown = Vec::with_capacity(cells.len() + 1);
        grown.extend(cells.iter().cloned());
        grown.push(cell);
        self.cells.store(Arc::new(grown));
    }

    /// The labels that a new outcome is counted under: those of the overflow once the families are full.
    fn set(&self, outcome: Outcome) -> HttpSet {
        if self.families.budget.take() {
            return HttpSet {
                labels: Arc::clone(&self.labels),
                outcome,
            };
        }
        HttpSet {
            labels: Arc::new(self.labels.overflow()),
            outcome: outcome.coarse(),
        }
    }
}

/// The cell of an outcome; of its coarse form once there are too many to tell apart.
fn find(cells: &[Cell], outcome: Outcome) -> Option<&Cell> {
    let seen = |wanted: Outcome| cells.iter().find(|cell| cell.outcome == wanted);
    seen(outcome).or_else(|| {
        let full = cells.len() >= OUTCOMES;
        full.then(|| seen(outcome.coarse())).flatten()
    })
}

impl Cell {
    fn record(&self, sample: &Sample) {
        self.requests.inc();
        self.duration.observe(sample.duration.as_secs_f64() * 1e3);
        self.request_bytes.observe(sample.request_bytes as f64);
        self.response_bytes.observe(sample.response_bytes as f64);
    }
}
