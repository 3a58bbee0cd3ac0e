//! What a caller asks for by `x-envoy-*` headers.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Conditions, RetryOn, RetryPolicy};

/// The headers by which a caller steers retries and time limits. They are never sent on: they were meant for us.
pub const CONTROL: [&str; 7] = [
    RETRY_ON,
    RETRY_GRPC_ON,
    MAX_RETRIES,
    STATUS_CODES,
    HEADER_NAMES,
    TIMEOUT,
    PER_TRY_TIMEOUT,
];

const RETRY_ON: &str = "x-envoy-retry-on";
const RETRY_GRPC_ON: &str = "x-envoy-retry-grpc-on";
const MAX_RETRIES: &str = "x-envoy-max-retries";
const STATUS_CODES: &str = "x-envoy-retriable-status-codes";
const HEADER_NAMES: &str = "x-envoy-retriable-header-names";
const TIMEOUT: &str = "x-envoy-upstream-rq-timeout-ms";
const PER_TRY_TIMEOUT: &str = "x-envoy-upstream-rq-per-try-timeout-ms";

/// What a caller asks for. Whether it may is for others to say: only callers inside the mesh are listened to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Another retry policy: conditions are added to the route's, the number of retries replaces it.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Another limit for the whole request; zero for none.
    pub timeout: Option<Duration>,
    /// Another limit for each attempt; zero for none.
    pub per_try: Option<Duration>,
}

impl Asked {
    /// Whether the headers ask for anything. Costs a look at the names; nearly no request has any.
    pub fn is_in(headers: &HeaderMap) -> bool {
        headers
            .keys()
            .any(|name| name.as_str().starts_with("x-envoy-") && CONTROL.contains(&name.as_str()))
    }

    /// Asks whoever routes next for retries of whatever becomes of an attempt, or for none: for a waypoint, which cannot see
    /// what an application says of a request beside the request itself.
    pub fn write(headers: &mut HeaderMap, idempotent: bool) {
        let (name, value) = match idempotent {
            true => (RETRY_ON, "reset,connect-failure,refused-stream"),
            false => (MAX_RETRIES, "0"),
        };
        headers.insert(name, HeaderValue::from_static(value));
    }

    /// Reads what the headers ask for, where `policy` is the route's. Values that cannot be read ask for nothing.
    pub fn read(headers: &HeaderMap, policy: &RetryPolicy) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let millis = |name| Some(Duration::from_millis(text(name)?.trim().parse().ok()?));
        Self {
            retry: retry(text, policy).map(Arc::new),
            timeout: millis(TIMEOUT),
            per_try: millis(PER_TRY_TIMEOUT),
        }
    }
}

fn retry<'h>(text: impl Fn(&str) -> Option<&'h str>, policy: &RetryPolicy) -> Option<RetryPolicy> {
    let on: Vec<RetryOn> = [RETRY_ON, RETRY_GRPC_ON]
        .into_iter()
        .filter_map(|name| text(name).map(RetryOn::parse))
        .collect();
    let max: Option<u32> = text(MAX_RETRIES).and_then(|max| max.trim().parse().ok());
    let listed = |name| {
        text(name)
            .into_iter()
            .flat_map(|list| list.split(','))
            .map(str::trim)
    };
    let codes = listed(STATUS_CODES).filter_map(|code| StatusCode::from_bytes(code.as_bytes()).ok());
    let codes: Vec<StatusCode> = codes.collect();
    let names = listed(HEADER_NAMES).filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    let names: Vec<HeaderName> = names.collect();
    if on.is_empty() && max.is_none() && codes.is_empty() && names.is_empty() {
        return None;
    }
    let mut asked = policy.clone();
    let mut all_codes = asked.codes.into_vec();
    for on in on {
        // A number is Istio's way to list a status in YAML; in the header it means nothing.
        asked.conditions = asked.conditions | on.worded();
        // Who asks for retries means at least one.
        asked.attempts = asked.attempts.max(1);
    }
    // Lists count only if the condition that looks at them is asked for too.
    all_codes.extend(codes);
    if let Some(max) = max {
        asked.attempts = max;
    }
    asked.codes = all_codes.into();
    asked.headers = asked.headers.into_vec().into_iter().chain(names).collect();
    if asked.conditions == Conditions::default() {
        asked.attempts = 0;
    }
    Some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&'static str, &str)], policy: &RetryPolicy) -> Asked {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        assert_eq!(Asked::is_in(&headers), !pairs.is_empty());
        Asked::read(&headers, policy)
    }

    #[test]
    fn conditions_are_added_and_the_number_replaced() {
        let policy = RetryPolicy::istio_default();
        assert_eq!(asked(&[], &policy), Asked::default());
        let read = asked(
            &[("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "7")],
            &policy,
        );
        let retry = read.retry.unwrap();
        assert_eq!(retry.attempts, 7);
        assert_eq!(
            retry.conditions,
            Conditions::ISTIO_DEFAULT | Conditions::SERVER_ERROR
        );
        let grpc = asked(&[("x-envoy-retry-grpc-on", "internal")], &RetryPolicy::none())
            .retry
            .unwrap();
        assert_eq!((grpc.attempts, grpc.conditions), (1, Conditions::INTERNAL));
        let fewer = asked(&[("x-envoy-max-retries", "0")], &policy).retry.unwrap();
        assert_eq!(fewer.attempts, 0);
    }

    #[test]
    fn what_is_written_is_read_as_it_is_meant() {
        let policy = RetryPolicy::istio_default();
        let written = |idempotent| {
            let mut headers = HeaderMap::new();
            Asked::write(&mut headers, idempotent);
            assert!(Asked::is_in(&headers));
            Asked::read(&headers, &policy).retry.unwrap()
        };
        assert_eq!(written(false).attempts, 0);
        let widened = written(true);
        assert_eq!(widened.attempts, policy.attempts);
        assert_eq!(widened.conditions, policy.hinted(true).conditions);
    }

    #[test]
    fn codes_and_headers_can_be_listed() {
        let read = asked(
            &[
                ("x-envoy-retry-on", "retriable-status-codes,retriable-headers"),
                ("x-envoy-retriable-status-codes", "418, 499,x"),
                ("x-envoy-retriable-header-names", "X-Try-Again"),
            ],
            &RetryPolicy::none(),
        );
        let retry = read.retry.unwrap();
        assert_eq!(
            *retry.codes,
            [StatusCode::IM_A_TEAPOT, StatusCode::from_u16(499).unwrap()]
        );
        let mut headers = HeaderMap::new();
        let fine = super::super::Outcome::response(StatusCode::OK, &headers);
        assert!(!retry.should_retry(&fine, Some(&headers), 0));
        headers.insert("x-try-again", "1".parse().unwrap());
        assert!(retry.should_retry(&fine, Some(&headers), 0));
    }

    #[test]
    fn limits_are_milliseconds() {
        let read = asked(
            &[
                ("x-envoy-upstream-rq-timeout-ms", "1500"),
                ("x-envoy-upstream-rq-per-try-timeout-ms", "soon"),
            ],
            &RetryPolicy::none(),
        );
        assert_eq!(read.timeout, Some(Duration::from_millis(1_500)));
        assert_eq!(read.per_try, None);
        assert_eq!(read.retry, None);
    }
}
