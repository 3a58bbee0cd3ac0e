//! How one destination wants to be called, and what is under way to it.

mod cell;
mod window;

use std::time::Duration;

pub use cell::{ClusterCell, Counter, Ticket};

use super::balance::BalancePolicy;
use super::limit::Limits;
use super::outlier::OutlierPolicy;
use super::retry::RetryBudget;

/// How a destination wants to be called (`trafficPolicy` of a DestinationRule), as it applies to one port of one
/// subset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    /// Who is chosen.
    pub balance: BalancePolicy,
    /// Who is left alone for a while; nobody, where there is no such policy.
    pub outlier: Option<OutlierPolicy>,
    /// How much at once.
    pub limits: Limits,
    /// How many retries.
    pub retries: RetryBudget,
    /// How connections are made and kept.
    pub connections: ConnectionPolicy,
}

/// How connections to a destination are made and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionPolicy {
    /// How long connecting may take; `None` leaves it to Istio's default, and through a tunnel to the limits of its two ends.
    pub connect_timeout: Option<Duration>,
    /// How long a connection may idle; `None` leaves it to the pool.
    pub idle_timeout: Option<Duration>,
    /// How old a connection may become before it is used no more.
    pub max_age: Option<Duration>,
    /// How many requests a connection may carry in all.
    pub max_requests: Option<u32>,
    /// How many requests an HTTP/2 connection may carry at once.
    pub max_streams: Option<u32>,
    /// TCP keep-alive.
    pub keepalive: Option<Keepalive>,
    /// HTTP/2 pings: how often, and how long an answer may take.
    pub ping: Option<(Duration, Duration)>,
    /// Which HTTP is spoken.
    pub upgrade: Upgrade,
}

/// TCP keep-alive; what is not given is the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// How many probes go unanswered before the connection is dead.
    pub probes: Option<u32>,
    /// How long a connection is quiet before the first.
    pub time: Option<Duration>,
    /// How long between them.
    pub interval: Option<Duration>,
}

/// Which HTTP is spoken to a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// What its port declares.
    #[default]
    Declared,
    /// HTTP/2, whatever is declared (`h2UpgradePolicy: UPGRADE`).
    Http2,
    /// What the caller speaks (`useClientProtocol`).
    Caller,
}

impl ConnectionPolicy {
    /// Istio's `connectTimeout`.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

    /// How long connecting to a socket may take.
    pub fn connect_within(&self) -> Duration {
        self.connect_timeout.unwrap_or(Self::CONNECT_TIMEOUT)
    }
}
