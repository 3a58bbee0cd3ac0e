//! Breaking in: a new endpoint gets little at first (Envoy's slow start).

use std::time::{Duration, Instant};

use super::EndpointCell;

/// How new endpoints are broken in. Only round robin and least request know of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// How long it takes.
    pub duration: Duration,
    /// How much an endpoint gets at first, in percent of its share.
    pub min_percent: f64,
    /// How soon it gets more: 1 is linear, more is sooner.
    pub aggression: f64,
}

impl Warmup {
    /// A linear warm-up from a tenth, as Envoy's.
    pub fn new(duration: Duration) -> Self {
        Self {
            duration,
            min_percent: 10.0,
            aggression: 1.0,
        }
    }

    /// The part of its share that an endpoint of this age gets, from 0 to 1.
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.duration {
            return 1.0;
        }
        // Envoy counts the first second as begun.
        let part = age.as_secs_f64().max(1.0) / self.duration.as_secs_f64();
        let aggression = if self.aggression > 0.0 {
            self.aggression
        } else {
            1.0
        };
        part.min(1.0)
            .powf(1.0 / aggression)
            .max(self.min_percent / 100.0)
            .min(1.0)
    }

    /// Whether an endpoint takes what it has been drawn for.
    pub(super) fn accepts(&self, cell: &EndpointCell, now: Instant, random: u64) -> bool {
        let age = now.saturating_duration_since(cell.born(now));
        let factor = self.factor(age);
        factor >= 1.0 || (random >> 11) as f64 / ((1_u64 << 53) as f64) < factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_from_the_least_to_all() {
        let linear = Warmup::new(Duration::from_secs(100));
        let at = |warmup: &Warmup, seconds| (warmup.factor(Duration::from_secs(seconds)) * 100.0).round();
        assert_eq!(
            [0, 5, 20, 50, 99, 100, 500].map(|s| at(&linear, s)),
            [10.0, 10.0, 20.0, 50.0, 99.0, 100.0, 100.0]
        );
        let eager = Warmup {
            aggression: 2.0,
            ..linear
        };
        assert_eq!([0, 25, 81].map(|s| at(&eager, s)), [10.0, 50.0, 90.0]);
    }
}
