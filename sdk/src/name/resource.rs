//! Names of Kubernetes objects.

use std::fmt;
use std::sync::Arc;

/// The kinds of resource that inmesh reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs)] // the variants are the upstream kinds
pub enum Kind {
    Namespace,
    Service,
    ServiceAccount,
    Secret,
    ConfigMap,
    Node,
    Pod,
    EndpointSlice,
    Deployment,
    WorkloadEntry,
    ServiceEntry,
    VirtualService,
    DestinationRule,
    /// `Gateway` of `networking.istio.io`.
    IstioGateway,
    EnvoyFilter,
    Gateway,
    GatewayClass,
    ListenerSet,
    HTTPRoute,
    GRPCRoute,
    TCPRoute,
    TLSRoute,
    ReferenceGrant,
    BackendTLSPolicy,
    XBackendTrafficPolicy,
    AuthorizationPolicy,
    PeerAuthentication,
    RequestAuthentication,
    Telemetry,
}

impl Kind {
    /// The kind as Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Service => "Service",
            Self::ServiceAccount => "ServiceAccount",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::EndpointSlice => "EndpointSlice",
            Self::Deployment => "Deployment",
            Self::WorkloadEntry => "WorkloadEntry",
            Self::ServiceEntry => "ServiceEntry",
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::IstioGateway => "Gateway",
            Self::EnvoyFilter => "EnvoyFilter",
            Self::Gateway => "Gateway",
            Self::GatewayClass => "GatewayClass",
            Self::ListenerSet => "ListenerSet",
            Self::HTTPRoute => "HTTPRoute",
            Self::GRPCRoute => "GRPCRoute",
            Self::TCPRoute => "TCPRoute",
            Self::TLSRoute => "TLSRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::BackendTLSPolicy => "BackendTLSPolicy",
            Self::XBackendTrafficPolicy => "XBackendTrafficPolicy",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::RequestAuthentication => "RequestAuthentication",
            Self::Telemetry => "Telemetry",
        }
    }

    /// The API group of the kind; empty for core.
    pub fn group(self) -> &'static str {
        match self {
            Self::Namespace
            | Self::Service
            | Self::ServiceAccount
            | Self::Secret
            | Self::ConfigMap
            | Self::Node
            | Self::Pod => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Deployment => "apps",
            Self::WorkloadEntry
            | Self::ServiceEntry
            | Self::VirtualService
            | Self::DestinationRule
            | Self::IstioGateway
            | Self::EnvoyFilter => "networking.istio.io",
            Self::Gateway
            | Self::GatewayClass
            | Self::ListenerSet
            | Self::HTTPRoute
            | Self::GRPCRoute
            | Self::TCPRoute
            | Self::TLSRoute
            | Self::ReferenceGrant
            | Self::BackendTLSPolicy => "gateway.networking.k8s.io",
            Self::AuthorizationPolicy | Self::PeerAuthentication | Self::RequestAuthentication => {
                "security.istio.io"
            }
            Self::XBackendTrafficPolicy => "gateway.networking.x-k8s.io",
            Self::Telemetry => "telemetry.istio.io",
        }
    }

    /// The group and the version that its objects are stored in, as `apiVersion` spells it.
    pub fn api_version(self) -> String {
        match (self, self.group()) {
            (Self::ReferenceGrant, group) => format!("{group}/v1beta1"),
            (Self::XBackendTrafficPolicy, group) => format!("{group}/v1alpha1"),
            (_, "") => "v1".to_owned(),
            (_, group) => format!("{group}/v1"),
        }
    }

    /// Whether objects of this kind live outside namespaces.
    pub fn is_cluster_scoped(self) -> bool {
        matches!(self, Self::Namespace | Self::Node | Self::GatewayClass)
    }

    /// Whether the kind decides who may do what, or whom is spoken to, so that nothing in it may be overlooked.
    pub fn is_security(self) -> bool {
        matches!(
            self,
            Self::AuthorizationPolicy
                | Self::PeerAuthentication
                | Self::RequestAuthentication
                | Self::BackendTLSPolicy
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object: kind, namespace (empty where the kind has none) and name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceRef {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ResourceRef {
    /// Names an object.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// `Kind namespace/name`, or `Kind name`.
impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {}/{}", self.kind, namespace, self.name),
        }
    }
}

impl fmt::Debug for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! namespaced {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            /// The namespace.
            pub namespace: Arc<str>,
            /// The name.
            pub name: Arc<str>,
        }

        impl $name {
            /// Makes the name from its two parts.
            pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
                Self { namespace: namespace.into(), name: name.into() }
            }
        }

        /// `namespace/name`.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }
    };
}

namespaced! {
    /// A Service (or ServiceEntry) by namespace and name.
    ServiceName
}
namespaced! {
    /// A workload (Pod or WorkloadEntry) by namespace and name.
    WorkloadName
}
