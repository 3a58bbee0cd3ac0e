//! Which features of Gateway API are there, by the names that its conformance suite has for them.

/// Whose class has a feature.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// That of Gateways in front of the mesh.
    Edge,
    /// That of waypoints, through which services are called.
    Mesh,
    Both,
}

/// In alphabetical order. What is not here: `GatewayInfrastructurePropagation` and `GatewayStaticAddresses`, since nothing
/// is deployed here and no address given.
const FEATURES: &[(&str, Of)] = &[
    ("BackendTLSPolicy", Of::Edge),
    ("BackendTLSPolicySANValidation", Of::Edge),
    ("GRPCRoute", Of::Both),
    ("GRPCRouteNamedRouteRule", Of::Both),
    ("Gateway", Of::Edge),
    ("GatewayAddressEmpty", Of::Edge),
    ("GatewayBackendClientCertificate", Of::Edge),
    ("GatewayFrontendClientCertificateValidation", Of::Edge),
    (
        "GatewayFrontendClientCertificateValidationInsecureFallback",
        Of::Edge,
    ),
    ("GatewayHTTPListenerIsolation", Of::Edge),
    ("GatewayHTTPSListenerDetectMisdirectedRequests", Of::Edge),
    ("GatewayPort8080", Of::Edge),
    ("HTTPRoute", Of::Both),
    ("HTTPRoute303RedirectStatusCode", Of::Both),
    ("HTTPRoute307RedirectStatusCode", Of::Both),
    ("HTTPRoute308RedirectStatusCode", Of::Both),
    ("HTTPRouteBackendProtocolH2C", Of::Both),
    ("HTTPRouteBackendProtocolWebSocket", Of::Both),
    ("HTTPRouteBackendRequestHeaderModification", Of::Both),
    ("HTTPRouteBackendTimeout", Of::Both),
    ("HTTPRouteCORS", Of::Both),
    ("HTTPRouteDestinationPortMatching", Of::Both),
    ("HTTPRouteHostRewrite", Of::Both),
    ("HTTPRouteMethodMatching", Of::Both),
    ("HTTPRouteNamedRouteRule", Of::Both),
    ("HTTPRouteParentRefPort", Of::Both),
    ("HTTPRoutePathRedirect", Of::Both),
    ("HTTPRoutePathRewrite", Of::Both),
    ("HTTPRoutePortRedirect", Of::Both),
    ("HTTPRouteQueryParamMatching", Of::Both),
    ("HTTPRouteRequestMirror", Of::Both),
    ("HTTPRouteRequestMultipleMirrors", Of::Both),
    ("HTTPRouteRequestPercentageMirror", Of::Both),
    ("HTTPRouteRequestTimeout", Of::Both),
    ("HTTPRouteResponseHeaderModification", Of::Both),
    ("HTTPRouteRetry", Of::Both),
    ("HTTPRouteRetryBackendTimeout", Of::Both),
    ("HTTPRouteRetryConnectionError", Of::Both),
    ("HTTPRouteSchemeRedirect", Of::Both),
    ("ListenerSet", Of::Edge),
    ("Mesh", Of::Mesh),
    ("MeshClusterIPMatching", Of::Mesh),
    ("MeshConsumerRoute", Of::Mesh),
    ("MeshHTTPRouteBackendRequestHeaderModification", Of::Mesh),
    ("MeshHTTPRouteNamedRouteRule", Of::Mesh),
    ("MeshHTTPRouteQueryParamMatching", Of::Mesh),
    ("MeshHTTPRouteRedirectPath", Of::Mesh),
    ("MeshHTTPRouteRedirectPort", Of::Mesh),
    ("MeshHTTPRouteRewritePath", Of::Mesh),
    ("MeshHTTPRouteSchemeRedirect", Of::Mesh),
    ("ReferenceGrant", Of::Edge),
    ("TCPRoute", Of::Edge),
    ("TLSRoute", Of::Edge),
];

/// Those of a class, in alphabetical order.
pub(super) fn of_class(is_mesh: bool) -> impl Iterator<Item = &'static str> {
    let other = if is_mesh { Of::Edge } else { Of::Mesh };
    FEATURES
        .iter()
        .filter(move |(_, of)| *of != other)
        .map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_in_the_order_that_a_status_must_have() {
        for is_mesh in [true, false] {
            let names: Vec<_> = of_class(is_mesh).collect();
            assert!(names.is_sorted(), "{names:?}");
            // As many as a status may name.
            assert!(names.len() <= 64);
        }
        assert!(of_class(true).all(|it| !it.starts_with("Gateway")));
        assert!(of_class(false).all(|it| !it.starts_with("Mesh")));
    }
}
