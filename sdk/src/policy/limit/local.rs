//! A limit that one process keeps (Envoy's `local_ratelimit` filter).

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::kinds::Kinds;
use super::{BucketPolicy, Descriptor, Left, TokenBucket};
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
    kinds: Kinds,
}

/// What came of asking for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether the request may go on.
    pub allowed: bool,
    /// The size of the bucket that is told of: the one that is empty, else the slowest of the descriptors', else that of all.
    pub limit: u32,
    /// What is in it.
    pub remaining: u32,
    /// When some is added.
    pub reset: Duration,
}

impl LocalLimit {
    /// A limit of which nothing is used up.
    pub fn new(policy: LocalPolicy) -> Self {
        Self {
            base: OnceLock::new(),
            all: policy.all.as_ref().map(TokenBucket::new),
            kinds: Kinds::new(&policy.kinds, policy.values),
            policy,
        }
    }

    /// What is allowed.
    pub fn policy(&self) -> &LocalPolicy {
        &self.policy
    }

    /// Takes a token for a request with these descriptors from each bucket that it counts in, those that are filled slowest
    /// first, until one is empty (Envoy); `None` if it counts in none.
    pub fn take(&self, descriptors: &[Descriptor<'_>], now: Instant) -> Option<Taken> {
        let now = now.saturating_duration_since(*self.base.get_or_init(|| now));
        let told = match descriptors {
            [] => None,
            [one] => self.take_of(one, now),
            several => self.take_of_each(several, now),
        };
        if told.is_none_or(|it| it.allowed && self.policy.counts_twice)
            && let (Some(policy), Some(all)) = (&self.policy.all, &self.all)
        {
            let taken = Taken::of(policy, all.take(policy, now));
            return told.filter(|_| taken.allowed).or(Some(taken));
        }
        told
    }

    /// Takes a token for a descriptor, if there is a bucket for such.
    fn take_of(&self, descriptor: &Descriptor<'_>, now: Duration) -> Option<Taken> {
        let at = self.kinds.find(&self.policy.kinds, descriptor)?;
        Some(self.take_at(at, descriptor, now))
    }

    fn take_at(&self, at: usize, descriptor: &Descriptor<'_>, now: Duration) -> Taken {
        let bucket = &self.policy.kinds[at].bucket;
        Taken::of(bucket, self.kinds.take(at, bucket, descriptor, now))
    }

    /// As [`Self::take_of`] for each, until one finds its bucket empty.
    fn take_of_each(&self, descriptors: &[Descriptor<'_>], now: Duration) -> Option<Taken> {
        let kinds = &self.policy.kinds;
        let find = |descriptor| Some((self.kinds.find(kinds, descriptor)?, descriptor));
        let mut matched: SmallVec<[(usize, &Descriptor<'_>); 2]> =
            descriptors.iter().filter_map(find).collect();
        matched.sort_by(|(one, _), (other, _)| kinds[*one].rate().total_cmp(&kinds[*other].rate()));
        let mut told: Option<Taken> = None;
        for (at, descriptor) in &matched {
            let taken = self.take_at(*at, descriptor, now);
            if !taken.allowed {
                return Some(taken);
            }
            // The slowest, as it is when all are taken from: descriptors may be alike.
            if told.is_none() || matched[0] == (*at, *descriptor) {
                told = Some(taken);
            }
        }
        told
    }
}

impl Taken {
    fn of(bucket: &BucketPolicy, left: Left) -> Self {
        Self {
            allowed: left.taken,
            limit: bucket.max,
            remaining: left.tokens,
            reset: left.refill,
        }
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
    fn who_is_named_has_the_bucket_of_that_name_and_no_other() {
        let both: &[Kind<'_>] = &[(&[("caller", None)], 2), (&[("caller", Some("vip"))], 4)];
        let limit = limit(None, both, true);
        assert_eq!(passes(&limit, &[("caller", "vip")], 9), 4);
        assert_eq!(passes(&limit, &[("caller", "x")], 9), 2);
    }

    #[test]
    fn slow_buckets_are_asked_first_and_those_behind_an_empty_one_keep_what_they_have() {
        let kinds: &[Kind<'_>] = &[(&[("b", Some("1"))], 5), (&[("a", Some("1"))], 2)];
        let limit = limit(None, kinds, true);
        let descriptors: [Descriptor<'_>; 2] = [smallvec![("b", "1".into())], smallvec![("a", "1".into())]];
        let now = Instant::now();
        let taken: Vec<_> = (0..4).map(|_| limit.take(&descriptors, now).unwrap()).collect();
        let told: Vec<_> = taken
            .iter()
            .map(|it| (it.allowed, it.limit, it.remaining))
            .collect();
        assert_eq!(told, [(true, 2, 1), (true, 2, 0), (false, 2, 0), (false, 2, 0)]);
        assert_eq!(passes(&limit, &[("b", "1")], 9), 3);
    }

    #[test]
    fn each_descriptor_takes_a_token_of_its_own() {
        let limit = limit(None, &[(&[("k", None)], 2)], true);
        let descriptors: [Descriptor<'_>; 2] = [smallvec![("k", "1".into())], smallvec![("k", "2".into())]];
        let now = Instant::now();
        assert!(limit.take(&descriptors, now).unwrap().allowed);
        assert_eq!(passes(&limit, &[("k", "1")], 5), 1);
        assert_eq!(passes(&limit, &[("k", "2")], 5), 1);
        let alike: [Descriptor<'_>; 2] = [smallvec![("k", "3".into())], smallvec![("k", "3".into())]];
        assert_eq!(limit.take(&alike, now).unwrap().remaining, 0);
    }

    #[test]
    fn callers_are_told_of_the_slowest_bucket_that_knows_them() {
        let limit = limit(Some(2), &[(&[("path", Some("/a"))], 3)], true);
        let descriptor: Descriptor<'_> = smallvec![("path", "/a".into())];
        let now = Instant::now();
        let told = || {
            let taken = limit.take(std::slice::from_ref(&descriptor), now).unwrap();
            (taken.allowed, taken.limit, taken.remaining)
        };
        // Of its own, until that of all is empty.
        assert_eq!(
            [told(), told(), told()],
            [(true, 3, 2), (true, 3, 1), (false, 2, 0)]
        );
    }
}
