//! Istio kinds (`networking.istio.io`, `security.istio.io`).

pub mod destination_rule;
mod duration;
pub mod envoy_filter;
mod gateway;
mod grpc_status;
pub mod mesh_config;
mod request_authentication;
pub mod telemetry;
pub mod virtual_service;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use destination_rule::DestinationRule;
pub use duration::GoDuration;
pub use envoy_filter::EnvoyFilter;
pub use gateway::{
    IstioGateway, IstioGatewaySpec, Server, ServerPort, ServerTLSSettings, ServerTLSmode, TLSCertificate,
};
pub use grpc_status::grpc_status;
pub use mesh_config::MeshConfig;
pub use request_authentication::{
    ClaimToHeader, JwtHeader, JwtRule, RequestAuthentication, RequestAuthenticationSpec,
};
pub use telemetry::Telemetry;
pub use virtual_service::VirtualService;

use super::{Labels, ObjectMeta};

/// `AuthorizationPolicy`. A field that is not declared here makes the policy invalid: its target denies.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationPolicy {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: AuthorizationPolicySpec,
}

/// `spec` of an AuthorizationPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationPolicySpec {
    /// Workloads, by label.
    pub selector: Option<WorkloadSelector>,
    /// One target; counts only if `target_refs` is empty.
    pub target_ref: Option<PolicyTargetReference>,
    /// Targets.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Rules; absent and empty mean: never matches.
    pub rules: Vec<AuthorizationRule>,
    /// `ALLOW` (default), `DENY`, `AUDIT` or `CUSTOM`.
    pub action: Option<String>,
    /// For `CUSTOM`.
    pub provider: Option<ExtensionProvider>,
}

/// Workloads by label.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// All of these must be equal.
    pub match_labels: Labels,
}

/// What a policy attaches to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyTargetReference {
    /// Group; empty for core.
    pub group: String,
    /// `Service`, `ServiceEntry`, `Gateway` or `GatewayClass`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Must be empty.
    pub namespace: Option<String>,
}

/// An external authorizer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    /// Name in MeshConfig.
    pub name: String,
}

/// A rule: any of `from`, any of `to`, all of `when`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationRule {
    /// Callers.
    pub from: Vec<RuleFrom>,
    /// Operations.
    pub to: Vec<RuleTo>,
    /// Conditions.
    pub when: Vec<RuleCondition>,
}

/// One alternative of `from`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleFrom {
    /// The caller; required by validation.
    pub source: Option<RuleSource>,
}

/// One alternative of `to`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleTo {
    /// The operation; required by validation.
    pub operation: Option<RuleOperation>,
}

/// Who calls: fields ANDed, values ORed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)] // the fields are upstream's
pub struct RuleSource {
    pub principals: Vec<String>,
    pub not_principals: Vec<String>,
    pub request_principals: Vec<String>,
    pub not_request_principals: Vec<String>,
    pub namespaces: Vec<String>,
    pub not_namespaces: Vec<String>,
    pub ip_blocks: Vec<String>,
    pub not_ip_blocks: Vec<String>,
    pub remote_ip_blocks: Vec<String>,
    pub not_remote_ip_blocks: Vec<String>,
    pub service_accounts: Vec<String>,
    pub not_service_accounts: Vec<String>,
    pub trust_domains: Vec<String>,
    pub not_trust_domains: Vec<String>,
}

/// What is asked for: fields ANDed, values ORed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)] // the fields are upstream's
pub struct RuleOperation {
    pub hosts: Vec<String>,
    pub not_hosts: Vec<String>,
    pub ports: Vec<String>,
    pub not_ports: Vec<String>,
    pub methods: Vec<String>,
    pub not_methods: Vec<String>,
    pub paths: Vec<String>,
    pub not_paths: Vec<String>,
}

/// A condition on one attribute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleCondition {
    /// The attribute.
    pub key: String,
    /// Any of these.
    pub values: Vec<String>,
    /// None of these.
    pub not_values: Vec<String>,
}

/// `PeerAuthentication`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerAuthentication {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: PeerAuthenticationSpec,
}

/// `spec` of a PeerAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerAuthenticationSpec {
    /// Workloads, by label.
    pub selector: Option<WorkloadSelector>,
    /// The mode for all ports.
    pub mtls: Option<MutualTls>,
    /// The mode by workload port; needs a selector.
    pub port_level_mtls: BTreeMap<u32, MutualTls>,
}

/// A mutual TLS mode.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MutualTls {
    /// `UNSET`, `DISABLE`, `PERMISSIVE` or `STRICT`.
    pub mode: Option<String>,
}

/// `ServiceEntry`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntry {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: ServiceEntrySpec,
}

/// `spec` of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntrySpec {
    /// Host names, `*.`-wildcards allowed.
    pub hosts: Vec<String>,
    /// Virtual addresses.
    pub addresses: Vec<String>,
    /// Ports.
    pub ports: Vec<ServiceEntryPort>,
    /// `MESH_EXTERNAL` (default) or `MESH_INTERNAL`.
    pub location: Option<String>,
    /// `NONE` (default), `STATIC`, `DNS` or `DNS_ROUND_ROBIN`.
    pub resolution: Option<String>,
    /// Endpoints.
    pub endpoints: Vec<WorkloadEntrySpec>,
    /// Endpoints by label, instead of `endpoints`.
    pub workload_selector: Option<ServiceEntryWorkloadSelector>,
    /// Namespaces that see it; all if empty.
    pub export_to: Vec<String>,
    /// Identities that the endpoints may prove.
    pub subject_alt_names: Vec<String>,
}

/// Workloads by label, as ServiceEntry writes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceEntryWorkloadSelector {
    /// All of these must be equal.
    pub labels: Labels,
}

/// A port of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntryPort {
    /// The port callers use.
    pub number: u16,
    /// `HTTP`, `HTTP2`, `GRPC`, `TCP`, `TLS`, …
    pub protocol: Option<String>,
    /// Name.
    pub name: String,
    /// The port on the endpoint; `number` if absent.
    pub target_port: Option<u16>,
}

/// `WorkloadEntry`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEntry {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: WorkloadEntrySpec,
}

/// `spec` of a WorkloadEntry, and an endpoint of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEntrySpec {
    /// IP address, or host name for DNS resolution.
    pub address: Option<String>,
    /// Ports by name of the service port.
    pub ports: BTreeMap<String, u16>,
    /// Labels, beside the metadata's.
    pub labels: Labels,
    /// The service account; `default` if absent.
    pub service_account: Option<String>,
    /// Share; 1 if absent.
    pub weight: Option<u32>,
    /// `region/zone/subzone`.
    pub locality: Option<String>,
}
