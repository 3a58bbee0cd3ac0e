//! How many retries there may be.

use std::time::Duration;

use crate::policy::Outcome;

/// A limit of retries: a share of the requests, but at least a few.
///
/// Keeps retries from multiplying the load of a destination that is failing *because* of load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RetryBudget {
    /// At most so many retries under way at once (`maxRetries`).
    Concurrent(u32),
    /// A share of the requests.
    Share {
        /// How much of the requests may be retries, from 0 to 100.
        percent: f64,
        /// How many there may be in any case.
        least: Least,
        /// Which requests count: those under way if this is zero, else those of so long.
        interval: Duration,
        /// Whether it also limits retries of what never reached anybody.
        unsent: bool,
    },
}

/// How many retries there may be in any case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Least {
    /// So many under way at once.
    Concurrent(u32),
    /// So many in so long.
    Rate(u32, Duration),
}

/// What a destination's retries and requests look like when another retry is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests under way or waiting, retries among them.
    pub requests: u32,
    /// Retries under way.
    pub retries: u32,
    /// Requests of the interval, not counted again when they are retried.
    pub recent_requests: u64,
    /// Retries of the interval.
    pub recent_retries: u64,
}

/// What applies where nothing is configured, as GEP-3388 has it: a fifth of what was asked in the last ten seconds, and
/// ten a second in any case.
///
/// Istio has no limit here. With one, a destination that fails altogether sees a fifth more than it was asked, instead
/// of three times as much; without the ten a second, a caller that seldom calls could never try again. What could not
/// be connected or was refused unseen did not load anybody and is retried freely, as gRPC's transparent retries are:
/// otherwise one dead endpoint of two would spend the budget by itself.
impl Default for RetryBudget {
    fn default() -> Self {
        Self::Share {
            percent: 20.0,
            least: Least::Rate(10, Duration::from_secs(1)),
            interval: Duration::from_secs(10),
            unsent: false,
        }
    }
}

impl RetryBudget {
    /// A share of the requests under way, at least `least` retries: Envoy's `retry_budget`.
    pub fn share(percent: f64, least: u32) -> Self {
        Self::Share {
            percent,
            least: Least::Concurrent(least),
            interval: Duration::ZERO,
            unsent: true,
        }
    }

    /// Whether a retry after such an attempt needs a place in the budget.
    pub fn limits(&self, outcome: &Outcome) -> bool {
        let unsent = matches!(
            outcome,
            Outcome::ConnectFailure | Outcome::RefusedStream | Outcome::ResetBeforeRequest
        );
        !unsent || !matches!(self, Self::Share { unsent: false, .. })
    }

    /// How long requests count; zero if only those under way do.
    pub fn interval(&self) -> Duration {
        match self {
            Self::Concurrent(_) => Duration::ZERO,
            Self::Share { interval, .. } => *interval,
        }
    }

    /// Whether one more retry is within the budget.
    pub fn admits(&self, usage: &Usage) -> bool {
        match *self {
            Self::Concurrent(max) => usage.retries < max,
            Self::Share {
                percent,
                least,
                interval,
                ..
            } => {
                // Multiplied first, so that whole percentages of round numbers come out whole. The casts saturate,
                // and make nothing of what is not a number.
                let share = |of: f64| (percent.clamp(0.0, 100.0) * of / 100.0) as u64;
                let within = match interval.is_zero() {
                    true => u64::from(usage.retries) < share(f64::from(usage.requests)),
                    false => usage.recent_retries < share(usage.recent_requests as f64),
                };
                within
                    || match least {
                        Least::Concurrent(min) => usage.retries < min,
                        Least::Rate(count, per) => {
                            let span = interval.max(per).as_secs_f64() / per.as_secs_f64().max(1e-3);
                            (usage.recent_retries as f64) < f64::from(count) * span
                        }
                    }
            }
        }
    }
}
