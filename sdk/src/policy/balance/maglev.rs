//! Maglev, slot for slot as Envoy builds it (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
//! Balancer", §3.4, with weights).

use super::hash::hash_with;

/// A table of slots, each owned by an endpoint; a key belongs to the slot of its hash modulo the size.
#[derive(Debug)]
pub(super) struct Maglev(Box<[u32]>);

/// The largest table: Envoy's limit.
const MOST: u64 = 5_000_011;

const FREE: u32 = u32::MAX;

struct Member {
    offset: u64,
    skip: u64,
    next: u64,
    share: f64,
    target: f64,
}

impl Maglev {
    /// A table of `size` slots, which must be a prime, for endpoints with these names and shares.
    pub(super) fn new<'n>(members: &[(impl AsRef<str> + 'n, f64)], size: u64) -> Self {
        let most = members.iter().map(|(_, share)| *share).fold(0.0, f64::max);
        if most <= 0.0 || size > MOST || !is_prime(size) || size < 3 {
            return Self(Box::new([]));
        }
        let mut members: Vec<Member> = members
            .iter()
            .map(|(name, share)| Member {
                offset: hash_with(0, name.as_ref().as_bytes()) % size,
                skip: hash_with(1, name.as_ref().as_bytes()) % (size - 1) + 1,
                next: 0,
                share: *share,
                target: 0.0,
            })
            .collect();
        let mut slots = vec![FREE; size as usize];
        let mut left = slots.len();
        // Round after round each takes the next free slot of its own permutation; the heaviest in every round, the
        // others as often as their weight allows. A size that is prime makes every permutation reach every slot.
        for round in 1_u64.. {
            for (at, member) in members.iter_mut().enumerate() {
                if left == 0 {
                    return Self(slots.into());
                }
                if round as f64 * member.share < member.target {
                    continue;
                }
                member.target += most;
                let slot = loop {
                    let slot = member.offset.wrapping_add(member.skip.wrapping_mul(member.next)) % size;
                    member.next += 1;
                    if slots[slot as usize] == FREE {
                        break slot as usize;
                    }
                };
                slots[slot] = at as u32;
                left -= 1;
            }
        }
        Self(slots.into())
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The owner of a hash; for another attempt, that of another hash made of it.
    pub(super) fn pick(&self, hash: u64, attempt: usize) -> Option<usize> {
        let hash = match attempt {
            0 => hash,
            // Flips most bits, so that the next attempts of like keys scatter.
            attempt => hash ^ (u64::MAX - attempt as u64 + 1),
        };
        let slot = hash.checked_rem(self.0.len() as u64)?;
        self.0.get(slot as usize).map(|owner| *owner as usize)
    }
}

/// Whether a number is prime; a table of any other size could not be filled.
pub fn is_prime(number: u64) -> bool {
    match number {
        0..=3 => number >= 2,
        _ => {
            number % 2 == 1
                && (3..)
                    .step_by(2)
                    .take_while(|it| it * it <= number)
                    .all(|it| !number.is_multiple_of(it))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::hash_of;
    use super::*;

    fn members(weights: &[u32]) -> Vec<(String, f64)> {
        let sum: u32 = weights.iter().sum();
        let named = |(at, weight): (usize, &u32)| {
            let share = f64::from(*weight) / f64::from(sum);
            (format!("10.0.0.{}:8080", at + 1), share)
        };
        weights.iter().enumerate().map(named).collect()
    }

    fn shares(table: &Maglev, count: usize) -> Vec<usize> {
        let mut shares = vec![0; count];
        for owner in &table.0 {
            shares[*owner as usize] += 1;
        }
        shares
    }

    #[test]
    fn slots_follow_the_weights() {
        let even = shares(&Maglev::new(&members(&[1; 4]), 65_537), 4);
        assert!(
            even.iter().all(|share| share.abs_diff(65_537 / 4) <= 1),
            "{even:?}"
        );
        let uneven = shares(&Maglev::new(&members(&[1, 3]), 65_537), 2);
        assert!(uneven[0].abs_diff(65_537 / 4) <= 2, "{uneven:?}");
    }

    #[test]
    fn few_keys_move_when_one_is_gone() {
        let before = Maglev::new(&members(&[1; 5]), 65_537);
        let mut left = members(&[1; 5]);
        left.pop();
        let after = Maglev::new(&left, 65_537);
        let keys = || (0..10_000).map(|key| hash_of(format!("user-{key}")));
        let stayed = |hash: &u64| before.pick(*hash, 0).is_some_and(|owner| owner != 4);
        let moved = keys()
            .filter(stayed)
            .filter(|hash| before.pick(*hash, 0) != after.pick(*hash, 0));
        let moved = moved.count();
        assert!(moved < 500, "{moved} of some 8,000 keys moved without need");
    }

    #[test]
    fn a_size_that_is_not_prime_makes_no_table() {
        assert!(Maglev::new(&members(&[1, 1]), 65_536).pick(1, 0).is_none());
        assert!(Maglev::new(&members(&[]), 65_537).pick(1, 0).is_none());
        assert!(is_prime(65_537) && is_prime(2) && !is_prime(1) && !is_prime(65_535) && is_prime(5_000_011));
    }
}
