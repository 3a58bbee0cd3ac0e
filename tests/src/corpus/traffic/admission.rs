//! Circuit breaking: what is under way, and whether there may be more.

use std::sync::Arc;

use anyhow::{Result, bail};
use inmesh::compile::traffic::{connections, limits};
use inmesh::config::istio::destination_rule::ConnectionPoolSettings;
use inmesh::layer::{Reason, Refusal};
use inmesh::policy::limit::Limits;
use inmesh::policy::traffic::{ClusterCell, Counter};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::reply::answer;
use super::{Row, Seen, read};

/// `connectionPool`, to the limits.
pub(super) fn effective(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Case {
        connection_pool: Option<ConnectionPoolSettings>,
        effective: Value,
    }
    let case: Case = read(row)?;
    let written = case.connection_pool.unwrap_or_default();
    let (limits, connections) = (limits(&written), connections(&written));
    let retries = written
        .http
        .as_ref()
        .and_then(|it| it.max_retries)
        .filter(|it| *it > 0);
    let observed: Map<String, Value> = [
        ("max_connections", limits.connections.into()),
        ("max_pending", limits.pending.into()),
        ("max_requests", limits.requests.into()),
        // Where nothing is written retries have a budget instead of a limit.
        ("max_retries", retries.unwrap_or(u32::MAX).into()),
        (
            "connect_timeout_ms",
            (connections.connect_within().as_millis() as u64).into(),
        ),
        ("max_requests_per_connection", connections.max_requests.into()),
        ("max_concurrent_streams", connections.max_streams.into()),
        (
            "idle_timeout_ms",
            connections.idle_timeout.map(|it| it.as_millis() as u64).into(),
        ),
    ]
    .into_iter()
    .map(|(key, value): (&str, Value)| (key.to_owned(), value))
    .collect();
    Ok(Seen::fields(&case.effective, &observed))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    max_connections: Option<u32>,
    max_pending: Option<u32>,
    max_requests: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    limits: Written,
    #[serde(default)]
    active_requests: u32,
    #[serde(default)]
    active_connections: u32,
    #[serde(default)]
    pending: u32,
    new_request: String,
    result: Option<Expected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    status: u16,
    flag: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
}

/// Limits and what is under way, to what becomes of one more request.
pub(super) fn admit(row: Row) -> Result<Seen> {
    let case: Case = read(row)?;
    let none = Limits::default();
    let limits = Limits {
        connections: case.limits.max_connections.unwrap_or(none.connections),
        pending: case.limits.max_pending.unwrap_or(none.pending),
        requests: case.limits.max_requests.unwrap_or(none.requests),
    };
    let cell = Arc::new(ClusterCell::default());
    let fill = |what, count: u32| (0..count).map(|_| cell.enter(what, u32::MAX)).collect::<Vec<_>>();
    let _under_way = [
        fill(Counter::Requests, case.active_requests),
        fill(Counter::Connections, case.active_connections),
        fill(Counter::Pending, case.pending),
    ];
    let Some(_request) = cell.enter(Counter::Requests, limits.requests) else {
        return answered(&case);
    };
    let Some(_waiting) = cell.wait(&limits) else {
        return answered(&case);
    };
    let observed = match cell.connect(&limits, case.active_connections > 0) {
        Some(_) => "connects",
        None => "queued",
    };
    Ok(Seen::new(case.new_request, observed))
}

/// A request that overflowed, and its answer.
fn answered(case: &Case) -> Result<Seen> {
    let Some(expected) = &case.result else {
        return Ok(Seen::new(&case.new_request, "overflow"));
    };
    let refusal = Refusal::new(Reason::Overloaded, "");
    let flags = refusal.flags();
    let fields = answer(refusal, false)?;
    for (name, value) in &expected.headers {
        if fields.get(&name.replace('-', "_")).and_then(Value::as_str) != Some(value) {
            bail!("the answer lacks {name}: {value}");
        }
    }
    Ok(Seen::new(
        format!("{}, {} {}", case.new_request, expected.status, expected.flag),
        format!("overflow, {} {flags}", fields["status"]),
    ))
}
