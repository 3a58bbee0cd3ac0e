//! A limit that one process keeps (Envoy's `local_ratelimit` filter).

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};

use super::{BucketPolicy, Descriptor, Each, Left, TokenBucket};
use crate::policy::fault::PerMillion;

/// What is allowed, and how others are told.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalPolicy {
    /// Of how many requests tokens are asked for.
    pub enabled: PerMillion,
    /// How many of those without a token are refused.
    pub enforced: PerMillion,
    /// What all requests share; `None` where only descriptors are limited.
    pub all: Option<BucketPolicy>,
    /// What requests of a kind share.
    pub kinds: Vec<KindPolicy>,
    /// Whether requests of a kind take from what all share, too.
    pub counts_twice: bool,
    /// For how many values that are not known beforehand there are buckets.
    pub values: usize,
    /// The status of a refusal.
    pub status: StatusCode,
    /// Whether gRPC is told `RESOURCE_EXHAUSTED` rather than `UNAVAILABLE`.
    pub exhausted: bool,
    /// Headers of a refusal.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether callers are told what is left (`x-ratelimit-*`).
    pub tells: bool,
    /// Which of the descriptors with several stages count.
    pub stage: u32,
}

/// What requests with one descriptor share.
#[derive(Clone, Debug, PartialEq)]
pub struct KindPolicy {
    /// The descriptor; where it has no value, every value is a kind of its own.
    pub entries: Vec<(Box<str>, Option<Box<str>>)>,
    /// What they share.
    pub bucket: BucketPolicy,
}

/// A limit and its live state.
#[derive(Debug)]
pub struct LocalLimit {
    policy: LocalPolicy,
    /// What times are counted from.
    base: OnceLock<Instant>,
    all: Option<TokenBucket>,
    kinds: Vec<Kind>,
}

#[derive(Debug)]
enum Kind {
    One(TokenBucket),
    Each(Box<Each>),
}

/// What came of asking for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether the request may go on.
    pub allowed: bool,
    /// The size of the bucket that says most: the one that is empty, else the one with least in it.
    pub limit: u32,
    /// What is in it.
    pub remaining: u32,
    /// When some is added.
    pub reset: Duration,
}

impl LocalLimit {
    /// A limit of which nothing is used up.
    pub fn new(policy: LocalPolicy) -> Self {
        let kind = |it: &KindPolicy| match it.entries.iter().all(|(_, value)| value.is_some()) {
            true => Kind::One(TokenBucket::new(&it.bucket)),
            false => Kind::Each(Box::new(Each::new(&it.bucket, policy.values))),
        };
        Self {
            base: OnceLock::new(),
            all: policy.all.as_ref().map(TokenBucket::new),
            kinds: policy.kinds.iter().map(kind).collect(),
            policy,
        }
    }

    /// What is allowed.
    pub fn policy(&self) -> &LocalPolicy {
        &self.policy
    }

    /// Takes a token for a request with these descriptors from each bucket that it counts in, until one is empty; `None`
    /// if it counts in none.
    pub fn take(&self, descriptors: &[Descriptor<'_>], now: Instant) -> Option<Taken> {
        let now = now.saturating_duration_since(*self.base.get_or_init(|| now));
        let mut worst: Option<Taken> = None;
        let mut note = |bucket: &BucketPolicy, left: Left| {
            let taken = Taken {
                allowed: left.taken,
                limit: bucket.max,
                remaining: left.tokens,
                reset: left.refill,
            };
            if worst.is_none_or(|it| (taken.allowed, taken.remaining) < (it.allowed, it.remaining)) {
                worst = Some(taken);
            }
            left.taken
        };
        let mut counted = false;
        for (policy, kind) in self.policy.kinds.iter().zip(&self.kinds) {
            let Some(descriptor) = descriptors.iter().find(|it| policy.is_of(it)) else {
                continue;
            };
            counted = true;
            let bucket = &policy.bucket;
            let left = match kind {
                Kind::One(one) => one.take(bucket, now),
                Kind::Each(each) => each.take(descriptor.iter().map(|(_, value)| &**value), bucket, now),
            };
            if !note(bucket, left) {
                return worst;
            }
        }
        if (!counted || self.policy.counts_twice)
            && let (Some(policy), Some(all)) = (&self.policy.all, &self.all)
        {
            note(policy, all.take(policy, now));
        }
        worst
    }
}

impl KindPolicy {
    fn is_of(&self, descriptor: &Descriptor<'_>) -> bool {
        self.entries.len() == descriptor.len()
            && self.entries.iter().zip(descriptor).all(|((key, value), it)| {
                **key == *it.0 && value.as_ref().is_none_or(|value| **value == *it.1)
            })
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    fn bucket(max: u32) -> BucketPolicy {
        BucketPolicy {
            max,
            fill: max,
            every: Duration::from_secs(60),
        }
    }

    /// Entries of a kind of request, and how many of it are let through.
    type Kind<'a> = (&'a [(&'a str, Option<&'a str>)], u32);

