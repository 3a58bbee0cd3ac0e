//! `telemetry.istio.io/v1 Telemetry`: what is told of requests. What is not declared here is reported as ignored.

use serde::Deserialize;

use super::{PolicyTargetReference, WorkloadSelector};
use crate::config::ObjectMeta;

/// `Telemetry`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Telemetry {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: TelemetrySpec,
}

/// `spec` of a Telemetry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TelemetrySpec {
    /// Workloads, by label.
    pub selector: Option<WorkloadSelector>,
    /// One target; counts only if `target_refs` is empty.
    pub target_ref: Option<PolicyTargetReference>,
    /// Targets.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Which requests are logged, and where to.
    pub access_logging: Vec<AccessLogging>,
}

/// An entry of `accessLogging`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessLogging {
    /// Of which side of a request it speaks.
    #[serde(rename = "match")]
    pub selects: Option<LogSelector>,
    /// Where to; what a wider Telemetry names if empty.
    pub providers: Vec<ProviderRef>,
    /// Whether those are not used.
    pub disabled: Option<bool>,
    /// Which requests.
    pub filter: Option<LogFilter>,
}

/// `match` of an AccessLogging.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogSelector {
    /// `CLIENT_AND_SERVER` (default), `CLIENT` or `SERVER`.
    pub mode: Option<String>,
}

/// A provider, by its name in the mesh configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderRef {
    /// The name.
    pub name: String,
}

/// `filter` of an AccessLogging.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogFilter {
    /// A condition in CEL.
    pub expression: String,
}
