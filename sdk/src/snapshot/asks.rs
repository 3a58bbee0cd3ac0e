//! What has to be done for a request beside deciding it, if anything: found out once per snapshot.

use super::{Gate, InboundPolicy, Snapshot};

/// What any gate of this process asks for. What none does, no request need look for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Tokens.
    pub tokens: bool,
    /// External authorizers.
    pub authorizers: bool,
    /// A word from policies that decide nothing: AUDIT, and those in dry run.
    pub remarks: bool,
}

impl Snapshot {
    /// What any gate of this process asks for.
    pub fn asks(&self) -> Asks {
        *self.asks.get_or_init(|| {
            let mut asks = Asks::default();
            let mut look = |gate: &Gate| {
                asks.tokens |= gate.tokens.is_some();
                asks.authorizers |= gate.authz.authorizer().is_some();
                asks.remarks |= gate.authz.remarks();
            };
            match &self.inbound {
                InboundPolicy::DenyAll => {}
                InboundPolicy::Workload(policy) => {
                    look(&policy.http);
                    let guards = policy.ports.values().flatten();
                    guards.for_each(|guard| look(&guard.http));
                }
                InboundPolicy::Waypoint(policy) => {
                    let guards = policy.services.values().flatten();
                    guards.for_each(|guard| look(&guard.http));
                    policy.workloads.values().for_each(|gate| look(gate));
                    self.gateway.listeners().for_each(|listener| look(&listener.gate));
                }
            }
            asks
        })
    }
}