    fn limit(all: Option<u32>, kinds: &[Kind<'_>], counts_twice: bool) -> LocalLimit {
        let entry = |(key, value): &(&str, Option<&str>)| ((*key).into(), value.map(Into::into));
        LocalLimit::new(LocalPolicy {
            enabled: PerMillion::ALL,
            enforced: PerMillion::ALL,
            all: all.map(bucket),
            kinds: kinds
                .iter()
                .map(|(entries, max)| KindPolicy {
                    entries: entries.iter().map(entry).collect(),
                    bucket: bucket(*max),
                })
                .collect(),
            counts_twice,
            values: 100,
            status: StatusCode::TOO_MANY_REQUESTS,
            exhausted: false,
            headers: Vec::new(),
            tells: true,
            stage: 0,
        })
    }

    fn passes(limit: &LocalLimit, descriptor: &[(&'static str, &'static str)], times: usize) -> usize {
        let descriptor: Descriptor<'_> = descriptor
            .iter()
            .map(|(key, value)| (*key, (*value).into()))
            .collect();
        let now = Instant::now();
        (0..times)
            .filter(|_| {
                limit
                    .take(std::slice::from_ref(&descriptor), now)
                    .is_none_or(|it| it.allowed)
            })
            .count()
    }

    #[test]
    fn a_descriptor_has_a_bucket_of_its_own_and_takes_from_that_of_all() {
        let path = &[("path", Some("/a"))][..];
        let twice = limit(Some(10), &[(path, 3)], true);
        assert_eq!(passes(&twice, &[("path", "/a")], 10), 3);
        assert_eq!(passes(&twice, &[("path", "/b")], 20), 7, "three are gone already");
        let apart = limit(Some(10), &[(path, 3)], false);
        assert_eq!(passes(&apart, &[("path", "/a")], 10), 3);
        assert_eq!(passes(&apart, &[("path", "/b")], 20), 10);
    }

    #[test]
    fn a_descriptor_must_be_the_same_from_first_to_last() {
        let both = &[("a", Some("1")), ("b", Some("2"))][..];
        let limit = limit(None, &[(both, 1)], true);
        for other in [
            &[("a", "1")][..],
            &[("b", "2"), ("a", "1")],
            &[("a", "1"), ("b", "3")],
        ] {
            assert_eq!(passes(&limit, other, 5), 5, "{other:?}");
        }
        assert_eq!(passes(&limit, &[("a", "1"), ("b", "2")], 5), 1);
    }

    #[test]
    fn without_a_value_each_caller_has_its_own() {
        let limit = limit(None, &[(&[("caller", None)], 2)], true);
        for caller in ["spiffe://td/ns/a/sa/a", "spiffe://td/ns/b/sa/b"] {
            assert_eq!(passes(&limit, &[("caller", caller)], 5), 2);
        }
    }

    #[test]
    fn callers_are_told_of_the_bucket_that_says_most() {
        let limit = limit(Some(10), &[(&[("path", Some("/a"))], 3)], true);
        let descriptor: Descriptor<'_> = smallvec![("path", "/a".into())];
        let taken = limit.take(&[descriptor], Instant::now()).unwrap();
        assert_eq!((taken.limit, taken.remaining, taken.reset.as_secs()), (3, 2, 60));
    }
}
