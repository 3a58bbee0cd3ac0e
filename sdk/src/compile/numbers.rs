//! Numbers of clusters that stay what they are: a route that points at one need not be compiled anew because another came or
//! went.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use super::memo::{Address, Spread};
use crate::policy::route::ClusterId;

/// What has a number: a port of a destination, or a subset of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    destination: Address,
    port: u16,
    /// The digest of its name. Should two be alike, one of them is numbered anew each time, and that is all.
    subset: u64,
}

impl Key {
    pub(crate) fn new(destination: Address, port: u16, subset: Option<&str>) -> Self {
        let digest = |name: &str| {
            let mut digest = DefaultHasher::new();
            name.hash(&mut digest);
            digest.finish()
        };
        Self {
            destination,
            port,
            subset: subset.map_or(0, digest),
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.destination.hash(state);
        state.write_u64(u64::from(self.port) ^ self.subset);
    }
}

/// The numbers that were given last.
#[derive(Debug, Default)]
pub(crate) struct Numbers(HashMap<Key, u32, BuildHasherDefault<Spread>>);

impl Numbers {
    /// Gives each a number below their count, the one that it had if that can be. Without any before they are numbered in
    /// the order in which they come.
    pub(crate) fn give(&mut self, keys: &[Key]) -> Vec<ClusterId> {
        const NONE: ClusterId = ClusterId(u32::MAX);
        let mut is_taken = vec![false; keys.len()];
        let mut given = vec![NONE; keys.len()];
        for (key, number) in keys.iter().zip(&mut given) {
            let known = self.0.get(key).copied();
            if let Some(known) = known
                && let Some(taken @ false) = is_taken.get_mut(known as usize)
            {
                *taken = true;
                *number = ClusterId(known);
            }
        }
        let free = is_taken.iter().enumerate().filter(|(_, taken)| !**taken);
        let mut free = free.map(|(at, _)| ClusterId(at as u32));
        let unnumbered = given.iter_mut().filter(|it| **it == NONE);
        unnumbered
            .zip(&mut free)
            .for_each(|(number, free)| *number = free);
        self.0 = keys.iter().copied().zip(given.iter().map(|it| it.0)).collect();
        given
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn numbers_stay_and_gaps_are_filled() {
        let entries: Vec<_> = (0..5).map(Arc::new).collect();
        let key = |at: usize| Key::new(Address::of(&entries[at]), 80, None);
        let mut numbers = Numbers::default();
        let mut give = |all: &[usize]| -> Vec<u32> {
            let keys: Vec<_> = all.iter().map(|at| key(*at)).collect();
            numbers.give(&keys).into_iter().map(|it| it.0).collect()
        };
        assert_eq!(give(&[0, 1, 2]), [0, 1, 2]);
        assert_eq!(give(&[3, 0, 1, 2]), [3, 0, 1, 2]);
        // The last number is gone with the count: whoever had it moves into the gap.
        assert_eq!(give(&[3, 0, 2]), [1, 0, 2]);
        // One key twice: each has a number of its own.
        assert_eq!(give(&[3, 3, 0, 2]), [1, 3, 0, 2]);
        assert_eq!(give(&[]), [0; 0]);
    }
}
