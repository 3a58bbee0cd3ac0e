//! What is counted in.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

// Each number stands for itself: a reader that sees one and not yet another has come a moment earlier. So `Relaxed` suffices
// everywhere here.

/// A number that only grows. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct Counter(Arc<AtomicU64>);

/// A number that goes up and down. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct Gauge(Arc<AtomicI64>);

/// A number that is set. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct Level(Arc<AtomicU64>);

/// How often values fell between which bounds. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    /// One more than bounds.
    counts: Box<[AtomicU64]>,
    /// The bits of a float.
    sum: AtomicU64,
    /// The latest of each bucket; made for the first.
    exemplars: OnceLock<Box<[Mutex<Option<Exemplar>>]>>,
}

/// The id of a trace.
pub(in crate::telemetry) type Trace = [u8; 16];

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
    /// Of each bucket; empty if there are none at all.
    pub(in crate::telemetry) exemplars: Vec<Option<Exemplar>>,
}

impl Counter {
    pub(in crate::telemetry) fn inc(&self) {
        self.inc_by(1);
    }

    pub(in crate::telemetry) fn inc_by(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(in crate::telemetry) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn is_kept(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Gauge {
    pub(in crate::telemetry) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::telemetry) fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(in crate::telemetry) fn set(&self, to: i64) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub(in crate::telemetry) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn is_kept(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Level {
    pub(in crate::telemetry) fn set(&self, to: f64) {
        self.0.store(to.to_bits(), Ordering::Relaxed);
    }

    pub(in crate::telemetry) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Histogram {
    /// `bounds` rise, and are the highest values of their buckets.
    pub(in crate::telemetry) fn new(bounds: &'static [f64]) -> Self {
        Self(Arc::new(Buckets {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0.0_f64.to_bits()),
            exemplars: OnceLock::new(),
        }))
    }

    pub(in crate::telemetry) fn observe(&self, value: f64) {
        self.count(value);
    }

    /// With the trace that it belongs to, if that is recorded.
    pub(in crate::telemetry) fn observe_in(&self, value: f64, trace: Option<(Trace, SystemTime)>) {
        let bucket = self.count(value);
        if let Some((trace, at)) = trace {
            self.exemplify(bucket, Exemplar { trace, value, at });
        }
    }

    fn count(&self, value: f64) -> usize {
        let Buckets {
            bounds, counts, sum, ..
        } = &*self.0;
        let bucket = bounds.partition_point(|bound| *bound < value);
        counts[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        // Always adds, and so never fails.
        let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        bucket
    }

    #[cold]
    fn exemplify(&self, bucket: usize, exemplar: Exemplar) {
        let make = || self.0.counts.iter().map(|_| Mutex::default()).collect();
        let slot = &self.0.exemplars.get_or_init(make)[bucket];
        // Whoever writes now has one that is as good.
        if let Ok(mut slot) = slot.try_lock() {
            *slot = Some(exemplar);
        }
    }

    pub(in crate::telemetry) fn read(&self) -> Distribution {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let slots = self.0.exemplars.get().map(|slots| &**slots).unwrap_or_default();
        Distribution {
            bounds: self.0.bounds,
            counts: self.0.counts.iter().map(load).collect(),
            sum: f64::from_bits(load(&self.0.sum)),
            exemplars: slots
                .iter()
                .map(|slot| slot.try_lock().ok().and_then(|slot| *slot))
                .collect(),
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Distribution {
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
        for value in [0.5, 1.0, 1.5, 5.0, 5.5, f64::INFINITY] {
            histogram.observe(value);
        }
        assert_eq!(histogram.read().counts, [2, 2, 2]);
        assert_eq!(histogram.read().count(), 6);
        assert!(histogram.read().exemplars.is_empty());
    }

    #[test]
    fn the_latest_exemplar_of_a_bucket_is_kept() {
        let histogram = Histogram::new(&[1.0]);
        for (value, id) in [(0.5, 1), (0.75, 2), (3.0, 3)] {
            histogram.observe_in(value, Some(([id; 16], SystemTime::UNIX_EPOCH)));
        }
        histogram.observe_in(0.1, None);
        let read = histogram.read();
        let of = |bucket: usize| read.exemplars[bucket].map(|it| (it.trace[0], it.value));
        assert_eq!([of(0), of(1)], [Some((2, 0.75)), Some((3, 3.0))]);
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
