//! The words of Envoy's bootstrap that both shapes use.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::pki::PemFiles;

/// The listener filter, and the metadata, that hold where a connection was meant to go.
pub(super) const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";

/// A type URL below `envoy.extensions`.
pub(super) fn extension(path: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{path}")
}

/// An extension: its name, its type below `envoy.extensions`, and its fields.
pub(super) fn typed(name: &str, path: &str, mut fields: Value) -> Value {
    fields["@type"] = extension(path).into();
    json!({"name": name, "typed_config": fields})
}

pub(super) fn address(addr: SocketAddr) -> Value {
    json!({"socket_address": {"address": addr.ip().to_string(), "port_value": addr.port()}})
}

/// The certificates of a workload and whom it accepts: identities that start with one of `prefixes`.
///
/// The upper version is said because Envoy's upstream side stops at TLS 1.2 by itself, and ambient peers speak
/// 1.3 only.
pub(super) fn tls(files: &PemFiles, prefixes: &[String]) -> Value {
    let names: Vec<_> = prefixes
        .iter()
        .map(|prefix| json!({"san_type": "URI", "matcher": {"prefix": prefix}}))
        .collect();
    json!({
        "alpn_protocols": ["h2"],
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [{
            "certificate_chain": {"filename": files.chain},
            "private_key": {"filename": files.key},
        }],
        "validation_context": {
            "trusted_ca": {"filename": files.roots},
            "match_typed_subject_alt_names": names,
        },
    })
}

/// The transport socket that dials with mTLS.
pub(super) fn upstream_tls(files: &PemFiles, prefixes: &[String]) -> Value {
    typed(
        "tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        json!({"common_tls_context": tls(files, prefixes)}),
    )
}

/// A cluster without limits; `fields` completes it.
pub(super) fn cluster(name: &str, fields: Value) -> Value {
    const MANY: u32 = u32::MAX;
    let mut cluster = json!({
        "name": name,
        "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [{
            "max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY, "max_retries": MANY,
        }]},
    });
    if let (Some(cluster), Value::Object(fields)) = (cluster.as_object_mut(), fields) {
        cluster.extend(fields);
    }
    cluster
}

/// The endpoints of a cluster.
pub(super) fn load_assignment(name: &str, endpoints: &[Value]) -> Value {
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]})
}

/// The protocol that a cluster speaks: `http_protocol_options` or `http2_protocol_options` and its settings.
pub(super) fn speaks(protocol: &str, settings: &Value) -> Value {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({OPTIONS: {
        "@type": extension("upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": {protocol: settings},
        "common_http_protocol_options": {"idle_timeout": "3600s"},
    }})
}

/// The whole file; the admin endpoint takes a free port.
pub(super) fn bootstrap(id: &str, listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "node": {"id": id, "cluster": id},
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "bootstrap_extensions": [typed(
            "envoy.bootstrap.internal_listener",
            "bootstrap.internal_listener.v3.InternalListener",
            json!({}),
        )],
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}
