//! `BackendTLSPolicy`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::ObjectMeta;

/// `BackendTLSPolicy`: TLS towards a backend, and whom it must prove to be. A field that is not declared here makes the
/// policy invalid: its target is not spoken to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTLSPolicy {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: BackendTLSPolicySpec,
}

/// `spec` of a BackendTLSPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTLSPolicySpec {
    /// Targets, in the policy's own namespace.
    pub target_refs: Vec<SectionTargetReference>,
    /// What the backend must prove.
    pub validation: BackendTLSValidation,
    /// Settings beside the API's.
    pub options: BTreeMap<String, String>,
}

/// What a policy attaches to: an object of its namespace, or a section of one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SectionTargetReference {
    /// Group; empty for core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Of a Service: one port, by name.
    pub section_name: Option<String>,
}

/// What a backend must prove.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTLSValidation {
    /// Who must have signed its certificate.
    pub ca_certificate_refs: Vec<LocalObjectReference>,
    /// `System`, instead.
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known_ca_certificates: Option<String>,
    /// The name to ask for, and to be proved where there are no `subject_alt_names`.
    pub hostname: String,
    /// Names one of which must be proved.
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// A reference to an object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalObjectReference {
    /// Group; empty for core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// A name in a certificate.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubjectAltName {
    /// `Hostname` or `URI`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For `Hostname`.
    pub hostname: String,
    /// For `URI`.
    pub uri: String,
}
