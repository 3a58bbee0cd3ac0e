//! What has been counted, read back: for those who look on, so that nothing is counted twice.

use std::sync::Arc;

use super::labels::RequestLabels;
use super::metric::Histogram;
use super::series::BUCKETS;

/// How many buckets a duration can fall into, the last without an upper end.
const SPANS: usize = BUCKETS.len() + 1;

/// All requests of one label set so far.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) labels: Arc<RequestLabels>,
    pub(crate) requests: u64,
    /// Those that failed: 5xx, no answer at all, or a gRPC status that says so.
    pub(crate) failed: u64,
    /// Those that were turned away: 401, 403, 429, and what gRPC has for them.
    pub(crate) denied: u64,
    pub(crate) durations: Durations,
}

/// All connections of one label set so far.
#[derive(Clone, Debug)]
pub(crate) struct TcpFlow {
    pub(crate) labels: Arc<RequestLabels>,
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// How many requests took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Durations {
    counts: [u64; SPANS],
}

impl Durations {
    /// Those that a histogram of ours holds.
    pub(super) fn of(histogram: &Histogram) -> Self {
        let mut counts = [0; SPANS];
        for (count, read) in counts.iter_mut().zip(histogram.read().counts) {
            *count = read;
        }
        Self { counts }
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// What has come since an earlier reading.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        Self { counts }
    }

    /// How many milliseconds a share of the requests took at most, as Prometheus' `histogram_quantile` has it: evenly
    /// spread within a bucket, and the greatest known bound for what is beyond it.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = share * total as f64;
        let mut below = 0_u64;
        for (index, count) in self.counts.iter().enumerate() {
            if *count > 0 && (below + count) as f64 >= rank {
                let Some(upper) = BUCKETS.get(index) else { break };
                let lower = index.checked_sub(1).map_or(0.0, |before| BUCKETS[before]);
                let within = (rank - below as f64) / *count as f64;
                return Some(lower + (upper - lower) * within.clamp(0.0, 1.0));
            }
            below += count;
        }
        BUCKETS.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_read_back() {
        let one = Histogram::new(&BUCKETS);
        for value in [0.2, 3.0, 3.0, 700.0, 1e9] {
            one.observe(value);
        }
        let read = Durations::of(&one);
        assert_eq!(read.counts[..3], [1, 0, 2]);
        assert_eq!(read.counts[SPANS - 1], 1);
        assert_eq!(read.count(), 5);
        one.observe(3.0);
        assert_eq!(Durations::of(&one).since(&read).count(), 1);
    }

    #[test]
    fn a_quantile_is_what_prometheus_would_say() {
        let mut durations = Durations::default();
        assert_eq!(durations.quantile(0.5), None);
        // A hundred between 1 and 5 ms.
        durations.counts[2] = 100;
        assert_eq!(durations.quantile(0.5), Some(3.0));
        durations.counts[SPANS - 1] = 100;
        assert_eq!(durations.quantile(0.99), Some(3_600_000.0));
    }
}
