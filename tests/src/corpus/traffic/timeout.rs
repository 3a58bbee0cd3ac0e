//! How long a request may take.

use std::time::{Duration, Instant};

use anyhow::Result;
use inmesh::config::istio::GoDuration;
use inmesh::policy::timeout::{Deadlines, Limit, Timeouts, parse_grpc_timeout};
use serde::Deserialize;
use serde_json::Value;

use super::{Row, Seen, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    vs_timeout: Option<GoDuration>,
    #[serde(default)]
    grpc: bool,
    grpc_timeout_header: Option<String>,
    #[serde(default)]
    #[allow(dead_code)] // retries do not change a deadline
    attempts: u32,
    per_try: Option<GoDuration>,
    effective_ms: Option<u64>,
    #[serde(default)]
    parsed_ms: Option<u64>,
    per_try_effective_ms: Option<Value>,
}

impl Case {
    fn deadlines(&self, now: Instant) -> Deadlines {
        let limit = |it: Option<GoDuration>| it.map(|it| it.0).filter(|it| !it.is_zero());
        let timeouts = Timeouts {
            request: limit(self.vs_timeout),
            per_try: limit(self.per_try),
        };
        let asked = self.grpc_timeout_header.as_deref().filter(|_| self.grpc);
        Deadlines::new(&timeouts, asked.and_then(parse_grpc_timeout), now)
    }
}

/// Milliseconds, begun ones whole.
fn millis(time: Duration) -> u64 {
    time.as_nanos().div_ceil(1_000_000) as u64
}

/// `grpc-timeout`, read.
pub(super) fn parsed(row: Row) -> Result<Seen> {
    let case: Case = read(row)?;
    let show = |it: Option<u64>| it.map_or_else(|| "nothing".into(), |it| format!("{it} ms"));
    let text = case.grpc_timeout_header.as_deref().unwrap_or_default();
    Ok(Seen::new(
        show(case.parsed_ms),
        show(parse_grpc_timeout(text).map(millis)),
    ))
}

/// The limit of the whole request; 0 for none.
pub(super) fn effective(row: Row) -> Result<Seen> {
    let case: Case = read(row)?;
    let now = Instant::now();
    let left = case.deadlines(now).end().map_or(0, |end| millis(end - now));
    Ok(Seen::new(case.effective_ms.unwrap_or(0), left))
}

/// The limit of one attempt.
pub(super) fn per_try(row: Row) -> Result<Seen> {
    let case: Case = read(row)?;
    let now = Instant::now();
    let observed = match case.deadlines(now).attempt(now) {
        Some((end, Limit::PerTry)) => millis(end - now).to_string(),
        _ => "ignored".to_owned(),
    };
    let expected = match &case.per_try_effective_ms {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "ignored".to_owned(),
    };
    Ok(Seen::new(expected, observed))
}
