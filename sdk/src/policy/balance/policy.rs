//! How the endpoint that is asked is chosen.

use super::{HashKey, Warmup};

/// How the endpoint that is asked is chosen (`loadBalancer` of a DestinationRule).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BalancePolicy {
    /// By which rule.
    pub algorithm: Algorithm,
    /// By what a request is hashed, where the rule asks for a hash.
    pub hash: Option<HashKey>,
    /// If less than this share of the endpoints is healthy, all are used. Zero: never.
    pub panic_percent: u32,
    /// How new endpoints are broken in.
    pub warmup: Option<Warmup>,
}

/// By which rule an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Of two at random the one with fewer requests under way: Istio's default.
    #[default]
    LeastRequest,
    /// Of two at random the one that is expected to answer sooner: by a peak-sensitive moving average of how long it took
    /// of late, times the requests under way to it.
    PeakEwma,
    /// One after another.
    RoundRobin,
    /// Any; weights do not matter, as in Envoy.
    Random,
    /// By hash, on a ring of at least so many points.
    RingHash {
        /// How many points.
        min: u64,
    },
    /// By hash, in a table of so many slots.
    Maglev {
        /// How many slots: a prime.
        size: u64,
    },
}

impl Algorithm {
    /// Envoy's ring.
    pub const RING: Self = Self::RingHash { min: 1_024 };
    /// Envoy's table.
    pub const MAGLEV: Self = Self::Maglev { size: 65_537 };

    /// Whether it is told how long attempts took.
    pub fn is_timed(&self) -> bool {
        matches!(self, Self::PeakEwma)
    }

    /// Whether like requests find the same endpoint.
    pub fn is_consistent(&self) -> bool {
        matches!(self, Self::RingHash { .. } | Self::Maglev { .. })
    }
}
