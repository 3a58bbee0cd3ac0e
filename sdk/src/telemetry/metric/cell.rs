//! What is counted in: prometheus-client's cells, so held that a family can tell whether anybody else has one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::{
    EncodeLabel as _, EncodeLabelSet, EncodeMetric as _, LabelSetEncoder, MetricEncoder, text,
};
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::{counter, gauge, histogram};
use prometheus_client::registry;

/// A number that only grows. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct Counter(Arc<counter::Counter>);

/// A number that goes up and down. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct Gauge(Arc<gauge::Gauge>);

/// A number that is set. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct Level(gauge::Gauge<f64, AtomicU64>);

/// How often values fell between which bounds. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Histogram {
    bounds: &'static [f64],
    cell: Arc<Cell>,
}

#[derive(Debug)]
enum Cell {
    Plain(histogram::Histogram),
    Traced(HistogramWithExemplars<Label>),
}

/// The id of a trace.
pub(in crate::telemetry) type Trace = [u8; 16];

/// An exemplar's one label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Label(Trace);

/// One value, and the trace in which it came to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::telemetry) struct Exemplar {
    pub(in crate::telemetry) trace: Trace,
    pub(in crate::telemetry) value: f64,
    pub(in crate::telemetry) at: SystemTime,
}

/// A histogram as it was at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) struct Distribution {
    pub(in crate::telemetry) bounds: &'static [f64],
    /// Of each bucket by itself; the last has no upper bound.
    pub(in crate::telemetry) counts: Vec<u64>,
    pub(in crate::telemetry) sum: f64,
    /// In the order of their buckets.
    pub(in crate::telemetry) exemplars: Vec<Exemplar>,
}

impl Counter {
    pub(in crate::telemetry) fn inc(&self) {
        self.0.inc();
    }

    pub(in crate::telemetry) fn inc_by(&self, by: u64) {
        self.0.inc_by(by);
    }

    pub(in crate::telemetry) fn get(&self) -> u64 {
        self.0.get()
    }

