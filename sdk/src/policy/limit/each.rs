//! A bucket for each of many values that are not known beforehand: callers, tenants, paths.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use twox_hash::XxHash64;

use super::{BucketPolicy, Left, TokenBucket};

/// A bounded number of buckets. A value that finds no room shares one bucket with all others that find none: whoever
/// invents values gains nothing by it. A bucket that has filled up again is as good as new, and may become another's.
#[derive(Debug)]
pub struct Each {
    /// Chosen at random, so that nobody knows which values crowd another's out. (Who wants to share a bucket need not find
    /// a hash that is the same: the same value will do.)
    seed: u64,
    places: Box<[Place]>,
    rest: TokenBucket,
}

#[derive(Debug)]
struct Place {
    /// The hash of the value; zero is nobody's.
    whose: AtomicU64,
    bucket: TokenBucket,
}

/// Among how many places a value may have its own.
const WAYS: usize = 8;

impl Each {
    /// Buckets for about so many values at once.
    pub fn new(policy: &BucketPolicy, most: usize) -> Self {
        let count = most.clamp(WAYS, 1 << 20).next_power_of_two();
        let place = || Place {
            whose: AtomicU64::new(0),
            bucket: TokenBucket::new(policy),
        };
        Self {
            seed: fastrand::u64(..),
            places: std::iter::repeat_with(place).take(count).collect(),
            rest: TokenBucket::new(policy),
        }
    }

    /// Takes a token from the bucket of these values.
    pub fn take<'v>(
        &self,
        values: impl Iterator<Item = &'v str>,
        policy: &BucketPolicy,
        now: Duration,
    ) -> Left {
        // Each hash is the seed of the next: where one ends and another begins makes a difference.
        let hash = values.fold(self.seed, |seed, value| XxHash64::oneshot(seed, value.as_bytes()));
        self.bucket(hash.max(1), policy, now).take(policy, now)
    }

    // Relaxed: whose a bucket is decides only which counts are added up. Two that take over one place at the same moment
    // may count a token for each other, once.
    fn bucket(&self, hash: u64, policy: &BucketPolicy, now: Duration) -> &TokenBucket {
        let first = hash as usize & (self.places.len() - 1) & !(WAYS - 1);
        let places = &self.places[first..first + WAYS];
        let whose = |place: &Place| place.whose.load(Ordering::Relaxed);
        if let Some(own) = places.iter().find(|place| whose(place) == hash) {
            return &own.bucket;
        }
        for place in places {
            let before = whose(place);
            let free = before == 0 || place.bucket.is_full(policy, now);
            let order = Ordering::Relaxed;
            if free && place.whose.compare_exchange(before, hash, order, order).is_ok() {
                return &place.bucket;
            }
        }
        &self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BucketPolicy = BucketPolicy {
        max: 2,
        fill: 2,
        every: Duration::from_secs(1),
    };

    fn take(each: &Each, value: &str, at: u64) -> bool {
        let values = std::iter::once(value);
        each.take(values, &POLICY, Duration::from_millis(at)).taken
    }

    #[test]
    fn each_value_has_its_own() {
        let each = Each::new(&POLICY, 100);
        for name in ["a", "b"] {
            assert_eq!([(); 3].map(|()| take(&each, name, 0)), [true, true, false]);
        }
        assert!(take(&each, "a", 1_000));
    }

    #[test]
    fn whoever_invents_values_gains_little_and_takes_from_nobody() {
        let each = Each::new(&POLICY, 64);
        assert!(take(&each, "honest", 0));
        let passed = (0..100_000)
            .filter(|n| take(&each, &format!("made up {n}"), 1))
            .count();
        assert!(passed <= 2 * 65, "{passed}");
        assert!(take(&each, "honest", 1), "its bucket is still its own");
        assert!(!take(&each, "honest", 1));
    }

    #[test]
    fn places_are_given_to_others_when_they_are_full_again() {
        let each = Each::new(&POLICY, 8);
        let pass = |prefix: &str, at| {
            (0..8)
                .filter(|n| take(&each, &format!("{prefix}{n}"), at))
                .count()
        };
        assert_eq!(pass("first", 0), 8);
        assert!(pass("second", 1) <= 2, "they share what is left");
        assert_eq!(pass("third", 2_000), 8);
    }
}
