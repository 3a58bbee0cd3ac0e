//! Which `apiVersion` and `kind` make which resource.

use serde::de::DeserializeOwned;

use super::Resource;
use super::node::Node;
use super::typed::{self, Misfit, Remarks};
use crate::name::Kind;

/// The group whose kinds decide who may do what.
pub(super) const SECURITY_GROUP: &str = "security.istio.io";

/// The group of Gateway API.
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// What an object says it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// One that we read.
    Yes(Kind),
    /// A policy of a version that we do not know: not to be read, not to be passed over.
    Policy(Kind),
    /// Anything else.
    No,
}

/// Finds the kind. All versions that the groups serve or served have the same fields where we look.
pub(super) fn dispatch(api_version: &str, kind: &str) -> Known {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let served: &[&str] = match group {
        "" | "apps" | "discovery.k8s.io" => &["v1"],
        "networking.istio.io" => &["v1", "v1beta1", "v1alpha3"],
        SECURITY_GROUP => &["v1", "v1beta1"],
        "telemetry.istio.io" => &["v1", "v1alpha1"],
        "gateway.networking.x-k8s.io" => &["v1alpha1"],
        // BackendTLSPolicy was another resource before v1alpha3.
        GATEWAY_GROUP if kind == "BackendTLSPolicy" => &["v1", "v1alpha3"],
        GATEWAY_GROUP if kind == "ListenerSet" => &["v1"],
        GATEWAY_GROUP if kind == "TLSRoute" => &["v1", "v1alpha3", "v1alpha2"],
        GATEWAY_GROUP => &["v1", "v1beta1", "v1alpha2"],
        _ => &[],
    };
    let kind = match (group, kind) {
        ("", "Namespace") => Kind::Namespace,
        ("", "Service") => Kind::Service,
        ("", "ServiceAccount") => Kind::ServiceAccount,
        ("", "Secret") => Kind::Secret,
        ("", "ConfigMap") => Kind::ConfigMap,
        ("", "Node") => Kind::Node,
        ("", "Pod") => Kind::Pod,
        ("apps", "Deployment") => Kind::Deployment,
        ("discovery.k8s.io", "EndpointSlice") => Kind::EndpointSlice,
        ("networking.istio.io", "WorkloadEntry") => Kind::WorkloadEntry,
        ("networking.istio.io", "ServiceEntry") => Kind::ServiceEntry,
        ("networking.istio.io", "VirtualService") => Kind::VirtualService,
        ("networking.istio.io", "DestinationRule") => Kind::DestinationRule,
        ("networking.istio.io", "Gateway") => Kind::IstioGateway,
        ("networking.istio.io", "EnvoyFilter") => Kind::EnvoyFilter,
        (GATEWAY_GROUP, "Gateway") => Kind::Gateway,
        (GATEWAY_GROUP, "GatewayClass") => Kind::GatewayClass,
        (GATEWAY_GROUP, "ListenerSet") => Kind::ListenerSet,
        (GATEWAY_GROUP, "HTTPRoute") => Kind::HTTPRoute,
        (GATEWAY_GROUP, "GRPCRoute") => Kind::GRPCRoute,
        (GATEWAY_GROUP, "TCPRoute") => Kind::TCPRoute,
        (GATEWAY_GROUP, "TLSRoute") => Kind::TLSRoute,
        (GATEWAY_GROUP, "ReferenceGrant") => Kind::ReferenceGrant,
        (GATEWAY_GROUP, "BackendTLSPolicy") => Kind::BackendTLSPolicy,
        ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy") => Kind::XBackendTrafficPolicy,
        ("telemetry.istio.io", "Telemetry") => Kind::Telemetry,
        (SECURITY_GROUP | "", "AuthorizationPolicy") => Kind::AuthorizationPolicy,
        (SECURITY_GROUP | "", "PeerAuthentication") => Kind::PeerAuthentication,
        (SECURITY_GROUP | "", "RequestAuthentication") => Kind::RequestAuthentication,
        _ => return Known::No,
    };
    match served.contains(&version) && !(group.is_empty() && kind.is_security()) {
        true => Known::Yes(kind),
        false if kind.is_security() => Known::Policy(kind),
        false => Known::No,
    }
}

/// Reads an object as a kind.
pub(super) fn read(kind: Kind, node: &Node) -> (Result<Resource, Misfit>, Remarks) {
    fn shape<T: DeserializeOwned>(
        node: &Node,
        resource: impl FnOnce(T) -> Resource,
    ) -> (Result<Resource, Misfit>, Remarks) {
        let (result, remarks) = typed::read(node, "");
        (result.map(resource), remarks)
    }
    match kind {
        Kind::Namespace => shape(node, Resource::Namespace),
        Kind::Service => shape(node, Resource::Service),
        Kind::ServiceAccount => shape(node, Resource::ServiceAccount),
        Kind::Secret => shape(node, Resource::Secret),
        Kind::ConfigMap => shape(node, Resource::ConfigMap),
        Kind::Node => shape(node, Resource::Node),
        Kind::Pod => shape(node, Resource::Pod),
        Kind::EndpointSlice => shape(node, Resource::EndpointSlice),
        Kind::Deployment => shape(node, Resource::Deployment),
        Kind::WorkloadEntry => shape(node, Resource::WorkloadEntry),
        Kind::ServiceEntry => shape(node, Resource::ServiceEntry),
        Kind::VirtualService => shape(node, Resource::VirtualService),
        Kind::DestinationRule => shape(node, Resource::DestinationRule),
        Kind::IstioGateway => shape(node, Resource::IstioGateway),
        Kind::EnvoyFilter => shape(node, Resource::EnvoyFilter),
        Kind::Gateway => shape(node, Resource::Gateway),
        Kind::GatewayClass => shape(node, Resource::GatewayClass),
        Kind::ListenerSet => shape(node, Resource::ListenerSet),
        Kind::HTTPRoute => shape(node, Resource::HTTPRoute),
        Kind::GRPCRoute => shape(node, Resource::GRPCRoute),
        Kind::TCPRoute => shape(node, Resource::TCPRoute),
        Kind::TLSRoute => shape(node, Resource::TLSRoute),
        Kind::ReferenceGrant => shape(node, Resource::ReferenceGrant),
        Kind::BackendTLSPolicy => shape(node, Resource::BackendTLSPolicy),
        Kind::XBackendTrafficPolicy => shape(node, Resource::XBackendTrafficPolicy),
        Kind::AuthorizationPolicy => shape(node, Resource::AuthorizationPolicy),
        Kind::PeerAuthentication => shape(node, Resource::PeerAuthentication),
        Kind::RequestAuthentication => shape(node, Resource::RequestAuthentication),
        Kind::Telemetry => shape(node, Resource::Telemetry),
    }
}
