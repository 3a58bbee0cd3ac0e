//! What `tests/corpus/traffic` leaves open; its tables are judged by the corpus runner.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::*;

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
fn a_budget_without_a_number_admits_the_least() {
    let budget = RetryBudget::share(f64::NAN, 2);
    let with = |retries| Usage {
        requests: 1_000,
        retries,
        ..Usage::default()
    };
    assert!(budget.admits(&with(1)));
    assert!(!budget.admits(&with(2)));
    assert!(RetryBudget::Concurrent(1).admits(&with(0)));
    assert!(!RetryBudget::Concurrent(1).admits(&with(1)));
}

#[test]
fn a_short_retry_after_is_kept_to() {
    let policy = RetryPolicy::istio_default();
    let response = |seconds: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", seconds.parse().unwrap());
        headers
    };
    let second = Duration::from_secs(1);
    assert_eq!(policy.pause(1, Some(&response("1")), 0), second);
    assert!(policy.pause(1, Some(&response("1")), u64::MAX) < second * 3 / 2);
    for other in ["2", "120", "Wed, 21 Oct 2026 07:28:00 GMT", "-1"] {
        assert!(
            policy.pause(1, Some(&response(other)), u64::MAX) < second,
            "{other}"
        );
    }
    assert!(policy.pause(1, None, u64::MAX) < second);
}

/// What Envoy calls rate limited back-off, with the header that its rate limits write.
#[test]
fn the_reset_of_a_limit_that_is_used_up_is_waited_for() {
    let policy = RetryPolicy::istio_default();
    let pause = |headers: &[(&'static str, &str)]| {
        let mut response = HeaderMap::new();
        for (name, value) in headers {
            response.insert(*name, value.parse().unwrap());
        }
        policy.pause(1, Some(&response), 0)
    };
    let second = Duration::from_secs(1);
    assert_eq!(pause(&[("x-ratelimit-reset", "1")]), second);
    assert_eq!(
        pause(&[("x-ratelimit-reset", "1"), ("x-ratelimit-remaining", "0")]),
        second
    );
    for other in [
        &[("x-ratelimit-reset", "1"), ("x-ratelimit-remaining", "7")][..],
        &[("x-ratelimit-reset", "30")],
        &[("x-ratelimit-reset", "0")],
        &[("x-ratelimit-reset", "soon")],
        &[("x-ratelimit-remaining", "0")],
    ] {
        assert_eq!(pause(other), Duration::ZERO, "{other:?}");
    }
    assert_eq!(
        pause(&[("retry-after", "0"), ("x-ratelimit-reset", "1")]),
        Duration::ZERO,
        "the standard's own header says more"
    );
}

#[test]
fn an_application_may_widen_or_forbid() {
    let policy = RetryPolicy {
        codes: [StatusCode::BAD_GATEWAY].into(),
        ..RetryPolicy::istio_default()
    };
    let bad_gateway = Outcome::response(StatusCode::BAD_GATEWAY, &HeaderMap::new());
    assert!(!policy.should_retry(&Outcome::Reset, None, 0));
    assert!(policy.hinted(true).should_retry(&Outcome::Reset, None, 0));
    assert!(policy.hinted(true).should_retry(&bad_gateway, None, 0));
    let forbidden = policy.hinted(false);
    assert!(!forbidden.should_retry(&bad_gateway, None, 0));
    assert!(forbidden.should_retry(&Outcome::ConnectFailure, None, 0));
    assert!(forbidden.should_retry(&Outcome::RefusedStream, None, 0));
}

#[test]
fn a_copy_is_kept_only_where_it_may_be_sent() {
    let default = RetryPolicy::istio_default();
    assert!(!default.repeats_sent(false));
    assert!(default.repeats_sent(true));
    assert!(policy("503", &[]).repeats_sent(false));
    assert!(!policy("retriable-headers,connect-failure", &[]).repeats_sent(true));
    assert!(!RetryPolicy::none().repeats_sent(true));
}

/// The table of `retryOn` conditions against attempts without a response.
#[test]
fn attempts_without_a_response() {
    use Outcome::*;
    let table: [(&str, &[Outcome]); 8] = [
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
        ("http3-post-connect-failure,retriable-headers", &[]),
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
                policy.should_retry(&outcome, None, 0),
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
    assert!(policy.should_retry(&response(502), None, 1));
    assert!(!policy.should_retry(&response(502), None, 2));
    assert!(!policy.should_retry(&response(503), None, 0));
    assert!(policy.should_retry(&Outcome::ConnectFailure, None, 0));
    assert_eq!(policy.conditions, Conditions::ISTIO_DEFAULT);
    for lost in [
        Outcome::Reset,
        Outcome::ResetBeforeRequest,
        Outcome::PerTryTimeout,
    ] {
        assert!(policy.should_retry(&lost, None, 1), "{lost:?}");
        assert!(!policy.should_retry(&lost, None, 2), "{lost:?}");
        assert!(
            !RetryPolicy::istio_default().should_retry(&lost, None, 0),
            "{lost:?}"
        );
    }
    assert!(!policy.hinted(false).should_retry(&Outcome::Reset, None, 0));
    assert!(policy.repeats_sent(false), "what was sent must be kept");
    assert!(!policy.should_retry(&Outcome::Timeout, None, 0));
    let none = RetryPolicy::gateway_api(Some(0), Box::default(), None);
    assert!(!none.should_retry(&Outcome::ConnectFailure, None, 0));
    assert!(!RetryPolicy::none().should_retry(&Outcome::ConnectFailure, None, 0));
}

#[test]
fn unknown_tokens_are_told() {
    let read = RetryOn::parse(" 5xx , bogus,,777, 503,503");
    assert_eq!(read.conditions.to_string(), "5xx,retriable-status-codes");
    assert_eq!(read.codes, [StatusCode::SERVICE_UNAVAILABLE]);
    assert_eq!(read.unknown, ["bogus", "777"]);
    assert!(RetryOn::parse("").conditions.is_empty());
}
