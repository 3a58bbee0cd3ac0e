//! Whether a trace is recorded. Pure: the same question has the same answer, here and at everybody else's.

use super::request_id::{Reason, RequestId};

/// How many of the traces that begin here are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// How many in ten thousand: `randomSamplingPercentage` has steps of 0.01.
    pub share: u16,
    /// Whether `x-request-id` decides; otherwise the trace's own id does.
    pub by_request_id: bool,
}

/// What is known when it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What the caller's trace context says; `None` if there is none, or it leaves the decision to us.
    pub parent: Option<bool>,
    /// The request's id.
    pub request_id: Option<RequestId>,
    /// Whether somebody who may do so asks for a trace.
    pub forced: Option<Reason>,
    /// The lower half of the trace's id.
    pub trace: u64,
}

/// Istio's default, where neither Telemetry nor mesh configuration says otherwise: one in a hundred
/// (istiod `PILOT_TRACE_SAMPLING`).
const DEFAULT: u16 = 100;

impl Default for Sampling {
    fn default() -> Self {
        Self {
            share: DEFAULT,
            by_request_id: true,
        }
    }
}

impl Sampling {
    /// The share of a percentage, to the nearest hundredth; `None` if it is none from 0 to 100.
    pub fn of_percentage(percentage: f64) -> Option<u16> {
        // At most 10,000, and not negative.
        (0.0..=100.0)
            .contains(&percentage)
            .then(|| (percentage * 100.0).round() as u16)
    }

    /// Whether the trace is recorded, and why if that was decided here.
    ///
    /// A caller that has decided is followed. Else an id that says so, or a wish, counts before the share
    /// (Envoy `mutateTracingRequestHeader`). An id that is no UUID, or none, leaves the decision to the trace's own.
    pub fn decide(&self, asked: &Asked) -> (bool, Option<Reason>) {
        if let Some(sampled) = asked.parent {
            return (sampled, None);
        }
        let of_id = asked.request_id.filter(|_| self.by_request_id);
        if let Some(reason) = of_id.and_then(|id| id.reason()).or(asked.forced) {
            return (true, Some(reason));
        }
        let share = match of_id {
            Some(id) => id.share(),
            // As many traces fall into each of the shares.
            None => ((u128::from(asked.trace) * 10_000) >> 64) as u16,
        };
        let sampled = share < self.share;
        (sampled, sampled.then_some(Reason::Sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Asked = Asked {
        parent: None,
        request_id: None,
        forced: None,
        trace: 0,
    };

    #[test]
    fn percentages_have_steps_of_a_hundredth() {
        for (percentage, share) in [
            (0.0, 0),
            (0.01, 1),
            (0.014, 1),
            (0.016, 2),
            (25.0, 2_500),
            (99.99, 9_999),
            (100.0, 10_000),
        ] {
            assert_eq!(Sampling::of_percentage(percentage), Some(share), "{percentage}");
        }
        for odd in [-0.01, 100.01, f64::NAN, f64::INFINITY] {
            assert_eq!(Sampling::of_percentage(odd), None);
        }
    }

    #[test]
    fn a_caller_that_has_decided_is_followed() {
        let [none, all] = [0, 10_000].map(|share| Sampling {
            share,
            by_request_id: true,
        });
        let parent = |sampled| Asked {
            parent: Some(sampled),
            forced: Some(Reason::Forced),
            ..NOTHING
        };
        assert_eq!(none.decide(&parent(true)), (true, None));
        assert_eq!(all.decide(&parent(false)), (false, None));
    }

    #[test]
    fn a_wish_counts_before_the_share_and_is_known_from_the_id_further_on() {
        let none = Sampling {
            share: 0,
            by_request_id: true,
        };
        let forced = Asked {
            forced: Some(Reason::Client),
            request_id: Some(RequestId::fresh()),
            ..NOTHING
        };
        assert_eq!(none.decide(&forced), (true, Some(Reason::Client)));
        let marked = RequestId::fresh().marked(Some(Reason::Forced));
        let further = Asked {
            request_id: Some(marked),
            ..NOTHING
        };
        assert_eq!(none.decide(&further), (true, Some(Reason::Forced)));
        let aside = Sampling {
            by_request_id: false,
            ..none
        };
        assert_eq!(aside.decide(&further), (false, None));
    }

    #[test]
    fn everybody_who_sees_the_id_decides_alike_and_as_often_as_was_asked() {
        fastrand::seed(7);
        for by_request_id in [true, false] {
            let quarter = Sampling {
                share: 2_500,
                by_request_id,
            };
            let mut taken = 0;
            for _ in 0..40_000 {
                let asked = Asked {
                    request_id: Some(RequestId::fresh()),
                    trace: fastrand::u64(..),
                    ..NOTHING
                };
                assert_eq!(quarter.decide(&asked), quarter.decide(&asked));
                taken += u32::from(quarter.decide(&asked).0);
            }
            // Five standard deviations are 433.
            assert!((9_567..10_433).contains(&taken), "{taken}");
        }
        for (share, expected) in [(0, 0), (10_000, 1_000)] {
            let sampling = Sampling {
                share,
                by_request_id: false,
            };
            let taken = (0..1_000).filter(|_| {
                sampling
                    .decide(&Asked {
                        trace: fastrand::u64(..),
                        ..NOTHING
                    })
                    .0
            });
            assert_eq!(taken.count(), expected);
        }
    }
}
