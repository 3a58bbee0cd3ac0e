//! When an attempt is repeated.

use std::time::Duration;

use anyhow::Result;
use http::StatusCode;
use inmesh::compile::traffic::retries;
use inmesh::config::istio::virtual_service::HTTPRetry;
use inmesh::policy::retry::{Asked, Backoff, RetryOn, RetryPolicy};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::world::{headers, http_rule, outcome};
use super::{Row, Seen, read};

/// `retry_on` and what came of an attempt, to whether there is another.
pub(super) fn condition(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        retry_on: String,
        #[serde(default)]
        codes: Vec<u16>,
        status: Option<u16>,
        event: Option<Value>,
        #[serde(default)]
        request_headers: Vec<(String, String)>,
        #[serde(default)]
        response_headers: Vec<(String, String)>,
        /// Never looked at: a status in trailers comes too late.
        #[serde(default)]
        #[allow(dead_code)]
        response_trailers: Vec<(String, String)>,
        retry: bool,
    }
    let case: Case = read(row)?;
    let on = RetryOn::parse(&case.retry_on);
    let codes = case.codes.iter().map(|code| StatusCode::from_u16(*code));
    let mut policy = RetryPolicy {
        attempts: 1,
        conditions: on.conditions,
        codes: on
            .codes
            .iter()
            .copied()
            .map(Ok)
            .chain(codes)
            .collect::<Result<_, _>>()?,
        ..RetryPolicy::istio_default()
    };
    if let Some(asked) = Asked::read(&headers(&case.request_headers)?, &policy).retry {
        policy = RetryPolicy::clone(&asked);
    }
    let response = headers(&case.response_headers)?;
    let ended = match (&case.event, case.status) {
        (Some(event), _) => outcome(event)?,
        (None, status) => {
            inmesh::policy::Outcome::response(StatusCode::from_u16(status.unwrap_or(200))?, &response)
        }
    };
    let response = case.event.is_none().then_some(&response);
    Ok(Seen::new(case.retry, policy.should_retry(&ended, response, 0)))
}

/// `retries` of a VirtualService's route, to the policy.
pub(super) fn virtual_service(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        retries: Option<HTTPRetry>,
        #[serde(default)]
        consistent_hash: bool,
        effective: Value,
    }
    let case: Case = read(row)?;
    let (policy, per_try) = retries(case.retries.as_ref());
    Ok(seen(
        &case.effective,
        &policy,
        case.consistent_hash,
        per_try,
        None,
    ))
}

/// A rule of an HTTPRoute, to the policy.
pub(super) fn http_route(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        rule: Value,
        effective: Value,
    }
    let case: Case = read(row)?;
    let rule = http_rule(&case.rule)?;
    Ok(seen(
        &case.effective,
        &rule.retry,
        false,
        rule.timeouts.per_try,
        rule.timeouts.request,
    ))
}

fn seen(
    expected: &Value,
    policy: &RetryPolicy,
    hashed: bool,
    per_try: Option<Duration>,
    request: Option<Duration>,
) -> Seen {
    if policy.attempts == 0 {
        return Seen::new(expected, "null");
    }
    let millis = |time: Duration| Value::from(time.as_millis() as u64);
    let mut observed = Map::new();
    let mut put = |key: &str, value: Value| observed.insert(key.into(), value);
    put("num_retries", policy.attempts.into());
    // As a set: upstream's text may hold empty and meaningless tokens, which is the same.
    put("retry_on", policy.conditions.to_string().into());
    put(
        "codes",
        policy
            .codes
            .iter()
            .map(StatusCode::as_u16)
            .collect::<Vec<_>>()
            .into(),
    );
    put(
        "host_selection_max_attempts",
        policy.host_selection_attempts.into(),
    );
    put("avoid_previous_hosts", policy.avoids_previous(hashed).into());
    put(
        "avoid_previous_priorities",
        policy.avoid_previous_priorities.into(),
    );
    put("retry_remote_localities", policy.avoid_previous_priorities.into());
    put("base_interval_ms", millis(policy.backoff.base));
    put("max_interval_ms", millis(policy.backoff.max));
    put("per_try_timeout_ms", per_try.map_or(Value::Null, millis));
    for key in ["timeout_ms", "route_timeout_ms", "request_timeout_ms"] {
        put(key, request.map_or_else(|| json!(0), millis));
    }
    let mut expected = expected.clone();
    if let Some(text) = expected.get_mut("retry_on")
        && let Some(read) = text.as_str().map(RetryOn::parse)
    {
        *text = read.conditions.to_string().into();
    }
    Seen::fields(&expected, &observed)
}

/// The bounds of a pause.
pub(super) fn backoff(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        base_ms: u64,
        retry_number: u32,
        max_exclusive_ms: u64,
    }
    let case: Case = read(row)?;
    let backoff = Backoff::new(Duration::from_millis(case.base_ms));
    let bound = Duration::from_millis(case.max_exclusive_ms);
    let pause = |random| backoff.delay(case.retry_number, random);
    let draws = (0..=1_000_u64).map(|n| pause(n * (u64::MAX / 1_000)));
    let most = draws.max().unwrap_or_default();
    let within = pause(0) == Duration::ZERO && most < bound;
    Ok(Seen::new(
        format!("0 to {bound:?}"),
        match within {
            // Not merely short: the upper half of the range is used.
            true if most > bound / 2 => format!("0 to {bound:?}"),
            _ => format!("{:?} to {most:?}", pause(0)),
        },
    ))
}
