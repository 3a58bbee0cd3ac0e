//! Weighted draws in constant time (Walker's alias method, as Vose builds it).

/// A table from which an index is drawn in proportion to its weight, by one random number and one look.
#[derive(Debug)]
pub(super) struct Alias(Box<[Column]>);

#[derive(Clone, Copy, Debug)]
struct Column {
    /// Which part of this column, of 2^32, is its own.
    own: u64,
    /// Whose the rest is.
    other: u32,
}

impl Alias {
    /// A table for these weights; `None` where all are alike, which needs no table.
    pub(super) fn new(weights: &[u32]) -> Option<Self> {
        let first = *weights.first()?;
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        if total == 0 || weights.iter().all(|weight| *weight == first) {
            return None;
        }
        const FULL: u128 = 1 << 32;
        // Whole numbers throughout: what is missing in one column is exactly what another has too much of.
        let count = weights.len() as u128;
        let mut size: Vec<u128> = weights.iter().map(|weight| u128::from(*weight) * count).collect();
        let mut columns: Vec<Column> = (0..weights.len() as u32)
            .map(|other| Column {
                own: FULL as u64,
                other,
            })
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..size.len()).partition(|at| size[*at] < total);
        while let (Some(&little), Some(&big)) = (small.last(), large.last()) {
            small.pop();
            columns[little] = Column {
                own: (size[little] * FULL / total) as u64,
                other: big as u32,
            };
            size[big] -= total - size[little];
            if size[big] < total {
                large.pop();
                small.push(big);
            }
        }
        Some(Self(columns.into()))
    }

    /// The index that a uniformly random number stands for.
    pub(super) fn draw(&self, random: u64) -> usize {
        let at = super::reduce(random as u32, self.0.len());
        let column = self.0[at];
        if (random >> 32) < column.own {
            at
        } else {
            column.other as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_need_no_table() {
        assert!(Alias::new(&[3, 3, 3]).is_none());
        assert!(Alias::new(&[]).is_none());
        assert!(Alias::new(&[0, 0]).is_none());
    }

    proptest::proptest! {
        #[test]
        fn draws_follow_the_weights(weights in proptest::collection::vec(0_u32..50, 1..12)) {
            let Some(table) = Alias::new(&weights) else { return Ok(()) };
            // The exact share of each index: columns are equally likely, and each is split once.
            let mut share = vec![0_f64; weights.len()];
            for (at, column) in table.0.iter().enumerate() {
                let own = column.own as f64 / (1_u64 << 32) as f64;
                share[at] += own;
                share[column.other as usize] += 1.0 - own;
            }
            let total: u32 = weights.iter().sum();
            for (share, weight) in share.iter().zip(&weights) {
                let expected = f64::from(*weight) * weights.len() as f64 / f64::from(total);
                proptest::prop_assert!((share - expected).abs() < 1e-6, "{weights:?}: {share} {expected}");
            }
        }
    }
}
