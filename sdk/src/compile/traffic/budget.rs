//! `retryBudget`, `maxRetries` and `retryConstraint`.

use std::time::Duration;

use crate::config::gateway::RetryConstraint;
use crate::config::istio::destination_rule::{ConnectionPoolSettings, RetryBudget as Written};
use crate::policy::retry::{Least, RetryBudget};
use crate::policy::timeout::parse_duration;

/// How many retries: a budget takes the place of `maxRetries`, and where neither is written ours applies.
pub fn budget(written: Option<&Written>, pool: Option<&ConnectionPoolSettings>) -> RetryBudget {
    if let Some(it) = written {
        return RetryBudget::Share {
            percent: it.percent.unwrap_or(20.0),
            least: Least::Concurrent(it.min_retry_concurrency.filter(|it| *it > 0).unwrap_or(3)),
            interval: it.budget_interval.map_or(Duration::ZERO, |it| it.0),
            unsent: true,
        };
    }
    let max = pool.and_then(|it| it.http.as_ref()).and_then(|it| it.max_retries);
    max.filter(|it| *it > 0)
        .map_or_else(RetryBudget::default, RetryBudget::Concurrent)
}

/// The same as an XBackendTrafficPolicy writes it (GEP-3388). What is not a duration is reported where it is read; here
/// the default stands in for it.
pub fn constraint(written: &RetryConstraint) -> RetryBudget {
    let duration = |text: Option<&str>, default: u64| {
        let read = text.and_then(|it| parse_duration(it).ok());
        read.filter(|it| !it.is_zero())
            .unwrap_or_else(|| Duration::from_secs(default))
    };
    let budget = written.budget.as_ref();
    let rate = written.min_retry_rate.as_ref();
    RetryBudget::Share {
        percent: f64::from(budget.and_then(|it| it.percent).unwrap_or(20)),
        least: Least::Rate(
            rate.and_then(|it| it.count).unwrap_or(10),
            duration(rate.and_then(|it| it.interval.as_deref()), 1),
        ),
        interval: duration(budget.and_then(|it| it.interval.as_deref()), 10),
        unsent: true,
    }
}
