//! The bootstrap of Envoy as a waypoint, shaped like the one istiod sends.
//!
//! ```text
//! connect_terminate   mTLS, CONNECT; keeps the authority as the original destination
//!   main_internal     one filter chain per service, chosen by destination address and port
//!     connect_originate   CONNECT to the endpoint's address, port 15008, over mTLS
//! ```
//!
//! What stock Envoy lacks of istio-proxy (`istio.stats`, peer metadata) is left out, so this one does a little
//! less work per request than a real waypoint.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::bootstrap::{
    ORIGINAL_DST, address, bootstrap, cluster, extension, load_assignment, speaks, tls, typed, upstream_tls,
};
use crate::pki::{PemFiles, TRUST_DOMAIN};

pub(super) const LISTENER: &str = "connect_terminate";
const MAIN: &str = "main_internal";
const ORIGINATE: &str = "connect_originate";
/// The filter state that holds the caller's identity.
const PEER: &str = "io.istio.peer_principal";

/// A waypoint.
#[derive(Clone, Debug)]
pub struct WaypointConfig {
    /// Who the waypoint is.
    pub identity: PemFiles,
    /// Where it listens for HBONE; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The services it fronts. A workload by its own address is a service with one endpoint.
    pub services: Vec<VirtualService>,
    /// How it reaches endpoints.
    pub upstream: Upstream,
    /// Identities that may send GET; empty puts no RBAC filter in.
    pub allow_get: Vec<String>,
    /// Routes of each service: as many as it takes, the last one matches everything, the others nothing sent.
    pub routes: usize,
}

/// What a client asks for, and who answers.
#[derive(Clone, Debug)]
pub struct VirtualService {
    /// The authority of the CONNECT.
    pub address: SocketAddr,
    /// Pod addresses with the target port.
    pub endpoints: Vec<SocketAddr>,
}

/// How a waypoint reaches endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Straight to the endpoint's address.
    Plain,
    /// CONNECT to the endpoint's address, through this port.
    Hbone {
        /// 15008, but for tests.
        port: u16,
    },
}

impl WaypointConfig {
    pub(super) fn bootstrap(&self) -> Value {
        let mut listeners = vec![self.connect_terminate(), self.main_internal()];
        let mut clusters = vec![internal_cluster(MAIN)];
        clusters.extend(self.services.iter().map(|service| self.service_cluster(service)));
        if let Upstream::Hbone { port } = self.upstream {
            listeners.push(connect_originate());
            clusters.push(self.originate_cluster(port));
        }
        bootstrap("waypoint", &listeners, &clusters)
    }

    fn connect_terminate(&self) -> Value {
        let keep = |key: &str, value: &str, factory: &str| {
            json!({
                "object_key": key,
                "factory_key": factory,
                "format_string": {"text_format_source": {"inline_string": value}},
                "shared_with_upstream": "ONCE",
            })
        };
        let local_ip = format!("{ORIGINAL_DST}.local_ip");
        let remote_ip = format!("{ORIGINAL_DST}.remote_ip");
        let remember = typed(
            "connect_authority",
            "filters.http.set_filter_state.v3.Config",
            json!({"on_request_headers": [
                keep(&local_ip, "%REQ(:AUTHORITY)%", &local_ip),
                keep(&remote_ip, "%DOWNSTREAM_REMOTE_ADDRESS%", &remote_ip),
                keep(PEER, "%DOWNSTREAM_PEER_URI_SAN%", "envoy.string"),
            ]}),
        );
        let route = json!({
            "match": {"connect_matcher": {}},
            "route": {
                "cluster": MAIN,
                "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
            },
        });
        let manager = connection_manager(json!({
            "stat_prefix": LISTENER,
            "route_config": {
                "name": "default",
                "virtual_hosts": [{"name": "default", "domains": ["*"], "routes": [route]}],
            },
            "http_filters": [remember, router()],
            "http2_protocol_options": {
                "allow_connect": true,
                "max_concurrent_streams": 100, // as Istio sets it
                "connection_keepalive": {"interval": "10s", "timeout": "20s"},
            },
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        }));
        let socket = typed(
            "tls",
            "transport_sockets.tls.v3.DownstreamTlsContext",
            json!({
                "require_client_certificate": true,
                "common_tls_context": tls(&self.identity, &[trusted()]),
            }),
        );
        json!({
            "name": LISTENER,
            "address": address(self.listen),
            "connection_balance_config": {"exact_balance": {}},
            "filter_chains": [{"name": "default", "filters": [manager], "transport_socket": socket}],
        })
    }

    fn main_internal(&self) -> Value {
        let chains: Vec<_> = self.services.iter().map(|s| self.service_chain(s)).collect();
        json!({
            "name": MAIN,
            "internal_listener": {},
            "traffic_direction": "INBOUND",
            "listener_filters": [original_dst()],
            "filter_chains": chains,
            "filter_chain_matcher": self.chain_matcher(),
        })
    }

