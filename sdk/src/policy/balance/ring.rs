//! Ring hash (ketama), entry for entry as Envoy builds it.

use super::hash::hash_of;

/// Envoy's `maximum_ring_size`, which Istio leaves alone.
const MAX: f64 = 8_388_608.0;

/// Points of a circle, each owned by an endpoint; a key belongs to the first point at or after its hash.
#[derive(Debug)]
pub(super) struct Ring(Box<[(u64, u32)]>);

impl Ring {
    /// A ring of at least `min` points for endpoints with these names and shares (which sum up to 1).
    pub(super) fn new<'n>(members: &[(impl AsRef<str> + 'n, f64)], min: u64) -> Self {
        let least = members.iter().map(|(_, share)| *share).fold(1.0, f64::min);
        if members.is_empty() || least <= 0.0 {
            return Self(Box::new([]));
        }
        // The least of them gets a whole number of points. Sums are kept running rather than multiplied out, because
        // the last bit of a double decides where a point more or less is made.
        let scale = ((least * min as f64).ceil() / least).min(MAX);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let (mut made, mut wanted) = (0.0, 0.0);
        let mut text = String::new();
        for (at, (name, share)) in members.iter().enumerate() {
            wanted += scale * share;
            text.clear();
            text.push_str(name.as_ref());
            text.push('_');
            let stem = text.len();
            let mut number = 0_u64;
            while made < wanted {
                text.truncate(stem);
                text.push_str(&number.to_string());
                points.push((hash_of(&text), at as u32));
                number += 1;
                made += 1.0;
            }
        }
        points.sort_by_key(|(hash, _)| *hash);
        Self(points.into())
    }

    /// The owner of a hash; for another attempt, that of the point so many steps further on.
    pub(super) fn pick(&self, hash: u64, attempt: usize) -> Option<usize> {
        let count = self.0.len();
        let at = self.0.partition_point(|(point, _)| *point < hash);
        let (_, owner) = self.0.get((at + attempt).checked_rem(count)?)?;
        Some(*owner as usize)
    }

    /// How many points there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u32]) -> Vec<(String, f64)> {
        let sum: u32 = weights.iter().sum();
        let name = |at: usize| format!("10.0.0.{}:8080", at + 1);
        let share = |weight: &u32| f64::from(*weight) / f64::from(sum);
        weights
            .iter()
            .enumerate()
            .map(|(at, weight)| (name(at), share(weight)))
            .collect()
    }

    #[test]
    fn the_least_gets_a_whole_number_of_points() {
        assert_eq!(Ring::new(&members(&[1, 1, 1]), 1_024).len(), 1_026);
        assert_eq!(Ring::new(&members(&[1, 1]), 1_024).len(), 1_024);
        assert_eq!(Ring::new(&members(&[1; 2_000]), 1_024).len(), 2_000);
        assert_eq!(Ring::new(&members(&[1, 3]), 1_024).len(), 1_024);
        assert_eq!(Ring::new(&members(&[]), 1_024).len(), 0);
        assert_eq!(Ring::new(&members(&[]), 1_024).pick(7, 0), None);
    }

    #[test]
    fn who_is_gone_leaves_the_others_keys_alone() {
        let three = Ring::new(&members(&[1, 1, 1]), 1_023);
        let mut left = members(&[1, 1, 1]);
        left.remove(1);
        // As many points for each as before.
        for it in &mut left {
            it.1 = 0.5;
        }
        let two = Ring::new(&left, 682);
        for key in 0..2_000 {
            let hash = hash_of(format!("user-{key}"));
            match three.pick(hash, 0) {
                Some(0) => assert_eq!(two.pick(hash, 0), Some(0)),
                Some(2) => assert_eq!(two.pick(hash, 0), Some(1)),
                _ => {}
            }
        }
    }

    #[test]
    fn the_circle_closes() {
        let ring = Ring::new(&members(&[1, 1, 1]), 10);
        let last = ring.0.last().unwrap().0;
        assert_eq!(ring.pick(u64::MAX, 0), Some(ring.0[0].1 as usize));
        assert_eq!(ring.pick(last, 0), Some(ring.0.last().unwrap().1 as usize));
        assert_eq!(ring.pick(last, 1), Some(ring.0[0].1 as usize));
    }
}
