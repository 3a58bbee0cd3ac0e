//! Copies of requests.

use super::{ClusterId, Share};

/// A copy of a share of a rule's (or backend's) requests, whose answer nobody sees (Gateway API,
/// HTTPRequestMirrorFilter; Istio, `HTTPRoute.mirrors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Who gets the copy.
    pub to: ClusterId,
    /// How many requests are copied. Every mirror draws for itself.
    pub share: Share,
    /// Whether the copy's host says that it is one, by `-shadow` behind its name: Istio's VirtualService does so, Gateway
    /// API does not ask for it.
    pub shadow_host: bool,
}

/// The authority of a copy: `-shadow` behind the host, before the port.
pub fn shadow_host(authority: &str) -> String {
    // The port is split off at the last colon, unless that colon is part of an IPv6 address.
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => format!("{host}-shadow:{port}"),
        _ => format!("{authority}-shadow"),
    }
}

#[cfg(test)]
mod tests {
    use super::shadow_host;

    #[test]
    fn a_shadow_is_named_before_the_port() {
        for (authority, expected) in [
            ("reviews", "reviews-shadow"),
            ("reviews:9080", "reviews-shadow:9080"),
            ("reviews.default.svc:80", "reviews.default.svc-shadow:80"),
            ("[::1]:80", "[::1]-shadow:80"),
            ("[::1]", "[::1]-shadow"),
        ] {
            assert_eq!(shadow_host(authority), expected, "{authority}");
        }
    }
}
