//! The bootstrap of Envoy in front of one HTTP backend, with filters of somebody's choice before its router.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::bootstrap::{address, bootstrap, cluster, load_assignment, speaks, tls, typed};
use crate::pki::{PemFiles, TRUST_DOMAIN};

const BACKEND: &str = "backend";

/// Listeners in front of one backend.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// The listeners.
    pub fronts: Vec<Front>,
    /// Who answers what passes, over HTTP/1.1 in the clear.
    pub backend: SocketAddr,
    /// Whom filters ask: a name, where it is, and whether it speaks HTTP/2.
    pub asked: Vec<(String, SocketAddr, bool)>,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct Front {
    /// Its name.
    pub name: String,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who it is, where it takes mutual TLS only.
    pub identity: Option<PemFiles>,
    /// Filters before the router.
    pub filters: Vec<Value>,
}

/// An HTTP filter: its name below `envoy.filters.http`, the type's name there, and its fields.
pub fn http_filter(name: &str, message: &str, fields: Value) -> Value {
    let path = format!("filters.http.{name}.v3.{message}");
    typed(&format!("envoy.filters.http.{name}"), &path, fields)
}

impl FrontConfig {
    pub(super) fn bootstrap(&self) -> Value {
        let listeners: Vec<Value> = self.fronts.iter().map(Front::listener).collect();
        let backend = upstream(BACKEND, self.backend, false);
        let asked = self
            .asked
            .iter()
            .map(|(name, at, http2)| upstream(name, *at, *http2));
        let clusters: Vec<Value> = std::iter::once(backend).chain(asked).collect();
        bootstrap("front", &listeners, &clusters)
    }
}

fn upstream(name: &str, at: SocketAddr, http2: bool) -> Value {
    let endpoint = json!({"endpoint": {"address": address(at)}});
    let protocol = if http2 {
        "http2_protocol_options"
    } else {
        "http_protocol_options"
    };
    cluster(
        name,
        json!({
            "type": "STATIC",
            "load_assignment": load_assignment(name, &[endpoint]),
            "typed_extension_protocol_options": speaks(protocol, &json!({})),
        }),
    )
}

impl Front {
    fn listener(&self) -> Value {
        let router = http_filter("router", "Router", json!({}));
        let filters: Vec<_> = self.filters.iter().cloned().chain([router]).collect();
        let route = json!({"match": {"prefix": "/"}, "route": {"cluster": BACKEND, "timeout": "0s"}});
        // As Istio sets up a listener for inbound requests.
        let manager = typed(
            "envoy.filters.network.http_connection_manager",
            "filters.network.http_connection_manager.v3.HttpConnectionManager",
            json!({
                "stat_prefix": self.name,
                "http_filters": filters,
                "route_config": {
                    "name": self.name,
                    "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
                },
                "use_remote_address": false,
                "normalize_path": true,
                "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
                "forward_client_cert_details": "SANITIZE_SET",
                "set_current_client_cert_details": {"subject": true, "dns": true, "uri": true},
                "server_name": "istio-envoy",
            }),
        );
        let mut chain = json!({"filters": [manager]});
        if let Some(identity) = &self.identity {
            let mut common = tls(identity, &[format!("spiffe://{TRUST_DOMAIN}/")]);
            common["alpn_protocols"] = json!(["http/1.1"]);
            chain["transport_socket"] = typed(
                "tls",
                "transport_sockets.tls.v3.DownstreamTlsContext",
                json!({"require_client_certificate": true, "common_tls_context": common}),
            );
        }
        json!({
            "name": self.name,
            "address": address(self.listen),
            "traffic_direction": "INBOUND",
            "filter_chains": [chain],
        })
    }
}
