//! One object of any kind we read.

use super::{ObjectMeta, core, gateway, istio};
use crate::name::{Kind, ResourceRef};

/// An object of one of the kinds that inmesh reads.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs)] // the variants are the upstream kinds
pub enum Resource {
    Namespace(core::Namespace),
    Service(core::Service),
    ServiceAccount(core::ServiceAccount),
    Secret(core::Secret),
    ConfigMap(core::ConfigMap),
    Node(core::Node),
    Pod(core::Pod),
    EndpointSlice(core::EndpointSlice),
    Deployment(core::Deployment),
    WorkloadEntry(istio::WorkloadEntry),
    ServiceEntry(istio::ServiceEntry),
    VirtualService(istio::VirtualService),
    DestinationRule(istio::DestinationRule),
    IstioGateway(istio::IstioGateway),
    EnvoyFilter(istio::EnvoyFilter),
    Gateway(gateway::Gateway),
    GatewayClass(gateway::GatewayClass),
    ListenerSet(gateway::ListenerSet),
    HTTPRoute(gateway::HTTPRoute),
    GRPCRoute(gateway::GRPCRoute),
    TCPRoute(gateway::TCPRoute),
    TLSRoute(gateway::TLSRoute),
    ReferenceGrant(gateway::ReferenceGrant),
    BackendTLSPolicy(gateway::BackendTLSPolicy),
    XBackendTrafficPolicy(gateway::XBackendTrafficPolicy),
    AuthorizationPolicy(istio::AuthorizationPolicy),
    PeerAuthentication(istio::PeerAuthentication),
    RequestAuthentication(istio::RequestAuthentication),
    Telemetry(istio::Telemetry),
}

macro_rules! each {
    ($self:expr, $it:ident => $body:expr) => {
        match $self {
            Resource::Namespace($it) => $body,
            Resource::Service($it) => $body,
            Resource::ServiceAccount($it) => $body,
            Resource::Secret($it) => $body,
            Resource::ConfigMap($it) => $body,
            Resource::Node($it) => $body,
            Resource::Pod($it) => $body,
            Resource::EndpointSlice($it) => $body,
            Resource::Deployment($it) => $body,
            Resource::WorkloadEntry($it) => $body,
            Resource::ServiceEntry($it) => $body,
            Resource::VirtualService($it) => $body,
            Resource::DestinationRule($it) => $body,
            Resource::IstioGateway($it) => $body,
            Resource::EnvoyFilter($it) => $body,
            Resource::Gateway($it) => $body,
            Resource::GatewayClass($it) => $body,
            Resource::ListenerSet($it) => $body,
            Resource::HTTPRoute($it) => $body,
            Resource::GRPCRoute($it) => $body,
            Resource::TCPRoute($it) => $body,
            Resource::TLSRoute($it) => $body,
            Resource::ReferenceGrant($it) => $body,
            Resource::BackendTLSPolicy($it) => $body,
            Resource::XBackendTrafficPolicy($it) => $body,
            Resource::AuthorizationPolicy($it) => $body,
            Resource::PeerAuthentication($it) => $body,
            Resource::RequestAuthentication($it) => $body,
            Resource::Telemetry($it) => $body,
        }
    };
}

impl Resource {
    /// The object's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        each!(self, it => &it.metadata)
    }

    /// The object's metadata, to fill in what a source knows better.
    pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
        each!(self, it => &mut it.metadata)
    }

    /// The object's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Service(_) => Kind::Service,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Secret(_) => Kind::Secret,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Deployment(_) => Kind::Deployment,
            Self::WorkloadEntry(_) => Kind::WorkloadEntry,
            Self::ServiceEntry(_) => Kind::ServiceEntry,
            Self::VirtualService(_) => Kind::VirtualService,
            Self::DestinationRule(_) => Kind::DestinationRule,
            Self::IstioGateway(_) => Kind::IstioGateway,
            Self::EnvoyFilter(_) => Kind::EnvoyFilter,
            Self::Gateway(_) => Kind::Gateway,
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::ListenerSet(_) => Kind::ListenerSet,
            Self::HTTPRoute(_) => Kind::HTTPRoute,
            Self::GRPCRoute(_) => Kind::GRPCRoute,
            Self::TCPRoute(_) => Kind::TCPRoute,
            Self::TLSRoute(_) => Kind::TLSRoute,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::BackendTLSPolicy(_) => Kind::BackendTLSPolicy,
            Self::XBackendTrafficPolicy(_) => Kind::XBackendTrafficPolicy,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::PeerAuthentication(_) => Kind::PeerAuthentication,
            Self::RequestAuthentication(_) => Kind::RequestAuthentication,
            Self::Telemetry(_) => Kind::Telemetry,
        }
    }

    /// The object's name among all objects.
    pub fn reference(&self) -> ResourceRef {
        let meta = self.metadata();
        ResourceRef::new(self.kind(), meta.namespace.clone(), meta.name.clone())
    }
}
