//! When to try again, how long to wait before, and how much of that is too much.

mod asked;
mod budget;
mod condition;
mod definitions;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};

pub use asked::{Asked, CONTROL};
pub use budget::{Least, RetryBudget, Usage};
pub use condition::{Conditions, RetryOn};
pub use definitions::{GrpcMethods, Malformed};

use super::Outcome;

/// When an attempt is repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How often to try *again*: at most `1 + attempts` requests are sent.
    pub attempts: u32,
    /// What is worth another attempt.
    pub conditions: Conditions,
    /// Statuses worth another attempt, if [`Conditions::RETRIABLE_STATUS_CODES`] is among the conditions.
    pub codes: Box<[StatusCode]>,
    /// Response headers worth another attempt, if [`Conditions::RETRIABLE_HEADERS`] is among the conditions.
    pub headers: Box<[HeaderName]>,
    /// Whether an attempt that brought no answer at all is worth another, whatever the conditions say: its connection was
    /// lost, or its time was over.
    pub unanswered: bool,
    /// The pause before each retry.
    pub backoff: Backoff,
    /// Whether a retry avoids the endpoints already tried; `None`: unless its destination balances by hash, where the
    /// same endpoint is the point.
    pub avoid_previous: Option<bool>,
    /// How often a pick is repeated to avoid them; after that any endpoint is good enough.
    pub host_selection_attempts: u32,
    /// Whether every second retry leaves out the priorities already tried.
    pub avoid_previous_priorities: bool,
}

impl RetryPolicy {
    /// No retries.
    pub fn none() -> Self {
        Self {
            attempts: 0,
            conditions: Conditions::default(),
            ..Self::istio_default()
        }
    }

    /// What Istio applies where a route says nothing: two retries of what surely was not processed. Plain 503
    /// responses are not retried, because no status codes are listed.
    pub fn istio_default() -> Self {
        Self {
            attempts: 2,
            conditions: Conditions::ISTIO_DEFAULT,
            codes: Box::default(),
            headers: Box::default(),
            unanswered: false,
            backoff: Backoff::default(),
            avoid_previous: None,
            host_selection_attempts: 5,
            avoid_previous_priorities: false,
        }
    }

    /// A Gateway API retry stanza (GEP-1731): Istio's conditions, the listed codes, and, beyond what Istio makes of it, any
    /// way in which no answer came: connections that are lost, attempts that take too long. `backoff` is the least time
    /// between attempts.
    pub fn gateway_api(attempts: Option<u32>, codes: Box<[StatusCode]>, backoff: Option<Duration>) -> Self {
        let listed = match codes.is_empty() {
            true => Conditions::default(),
            false => Conditions::RETRIABLE_STATUS_CODES,
        };
        Self {
            attempts: attempts.unwrap_or(2),
            conditions: Conditions::NOT_PROCESSED | listed,
            codes,
            unanswered: true,
            backoff: backoff.map_or_else(Backoff::default, Backoff::at_least),
            ..Self::istio_default()
        }
    }

    /// Whether to try again after attempt number `attempt` (the first is 0) ended like this; `headers` are those of the
    /// response, if there was one.
    ///
    /// Says nothing of budgets, deadlines and whether the request can be replayed.
    pub fn should_retry(&self, outcome: &Outcome, headers: Option<&HeaderMap>, attempt: u32) -> bool {
        attempt < self.attempts
            && (self.is_retriable(outcome) || self.is_retriable_by_header(outcome, headers))
    }

    /// Whether a retry avoids the endpoints already tried, at a destination that balances by hash or not.
    pub fn avoids_previous(&self, hashed: bool) -> bool {
        self.avoid_previous.unwrap_or(!hashed)
    }

    /// Whether the policy may ask for a request to be sent again of which bytes were sent already: only then must a
    /// copy of it be kept. Over HTTP/1.1 that takes a condition on resets or on responses; HTTP/2 adds refused streams
    /// and gRPC statuses.
    pub fn repeats_sent(&self, http2: bool) -> bool {
        let mut idle = Conditions::CONNECT_FAILURE
            | Conditions::RESET_BEFORE_REQUEST
            | Conditions::HTTP3_POST_CONNECT_FAILURE;
        if self.codes.is_empty() {
            idle = idle | Conditions::RETRIABLE_STATUS_CODES;
        }
        if self.headers.is_empty() {
            idle = idle | Conditions::RETRIABLE_HEADERS;
        }
        if !http2 {
            idle = idle | Conditions::HTTP2_ONLY;
        }
        self.attempts > 0 && (self.unanswered || !idle.contains(self.conditions))
    }

    /// The same policy where the application says that the request may be repeated whatever became of it, or that it
    /// must not be if anything of it was sent.
    pub fn hinted(&self, idempotent: bool) -> Self {
        let conditions = match idempotent {
            true => {
                self.conditions | Conditions::RESET | Conditions::CONNECT_FAILURE | Conditions::REFUSED_STREAM
            }
            // What the peer promises not to have seen may still be sent again.
            false => self.conditions.only(
                Conditions::CONNECT_FAILURE | Conditions::RESET_BEFORE_REQUEST | Conditions::REFUSED_STREAM,
            ),
        };
        Self {
            conditions,
            unanswered: idempotent && self.unanswered,
            ..self.clone()
        }
    }

