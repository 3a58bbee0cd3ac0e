//! From one limit to the next.

use std::time::Duration;

/// How a limit follows from how long requests take; Envoy's gradient controller.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientPolicy {
    /// The limit is never more.
    pub most: u32,
    /// Nor less; and this much is let in while the floor is measured.
    pub least: u32,
    /// How often the limit is worked out.
    pub every: Duration,
    /// Which of the samples counts, from 0 to 1.
    pub percentile: f64,
    /// How often it is measured how long requests take when nothing waits.
    pub measure_every: Duration,
    /// Up to which part of that is added at random, so that not all measure at once.
    pub jitter: f64,
    /// By how many requests it is measured.
    pub requests: u32,
    /// What is allowed on top of it before it counts as waiting, as a part of it.
    pub buffer: f64,
    /// It is not measured but known.
    pub fixed_floor: Option<Duration>,
}

impl GradientPolicy {
    /// The limit after a window in which requests took so long, where they take `floor` when nothing waits.
    pub fn next(&self, limit: u32, floor: Duration, took: Duration) -> u32 {
        let allowed = floor.as_secs_f64() * (1.0 + self.buffer);
        let gradient = (allowed / took.as_secs_f64().max(1e-9)).clamp(0.5, 2.0);
        let scaled = f64::from(limit) * gradient;
        // Room for a burst, and the reason why a limit that is not reached grows.
        let next = scaled + scaled.sqrt();
        (next as u32).clamp(self.least, self.most.max(self.least))
    }

    /// How long until the floor is measured again.
    pub(super) fn until_measured(&self, random: u64) -> Duration {
        let part =
            (crate::policy::digest([random.to_le_bytes().as_slice()]) >> 11) as f64 / (1_u64 << 53) as f64;
        let seconds = self.measure_every.as_secs_f64() * (1.0 + self.jitter.max(0.0) * part);
        // More than a Duration holds is never.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}
