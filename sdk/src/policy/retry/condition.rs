//! What is worth another attempt, in Envoy's words (`retryOn`).

use std::fmt;
use std::ops::BitOr;

use http::StatusCode;

/// A set of retry conditions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Conditions(u16);

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $token:literal;)*) => {
        impl Conditions {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// Every condition and how it is written.
            const TOKENS: &'static [(Self, &'static str)] = &[$((Self::$name, $token)),*];
        }
    };
}

conditions! {
    /// `5xx`: any 5xx, or no response at all.
    SERVER_ERROR = 0, "5xx";
    /// `gateway-error`: 502, 503, 504, or no response at all.
    GATEWAY_ERROR = 1, "gateway-error";
    /// `reset`: no response at all.
    RESET = 2, "reset";
    /// `reset-before-request`: reset before a byte of the request was sent.
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    /// `connect-failure`: no connection.
    CONNECT_FAILURE = 4, "connect-failure";
    /// `envoy-ratelimited`: a response with `x-envoy-ratelimited`.
    ENVOY_RATELIMITED = 5, "envoy-ratelimited";
    /// `retriable-4xx`: 409.
    RETRIABLE_4XX = 6, "retriable-4xx";
    /// `refused-stream`: HTTP/2 `REFUSED_STREAM`.
    REFUSED_STREAM = 7, "refused-stream";
    /// `retriable-status-codes`: a status that is listed.
    RETRIABLE_STATUS_CODES = 8, "retriable-status-codes";
    /// `cancelled`: gRPC status 1 in the headers.
    CANCELLED = 9, "cancelled";
    /// `deadline-exceeded`: gRPC status 4 in the headers.
    DEADLINE_EXCEEDED = 10, "deadline-exceeded";
    /// `internal`: gRPC status 13 in the headers.
    INTERNAL = 11, "internal";
    /// `resource-exhausted`: gRPC status 8 in the headers.
    RESOURCE_EXHAUSTED = 12, "resource-exhausted";
    /// `unavailable`: gRPC status 14 in the headers.
    UNAVAILABLE = 13, "unavailable";
    /// `retriable-headers`: a response with a header that is listed.
    RETRIABLE_HEADERS = 14, "retriable-headers";
    /// `http3-post-connect-failure`: HTTP/3 only, which is not spoken here: never fulfilled.
    HTTP3_POST_CONNECT_FAILURE = 15, "http3-post-connect-failure";
}

impl Conditions {
    /// What surely was not processed, as Istio sees it.
    pub const NOT_PROCESSED: Self =
        Self(Self::CONNECT_FAILURE.0 | Self::REFUSED_STREAM.0 | Self::UNAVAILABLE.0 | Self::CANCELLED.0);

    /// What Istio retries where nothing else is said: with the statuses that are listed, which may be none.
    pub const ISTIO_DEFAULT: Self = Self(Self::NOT_PROCESSED.0 | Self::RETRIABLE_STATUS_CODES.0);

    /// Whether all of `other` are in the set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that only a response fulfils which HTTP/2 alone can give, or gRPC's trailers-only form.
    pub(super) const HTTP2_ONLY: Self = Self(
        Self::REFUSED_STREAM.0
            | Self::CANCELLED.0
            | Self::DEADLINE_EXCEEDED.0
            | Self::INTERNAL.0
            | Self::RESOURCE_EXHAUSTED.0
            | Self::UNAVAILABLE.0,
    );

    /// Whether the set has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of the set that are in `other` too.
    pub(super) fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The condition that a gRPC status in the response's headers fulfils.
    pub(super) fn of_grpc_status(status: u16) -> Option<Self> {
        Some(match status {
            1 => Self::CANCELLED,
            4 => Self::DEADLINE_EXCEEDED,
            8 => Self::RESOURCE_EXHAUSTED,
            13 => Self::INTERNAL,
            14 => Self::UNAVAILABLE,
            _ => return None,
        })
    }
}

impl BitOr for Conditions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The tokens, joined by `,`.
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = Self::TOKENS
            .iter()
            .filter(|(condition, _)| self.contains(*condition));
        for (index, (_, token)) in tokens.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{token}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conditions({self})")
    }
}

/// A `retryOn` text, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// The conditions.
    pub conditions: Conditions,
    /// Those that are written as words; listing a status adds one that is not.
    worded: Conditions,
    /// Statuses named in the text, without doubles.
    pub codes: Vec<StatusCode>,
    /// Tokens that mean nothing; upstream ignores them silently.
    pub unknown: Vec<String>,
}

impl RetryOn {
    /// Reads tokens separated by commas. A registered HTTP status becomes a retriable status code, as in Istio;
    /// any other number is unknown.
    pub fn parse(text: &str) -> Self {
        let mut read = Self::default();
        for token in text.split(',').map(str::trim).filter(|token| !token.is_empty()) {
            let known = Conditions::TOKENS.iter().find(|(_, name)| *name == token);
            if let Some((condition, _)) = known {
                read.conditions = read.conditions | *condition;
                read.worded = read.worded | *condition;
            } else if let Some(code) = registered(token) {
                read.conditions = read.conditions | Conditions::RETRIABLE_STATUS_CODES;
                if !read.codes.contains(&code) {
                    read.codes.push(code);
                }
            } else {
                read.unknown.push(token.chars().take(60).collect());
            }
        }
        read
    }

    /// The conditions that are written as words.
    pub(super) fn worded(&self) -> Conditions {
        self.worded
    }
}

/// The status that a token names, if it is registered.
fn registered(token: &str) -> Option<StatusCode> {
    let code = StatusCode::from_bytes(token.as_bytes()).ok()?;
    code.canonical_reason().map(|_| code)
}
