//! How many retries there may be.

use anyhow::{Result, bail};
use inmesh::compile::traffic::{budget, constraint};
use inmesh::config::gateway::RetryConstraint;
use inmesh::config::istio::destination_rule::RetryBudget as Written;
use inmesh::policy::retry::{Least, RetryBudget, Usage};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Row, Seen, read};

/// A budget and what is under way, to whether another retry is admitted.
pub(super) fn admit(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Budget {
        percent: f64,
        min_retry_concurrency: u32,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        budget: Budget,
        #[serde(default)]
        active_requests: u32,
        #[serde(default)]
        pending_requests: u32,
        #[serde(default)]
        active_retries: u32,
        admit: bool,
    }
    let case: Case = read(row)?;
    let budget = RetryBudget::share(case.budget.percent, case.budget.min_retry_concurrency);
    let usage = Usage {
        requests: case.active_requests + case.pending_requests,
        retries: case.active_retries,
        ..Usage::default()
    };
    Ok(Seen::new(case.admit, budget.admits(&usage)))
}

/// A resource's words, to the budget.
pub(super) fn resource(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        resource: Resource,
        effective: Value,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Resource {
        retry_budget: Option<Written>,
        retry_constraint: Option<RetryConstraint>,
    }
    let case: Case = read(row)?;
    let policy = match (&case.resource.retry_budget, &case.resource.retry_constraint) {
        (Some(written), None) => budget(Some(written), None),
        (None, Some(written)) => constraint(written),
        _ => bail!("one of the two resources is needed"),
    };
    let RetryBudget::Share {
        percent,
        least: Least::Concurrent(min) | Least::Rate(min, _),
        interval,
        ..
    } = policy
    else {
        bail!("not a share: {policy:?}");
    };
    let observed: Map<String, Value> = [
        ("percent", percent.into()),
        ("min_retry_concurrency", min.into()),
        ("interval_ms", (interval.as_millis() as u64).into()),
    ]
    .into_iter()
    .map(|(key, value): (&str, Value)| (key.to_owned(), value))
    .collect();
    Ok(Seen::fields(&case.effective, &observed))
}