    /// By destination address, then by destination port.
    fn chain_matcher(&self) -> Value {
        let input = |name: &str| {
            typed(
                name,
                &format!("matching.common_inputs.network.v3.{name}"),
                json!({}),
            )
        };
        let ranges: Vec<_> = self
            .services
            .iter()
            .map(|service| {
                let ip = service.address.ip();
                let ports: Map<_, _> = self
                    .services
                    .iter()
                    .filter(|other| other.address.ip() == ip)
                    .map(|other| (other.address.port().to_string(), to_chain(&chain(other))))
                    .collect();
                json!({
                    "ranges": [{"address_prefix": ip.to_string(), "prefix_len": if ip.is_ipv4() { 32 } else { 128 }}],
                    "on_match": {"matcher": {"matcher_tree": {
                        "input": input("DestinationPortInput"),
                        "exact_match_map": {"map": ports},
                    }}},
                })
            })
            .collect();
        json!({"matcher_tree": {
            "input": input("DestinationIPInput"),
            "custom_match": {"name": "ip", "typed_config": {
                "@type": "type.googleapis.com/xds.type.matcher.v3.IPMatcher",
                "range_matchers": ranges,
            }},
        }})
    }

    fn service_chain(&self, service: &VirtualService) -> Value {
        let mut filters = Vec::new();
        if !self.allow_get.is_empty() {
            filters.push(self.rbac());
        }
        filters.extend([
            typed(
                "envoy.filters.http.grpc_stats",
                "filters.http.grpc_stats.v3.FilterConfig",
                json!({"emit_filter_state": true, "stats_for_all_methods": false}),
            ),
            typed(
                "envoy.filters.http.fault",
                "filters.http.fault.v3.HTTPFault",
                json!({}),
            ),
            typed("envoy.filters.http.cors", "filters.http.cors.v3.Cors", json!({})),
            router(),
        ]);
        let name = chain(service);
        let manager = connection_manager(json!({
            "stat_prefix": name,
            "http_filters": filters,
            "route_config": {
                "name": name,
                "virtual_hosts": [{"name": name, "domains": ["*"], "routes": self.routes(&name)}],
            },
            "normalize_path": true,
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"subject": true, "dns": true, "uri": true},
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "http2_protocol_options": {"max_concurrent_streams": 1024},
        }));
        json!({"name": name, "filters": [manager]})
    }

    fn routes(&self, cluster: &str) -> Vec<Value> {
        let action = json!({
            "cluster": cluster,
            "timeout": "0s",
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
                "num_retries": 2,
                "retry_host_predicate": [typed(
                    "envoy.retry_host_predicates.previous_hosts",
                    "retry.host.previous_hosts.v3.PreviousHostsPredicate",
                    json!({}),
                )],
                "host_selection_retry_max_attempts": 5,
            },
        });
        let idle = (1..self.routes).map(|n| {
            json!({
                "name": format!("r{n}"),
                "match": {"path_separated_prefix": format!("/service/v1/item{n}"), "case_sensitive": true},
                "route": action,
            })
        });
        let last = json!({"name": "default", "match": {"prefix": "/"}, "route": action});
        idle.chain([last]).collect()
    }

    /// One ALLOW policy per identity, as istiod writes it from an AuthorizationPolicy.
    fn rbac(&self) -> Value {
        let rules = |of: &str, inner: Value| json!({of: {"rules": [inner]}});
        let ids = |of: &str, inner: Value| json!({of: {"ids": [inner]}});
        let policies: Map<_, _> = self
            .allow_get
            .iter()
            .enumerate()
            .map(|(n, who)| {
                let get = json!({"header": {"name": ":method", "string_match": {"exact": "GET"}}});
                let peer = json!({"filter_state": {"key": PEER, "string_match": {"exact": who}}});
                let policy = json!({
                    "permissions": [rules("and_rules", rules("or_rules", get))],
                    "principals": [ids("and_ids", ids("or_ids", peer))],
                });
                (format!("ns[default]-policy[allow-get-{n:05}]-rule[0]"), policy)
            })
            .collect();
        typed(
            "envoy.filters.http.rbac",
            "filters.http.rbac.v3.RBAC",
            json!({"rules": {"action": "ALLOW", "policies": policies}}),
        )
    }

    fn service_cluster(&self, service: &VirtualService) -> Value {
        let name = chain(service);
        let endpoint = |addr: &SocketAddr| match self.upstream {
            Upstream::Plain => json!({"endpoint": {"address": address(*addr)}}),
            Upstream::Hbone { .. } => json!({
                "endpoint": {"address": {"envoy_internal_address": {
                    "server_listener_name": ORIGINATE,
                    "endpoint_id": addr.to_string(),
                }}},
                "metadata": {"filter_metadata": {ORIGINAL_DST: {"local": addr.to_string()}}},
            }),
        };
        let endpoints: Vec<_> = service.endpoints.iter().map(endpoint).collect();
        let mut fields = json!({
            "type": "STATIC",
            "lb_policy": "LEAST_REQUEST",
            "load_assignment": load_assignment(&name, &endpoints),
            "typed_extension_protocol_options": speaks("http_protocol_options", &json!({})),
        });
        if matches!(self.upstream, Upstream::Hbone { .. }) {
            fields["transport_socket"] = internal_socket(
                json!({"passthrough_metadata": [{"kind": {"host": {}}, "name": ORIGINAL_DST}]}),
            );
        }
        cluster(&name, fields)
    }

    fn originate_cluster(&self, port: u16) -> Value {
        cluster(
            ORIGINATE,
            json!({
                "type": "ORIGINAL_DST",
                "lb_policy": "CLUSTER_PROVIDED",
                "cleanup_interval": "60s",
                "original_dst_lb_config": {"upstream_port_override": port},
                "typed_extension_protocol_options": speaks("http2_protocol_options", &json!({"allow_connect": true})),
                "transport_socket": upstream_tls(&self.identity, &[trusted()]),
            }),
        )
    }
}

