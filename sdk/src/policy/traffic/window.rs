//! How many requests and retries there were of late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A sliding window in tenths. Each tenth is one word: which tenth it is, its requests and its retries.
#[derive(Debug, Default)]
pub(super) struct Window([AtomicU64; PARTS]);

const PARTS: usize = 10;
const BITS: u32 = 22;
const MASK: u64 = (1 << BITS) - 1;

/// What to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Request,
    Retry,
}

impl Window {
    /// Which tenth `now` belongs to; 20 bits of it are enough to tell the last few apart.
    fn part(now: Duration, interval: Duration) -> u64 {
        let tenth = (interval.as_nanos() / PARTS as u128).max(1);
        (now.as_nanos() / tenth) as u64 & ((1 << (64 - 2 * BITS)) - 1)
    }

    pub(super) fn add(&self, what: Count, now: Duration, interval: Duration) {
        let part = Self::part(now, interval);
        let cell = &self.0[(part % PARTS as u64) as usize];
        let (shift, one) = match what {
            Count::Request => (0, 1),
            Count::Retry => (BITS, 1 << BITS),
        };
        // Relaxed: a statistic. A count stands still at four million a tenth rather than run into its neighbour.
        let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            if word >> (2 * BITS) != part {
                return Some(part << (2 * BITS) | one);
            }
            ((word >> shift) & MASK < MASK).then_some(word + one)
        });
    }

    /// Requests and retries of the interval that ends now.
    pub(super) fn sum(&self, now: Duration, interval: Duration) -> (u64, u64) {
        let part = Self::part(now, interval);
        let span = 1 << (64 - 2 * BITS);
        self.0.iter().fold((0, 0), |(requests, retries), cell| {
            let word = cell.load(Ordering::Relaxed);
            let age = (part + span - (word >> (2 * BITS))) % span;
            match age < PARTS as u64 {
                true => (requests + (word & MASK), retries + (word >> BITS & MASK)),
                false => (requests, retries),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_forgotten_a_tenth_at_a_time() {
        let window = Window::default();
        let ten = Duration::from_secs(10);
        let at = Duration::from_secs_f64;
        for second in 0..30 {
            for _ in 0..5 {
                window.add(Count::Request, at(f64::from(second) + 0.5), ten);
            }
            window.add(Count::Retry, at(f64::from(second) + 0.5), ten);
        }
        assert_eq!(window.sum(at(29.9), ten), (50, 10));
        assert_eq!(window.sum(at(34.5), ten), (25, 5));
        assert_eq!(window.sum(at(60.0), ten), (0, 0));
    }
}
