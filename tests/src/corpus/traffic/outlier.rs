//! Who is ejected, and what that does to the choice.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use http::{HeaderMap, StatusCode};
use inmesh::compile::traffic::outlier;
use inmesh::config::istio::destination_rule::OutlierDetection;
use inmesh::layer::{Reason, Refusal};
use inmesh::policy::Outcome;
use inmesh::policy::balance::{Draw, EndpointSet, Tried};
use inmesh::policy::outlier::OutlierPolicy;
use inmesh::policy::traffic::TrafficPolicy;
use serde::Deserialize;
use serde_json::Value;

use super::world::{addresses, endpoints, outcome};
use super::{Row, Seen, read};

fn policy(outlier: OutlierPolicy) -> TrafficPolicy {
    TrafficPolicy {
        outlier: Some(outlier),
        ..TrafficPolicy::default()
    }
}

/// What happened at one endpoint of ten, to whether it is ejected.
pub(super) fn consecutive(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        config: OutlierDetection,
        results: Vec<Value>,
        ejected: bool,
        hosts: Option<usize>,
    }
    let mut case: Case = read(row)?;
    case.config.max_ejection_percent.get_or_insert(100);
    let set = endpoints(
        &addresses(case.hosts.unwrap_or(10)),
        policy(outlier(&case.config)),
    );
    let it = set.endpoints().first().context("no endpoint")?;
    let now = Instant::now();
    for result in &case.results {
        set.report(it, &outcome(result)?, now);
    }
    Ok(Seen::new(case.ejected, it.cell.outlier().is_ejected()))
}

/// An endpoint of so many, so many of them ejected, fails: whether it is ejected too.
pub(super) fn percent(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        hosts: usize,
        already_ejected: usize,
        max_ejection_percent: u32,
        may_eject: bool,
    }
    let case: Case = read(row)?;
    let set = ejected(case.hosts, case.already_ejected, TrafficPolicy::default());
    let limited = TrafficPolicy {
        outlier: Some(touchy(case.max_ejection_percent)),
        ..TrafficPolicy::default()
    };
    let limited = EndpointSet::with(
        set.endpoints().to_vec(),
        Arc::new(limited),
        Arc::clone(set.cell()),
    );
    let next = set
        .endpoints()
        .get(case.already_ejected)
        .context("all are ejected")?;
    Ok(Seen::new(
        case.may_eject,
        limited.report(next, &error(), Instant::now()),
    ))
}

/// So many endpoints, so many of them healthy: whether the others are used too.
pub(super) fn panic(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        hosts: usize,
        healthy: usize,
        min_health_percent: u32,
        panic: bool,
        result: Option<String>,
    }
    let case: Case = read(row)?;
    let mut policy = TrafficPolicy::default();
    policy.balance.panic_percent = case.min_health_percent;
    let set = ejected(case.hosts, case.hosts - case.healthy, policy);
    let pick = |n: u64| {
        set.pick(
            &Draw::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), Instant::now()),
            &Tried::default(),
        )
    };
    let panics = (0..1_000).any(|n| pick(n).is_some_and(|it| it.cell.outlier().is_ejected()));
    let answer = match pick(7) {
        Some(_) => String::new(),
        None => {
            let refusal = Refusal::new(Reason::NoEndpoint, "");
            format!(", {} {}", refusal.status.as_u16(), refusal.flags())
        }
    };
    let expected = case.result.map(|it| format!(", {it}")).unwrap_or_default();
    Ok(Seen::new(
        format!("panic: {}{expected}", case.panic),
        format!("panic: {panics}{answer}"),
    ))
}

/// Ejects for one error.
fn touchy(max_ejection_percent: u32) -> OutlierPolicy {
    OutlierPolicy {
        consecutive_errors: 1,
        max_ejection_percent,
        ..OutlierPolicy::default()
    }
}

fn error() -> Outcome {
    Outcome::response(StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new())
}

/// So many endpoints, the first of them ejected.
fn ejected(hosts: usize, ejected: usize, policy: TrafficPolicy) -> EndpointSet {
    let policy = TrafficPolicy {
        outlier: Some(touchy(100)),
        ..policy
    };
    let set = endpoints(&addresses(hosts), policy);
    for it in set.endpoints().iter().take(ejected) {
        set.report(it, &error(), Instant::now());
    }
    set
}
