//! `retries` of a VirtualService's route.

use std::time::Duration;

use crate::config::istio::virtual_service::HTTPRetry;
use crate::policy::retry::{Backoff, RetryOn, RetryPolicy};

/// When to try again, and how long one attempt may take.
pub fn retries(written: Option<&HTTPRetry>) -> (RetryPolicy, Option<Duration>) {
    let mut policy = RetryPolicy::istio_default();
    let Some(written) = written else {
        return (policy, None);
    };
    if written.attempts == 0 {
        return (RetryPolicy::none(), None);
    }
    policy.attempts = written.attempts;
    if let Some(text) = written.retry_on.as_deref().filter(|it| !it.is_empty()) {
        let read = RetryOn::parse(text);
        policy.conditions = read.conditions;
        policy.codes = read.codes.into();
    }
    policy.avoid_previous = written.retry_ignore_previous_hosts;
    policy.avoid_previous_priorities = written.retry_remote_localities == Some(true);
    if let Some(backoff) = written.backoff {
        policy.backoff = Backoff::new(backoff.0);
    }
    let per_try = written.per_try_timeout.map(|it| it.0);
    (policy, per_try.filter(|it| !it.is_zero()))
}
