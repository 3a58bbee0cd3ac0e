//! Weighted turns without a queue: the static stride scheduler.

/// Says whether an index takes a turn in a round. Heavier ones take more turns, evenly spread over the rounds; nothing
/// is remembered but the number of the turn.
#[derive(Debug)]
pub(super) struct Stride(Box<[u16]>);

const FULL: u64 = u16::MAX as u64;

impl Stride {
    /// A schedule for these weights; `None` where all are alike, which needs none.
    pub(super) fn new(weights: &[u32]) -> Option<Self> {
        let first = *weights.first()?;
        let max = u64::from(*weights.iter().max()?);
        if weights.iter().all(|weight| *weight == first) {
            return None;
        }
        let scale = |weight: &u32| (u64::from(*weight) * FULL / max).max(1) as u16;
        Some(Self(weights.iter().map(scale).collect()))
    }

    /// The index whose turn number `turn` is; `None` if that turn is left out.
    pub(super) fn at(&self, turn: u64) -> Option<usize> {
        let count = self.0.len() as u64;
        let (round, index) = (turn / count, turn % count);
        let weight = u64::from(self.0[index as usize]);
        // Spreads those of equal weight over the rounds instead of letting them skip together.
        let offset = index.wrapping_mul(FULL / 2);
        let point = weight.wrapping_mul(round).wrapping_add(offset) % FULL;
        (point >= FULL - weight).then_some(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_the_weights_and_come_evenly() {
        let weights = [1, 2, 5, 2];
        let stride = Stride::new(&weights).unwrap();
        let mut taken = [0_u32; 4];
        for turn in 0..4_000 {
            if let Some(index) = stride.at(turn) {
                taken[index] += 1;
            }
        }
        // 1,000 rounds: the heaviest takes a turn in each, the others in proportion.
        for (taken, expected) in taken.iter().zip([200, 400, 1_000, 400]) {
            assert!(taken.abs_diff(expected) <= 2, "{taken} {expected}");
        }
        assert!(Stride::new(&[2, 2]).is_none());
    }

    #[test]
    fn somebody_soon_takes_a_turn() {
        let stride = Stride::new(&[1, u32::MAX]).unwrap();
        for turn in 0..1_000 {
            assert!((turn..turn + 2).any(|turn| stride.at(turn).is_some()));
        }
    }
}