/// Has every request of a bootstrap's services traced, as istiod does for an OpenTelemetry provider.
pub(super) fn trace(bootstrap: &mut Value, collector: SocketAddr) {
    const COLLECTOR: &str = "collector";
    let all = json!({"value": 100.0});
    let tracing = json!({
        "client_sampling": all,
        "random_sampling": all,
        "overall_sampling": all,
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "grpc_service": {"envoy_grpc": {"cluster_name": COLLECTOR}, "timeout": "5s"},
                "service_name": "envoy",
            },
        },
    });
    let endpoint = json!({"endpoint": {"address": address(collector)}});
    let reached = cluster(
        COLLECTOR,
        json!({
            "type": "STATIC",
            "load_assignment": load_assignment(COLLECTOR, &[endpoint]),
            "typed_extension_protocol_options": speaks("http2_protocol_options", &json!({})),
        }),
    );
    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut();
    for listener in listeners.into_iter().flatten().filter(|it| it["name"] == MAIN) {
        let chains = listener["filter_chains"].as_array_mut();
        for chain in chains.into_iter().flatten() {
            chain["filters"][0]["typed_config"]["tracing"] = tracing.clone();
        }
    }
    if let Some(clusters) = bootstrap["static_resources"]["clusters"].as_array_mut() {
        clusters.push(reached);
    }
    // Else it waits for five spans, or for five seconds.
    bootstrap["layered_runtime"] = json!({"layers": [{
        "name": "static",
        "static_layer": {"tracing.opentelemetry.min_flush_spans": 1},
    }]});
}

/// Whom a waypoint accepts at either side: everybody of the trust domain.
fn trusted() -> String {
    format!("spiffe://{TRUST_DOMAIN}/")
}

fn chain(service: &VirtualService) -> String {
    format!(
        "inbound-vip|{}|http|{}",
        service.address.port(),
        service.address.ip()
    )
}

fn to_chain(name: &str) -> Value {
    let value = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": name});
    json!({"action": {"name": name, "typed_config": value}})
}

fn connection_manager(mut fields: Value) -> Value {
    fields["stream_idle_timeout"] = "0s".into();
    fields["use_remote_address"] = false.into();
    fields["server_name"] = "istio-envoy".into();
    typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        fields,
    )
}

fn router() -> Value {
    typed(
        "envoy.filters.http.router",
        "filters.http.router.v3.Router",
        json!({}),
    )
}

fn original_dst() -> Value {
    typed(
        ORIGINAL_DST,
        "filters.listener.original_dst.v3.OriginalDst",
        json!({}),
    )
}

fn connect_originate() -> Value {
    let tcp = typed(
        "envoy.filters.network.tcp_proxy",
        "filters.network.tcp_proxy.v3.TcpProxy",
        json!({
            "stat_prefix": ORIGINATE,
            "cluster": ORIGINATE,
            "tunneling_config": {"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%"},
        }),
    );
    json!({
        "name": ORIGINATE,
        "internal_listener": {},
        "use_original_dst": false,
        "listener_filters": [original_dst()],
        "filter_chains": [{"filters": [tcp]}],
    })
}

/// The transport socket of an internal connection; `fields` may name what it passes on.
fn internal_socket(mut fields: Value) -> Value {
    let raw = json!({"@type": extension("transport_sockets.raw_buffer.v3.RawBuffer")});
    fields["transport_socket"] = json!({"name": "raw_buffer", "typed_config": raw});
    typed(
        "internal_upstream",
        "transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
        fields,
    )
}

fn internal_cluster(listener: &str) -> Value {
    let endpoint =
        json!({"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": listener}}}});
    cluster(
        listener,
        json!({
            "type": "STATIC",
            "load_assignment": load_assignment(listener, &[endpoint]),
            "transport_socket": internal_socket(json!({})),
        }),
    )
}
