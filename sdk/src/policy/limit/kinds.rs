//! The kinds of requests that a limit tells apart, and the buckets of each.

use std::collections::HashMap;
use std::time::Duration;

use twox_hash::XxHash64;

use super::{BucketPolicy, Descriptor, Each, KindPolicy, Left, TokenBucket};

/// The buckets, in the order of the kinds that they are for.
#[derive(Debug)]
pub(super) struct Kinds {
    buckets: Vec<Buckets>,
    /// Those of which every value is known.
    named: Named,
    /// Those that stand for any value, in their order.
    open: Vec<usize>,
}

#[derive(Debug)]
enum Named {
    /// To be looked through.
    Few(Vec<usize>),
    /// By a hash of all that they say.
    Many(HashMap<u64, Vec<usize>>),
}

#[derive(Debug)]
enum Buckets {
    One(TokenBucket),
    Each(Box<Each>),
}

/// How many kinds are looked through rather than looked up: comparing is quicker than hashing as long as most differ in
/// their first letters.
const FEW: usize = 8;

impl Kinds {
    /// Full buckets; `values` is for how many values of an open kind there are some.
    pub(super) fn new(kinds: &[KindPolicy], values: usize) -> Self {
        let buckets = |it: &KindPolicy| match it.is_named() {
            true => Buckets::One(TokenBucket::new(&it.bucket)),
            false => Buckets::Each(Box::new(Each::new(&it.bucket, values))),
        };
        let (named, open): (Vec<usize>, Vec<usize>) = (0..kinds.len()).partition(|at| kinds[*at].is_named());
        let index = |named: Vec<usize>| {
            let mut index = HashMap::<u64, Vec<usize>>::new();
            for at in named {
                let pairs = kinds[at].entries.iter();
                let pairs = pairs.map(|(key, value)| (&**key, value.as_deref().unwrap_or_default()));
                index.entry(hash(pairs)).or_default().push(at);
            }
            index
        };
        Self {
            buckets: kinds.iter().map(buckets).collect(),
            named: match named.len() > FEW {
                true => Named::Many(index(named)),
                false => Named::Few(named),
            },
            open,
        }
    }

    /// The one kind that a descriptor is of: the one that names it, else the first that stands for it (Envoy).
    pub(super) fn find(&self, kinds: &[KindPolicy], descriptor: &Descriptor<'_>) -> Option<usize> {
        let is_of = |at: &usize| kinds[*at].is_of(descriptor);
        let named = match &self.named {
            Named::Few(few) => few.iter().copied().find(is_of),
            Named::Many(index) => {
                let pairs = descriptor.iter().map(|(key, value)| (*key, &**value));
                let alike = index.get(&hash(pairs));
                alike.and_then(|all| all.iter().copied().find(is_of))
            }
        };
        named.or_else(|| self.open.iter().copied().find(is_of))
    }

    /// Takes a token for a descriptor of this kind.
    pub(super) fn take(
        &self,
        at: usize,
        bucket: &BucketPolicy,
        descriptor: &Descriptor<'_>,
        now: Duration,
    ) -> Left {
        match &self.buckets[at] {
            Buckets::One(one) => one.take(bucket, now),
            Buckets::Each(each) => each.take(descriptor.iter().map(|(_, value)| &**value), bucket, now),
        }
    }
}

/// Each hash is the seed of the next: where one text ends and another begins makes a difference. Whoever finds two alike gains
/// nothing: they are compared.
fn hash<'d>(pairs: impl Iterator<Item = (&'d str, &'d str)>) -> u64 {
    pairs.fold(0, |seed, (key, value)| {
        XxHash64::oneshot(XxHash64::oneshot(seed, key.as_bytes()), value.as_bytes())
    })
}

impl KindPolicy {
    /// Whether every value is known.
    fn is_named(&self) -> bool {
        self.entries.iter().all(|(_, value)| value.is_some())
    }

    fn is_of(&self, descriptor: &Descriptor<'_>) -> bool {
        self.entries.len() == descriptor.len()
            && self.entries.iter().zip(descriptor).all(|((key, value), it)| {
                **key == *it.0 && value.as_ref().is_none_or(|value| **value == *it.1)
            })
    }

    /// How many tokens it is given in a second.
    pub(super) fn rate(&self) -> f64 {
        f64::from(self.bucket.fill) / self.bucket.every.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(entries: &[(&str, Option<&str>)]) -> KindPolicy {
        let entry = |(key, value): &(&str, Option<&str>)| ((*key).into(), value.map(Into::into));
        KindPolicy {
            entries: entries.iter().map(entry).collect(),
            bucket: BucketPolicy {
                max: 1,
                fill: 1,
                every: Duration::from_secs(1),
            },
        }
    }

    /// What is looked up is what is found by looking through.
    #[test]
    fn many_kinds_are_told_apart_as_few_are() {
        let tenants: Vec<String> = (0..1_000).map(|n| format!("tenant-{n}")).collect();
        let mut kinds: Vec<KindPolicy> = tenants.iter().map(|it| kind(&[("tenant", Some(it))])).collect();
        kinds.push(kind(&[("tenant", None)]));
        kinds.push(kind(&[("tenant", Some("tenant-1")), ("path", None)]));
        kinds.push(kind(&[("a", Some("bc"))]));
        let (many, values) = (Kinds::new(&kinds, 8), 8);
        assert!(matches!(many.named, Named::Many(_)));
        let few: Vec<KindPolicy> = [7, 1_000, 1_001].iter().map(|at| kinds[*at].clone()).collect();
        let few_of_them = Kinds::new(&few, values);
        for (descriptor, expected, among_few) in [
            (&[("tenant", "tenant-7")][..], Some(7), Some(0)),
            (&[("tenant", "nobody")], Some(1_000), Some(1)),
            (&[("tenant", "tenant-1"), ("path", "/")], Some(1_001), Some(2)),
            (&[("path", "/"), ("tenant", "tenant-1")], None, None),
            (&[("ab", "c")], None, None),
        ] {
            let descriptor: Descriptor<'_> = descriptor
                .iter()
                .map(|(key, value)| (*key, (*value).into()))
                .collect();
            assert_eq!(many.find(&kinds, &descriptor), expected, "{descriptor:?}");
            assert_eq!(few_of_them.find(&few, &descriptor), among_few, "{descriptor:?}");
        }
    }
}
