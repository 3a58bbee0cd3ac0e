//! `telemetry.istio.io/v1 Telemetry`: what is told of requests. What is not declared here is reported as ignored.

use std::collections::BTreeMap;

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
    /// Which requests are traced, and where to.
    pub tracing: Vec<Tracing>,
    /// Which metrics are told, and with which labels.
    pub metrics: Vec<Metrics>,
}

/// An entry of `tracing`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// Of which side of a request it speaks.
    #[serde(rename = "match")]
    pub selects: Option<LogSelector>,
    /// Where to; only the first counts.
    pub providers: Vec<ProviderRef>,
    /// How many of the traces that begin here are recorded, in percent.
    pub random_sampling_percentage: Option<f64>,
    /// Whether no spans are made, and headers pass as they are.
    pub disable_span_reporting: Option<bool>,
    /// Tags of spans, by name.
    pub custom_tags: Option<BTreeMap<String, CustomTag>>,
    /// Whether `x-request-id` decides which traces are recorded.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Whether spans say who recorded them.
    pub enable_istio_tags: Option<bool>,
    /// Whether the next on the way is told nothing of the trace.
    pub disable_context_propagation: Option<bool>,
}

/// A custom tag: one of the four.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomTag {
    /// A value.
    pub literal: Option<LiteralTag>,
    /// The value of a variable of this process.
    pub environment: Option<NamedTag>,
    /// The value of a request header.
    pub header: Option<NamedTag>,
    /// A format as of access logs.
    pub formatter: Option<LiteralTag>,
}

/// A value that is written out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LiteralTag {
    /// It.
    pub value: String,
}

/// A value that is found by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamedTag {
    /// The name.
    pub name: String,
    /// What is used where there is none.
    pub default_value: String,
}

/// An entry of `metrics`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metrics {
    /// To whom; what a wider Telemetry names if empty.
    pub providers: Vec<ProviderRef>,
    /// What is told otherwise, in order.
    pub overrides: Vec<MetricsOverrides>,
    /// How old what is reported of connections may be while they last.
    pub reporting_interval: Option<String>,
}

/// An entry of `overrides`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricsOverrides {
    /// Which metrics, and on which side.
    #[serde(rename = "match")]
    pub selects: Option<MetricSelector>,
    /// Whether they are not told.
    pub disabled: Option<bool>,
    /// Their labels, by name.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// `match` of MetricsOverrides.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricSelector {
    /// One of Istio's metrics, or `ALL_METRICS` (default).
    pub metric: Option<String>,
    /// One that an extension adds.
    pub custom_metric: Option<String>,
    /// `CLIENT_AND_SERVER` (default), `CLIENT` or `SERVER`.
    pub mode: Option<String>,
}

/// What becomes of a label.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagOverride {
    /// `UPSERT` (default) or `REMOVE`.
    pub operation: Option<String>,
    /// Its value: an expression in CEL.
    pub value: String,
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
