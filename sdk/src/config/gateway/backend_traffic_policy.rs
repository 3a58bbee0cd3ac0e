//! `XBackendTrafficPolicy` (`gateway.networking.x-k8s.io`, experimental; GEP-3388).

use serde::Deserialize;

use super::SessionPersistence;
use crate::config::ObjectMeta;

/// `XBackendTrafficPolicy`: how backends are called, whatever route leads to them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct XBackendTrafficPolicy {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: BackendTrafficPolicySpec,
}

/// `spec` of an XBackendTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTrafficPolicySpec {
    /// Services, of the policy's own namespace.
    pub target_refs: Vec<LocalPolicyTargetReference>,
    /// How many retries.
    pub retry_constraint: Option<RetryConstraint>,
    /// How the requests of a session are kept together.
    pub session_persistence: Option<SessionPersistence>,
}

/// What a policy attaches to, in its own namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalPolicyTargetReference {
    /// Group; empty for core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// How many retries there may be.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryConstraint {
    /// Of the requests.
    pub budget: Option<BudgetDetails>,
    /// In any case.
    pub min_retry_rate: Option<RequestRate>,
}

/// A share of requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetDetails {
    /// From 0 to 100; 20 if absent.
    pub percent: Option<u32>,
    /// Over which time requests are counted; 10 s if absent.
    pub interval: Option<String>,
}

/// So many in so long.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestRate {
    /// How many; 10 if absent.
    pub count: Option<u32>,
    /// In how long; 1 s if absent.
    pub interval: Option<String>,
}
