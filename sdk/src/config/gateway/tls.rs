//! What Gateways say of TLS.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `tls` of a listener.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerTLS {
    /// `Terminate` (default) or `Passthrough`.
    pub mode: Option<String>,
    /// The certificates to terminate with.
    pub certificate_refs: Vec<ObjectReference>,
    /// Settings beside the API's.
    pub options: BTreeMap<String, String>,
}

/// `spec.tls` of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayTLS {
    /// Towards backends.
    pub backend: Option<BackendTLS>,
    /// Towards clients.
    pub frontend: Option<FrontendTLS>,
}

/// TLS towards backends.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTLS {
    /// The certificate that the Gateway shows to backends that speak TLS.
    pub client_certificate_ref: Option<ObjectReference>,
}

/// TLS towards clients.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendTLS {
    /// On every HTTPS listener.
    pub default: FrontendSettings,
    /// On those of one port instead.
    pub per_port: Vec<FrontendPort>,
}

/// Settings towards the clients of one port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendPort {
    /// The port.
    pub port: u16,
    /// The settings.
    pub tls: FrontendSettings,
}

/// Settings towards clients.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendSettings {
    /// How clients prove who they are; they need not if absent.
    pub validation: Option<FrontendValidation>,
}

/// How clients prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendValidation {
    /// Who must have signed their certificates.
    pub ca_certificate_refs: Vec<ObjectReference>,
    /// `AllowValidOnly` (default) or `AllowInsecureFallback`.
    pub mode: Option<String>,
}

/// A reference to an object that holds a certificate.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// Empty (core) if absent.
    pub group: Option<String>,
    /// `Secret` or `ConfigMap`.
    pub kind: Option<String>,
    /// The referrer's own if absent.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}
