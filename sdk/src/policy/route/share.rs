//! A share of all requests.

/// A share of all requests, as an exact fraction: one in three is one in three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    numerator: u32,
    denominator: u32,
}

impl Share {
    /// Every request.
    pub const ALL: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// `numerator` of `denominator` requests; `None` if that is more than all, or no fraction.
    pub fn new(numerator: u32, denominator: u32) -> Option<Self> {
        (denominator > 0 && numerator <= denominator).then_some(Self {
            numerator,
            denominator,
        })
    }

    /// So many in a million, at most all: what Istio makes of percentages with a fraction.
    pub fn per_million(parts: u32) -> Self {
        const MILLION: u32 = 1_000_000;
        Self {
            numerator: parts.min(MILLION),
            denominator: MILLION,
        }
    }

    /// Whether nobody is in it.
    pub fn is_empty(self) -> bool {
        self.numerator == 0
    }

    /// Whether the request that a uniformly random number stands for is in it.
    pub fn holds(self, random: u64) -> bool {
        // Multiply and shift maps the number onto `0..denominator` evenly.
        let point = (u128::from(random) * u128::from(self.denominator)) >> 64;
        point < u128::from(self.numerator)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.numerator == self.denominator {
            true => f.write_str("every request"),
            false => write!(f, "{} of {} requests", self.numerator, self.denominator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_exact() {
        let none = Share::new(0, 100).unwrap();
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(Share::ALL.holds(random) && Share::per_million(2_000_000).holds(random));
            assert!(!none.holds(random) && none.is_empty());
        }
        assert_eq!(Share::new(1, 0), None);
        assert_eq!(Share::new(3, 2), None);
    }

    #[test]
    fn a_fraction_is_met_to_the_last_request() {
        for (numerator, denominator) in [(1, 3), (20, 100), (999_999, 1_000_000), (1, 1_000)] {
            let share = Share::new(numerator, denominator).unwrap();
            let steps = u64::from(denominator);
            let held =
                (0..steps).filter(|step| share.holds(step * (u64::MAX / steps) + u64::MAX / steps / 2));
            assert_eq!(held.count() as u32, numerator, "{share:?}");
        }
    }
}
