//! Outlier detection: which endpoints fail in a row, and how long they are left alone for it.
//!
//! Envoy's algorithm, as Istio configures it: consecutive errors only. Detection is immediate; return is decided by
//! sweeps at an interval. Nothing runs for that: whoever picks an endpoint after a sweep was due carries it out.

mod cell;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::StatusCode;

pub use cell::OutlierCell;

use super::Outcome;

/// When an endpoint is an outlier (`outlierDetection` of a DestinationRule). Zero errors means: not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierPolicy {
    /// How many errors in a row.
    pub consecutive_errors: u32,
    /// How many gateway errors (502, 503, 504) in a row.
    pub consecutive_gateway_errors: u32,
    /// How many failures in a row of which no response came, counted apart from errors; `None`: counted as errors
    /// (`splitExternalLocalOriginErrors`).
    pub consecutive_local_failures: Option<u32>,
    /// Statuses that are errors; any 5xx if there are none.
    pub error_codes: Box<[StatusCode]>,
    /// How often the ejected are looked after.
    pub interval: Duration,
    /// How long the first ejection lasts; each further one lasts so much longer.
    pub base_ejection: Duration,
    /// How much of the endpoints may be ejected at once.
    pub max_ejection_percent: u32,
}

/// What a block without fields means.
impl Default for OutlierPolicy {
    fn default() -> Self {
        Self {
            consecutive_errors: 5,
            consecutive_gateway_errors: 0,
            consecutive_local_failures: None,
            error_codes: Box::default(),
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection_percent: 10,
        }
    }
}

/// What an outcome means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// A response that is no error.
    Success,
    /// An error; of a gateway or not.
    Error { gateway: bool },
    /// No response; `reached` if there was a connection.
    LocalFailure { reached: bool },
    /// Nothing to do with the endpoint.
    Nothing,
}

impl OutlierPolicy {
    /// The longest ejection: Envoy's 300 s, or the first one's length if that is more.
    pub fn max_ejection(&self) -> Duration {
        self.base_ejection.max(Duration::from_secs(300))
    }

    /// How long an ejection lasts, for the `times`-th time in a row.
    pub fn ejection(&self, times: u32) -> Duration {
        self.base_ejection.saturating_mul(times).min(self.max_ejection())
    }

    /// Whether one more of `total` endpoints may be ejected beside those that are.
    pub fn may_eject(&self, ejected: usize, total: usize) -> bool {
        100.0 * (ejected + 1) as f64 / total.max(1) as f64 <= f64::from(self.max_ejection_percent)
    }

    fn find(&self, outcome: &Outcome) -> Finding {
        let local = match *outcome {
            Outcome::Response { status, .. } => {
                let error = match &*self.error_codes {
                    [] => status.is_server_error(),
                    listed => listed.contains(&status),
                };
                let gateway = matches!(status.as_u16(), 502..=504);
                return if error {
                    Finding::Error { gateway }
                } else {
                    Finding::Success
                };
            }
            Outcome::Overflow | Outcome::NoEndpoint => return Finding::Nothing,
            // A failed connection or a reset counts as 503, a timeout as 504.
            Outcome::ConnectFailure | Outcome::ResetBeforeRequest => Finding::LocalFailure { reached: false },
            Outcome::RefusedStream | Outcome::Reset | Outcome::PerTryTimeout | Outcome::Timeout => {
                Finding::LocalFailure { reached: true }
            }
        };
        match self.consecutive_local_failures {
            Some(_) => local,
            None => Finding::Error { gateway: true },
        }
    }
}
