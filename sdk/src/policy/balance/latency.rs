//! How long an endpoint takes of late: an estimate that rises at once and falls slowly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// After how long all but a third of an observation is forgotten.
pub(super) const DECAY: Duration = Duration::from_secs(10);

/// What a request under way to an endpoint of which nothing is known counts as.
const UNKNOWN: f32 = 1e6;

/// A peak-sensitive average: a longer time takes its place, a shorter one is mixed in by how old it is.
///
/// One word: the estimate in microseconds above, and below the tick at which it was made. A tick is some 17 ms; in a tick
/// the first observation is mixed in, and of the rest only peaks. Zero: nothing was observed yet.
#[derive(Debug, Default)]
pub(super) struct Latency(AtomicU64);

/// Nanoseconds, shifted by this, are ticks; their 32 bits last for more than two years.
const TICK: u32 = 24;

fn tick(time: Duration) -> u32 {
    (time.as_nanos() >> TICK) as u32
}

/// What is left of an estimate after so many ticks.
fn decay(ticks: u32) -> f32 {
    // Another thread may have looked at a later clock: no time has passed.
    if ticks == 0 || ticks > u32::MAX / 2 {
        return 1.0;
    }
    let seconds = f64::from(ticks) * (1_u64 << TICK) as f64 / 1e9;
    (-seconds / DECAY.as_secs_f64()).exp() as f32
}

impl Latency {
    fn load(&self) -> (f32, u32) {
        // Relaxed: the word is all there is, and it is a hint.
        let word = self.0.load(Ordering::Relaxed);
        (f32::from_bits((word >> 32) as u32), word as u32)
    }

    /// Takes down how long a request took. One that failed says only that it can take as long, never that it is quick.
    pub(super) fn observe(&self, took: Duration, failed: bool, now: Duration) {
        let now = tick(now);
        let took = (took.as_secs_f64() * 1e6) as f32;
        let (before, then) = self.load();
        let after = if took >= before {
            took
        } else if failed {
            return;
        } else {
            let kept = decay(now.wrapping_sub(then));
            if kept == 1.0 {
                return;
            }
            before * kept + took * (1.0 - kept)
        };
        // Not exchanged: of two observations at once one is lost, which an average bears.
        let word = u64::from(after.max(f32::MIN_POSITIVE).to_bits()) << 32 | u64::from(now);
        self.0.store(word, Ordering::Relaxed);
    }

    /// What one more request would cost beside those under way.
    ///
    /// The estimate of an idle endpoint fades, so that one that was slow is asked again some time; as soon as it is, the
    /// whole of it counts until the answer tells better.
    pub(super) fn cost(&self, in_flight: u32, now: Duration) -> f32 {
        let (estimate, then) = self.load();
        let one = match (estimate > 0.0, in_flight) {
            (true, 0) => estimate * decay(tick(now).wrapping_sub(then)),
            (true, _) => estimate,
            // The first is welcome, and tells for the others.
            (false, 0) => 0.0,
            (false, _) => UNKNOWN,
        };
        one * (in_flight as f32 + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn near(cost: f32, millis: f32) -> bool {
        (cost / 1_000.0 - millis).abs() < millis * 0.01 + 0.001
    }

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let it = Latency::default();
        assert_eq!(it.cost(0, ms(0)), 0.0);
        assert!(near(it.cost(1, ms(0)), 2_000.0), "nobody knows yet");
        it.observe(ms(10), false, ms(0));
        assert!(near(it.cost(1, ms(0)), 20.0));
        it.observe(ms(200), false, ms(5));
        assert!(near(it.cost(1, ms(5)), 400.0), "a peak");
        it.observe(ms(10), false, ms(10_005));
        // A third of what was, and of what is the rest.
        assert!(near(it.cost(1, ms(10_005)), 2.0 * (200.0 * 0.368 + 10.0 * 0.632)));
    }

    #[test]
    fn an_idle_one_is_tried_again_by_one_request_at_a_time() {
        let it = Latency::default();
        it.observe(ms(200), false, ms(0));
        assert!(near(it.cost(0, ms(40_000)), 200.0 * 0.0183));
        assert!(near(it.cost(1, ms(40_000)), 400.0), "until that one has told");
    }

    #[test]
    fn failing_quickly_is_not_being_quick() {
        let it = Latency::default();
        it.observe(ms(10), false, ms(0));
        it.observe(ms(1), true, ms(60_000));
        assert!(near(it.cost(1, ms(60_000)), 20.0));
        it.observe(ms(1_000), true, ms(60_000));
        assert!(near(it.cost(1, ms(60_000)), 2_000.0), "but slowly is slow");
    }

    /// The definition, without words of 64 bits: the estimate and its time side by side.
    struct Twin(Option<(f64, f64)>);

    impl Twin {
        fn observe(&mut self, took: f64, failed: bool, now: f64) {
            self.0 = match self.0 {
                Some((before, then)) if took < before => {
                    let kept = (-(now - then) / DECAY.as_secs_f64()).exp();
                    match failed {
                        true => Some((before, then)),
                        false => Some((before * kept + took * (1.0 - kept), now)),
                    }
                }
                _ => Some((took, now)),
            };
        }
    }

    proptest::proptest! {
        #[test]
        fn it_is_what_the_definition_says(
            steps in proptest::collection::vec((1_u64..1_000, proptest::bool::weighted(0.2), 1_u64..600), 1..60)
        ) {
            let (it, mut twin) = (Latency::default(), Twin(None));
            // Whole ticks: what falls into one is told apart by the twin only.
            let mut ticks = 0_u64;
            for (took, failed, step) in steps {
                ticks += step;
                let now = Duration::from_nanos(ticks << TICK);
                it.observe(ms(took), failed, now);
                twin.observe(took as f64, failed, now.as_secs_f64());
                let (cost, expected) = (f64::from(it.cost(1, now)) / 2_000.0, twin.0.map_or(0.0, |it| it.0));
                proptest::prop_assert!((cost - expected).abs() < expected * 1e-3, "{cost} {expected}");
            }
        }
    }
}