    /// Whether both count in the same.
    pub(in crate::telemetry) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn is_kept(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Gauge {
    pub(in crate::telemetry) fn inc(&self) {
        self.0.inc();
    }

    pub(in crate::telemetry) fn dec(&self) {
        self.0.dec();
    }

    pub(in crate::telemetry) fn set(&self, to: i64) {
        self.0.set(to);
    }

    pub(in crate::telemetry) fn get(&self) -> i64 {
        self.0.get()
    }

    pub(super) fn is_kept(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Level {
    pub(in crate::telemetry) fn set(&self, to: f64) {
        self.0.set(to);
    }

    pub(in crate::telemetry) fn get(&self) -> f64 {
        self.0.get()
    }
}

impl Histogram {
    /// `bounds` rise, and are the highest values of their buckets.
    pub(in crate::telemetry) fn new(bounds: &'static [f64]) -> Self {
        let cell = Cell::Plain(histogram::Histogram::new(bounds.iter().copied()));
        Self {
            bounds,
            cell: Arc::new(cell),
        }
    }

    /// One that keeps an exemplar for each of its buckets.
    pub(in crate::telemetry) fn traced(bounds: &'static [f64]) -> Self {
        let cell = Cell::Traced(HistogramWithExemplars::new(bounds.iter().copied()));
        Self {
            bounds,
            cell: Arc::new(cell),
        }
    }

    pub(in crate::telemetry) fn observe(&self, value: f64) {
        self.observe_in(value, None);
    }

    /// With the trace that it belongs to, if that is recorded.
    pub(in crate::telemetry) fn observe_in(&self, value: f64, trace: Option<(Trace, SystemTime)>) {
        match &*self.cell {
            Cell::Plain(histogram) => histogram.observe(value),
            Cell::Traced(histogram) => {
                let at = trace.map(|(_, at)| at);
                histogram.observe(value, trace.map(|(trace, _)| Label(trace)), at);
            }
        }
    }

    pub(super) fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        match &*self.cell {
            Cell::Plain(histogram) => histogram.encode(encoder),
            Cell::Traced(histogram) => histogram.encode(encoder),
        }
    }

    /// What it holds. It is shown in an exposition and nowhere else, so that is what is read, at some microseconds.
    pub(in crate::telemetry) fn read(&self) -> Distribution {
        let mut alone = registry::Registry::default();
        match &*self.cell {
            Cell::Plain(histogram) => alone.register("h", "", histogram.clone()),
            Cell::Traced(histogram) => alone.register("h", "", histogram.clone()),
        }
        let mut shown = String::new();
        let mut read = Distribution {
            bounds: self.bounds,
            counts: Vec::with_capacity(self.bounds.len() + 1),
            sum: 0.0,
            exemplars: Vec::new(),
        };
        // Writing to a `String` fails only if a label does, and none can.
        if text::encode(&mut shown, &alone).is_err() {
            return read;
        }
        let mut below = 0;
        for line in shown.lines() {
            if let Some(sum) = line.strip_prefix("h_sum ") {
                read.sum = sum.parse().unwrap_or_default();
            }
            let Some((_, bucket)) = line.strip_prefix("h_bucket{").and_then(|it| it.split_once("} ")) else {
                continue;
            };
            let (upto, exemplar) = match bucket.split_once(" # ") {
                Some((upto, exemplar)) => (upto, exemplar_of(exemplar)),
                None => (bucket, None),
            };
            let upto: u64 = upto.parse().unwrap_or(below);
            read.counts.push(upto.saturating_sub(below));
            below = upto;
            read.exemplars.extend(exemplar);
        }
        read
    }

    pub(super) fn is_kept(&self) -> bool {
        Arc::strong_count(&self.cell) > 1
    }
}

/// `{trace_id="…"} value seconds`.
fn exemplar_of(text: &str) -> Option<Exemplar> {
    let (id, rest) = text.strip_prefix("{trace_id=\"")?.split_once("\"} ")?;
    let (value, at) = rest.split_once(' ')?;
    let since = Duration::try_from_secs_f64(at.parse().ok()?).ok()?;
    Some(Exemplar {
        trace: u128::from_str_radix(id, 16).ok()?.to_be_bytes(),
        value: value.parse().ok()?,
        at: SystemTime::UNIX_EPOCH + since,
    })
}

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let id = format!("{:032x}", u128::from_be_bytes(self.0));
        ("trace_id", id.as_str()).encode(encoder.encode_label())
    }
}

impl Distribution {
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "asked for by the export"))]
    pub(in crate::telemetry) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let histogram = Histogram::new(&[1.0, 5.0]);
        for value in [0.5, 1.0, 1.5, 5.0, 5.5, 1e9] {
            histogram.observe(value);
        }
        assert_eq!(histogram.read().counts, [2, 2, 2]);
        assert_eq!(histogram.read().count(), 6);
        assert!(histogram.read().exemplars.is_empty());
    }

    #[test]
    fn the_latest_exemplar_of_a_bucket_is_kept() {
        let histogram = Histogram::traced(&[1.0]);
        for (value, id) in [(0.5, 1), (0.75, 2), (3.0, 3)] {
            histogram.observe_in(value, Some(([id; 16], SystemTime::UNIX_EPOCH)));
        }
        histogram.observe_in(0.1, None);
        let found = histogram.read().exemplars;
        let found: Vec<_> = found.iter().map(|it| (it.trace[0], it.value)).collect();
        assert_eq!(found, [(2, 0.75), (3, 3.0)]);
    }

    #[test]
    fn sums_lose_nothing_between_threads() {
        let histogram = Histogram::new(&[1.0]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| histogram.observe(0.5)));
            }
        });
        assert_eq!((histogram.read().sum, histogram.read().count()), (2_000.0, 4_000));
    }
}
