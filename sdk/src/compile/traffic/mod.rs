//! How destinations want to be called: DestinationRules and XBackendTrafficPolicies into
//! [`TrafficPolicy`], and the parts of routes that speak of traffic.
//!
//! ```text
//! DestinationRule ─▶ rules: which applies to this host, merged ─▶ Blocks of one port and subset ─▶ TrafficPolicy
//! Pods, slices ────▶ locality: who is near ─────────────────────────────────────────────────────▶ Rank
//! ```
//!
//! Each file reads one block, and is public so that a block can be tried alone.

mod apply;
mod balance;
mod budget;
mod constraint;
mod fault;
mod locality;
mod outlier;
mod pool;
mod retry;
mod rules;
mod tls;

use std::sync::Arc;

pub(crate) use apply::Traffic;
pub use balance::balance;
pub use budget::{budget, constraint};
pub(crate) use constraint::{Constraints, check as check_constraint};
pub use fault::fault;
pub use locality::{Nearness, Spot};
pub use outlier::outlier;
pub use pool::{connections, limits};
pub use retry::retries;
pub(crate) use rules::{Applied, Rules};
pub(crate) use tls::{Credentials, Demand};

use crate::config::istio::destination_rule::{
    ClientTLSSettings, ConnectionPoolSettings, LoadBalancerSettings, OutlierDetection, PortTrafficPolicy,
    RetryBudget, Subset, TrafficPolicy as Written,
};
use crate::policy::traffic::TrafficPolicy;

/// The blocks that apply to one port of one subset.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blocks<'a> {
    /// Who is chosen.
    pub load_balancer: Option<&'a LoadBalancerSettings>,
    /// How much at once, and over which connections.
    pub connection_pool: Option<&'a ConnectionPoolSettings>,
    /// Who is left alone.
    pub outlier_detection: Option<&'a OutlierDetection>,
    /// How many retries.
    pub retry_budget: Option<&'a RetryBudget>,
    /// What is spoken below HTTP.
    pub tls: Option<&'a ClientTLSSettings>,
}

impl<'a> Blocks<'a> {
    /// The blocks of a rule for a port. Settings of a port take the place of *all* of the rule's, blocks that they do
    /// not have included.
    pub fn of(rule: Option<&'a Written>, subset: Option<&'a Subset>, port: u16) -> Self {
        let (mut blocks, _) = rule.map(|it| Self::at(it, port)).unwrap_or_default();
        let Some(policy) = subset.and_then(|it| it.traffic_policy.as_deref()) else {
            return blocks;
        };
        let (own, by_port) = Self::at(policy, port);
        // A subset's block takes the place of the rule's; the settings of its port again of all of them.
        let over = |own: bool| own || by_port;
        if over(own.load_balancer.is_some()) {
            blocks.load_balancer = own.load_balancer;
        }
        if over(own.connection_pool.is_some()) {
            blocks.connection_pool = own.connection_pool;
        }
        if over(own.outlier_detection.is_some()) {
            blocks.outlier_detection = own.outlier_detection;
        }
        if over(own.tls.is_some()) {
            blocks.tls = own.tls;
        }
        // Ports have no budget of their own.
        blocks.retry_budget = own.retry_budget.or(blocks.retry_budget);
        blocks
    }

    /// The blocks of a policy for a port, and whether they are the port's own.
    fn at(policy: &'a Written, port: u16) -> (Self, bool) {
        let own = |it: &&PortTrafficPolicy| it.port.as_ref().is_some_and(|it| it.number == port);
        match policy.port_level_settings.iter().find(own) {
            Some(it) => {
                let blocks = Self {
                    load_balancer: it.load_balancer.as_ref(),
                    connection_pool: it.connection_pool.as_ref(),
                    outlier_detection: it.outlier_detection.as_ref(),
                    retry_budget: None,
                    tls: it.tls.as_ref(),
                };
                (blocks, true)
            }
            None => {
                let blocks = Self {
                    load_balancer: policy.load_balancer.as_ref(),
                    connection_pool: policy.connection_pool.as_ref(),
                    outlier_detection: policy.outlier_detection.as_ref(),
                    retry_budget: policy.retry_budget.as_ref(),
                    tls: policy.tls.as_ref(),
                };
                (blocks, false)
            }
        }
    }

    /// What the blocks come to.
    pub fn policy(&self) -> TrafficPolicy {
        let mut balance = self.load_balancer.map(balance).unwrap_or_default();
        // Istio's threshold is that of the block, 0 where it says nothing; only without a block is it Envoy's, which
        // would matter for endpoints that are not ready, and those are not listed here.
        balance.panic_percent = self
            .outlier_detection
            .and_then(|it| it.min_health_percent)
            .unwrap_or(0);
        TrafficPolicy {
            balance,
            outlier: self.outlier_detection.map(outlier),
            limits: self.connection_pool.map(limits).unwrap_or_default(),
            retries: budget(self.retry_budget, self.connection_pool),
            connections: self.connection_pool.map(connections).unwrap_or_default(),
        }
    }

    /// The same, shared with the default where it is no different.
    pub(crate) fn shared(&self, default: &Arc<TrafficPolicy>) -> Arc<TrafficPolicy> {
        let policy = self.policy();
        if policy == **default {
            Arc::clone(default)
        } else {
            Arc::new(policy)
        }
    }
}
