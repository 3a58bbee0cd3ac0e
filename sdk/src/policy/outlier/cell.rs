//! What outlier detection remembers of one endpoint.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{Finding, OutlierPolicy};
use crate::policy::Outcome;

/// Errors in a row, and ejections in a row. Times are counted from whenever the caller likes, always the same.
///
/// All orderings are relaxed: the counters are statistics; who may eject or take back an endpoint is settled by the
/// lock of its cluster.
#[derive(Debug, Default)]
pub struct OutlierCell {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    ejected: AtomicBool,
    ejected_at: AtomicU64,
    times: AtomicU32,
}

impl OutlierCell {
    /// Whether the endpoint is ejected.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Counts how an attempt ended; true if the endpoint ought to be ejected for it. The row that led to it is over
    /// then, whether or not it can be ejected.
    pub fn observe(&self, policy: &OutlierPolicy, outcome: &Outcome) -> bool {
        let none = |counter: &AtomicU32| {
            // Most of the time there is nothing to forget, and reading spares the others' cache lines.
            if counter.load(Ordering::Relaxed) != 0 {
                counter.store(0, Ordering::Relaxed);
            }
        };
        match policy.find(outcome) {
            Finding::Nothing => false,
            Finding::Success => {
                none(&self.errors);
                none(&self.gateway_errors);
                none(&self.local_failures);
                false
            }
            Finding::Error { gateway } => {
                if policy.consecutive_local_failures.is_some() {
                    none(&self.local_failures);
                }
                let by_gateway = match gateway {
                    true => self.count(&self.gateway_errors, policy.consecutive_gateway_errors),
                    false => {
                        none(&self.gateway_errors);
                        false
                    }
                };
                self.count(&self.errors, policy.consecutive_errors) || by_gateway
            }
            Finding::LocalFailure { reached } => {
                // Envoy counts each connection that it has as a success of the endpoint's, whatever becomes of the request
                // on it: only connections that fail make a row.
                if reached {
                    none(&self.local_failures);
                }
                let limit = policy.consecutive_local_failures.unwrap_or(0);
                self.count(&self.local_failures, limit)
            }
        }
    }

    /// Counts one more; true if that makes it as many as allowed. The row of an endpoint that is ejected already goes
    /// on.
    fn count(&self, counter: &AtomicU32, limit: u32) -> bool {
        let reached = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1) == limit;
        if reached && !self.is_ejected() {
            counter.store(0, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// Ejects the endpoint.
    pub(in crate::policy) fn eject(&self, policy: &OutlierPolicy, now: Duration) {
        self.ejected_at.store(nanos(now), Ordering::Relaxed);
        let times = self.times.load(Ordering::Relaxed);
        if policy.base_ejection.saturating_mul(times) < policy.max_ejection() + policy.base_ejection {
            self.times.store(times.saturating_add(1), Ordering::Relaxed);
        }
        self.ejected.store(true, Ordering::Relaxed);
    }

    /// Carries out `sweeps` sweeps of which the last was due at `last`; true if one of them took the endpoint back.
    pub(in crate::policy) fn sweep(&self, policy: &OutlierPolicy, last: Duration, sweeps: u32) -> bool {
        let times = self.times.load(Ordering::Relaxed);
        let forgive = |sweeps: u32| {
            if times > 0 && sweeps > 0 {
                self.times.store(times.saturating_sub(sweeps), Ordering::Relaxed);
            }
        };
        if !self.is_ejected() {
            forgive(sweeps);
            return false;
        }
        let until = Duration::from_nanos(self.ejected_at.load(Ordering::Relaxed)) + policy.ejection(times);
        if until > last {
            return false;
        }
        for counter in [&self.errors, &self.gateway_errors, &self.local_failures] {
            counter.store(0, Ordering::Relaxed);
        }
        self.ejected.store(false, Ordering::Relaxed);
        // The first sweep after its time took it back; those after that find it in rotation.
        let after = (last - until).as_nanos() / policy.interval.as_nanos().max(1);
        forgive(
            u32::try_from(after)
                .unwrap_or(u32::MAX)
                .min(sweeps.saturating_sub(1)),
        );
        true
    }

    /// How often in a row it was ejected, less one for each sweep that found it in rotation.
    pub fn times(&self) -> u32 {
        self.times.load(Ordering::Relaxed)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
