//! How long many requests took, in a few hundred numbers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Counts by length. A count stands for lengths that differ by less than 7 %.
#[derive(Debug)]
pub(super) struct Samples {
    counts: Box<[AtomicU32]>,
    total: AtomicU64,
}

/// Parts of each power of two, as bits.
const PARTS: u32 = 4;
/// Microseconds up to 2^32, more than an hour.
const POWERS: u32 = 32;

impl Default for Samples {
    fn default() -> Self {
        let count = ((POWERS - PARTS + 1) << PARTS) as usize;
        Self {
            counts: std::iter::repeat_with(AtomicU32::default).take(count).collect(),
            total: AtomicU64::new(0),
        }
    }
}

/// Below 2^PARTS each number is a slot of its own; above, each power of two has 2^PARTS.
fn slot(micros: u64) -> usize {
    let micros = micros.min((1 << POWERS) - 1) as u32;
    let power = (32 - micros.leading_zeros()).saturating_sub(PARTS + 1);
    ((power << PARTS) + (micros >> power)) as usize
}

/// The middle of what a slot stands for, in nanoseconds.
fn middle(slot: usize) -> u64 {
    let slot = slot as u64;
    let power = (slot >> PARTS).saturating_sub(1);
    let first = (slot - (power << PARTS)) << power;
    first * 1_000 + ((1_000 << power) / 2)
}

// Relaxed throughout: statistics. A sample that is added while they are taken away counts for the next window, or is lost.
impl Samples {
    /// Adds one; says how many there are.
    pub(super) fn add(&self, took: Duration) -> u64 {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[slot(micros)].fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How long that part of them took at most, from 0 to 1; `None` if there are none. They are gone afterwards.
    pub(super) fn take(&self, part: f64) -> Option<Duration> {
        let counts: Vec<u32> = self
            .counts
            .iter()
            .map(|count| count.swap(0, Ordering::Relaxed))
            .collect();
        self.total.store(0, Ordering::Relaxed);
        let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let wanted = ((total as f64 * part).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        });
        at.map(|at| Duration::from_nanos(middle(at)))
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.counts
            .iter()
            .for_each(|count| count.store(0, Ordering::Relaxed));
        self.total.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_samples_there_is_no_answer() {
        assert_eq!(Samples::default().take(0.5), None);
    }

    #[test]
    fn every_length_has_a_slot() {
        let samples = Samples::default();
        for micros in [0, 1, 15, 16, 17, 1_000, u64::from(u32::MAX), u64::MAX] {
            assert!(slot(micros) < samples.counts.len(), "{micros}");
        }
        assert_eq!(slot(u64::MAX), samples.counts.len() - 1);
    }

    proptest::proptest! {
        #[test]
        fn a_part_is_what_sorting_would_say(
            lengths in proptest::collection::vec(1_u64..10_000_000, 1..200), part in 0.0_f64..1.0
        ) {
            let samples = Samples::default();
            for (at, micros) in lengths.iter().enumerate() {
                proptest::prop_assert_eq!(samples.add(Duration::from_micros(*micros)), at as u64 + 1);
            }
            let mut sorted = lengths.clone();
            sorted.sort_unstable();
            let wanted = ((sorted.len() as f64 * part).ceil() as usize).max(1);
            let expected = sorted[wanted - 1] as f64;
            let found = samples.take(part).unwrap().as_secs_f64() * 1e6;
            proptest::prop_assert!((found - expected).abs() <= expected * 0.07 + 1.0, "{found} {expected}");
            proptest::prop_assert_eq!(samples.take(part), None);
        }
    }
}
