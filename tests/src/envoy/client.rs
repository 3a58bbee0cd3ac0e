//! The bootstrap of Envoy as an HBONE client.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::bootstrap::{address, bootstrap, cluster, load_assignment, speaks, typed, upstream_tls};
use crate::pki::PemFiles;

pub(super) const LISTENER: &str = "plain";
const TUNNEL: &str = "tunnel";

/// A client: whatever connects to its listener goes through one CONNECT stream to `dial`.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Who the client is.
    pub identity: PemFiles,
    /// Where applications connect in plaintext; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the HBONE server is.
    pub dial: SocketAddr,
    /// The authority of the CONNECT.
    pub authority: String,
    /// The server's identity must start with this; a whole identity is its own prefix.
    pub server: String,
}

impl ClientConfig {
    pub(super) fn bootstrap(&self) -> Value {
        bootstrap("client", &[self.listener()], &[self.tunnel()])
    }

    fn listener(&self) -> Value {
        let tcp = typed(
            "envoy.filters.network.tcp_proxy",
            "filters.network.tcp_proxy.v3.TcpProxy",
            json!({
                "stat_prefix": LISTENER,
                "cluster": TUNNEL,
                "tunneling_config": {"hostname": self.authority},
            }),
        );
        json!({"name": LISTENER, "address": address(self.listen), "filter_chains": [{"filters": [tcp]}]})
    }

    fn tunnel(&self) -> Value {
        let endpoint = json!({"endpoint": {"address": address(self.dial)}});
        cluster(
            TUNNEL,
            json!({
                "type": "STATIC",
                "load_assignment": load_assignment(TUNNEL, &[endpoint]),
                "typed_extension_protocol_options": speaks("http2_protocol_options", &json!({"allow_connect": true})),
                "transport_socket": upstream_tls(&self.identity, std::slice::from_ref(&self.server)),
            }),
        )
    }
}