    fn is_retriable(&self, outcome: &Outcome) -> bool {
        let on = |condition| self.conditions.contains(condition);
        match *outcome {
            // The upstream asks to be left alone.
            Outcome::Response {
                rate_limited: true, ..
            } => on(Conditions::ENVOY_RATELIMITED),
            Outcome::Response {
                status, grpc_status, ..
            } => self.is_retriable_response(status, grpc_status),
            Outcome::Timeout | Outcome::Overflow | Outcome::NoEndpoint => false,
            Outcome::ConnectFailure if on(Conditions::CONNECT_FAILURE) => true,
            Outcome::RefusedStream if on(Conditions::REFUSED_STREAM) => true,
            // Without a connection no byte was sent either.
            Outcome::ResetBeforeRequest | Outcome::ConnectFailure if on(Conditions::RESET_BEFORE_REQUEST) => {
                true
            }
            // What is left is some kind of reset.
            _ if self.unanswered => true,
            _ => on(Conditions::RESET) || on(Conditions::SERVER_ERROR) || on(Conditions::GATEWAY_ERROR),
        }
    }

    fn is_retriable_response(&self, status: StatusCode, grpc_status: Option<u16>) -> bool {
        let on = |condition| self.conditions.contains(condition);
        (on(Conditions::SERVER_ERROR) && status.is_server_error())
            || (on(Conditions::GATEWAY_ERROR) && matches!(status.as_u16(), 502..=504))
            || (on(Conditions::RETRIABLE_4XX) && status == StatusCode::CONFLICT)
            || (on(Conditions::RETRIABLE_STATUS_CODES) && self.codes.contains(&status))
            || grpc_status.and_then(Conditions::of_grpc_status).is_some_and(on)
    }

    fn is_retriable_by_header(&self, outcome: &Outcome, headers: Option<&HeaderMap>) -> bool {
        let Outcome::Response {
            rate_limited: false, ..
        } = outcome
        else {
            return false;
        };
        self.conditions.contains(Conditions::RETRIABLE_HEADERS)
            && headers.is_some_and(|headers| self.headers.iter().any(|name| headers.contains_key(name)))
    }

    /// The pause before retry number `retry` (the first is 1) after such a response, if there was one.
    ///
    /// A `Retry-After`, or the reset of a limit of which nothing is left, is kept to if it is at most [`RETRY_AFTER`], with
    /// up to half of it on top so that not all come back at once; a longer one would keep the caller waiting for what it
    /// may prefer to know.
    pub fn pause(&self, retry: u32, response: Option<&HeaderMap>, random: u64) -> Duration {
        let asked = response.and_then(|headers| retry_after(headers).or_else(|| limit_reset(headers)));
        let asked = asked.filter(|asked| *asked <= RETRY_AFTER);
        match asked {
            Some(asked) => {
                let extra = (u128::from(random) * (asked.as_nanos() / 2)) >> 64;
                asked + Duration::from_nanos(extra as u64)
            }
            None => self.backoff.delay(retry, random),
        }
    }
}

/// The longest `Retry-After` that a retry waits for.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a response asks to be left alone (RFC 9110 §10.2.3), if it says so in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    seconds(headers, &header::RETRY_AFTER)
}

/// When a limit of which nothing is left is filled again, as Envoy's rate limits tell (draft-polli-ratelimit-headers-03).
fn limit_reset(headers: &HeaderMap) -> Option<Duration> {
    const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
    const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
    let used_up = seconds(headers, &REMAINING).is_none_or(|left| left.is_zero());
    seconds(headers, &RESET).filter(|reset| used_up && !reset.is_zero())
}

fn seconds(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    let text = headers.get(name)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// The pause before a retry: random ("full jitter"), growing with each retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The unit that grows.
    pub base: Duration,
    /// The longest pause.
    pub max: Duration,
    /// The shortest pause.
    pub floor: Duration,
}

/// 25 ms, at most ten times that, as in Envoy.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(25))
    }
}

impl Backoff {
    /// Grows from `base`, to ten times that at most.
    pub fn new(base: Duration) -> Self {
        Self {
            base,
            max: base.saturating_mul(10),
            floor: Duration::ZERO,
        }
    }

    /// As [`Backoff::new`], but never shorter than `least`.
    pub fn at_least(least: Duration) -> Self {
        Self {
            floor: least,
            ..Self::new(least)
        }
    }

    /// The pause before retry number `retry` (the first is 1), given a uniformly random number: uniform in
    /// `[0, (2^retry - 1) × base)`, then bounded by `floor` and `max`.
    pub fn delay(&self, retry: u32, random: u64) -> Duration {
        let steps = 1_u128
            .checked_shl(retry.min(64))
            .map_or(u128::MAX, |power| power - 1);
        let range = self.base.as_nanos().saturating_mul(steps);
        // Ranges beyond 2^64 ns (584 years) are cut, which the maximum makes no difference to.
        let range = u64::try_from(range).unwrap_or(u64::MAX);
        let nanos = (u128::from(random) * u128::from(range)) >> 64;
        let delay = Duration::from_nanos(nanos as u64);
        delay.min(self.max).max(self.floor)
    }
}
