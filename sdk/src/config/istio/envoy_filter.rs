//! `EnvoyFilter`: pieces of Envoy's own configuration, and where they go.

use serde::Deserialize;
use serde_json::Value;

use super::PolicyTargetReference;
use crate::config::{Labels, ObjectMeta};

/// `EnvoyFilter`. What is carried out of it are rate limits; whatever else it asks for is refused.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyFilter {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: EnvoyFilterSpec,
}

/// `spec` of an EnvoyFilter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyFilterSpec {
    /// Workloads, by label; all of the namespace (of the mesh, in the root namespace) if absent.
    pub workload_selector: Option<LabelSelector>,
    /// Gateways, or services of waypoints, in place of a selector.
    pub target_refs: Vec<PolicyTargetReference>,
    /// The pieces.
    pub config_patches: Vec<ConfigPatch>,
    /// Among several EnvoyFilters: lower comes first.
    pub priority: i32,
}

/// Workloads by label, as Istio's older resources write them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// All of these must be equal.
    pub labels: Labels,
}

/// One piece.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigPatch {
    /// What it changes: `HTTP_FILTER`, `VIRTUAL_HOST`, `HTTP_ROUTE`, `CLUSTER`, …
    pub apply_to: String,
    /// Which of those.
    pub r#match: Option<Match>,
    /// How.
    pub patch: Patch,
}

/// Which parts of the configuration a piece changes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Match {
    /// `GATEWAY`, `SIDECAR_INBOUND`, `SIDECAR_OUTBOUND`, `WAYPOINT` or `ANY` (if absent).
    pub context: Option<String>,
    /// By proxy.
    pub proxy: Option<Value>,
    /// By listener.
    pub listener: Option<Value>,
    /// By route.
    pub route_configuration: Option<RouteConfiguration>,
    /// By cluster.
    pub cluster: Option<Value>,
}

/// Which routes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteConfiguration {
    /// Of the route configuration with this name.
    pub name: Option<String>,
    /// Of this port.
    pub port_number: Option<u16>,
    /// Of a port with this name.
    pub port_name: Option<String>,
    /// Of a Gateway.
    pub gateway: Option<String>,
    /// Of a virtual host.
    pub vhost: Option<VirtualHost>,
}

/// Which virtual host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualHost {
    /// Its name: `host:port`, or `inbound|http|port`; every one if empty.
    pub name: Option<String>,
    /// One with this domain.
    pub domain_name: Option<String>,
    /// Which of its routes.
    pub route: Option<RouteName>,
}

/// Which route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteName {
    /// Its name; every one if empty.
    pub name: Option<String>,
    /// By what it does: `ANY` (if absent), `ROUTE`, …
    pub action: Option<String>,
}

/// What becomes of the parts that match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Patch {
    /// `MERGE`, `ADD`, `INSERT_BEFORE`, …
    pub operation: String,
    /// In which order filters come.
    pub filter_class: Option<String>,
    /// The configuration.
    pub value: Value,
}
