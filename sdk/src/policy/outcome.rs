//! How an attempt ended, in the words that retries and outlier detection understand.

use http::{HeaderMap, HeaderName, StatusCode};

use crate::name::field;

/// How one attempt to get a response from an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Response headers came.
    Response {
        /// The status.
        status: StatusCode,
        /// `grpc-status` of a trailers-only response: of the headers, never of trailers that come later.
        grpc_status: Option<u16>,
        /// Whether `x-envoy-ratelimited` says that the refusal is meant.
        rate_limited: bool,
    },
    /// No connection (TCP, TLS or tunnel), or not in time.
    ConnectFailure,
    /// HTTP/2 `REFUSED_STREAM`: the peer promises not to have seen the request.
    RefusedStream,
    /// The connection ended before any byte of the request was written.
    ResetBeforeRequest,
    /// The stream or connection ended after the request was (partly) written and before response headers.
    Reset,
    /// No response headers within the time for one attempt.
    PerTryTimeout,
    /// The time for the whole exchange is over. Never retried.
    Timeout,
    /// A limit of ours (pool, circuit breaker) refused. Never retried.
    Overflow,
    /// Nobody to ask. Never retried: the next pick would find the same.
    NoEndpoint,
}

impl Outcome {
    /// The outcome of a response, from its head.
    pub fn response(status: StatusCode, headers: &HeaderMap) -> Self {
        // Names that are known beforehand need not be read each time.
        const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
        const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
        let grpc_status = field(headers, &GRPC_STATUS)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok());
        Self::Response {
            status,
            grpc_status,
            rate_limited: field(headers, &RATE_LIMITED).is_some(),
        }
    }

    /// Whether no response came and the fault is the upstream's: any kind of reset, as Envoy counts them.
    pub fn is_reset(&self) -> bool {
        matches!(
            self,
            Self::ConnectFailure
                | Self::RefusedStream
                | Self::ResetBeforeRequest
                | Self::Reset
                | Self::PerTryTimeout
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_numeric_grpc_status_counts() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", "14".parse().unwrap());
        let of = |headers: &HeaderMap| match Outcome::response(StatusCode::OK, headers) {
            Outcome::Response { grpc_status, .. } => grpc_status,
            _ => None,
        };
        assert_eq!(of(&headers), Some(14));
        headers.insert("grpc-status", "many".parse().unwrap());
        assert_eq!(of(&headers), None);
    }
}
