//! Gateway API kinds (`gateway.networking.k8s.io`).

mod backend_tls_policy;
mod backend_traffic_policy;
mod connection_route;
mod grpc_route;
mod http_route;
mod listener_set;
mod tls;

use serde::Deserialize;

pub use backend_tls_policy::*;
pub use backend_traffic_policy::*;
pub use connection_route::*;
pub use grpc_route::*;
pub use http_route::*;
pub use listener_set::*;
pub use tls::*;

use super::{LabelSelector, ObjectMeta};

/// `GatewayClass`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayClass {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: GatewayClassSpec,
}

/// `spec` of a GatewayClass.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayClassSpec {
    /// Who implements the class.
    pub controller_name: String,
    /// Settings beside the API's.
    pub parameters_ref: Option<LocalObjectReference>,
}

/// `Gateway`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: GatewaySpec,
    /// What a controller reports; its addresses say that a waypoint can be used.
    pub status: GatewayStatus,
}

/// `spec` of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySpec {
    /// The class: `istio-waypoint`, `istio`, …
    pub gateway_class_name: String,
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// TLS settings of all listeners.
    pub tls: Option<GatewayTLS>,
    /// Addresses that it shall have.
    pub addresses: Vec<GatewayAddress>,
    /// Settings for whoever runs the Gateway's instances.
    pub infrastructure: Option<Infrastructure>,
    /// Which ListenerSets may add listeners; none if absent.
    pub allowed_listeners: Option<AllowedListeners>,
}

/// Which ListenerSets may add listeners to a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowedListeners {
    /// From which namespaces; from none if absent.
    pub namespaces: Option<RouteNamespaces>,
}

/// `spec.infrastructure` of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Infrastructure {
    /// Settings beside the API's.
    pub parameters_ref: Option<LocalObjectReference>,
}

/// A listener of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    /// Name.
    pub name: String,
    /// Port.
    pub port: u16,
    /// `HBONE`, `HTTP`, `HTTPS`, …
    pub protocol: String,
    /// Host names it serves; all if absent.
    pub hostname: Option<String>,
    /// TLS, for `HTTPS` and `TLS`.
    pub tls: Option<ListenerTLS>,
    /// Which routes may attach.
    pub allowed_routes: Option<AllowedRoutes>,
}

/// Which routes may attach to a listener; for a waypoint, whose services may use it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowedRoutes {
    /// From which namespaces; the Gateway's own if absent.
    pub namespaces: Option<RouteNamespaces>,
    /// Which kinds; those that fit the protocol if empty.
    pub kinds: Vec<RouteGroupKind>,
}

/// From which namespaces routes may attach, or ListenerSets.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteNamespaces {
    /// `Same` (the default for routes), `All`, `Selector` or `None` (the default for ListenerSets).
    pub from: Option<String>,
    /// Labels of admitted namespaces, for `Selector`.
    pub selector: Option<LabelSelector>,
}

/// A kind of route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteGroupKind {
    /// `gateway.networking.k8s.io` if absent.
    pub group: Option<String>,
    /// The kind.
    pub kind: String,
}

/// `status` of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayStatus {
    /// Where the gateway can be reached.
    pub addresses: Vec<GatewayAddress>,
}

/// An address of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayAddress {
    /// `IPAddress` (default) or `Hostname`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The address.
    pub value: String,
}

/// `ReferenceGrant`: lets objects of other namespaces refer to objects of its own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReferenceGrant {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: ReferenceGrantSpec,
}

/// `spec` of a ReferenceGrant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReferenceGrantSpec {
    /// Who may refer.
    pub from: Vec<GrantFrom>,
    /// To what.
    pub to: Vec<GrantTo>,
}

/// Who a grant admits.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrantFrom {
    /// Group of the referring kind.
    pub group: String,
    /// The referring kind.
    pub kind: String,
    /// The referring namespace.
    pub namespace: String,
}

/// What a grant opens.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrantTo {
    /// Group of the kind referred to; empty for core.
    pub group: String,
    /// The kind referred to.
    pub kind: String,
    /// One object; all of the kind if absent.
    pub name: Option<String>,
}
