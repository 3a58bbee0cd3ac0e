//! Ring hash (ketama), entry for entry as Envoy builds it.

use super::hash::hash_of;

/// Envoy's `maximum_ring_size`, which Istio leaves alone.
const MAX: f64 = 8_388_608.0;

/// Points of a circle, each owned by an endpoint; a key belongs to the first point at or after its hash.
#[derive(Debug)]
pub(super) struct Ring {
    points: Box<[(u64, u32)]>,
    slices: Slices,
}

/// The circle in equal slices: where the points of each begin. Hashes are spread evenly, so that a slice has a few points,
/// on a cache line or two, however many there are; halving all points would miss the cache at nearly every step.
#[derive(Debug)]
struct Slices {
    /// The number of the first point of each, and at the end how many points there are.
    starts: Box<[u32]>,
    /// What is shifted out of a hash to leave the number of its slice.
    shift: u32,
}

/// How many points a slice has on average: what a cache line holds.
const POINTS: usize = 4;

impl Slices {
    /// Slices of points in their order.
    fn new(points: &[(u64, u32)]) -> Self {
        let count = (points.len() / POINTS).next_power_of_two().max(2);
        let shift = u64::BITS - count.ilog2();
        let mut starts = Vec::with_capacity(count + 1);
        let mut at = 0;
        for slice in 0..count as u64 {
            at += points[at..]
                .iter()
                .take_while(|(hash, _)| hash >> shift < slice)
                .count();
            starts.push(at as u32);
        }
        starts.push(points.len() as u32);
        Self {
            starts: starts.into(),
            shift,
        }
    }

    /// Between which points those of a hash's slice are.
    fn of(&self, hash: u64) -> std::ops::Range<usize> {
        let slice = (hash >> self.shift) as usize;
        let at = |slice: usize| self.starts.get(slice).map_or(0, |at| *at as usize);
        at(slice)..at(slice + 1)
    }
}

impl Ring {
    /// A ring of at least `min` points for endpoints with these names and shares (which sum up to 1).
    pub(super) fn new<'n>(members: &[(impl AsRef<str> + 'n, f64)], min: u64) -> Self {
        let least = members.iter().map(|(_, share)| *share).fold(1.0, f64::min);
        if members.is_empty() || least <= 0.0 {
            return Self::of(Vec::new());
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
        Self::of(points)
    }

    fn of(points: Vec<(u64, u32)>) -> Self {
        Self {
            slices: Slices::new(&points),
            points: points.into(),
        }
    }

    /// The owner of a hash; for another attempt, that of the point so many steps further on.
    pub(super) fn pick(&self, hash: u64, attempt: usize) -> Option<usize> {
        let slice = self.slices.of(hash);
        // Where a slice has no such point, the first of the next one follows.
        let at = slice.start
            + self
                .points
                .get(slice)?
                .partition_point(|(point, _)| *point < hash);
        let (_, owner) = self.points.get((at + attempt).checked_rem(self.len())?)?;
        Some(*owner as usize)
    }

    /// How many points there are.
    pub(super) fn len(&self) -> usize {
        self.points.len()
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
        let points = &ring.points;
        let last = points.last().unwrap().0;
        assert_eq!(ring.pick(u64::MAX, 0), Some(points[0].1 as usize));
        assert_eq!(ring.pick(last, 0), Some(points.last().unwrap().1 as usize));
        assert_eq!(ring.pick(last, 1), Some(points[0].1 as usize));
    }

    /// The definition: the first point that is not before the hash.
    fn twin(ring: &Ring, hash: u64) -> Option<usize> {
        let at = ring
            .points
            .iter()
            .position(|(point, _)| *point >= hash)
            .unwrap_or(0);
        ring.points.get(at).map(|(_, owner)| *owner as usize)
    }

    #[test]
    fn slices_change_nothing() {
        for (hosts, min) in [(1, 1), (1, 2), (2, 3), (3, 1_024), (5, 17), (200, 1_024)] {
            let ring = Ring::new(&members(&vec![1; hosts]), min);
            let around = |(point, _): &(u64, u32)| [point.wrapping_sub(1), *point, point.wrapping_add(1)];
            let edges = (0..=8).flat_map(|bits| (0..1 << bits).map(move |n: u64| n.rotate_right(bits)));
            let random = (0..2_000).map(|key| hash_of(format!("user-{key}")));
            let hashes = ring.points.iter().flat_map(around).chain(edges).chain(random);
            for hash in hashes.chain([0, u64::MAX]) {
                assert_eq!(ring.pick(hash, 0), twin(&ring, hash), "{hosts} hosts, {hash:x}");
            }
        }
    }
}
