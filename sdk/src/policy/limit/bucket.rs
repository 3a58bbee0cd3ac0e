//! A token bucket with Envoy's semantics: filled in steps, never above its size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How a bucket is filled (`envoy.type.v3.TokenBucket`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BucketPolicy {
    /// How much it holds, and holds at first.
    pub max: u32,
    /// How much is added at each interval.
    pub fill: u32,
    /// The interval; at least a millisecond.
    pub every: Duration,
}

impl BucketPolicy {
    /// How many whole intervals have passed, and how many nanoseconds are left of the next: 64 bits of them last for centuries.
    fn passed(&self, now: Duration) -> (u32, u64) {
        let nanos = |it: Duration| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX);
        let (now, every) = (nanos(now), nanos(self.every.max(Duration::from_millis(1))));
        // After 2^32 intervals (49 days of milliseconds) the count starts over; a bucket is full long before.
        ((now / every) as u32, every - now % every)
    }
}

/// Tokens, and when they were last added to: one word, so that taking one is one exchange.
///
/// The upper half counts the intervals that passed since the first look, the lower half the tokens.
#[derive(Debug)]
pub struct TokenBucket(AtomicU64);

/// What is left after a token was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Whether there was one.
    pub taken: bool,
    /// How many there are now.
    pub tokens: u32,
    /// How long until some are added.
    pub refill: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(policy: &BucketPolicy) -> Self {
        Self(AtomicU64::new(u64::from(policy.max)))
    }

    /// Whether it is as full as it can be: nothing of it is used up.
    pub fn is_full(&self, policy: &BucketPolicy, now: Duration) -> bool {
        let seen = self.0.load(Ordering::Relaxed);
        let passed = policy.passed(now).0.wrapping_sub((seen >> 32) as u32);
        let added = if passed > u32::MAX / 2 {
            0
        } else {
            u64::from(passed) * u64::from(policy.fill)
        };
        u64::from(seen as u32) + added >= u64::from(policy.max)
    }

    /// Takes a token, if there is one. `now` counts from whenever the caller likes, always the same.
    pub fn take(&self, policy: &BucketPolicy, now: Duration) -> Left {
        let (interval, refill) = policy.passed(now);
        let mut seen = self.0.load(Ordering::Relaxed);
        let (taken, tokens) = loop {
            let (last, tokens) = ((seen >> 32) as u32, seen as u32);
            // Another thread may have looked at a later clock already.
            let passed = interval.wrapping_sub(last);
            let (interval, passed) = if passed > u32::MAX / 2 {
                (last, 0)
            } else {
                (interval, passed)
            };
            let added = u64::from(passed) * u64::from(policy.fill);
            // The bucket may have shrunk since: what it holds now is the limit.
            let full = (u64::from(tokens) + added).min(u64::from(policy.max)) as u32;
            let taken = full > 0;
            let left = full - u32::from(taken);
            let next = u64::from(interval) << 32 | u64::from(left);
            // Relaxed: the word is all there is.
            match self
                .0
                .compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => break (taken, left),
                Err(now) => seen = now,
            }
        };
        Left {
            taken,
            tokens,
            refill: Duration::from_nanos(refill),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(max: u32, fill: u32, millis: u64) -> BucketPolicy {
        BucketPolicy {
            max,
            fill,
            every: Duration::from_millis(millis),
        }
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_starts_full_and_never_holds_more() {
        let policy = policy(3, 2, 100);
        let bucket = TokenBucket::new(&policy);
        let taken: Vec<_> = (0..4).map(|_| bucket.take(&policy, at(5)).taken).collect();
        assert_eq!(taken, [true, true, true, false]);
        let taken: Vec<_> = (0..4).map(|_| bucket.take(&policy, at(10_000)).taken).collect();
        assert_eq!(taken, [true, true, true, false]);
        let left = bucket.take(&policy, at(10_110));
        assert_eq!(
            left,
            Left {
                taken: true,
                tokens: 1,
                refill: at(90)
            }
        );
    }

    #[test]
    fn a_late_clock_takes_nothing_away() {
        let policy = policy(2, 1, 100);
        let bucket = TokenBucket::new(&policy);
        assert!(bucket.take(&policy, at(1_000)).taken);
        assert!(bucket.take(&policy, at(900)).taken);
        assert!(!bucket.take(&policy, at(950)).taken);
        assert!(bucket.take(&policy, at(1_100)).taken);
    }

    #[test]
    fn a_bucket_that_shrank_holds_less_at_once() {
        let bucket = TokenBucket::new(&policy(100, 1, 1_000));
        let small = policy(1, 1, 1_000);
        assert!(bucket.take(&small, at(0)).taken);
        assert!(!bucket.take(&small, at(0)).taken);
    }

    #[test]
    fn two_threads_share_what_there_is() {
        let policy = policy(10_000, 1, 3_600_000);
        let bucket = TokenBucket::new(&policy);
        let count = || (0..8_000).filter(|_| bucket.take(&policy, at(0)).taken).count();
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 10_000);
    }
}
