//! Faults that are asked for: a delay before a request, an error in place of its answer.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// A share of requests, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerMillion(u32);

impl PerMillion {
    /// No request.
    pub const NOBODY: Self = Self(0);
    /// All requests.
    pub const ALL: Self = Self(1_000_000);

    /// A percentage; what is finer than a millionth is cut off, and what is no percentage is brought into its range.
    pub fn percent(percent: f64) -> Self {
        // The cast cuts, and makes 0 of what is not a number.
        Self((percent.clamp(0.0, 100.0) * 10_000.0) as u32)
    }

    /// How many of a million.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Whether a uniformly random number falls into the share.
    pub fn takes(self, random: u64) -> bool {
        ((u128::from(random) * 1_000_000) >> 64) < u128::from(self.0)
    }
}

/// The faults of a route (`fault` of a VirtualService).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultPolicy {
    /// A delay, first.
    pub delay: Option<Delay>,
    /// An error, whether or not there was a delay.
    pub abort: Option<Abort>,
    /// Whether callers that can be trusted may ask for others by headers.
    pub by_header: bool,
}

/// A delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Of which requests.
    pub share: PerMillion,
    /// How long.
    pub time: Duration,
}

/// An error in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// To which requests.
    pub share: PerMillion,
    /// The status.
    pub status: StatusCode,
    /// The gRPC status, where one was asked for.
    pub grpc_status: Option<u16>,
}

/// What one request gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// How long it is delayed.
    pub delay: Option<Duration>,
    /// What it is answered with, and with which gRPC status.
    pub abort: Option<(StatusCode, Option<u16>)>,
}

impl Fault {
    /// Whether there is none.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl FaultPolicy {
    /// The faults that apply to a request with these headers: those that its caller asks for, where it may, take the
    /// place of the route's.
    pub fn applying(&self, headers: &HeaderMap, trusted: bool) -> Self {
        if !(self.by_header && trusted && Self::is_asked(headers)) {
            return *self;
        }
        let asked = Self::asked(headers);
        Self {
            delay: asked.delay.or(self.delay),
            abort: asked.abort.or(self.abort),
            by_header: true,
        }
    }

    /// What a request gets, by two independent draws.
    pub fn draw(&self, delay: u64, abort: u64) -> Fault {
        Fault {
            delay: self.delay.filter(|it| it.share.takes(delay)).map(|it| it.time),
            abort: self
                .abort
                .filter(|it| it.share.takes(abort))
                .map(|it| (it.status, it.grpc_status)),
        }
    }
}

/// The headers by which a trusted caller asks for faults itself, as Envoy's fault filter reads them.
pub const CONTROL: [&str; 5] = [DELAY, DELAY_PERCENT, ABORT, ABORT_GRPC, ABORT_PERCENT];

const DELAY: &str = "x-envoy-fault-delay-request";
const DELAY_PERCENT: &str = "x-envoy-fault-delay-request-percentage";
const ABORT: &str = "x-envoy-fault-abort-request";
const ABORT_GRPC: &str = "x-envoy-fault-abort-grpc-request";
const ABORT_PERCENT: &str = "x-envoy-fault-abort-request-percentage";

impl FaultPolicy {
    /// Whether the headers ask for a fault.
    pub fn is_asked(headers: &HeaderMap) -> bool {
        headers
            .keys()
            .any(|name| name.as_str().starts_with("x-envoy-fault-") && CONTROL.contains(&name.as_str()))
    }

    /// The faults that the headers ask for: all requests that ask get them, unless a percentage says fewer.
    pub fn asked(headers: &HeaderMap) -> Self {
        let number = |name: &str| -> Option<u64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
        let share = |name: &str| match number(name) {
            Some(percent) => PerMillion::percent(percent as f64),
            None => PerMillion::ALL,
        };
        let status = number(ABORT).filter(|it| (200..600).contains(it));
        let status = status.and_then(|it| StatusCode::from_u16(it as u16).ok());
        let grpc = number(ABORT_GRPC).and_then(|it| u16::try_from(it).ok());
        Self {
            delay: number(DELAY).map(|millis| Delay {
                share: share(DELAY_PERCENT),
                time: Duration::from_millis(millis),
            }),
            abort: (status.is_some() || grpc.is_some()).then(|| Abort {
                share: share(ABORT_PERCENT),
                status: status.unwrap_or(StatusCode::OK),
                grpc_status: grpc.filter(|_| status.is_none()),
            }),
            by_header: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_cut_to_millionths() {
        for (percent, millionths) in [
            (0.0, 0),
            (0.1, 1_000),
            (12.5, 125_000),
            (0.000_1, 1),
            (0.000_01, 0),
            (0.000_19, 1),
            (100.0, 1_000_000),
            (250.0, 1_000_000),
            (-1.0, 0),
            (f64::NAN, 0),
        ] {
            assert_eq!(PerMillion::percent(percent).get(), millionths, "{percent}");
        }
    }

    #[test]
    fn all_and_nobody_are_exact() {
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(PerMillion::ALL.takes(random));
            assert!(!PerMillion::NOBODY.takes(random));
        }
        let mut rng = fastrand::Rng::with_seed(3);
        let taken = (0..100_000)
            .filter(|_| PerMillion::percent(10.0).takes(rng.u64(..)))
            .count();
        assert!(taken.abs_diff(10_000) < 400, "{taken}");
    }

    #[test]
    fn headers_count_where_they_may() {
        let mut headers = HeaderMap::new();
        headers.insert(ABORT, "503".parse().unwrap());
        let route = FaultPolicy {
            delay: Some(Delay {
                share: PerMillion::ALL,
                time: Duration::from_secs(1),
            }),
            ..FaultPolicy::default()
        };
        assert_eq!(route.applying(&headers, true), route);
        let open = FaultPolicy {
            by_header: true,
            ..route
        };
        assert_eq!(open.applying(&headers, false), open);
        assert_eq!(open.applying(&HeaderMap::new(), true), open);
        let drawn = open.applying(&headers, true).draw(7, 7);
        assert_eq!(drawn.delay, Some(Duration::from_secs(1)));
        assert_eq!(drawn.abort, Some((StatusCode::SERVICE_UNAVAILABLE, None)));
    }

    #[test]
    fn callers_may_ask() {
        let mut headers = HeaderMap::new();
        assert!(!FaultPolicy::is_asked(&headers));
        headers.insert(DELAY, "250".parse().unwrap());
        headers.insert(ABORT, "503".parse().unwrap());
        headers.insert(ABORT_PERCENT, "0".parse().unwrap());
        assert!(FaultPolicy::is_asked(&headers));
        let drawn = FaultPolicy::asked(&headers).draw(7, 7);
        assert_eq!(drawn.delay, Some(Duration::from_millis(250)));
        assert_eq!(drawn.abort, None);
        headers.remove(ABORT_PERCENT);
        let drawn = FaultPolicy::asked(&headers).draw(7, 7);
        assert_eq!(drawn.abort, Some((StatusCode::SERVICE_UNAVAILABLE, None)));
        headers.remove(ABORT);
        headers.insert(ABORT_GRPC, "14".parse().unwrap());
        let drawn = FaultPolicy::asked(&headers).draw(7, 7);
        assert_eq!(drawn.abort, Some((StatusCode::OK, Some(14))));
    }
}
