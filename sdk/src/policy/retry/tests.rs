//! The rows of `tests/corpus/traffic` about retries, and what they leave open.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::*;

#[derive(Deserialize)]
struct Table<C> {
    checks: Vec<C>,
}

fn checks<C: DeserializeOwned>(text: &str) -> Vec<C> {
    serde_saphyr::from_str::<Table<C>>(text).unwrap().checks
}

/// A policy with one retry on the given conditions.
fn policy(retry_on: &str, codes: &[u16]) -> RetryPolicy {
    let read = RetryOn::parse(retry_on);
    let listed = codes.iter().map(|code| StatusCode::from_u16(*code).unwrap());
    RetryPolicy {
        attempts: 1,
        conditions: read.conditions,
        codes: read.codes.iter().copied().chain(listed).collect(),
        ..RetryPolicy::istio_default()
    }
}

#[test]
fn responses_are_retried_as_the_table_says() {
    #[derive(Deserialize)]
    struct Row {
        id: String,
        retry_on: String,
        status: u16,
        #[serde(default)]
        codes: Vec<u16>,
        #[serde(default)]
        response_headers: Vec<(String, String)>,
        retry: bool,
    }
    let rows: Vec<Row> = checks(include_str!(
        "../../../../tests/corpus/traffic/010-retry-on-status.yaml"
    ));
    assert_eq!(rows.len(), 28);
    for row in rows {
        let mut headers = HeaderMap::new();
        for (name, value) in &row.response_headers {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let outcome = Outcome::response(StatusCode::from_u16(row.status).unwrap(), &headers);
        let policy = policy(&row.retry_on, &row.codes);
        assert_eq!(policy.should_retry(&outcome, 0), row.retry, "{}", row.id);
        assert!(!policy.should_retry(&outcome, 1), "{}: no retries left", row.id);
    }
}

#[test]
fn retry_on_is_read_as_the_table_says() {
    #[derive(Deserialize)]
    struct Row {
        id: String,
        retries: Option<Retries>,
        effective: Option<Effective>,
    }
    #[derive(Deserialize)]
    struct Retries {
        #[serde(rename = "retryOn")]
        retry_on: Option<String>,
        backoff: Option<String>,
    }
    #[derive(Deserialize)]
    struct Effective {
        retry_on: String,
        codes: Vec<u16>,
        num_retries: u32,
        host_selection_max_attempts: u32,
        base_interval_ms: Option<u64>,
        max_interval_ms: Option<u64>,
    }
    let rows: Vec<Row> = checks(include_str!(
        "../../../../tests/corpus/traffic/012-retry-parse.yaml"
    ));
    assert_eq!(rows.len(), 10);
    let default = RetryPolicy::istio_default();
    for row in rows {
        let Some(effective) = row.effective else { continue };
        let Some(retries) = row.retries else {
            assert_eq!(default.attempts, effective.num_retries, "{}", row.id);
            assert_eq!(
                default.conditions,
                RetryOn::parse(&effective.retry_on).conditions,
                "{}",
                row.id
            );
            continue;
        };
        assert_eq!(
            default.host_selection_attempts, effective.host_selection_max_attempts,
            "{}",
            row.id
        );
        let read = retries.retry_on.as_deref().map(RetryOn::parse);
        let conditions = read.as_ref().map_or(default.conditions, |read| read.conditions);
        assert_eq!(
            conditions,
            RetryOn::parse(&effective.retry_on).conditions,
            "{}",
            row.id
        );
        let codes: Vec<u16> = read
            .iter()
            .flat_map(|read| &read.codes)
            .map(StatusCode::as_u16)
            .collect();
        assert_eq!(codes, effective.codes, "{}", row.id);
        if let (Some(backoff), Some(base)) = (retries.backoff, effective.base_interval_ms) {
            let backoff = Backoff::new(crate::policy::timeout::parse_duration(&backoff).unwrap());
            assert_eq!(backoff.base, Duration::from_millis(base), "{}", row.id);
            assert_eq!(
                Some(backoff.max.as_millis() as u64),
                effective.max_interval_ms,
                "{}",
                row.id
            );
        }
    }
}

#[test]
fn pauses_stay_within_the_table() {
    #[derive(Deserialize)]
    struct Row {
        id: String,
        base_ms: u64,
        retry_number: u32,
        max_exclusive_ms: u64,
    }
    let rows: Vec<Row> = checks(include_str!("../../../../tests/corpus/traffic/014-backoff.yaml"));
    assert_eq!(rows.len(), 10);
    for row in rows {
        let backoff = Backoff::new(Duration::from_millis(row.base_ms));
        let bound = Duration::from_millis(row.max_exclusive_ms);
        for random in [0, 1, u64::MAX / 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            assert!(backoff.delay(row.retry_number, random) < bound, "{}", row.id);
        }
        assert_eq!(backoff.delay(row.retry_number, 0), Duration::ZERO);
        // Not merely short: the upper half of the range is used.
        assert!(
            backoff.delay(row.retry_number, u64::MAX) > bound / 2,
            "{}",
            row.id
        );
    }
}

#[test]
fn a_pause_never_overflows_and_keeps_its_bounds() {
    for retry in [0, 1, 31, 63, 64, 65, u32::MAX] {
        for base in [Duration::ZERO, Duration::from_millis(25), Duration::MAX] {
            let backoff = Backoff::new(base);
            assert!(backoff.delay(retry, u64::MAX) <= backoff.max);
        }
    }
    let least = Backoff::at_least(Duration::from_millis(100));
    assert_eq!(least.delay(1, 0), Duration::from_millis(100));
    assert_eq!(least.delay(9, u64::MAX), Duration::from_secs(1));
}

#[test]
fn the_budget_admits_as_the_table_says() {
    #[derive(Deserialize)]
    struct Row {
        id: String,
        budget: Option<Budget>,
        #[serde(default)]
        active_requests: u32,
        #[serde(default)]
        active_retries: u32,
        #[serde(default)]
        admit: bool,
    }
    #[derive(Deserialize)]
    struct Budget {
        percent: f64,
        min_retry_concurrency: u32,
    }
    let rows: Vec<Row> = checks(include_str!(
        "../../../../tests/corpus/traffic/015-retry-budget.yaml"
    ));
    let mut judged = 0;
    for row in rows {
        let Some(written) = row.budget else { continue };
        judged += 1;
        let budget = Arc::new(RetryBudget::new(written.percent, written.min_retry_concurrency));
        let _requests: Vec<_> = (0..row.active_requests).map(|_| budget.request()).collect();
        let retries: Vec<_> = (0..row.active_retries).map_while(|_| budget.retry()).collect();
        assert_eq!(
            retries.len(),
            row.active_retries as usize,
            "{}: the state is reachable",
            row.id
        );
        assert_eq!(budget.retry().is_some(), row.admit, "{}", row.id);
    }
    assert_eq!(judged, 7);
    assert_eq!(
        RetryBudget::default().limit(),
        3,
        "c8: the defaults are 20 % and 3"
    );
}

#[test]
fn a_finished_retry_returns_to_the_budget() {
    let budget = Arc::new(RetryBudget::new(0.0, 1));
    let first = budget.retry();
    assert!(first.is_some());
    assert!(budget.retry().is_none());
    drop(first);
    assert!(budget.retry().is_some());
    assert_eq!(RetryBudget::new(f64::NAN, 2).limit(), 2);
}

/// The table of `retryOn` conditions against attempts without a response.
#[test]
fn attempts_without_a_response() {
    use Outcome::*;
    let table: [(&str, &[Outcome]); 7] = [
        (
            "5xx",
            &[
                ConnectFailure,
                RefusedStream,
                ResetBeforeRequest,
                Reset,
                PerTryTimeout,
            ],
        ),
        (
            "gateway-error",
            &[
                ConnectFailure,
                RefusedStream,
                ResetBeforeRequest,
                Reset,
                PerTryTimeout,
            ],
        ),
        (
            "reset",
            &[
                ConnectFailure,
                RefusedStream,
                ResetBeforeRequest,
                Reset,
                PerTryTimeout,
            ],
        ),
        ("reset-before-request", &[ConnectFailure, ResetBeforeRequest]),
        ("connect-failure", &[ConnectFailure]),
        ("refused-stream", &[RefusedStream]),
        (
            "retriable-status-codes,503,cancelled,unavailable,retriable-4xx",
            &[],
        ),
    ];
    let all = [
        ConnectFailure,
        RefusedStream,
        ResetBeforeRequest,
        Reset,
        PerTryTimeout,
        Timeout,
        Overflow,
        NoEndpoint,
    ];
    for (retry_on, retried) in table {
        let policy = policy(retry_on, &[]);
        for outcome in all {
            assert_eq!(
                policy.should_retry(&outcome, 0),
                retried.contains(&outcome),
                "{retry_on} {outcome:?}"
            );
        }
    }
}

#[test]
fn a_gateway_api_stanza_adds_codes_to_the_default() {
    let policy = RetryPolicy::gateway_api(None, [StatusCode::BAD_GATEWAY].into(), None);
    let response = |code: u16| Outcome::response(StatusCode::from_u16(code).unwrap(), &HeaderMap::new());
    assert!(policy.should_retry(&response(502), 1));
    assert!(!policy.should_retry(&response(502), 2));
    assert!(!policy.should_retry(&response(503), 0));
    assert!(policy.should_retry(&Outcome::ConnectFailure, 0));
    let none = RetryPolicy::gateway_api(Some(0), Box::default(), None);
    assert!(!none.should_retry(&Outcome::ConnectFailure, 0));
    assert!(!RetryPolicy::none().should_retry(&Outcome::ConnectFailure, 0));
}

#[test]
fn unknown_tokens_are_told() {
    let read = RetryOn::parse(" 5xx , bogus,,777, 503,503");
    assert_eq!(read.conditions.to_string(), "5xx,retriable-status-codes");
    assert_eq!(read.codes, [StatusCode::SERVICE_UNAVAILABLE]);
    assert_eq!(read.unknown, ["bogus", "777"]);
    assert!(RetryOn::parse("").conditions.is_empty());
}
