//! The endpoints of one destination and the choice among them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::{Endpoint, EndpointKey};

/// The endpoints of one cluster, in the order of their keys.
///
/// The choice is Envoy's least-request: two endpoints at random, the one with fewer requests under way wins,
/// ties go to the first (`LEAST_REQUEST`, Istio's default). With unequal weights the load is divided by the weight.
#[derive(Debug, Default)]
pub struct EndpointSet {
    endpoints: Vec<Arc<Endpoint>>,
    /// Made when a session first asks.
    by_digest: OnceLock<HashMap<u64, usize>>,
}

impl EndpointSet {
    /// A set of the given endpoints.
    pub fn new(mut endpoints: Vec<Arc<Endpoint>>) -> Self {
        endpoints.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            endpoints,
            by_digest: OnceLock::new(),
        }
    }

    /// The endpoint that [`Endpoint::digest`] stands for.
    pub fn by_digest(&self, digest: u64) -> Option<&Arc<Endpoint>> {
        let index = self.by_digest.get_or_init(|| {
            let digests = self.endpoints.iter().map(|endpoint| endpoint.digest());
            digests.enumerate().map(|(at, digest)| (digest, at)).collect()
        });
        self.endpoints.get(*index.get(&digest)?)
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Whether there is nobody to ask.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Chooses an endpoint; `random` is uniform over `u64`. Endpoints in `avoid` are taken only if no other is left.
    pub fn pick(&self, random: u64, avoid: &[EndpointKey]) -> Option<&Arc<Endpoint>> {
        match self.endpoints.as_slice() {
            [] => None,
            [only] => Some(only),
            all if avoid.is_empty() => Some(self.two_choices(random, all.len(), |at| &all[at])),
            all => {
                let left: Vec<&Arc<Endpoint>> = all.iter().filter(|e| !avoid.contains(&e.key)).collect();
                match left.len() {
                    0 => Some(self.two_choices(random, all.len(), |at| &all[at])),
                    1 => left.first().copied(),
                    count => Some(self.two_choices(random, count, |at| left[at])),
                }
            }
        }
    }

    fn two_choices<'a>(
        &self,
        random: u64,
        count: usize,
        at: impl Fn(usize) -> &'a Arc<Endpoint>,
    ) -> &'a Arc<Endpoint> {
        let first = reduce(random as u32, count);
        // The second draw is over the others, so that the two always differ.
        let second = (first + 1 + reduce((random >> 32) as u32, count - 1)) % count;
        let (first, second) = (at(first), at(second));
        // active / weight, compared without division.
        let load = |e: &Endpoint, other: &Endpoint| {
            (u64::from(e.cell.in_flight()) + 1) * u64::from(other.weight.max(1))
        };
        if load(second, first) < load(first, second) {
            second
        } else {
            first
        }
    }
}

/// Maps 32 random bits onto `0..count`.
fn reduce(random: u32, count: usize) -> usize {
    ((u64::from(random) * count as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::balance::{EndpointCell, Workload};

    fn set(count: u8) -> EndpointSet {
        EndpointSet::new(
            (1..=count)
                .map(|n| {
                    let dial = std::net::SocketAddr::from(([10, 0, 0, n], 80));
                    Arc::new(Endpoint {
                        key: EndpointKey {
                            dial,
                            authority: None,
                        },
                        addr: dial,
                        identities: Arc::new([]),
                        weight: 1,
                        workload: Arc::new(Workload::default()),
                        cell: Arc::new(EndpointCell::default()),
                    })
                })
                .collect(),
        )
    }

    #[test]
    fn nobody_is_not_chosen() {
        assert!(set(0).pick(7, &[]).is_none());
    }

    #[test]
    fn the_less_loaded_of_two_wins() {
        let set = set(2);
        let _busy = set.endpoints()[0].cell.enter();
        for random in 0..200 {
            let random = fastrand::Rng::with_seed(random).u64(..);
            assert_eq!(set.pick(random, &[]).unwrap().key, set.endpoints()[1].key);
        }
    }

    #[test]
    fn all_are_chosen_alike() {
        let set = set(5);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut hits = [0u32; 5];
        for _ in 0..10_000 {
            let chosen = set.pick(rng.u64(..), &[]).unwrap();
            hits[set.endpoints().iter().position(|e| e.key == chosen.key).unwrap()] += 1;
        }
        assert!(hits.iter().all(|h| (1_700..2_300).contains(h)), "{hits:?}");
    }

    #[test]
    fn those_to_avoid_come_last() {
        let set = set(3);
        let avoid: Vec<_> = set.endpoints()[..2].iter().map(|e| e.key.clone()).collect();
        assert_eq!(set.pick(3, &avoid).unwrap().key, set.endpoints()[2].key);
        let all: Vec<_> = set.endpoints().iter().map(|e| e.key.clone()).collect();
        assert!(set.pick(3, &all).is_some());
    }
}
