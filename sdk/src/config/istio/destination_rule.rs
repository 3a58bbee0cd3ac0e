//! `DestinationRule`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::virtual_service::PortSelector;
use super::{GoDuration, WorkloadSelector};
use crate::config::{Labels, ObjectMeta};

/// `DestinationRule`: how a service is called once it has been chosen, and its subsets.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationRule {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: DestinationRuleSpec,
}

/// `spec` of a DestinationRule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationRuleSpec {
    /// The host; a short name is completed with the rule's namespace; `*.`-wildcards allowed.
    pub host: String,
    /// For all ports and subsets.
    pub traffic_policy: Option<Box<TrafficPolicy>>,
    /// Named parts of the service.
    pub subsets: Vec<Subset>,
    /// Namespaces that see it; all if empty.
    pub export_to: Vec<String>,
    /// Callers it is for; all if absent.
    pub workload_selector: Option<WorkloadSelector>,
}

/// A named part of a service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// Labels that its workloads have.
    pub labels: Labels,
    /// Blocks in place of the rule's.
    pub traffic_policy: Option<Box<TrafficPolicy>>,
}

/// How a service is called.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// Which endpoint.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// How many connections and requests.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Which endpoints are left out for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the endpoint.
    pub tls: Option<ClientTLSSettings>,
    /// Blocks in place of these, by port.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// A tunnel through another proxy.
    pub tunnel: Option<TunnelSettings>,
    /// The PROXY protocol.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How many retries at once.
    pub retry_budget: Option<RetryBudget>,
}

/// How one port is called.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortTrafficPolicy {
    /// The port; required.
    pub port: Option<PortSelector>,
    /// Which endpoint.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// How many connections and requests.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Which endpoints are left out for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the endpoint.
    pub tls: Option<ClientTLSSettings>,
}

/// Which endpoint gets a request.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerSettings {
    /// An algorithm without settings.
    pub simple: Option<SimpleLB>,
    /// The same key, the same endpoint.
    pub consistent_hash: Option<ConsistentHashLB>,
    /// By where caller and endpoint are.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// By zone.
    pub zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
    /// Older form of `warmup`.
    pub warmup_duration_secs: Option<GoDuration>,
    /// Less for endpoints that have just started.
    pub warmup: Option<WarmupConfiguration>,
}

/// The algorithms without settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // named as upstream
pub enum SimpleLB {
    Unspecified,
    LeastConn,
    Random,
    Passthrough,
    RoundRobin,
    LeastRequest,
}

/// The same key, the same endpoint: one key, at most one algorithm.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHashLB {
    /// A header's value.
    pub http_header_name: Option<String>,
    /// A cookie's value.
    pub http_cookie: Option<HTTPCookie>,
    /// The caller's address.
    pub use_source_ip: Option<bool>,
    /// A query parameter's value.
    pub http_query_parameter_name: Option<String>,
    /// A hash ring.
    pub ring_hash: Option<RingHash>,
    /// A Maglev table.
    pub maglev: Option<MagLev>,
    /// Older form of `ringHash.minimumRingSize`.
    pub minimum_ring_size: Option<u64>,
}

/// A hash ring.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RingHash {
    /// Its least number of entries; 1024 if absent.
    pub minimum_ring_size: Option<u64>,
}

/// A Maglev table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MagLev {
    /// Its size, a prime.
    pub table_size: Option<u64>,
}

/// A cookie to hash on; made if it has a `ttl` and the caller sent none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPCookie {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: Option<String>,
    /// Its life; 0 is that of the browser's session.
    pub ttl: Option<GoDuration>,
    /// Further attributes.
    pub attributes: Vec<CookieAttribute>,
}

/// An attribute of a cookie.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CookieAttribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}

/// By where caller and endpoint are: `region/zone/subzone`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityLoadBalancerSetting {
    /// Shares by locality.
    pub distribute: Vec<LocalityDistribute>,
    /// Where to turn if a region fails.
    pub failover: Vec<LocalityFailover>,
    /// Labels that make endpoints near, in order.
    pub failover_priority: Vec<String>,
    /// False switches it off.
    pub enabled: Option<bool>,
}

/// Shares of requests from one locality.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityDistribute {
    /// From where.
    pub from: String,
    /// Where to, in percent.
    pub to: BTreeMap<String, u32>,
}

/// Where to turn if a region fails.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityFailover {
    /// The region.
    pub from: String,
    /// The next.
    pub to: String,
}

/// By zone.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ZoneAwareLoadBalancerSetting {
    /// False switches it off.
    pub enabled: Option<bool>,
    /// Where to turn if a region fails.
    pub failover: Vec<LocalityFailover>,
    /// Labels that make endpoints near, in order.
    pub failover_priority: Vec<String>,
    /// Fewest endpoints for which zones count.
    pub min_cluster_size: Option<u64>,
}

/// Less for endpoints that have just started.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WarmupConfiguration {
    /// For how long; required.
    pub duration: Option<GoDuration>,
    /// The least share, in percent; 10 if absent.
    pub minimum_percent: Option<f64>,
    /// How the share grows; 1 (linearly) if absent.
    pub aggression: Option<f64>,
}

/// How many connections and requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPoolSettings {
    /// Of connections.
    pub tcp: Option<TCPSettings>,
    /// Of requests.
    pub http: Option<HTTPSettings>,
}

/// Limits of connections; 0 is none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TCPSettings {
    /// Connections at once.
    pub max_connections: Option<u32>,
    /// For connecting.
    pub connect_timeout: Option<GoDuration>,
    /// Keep-alive probes.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// A connection's longest life.
    pub max_connection_duration: Option<GoDuration>,
    /// A connection's longest idle time; 0 is none.
    pub idle_timeout: Option<GoDuration>,
}

/// Keep-alive probes of TCP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpKeepalive {
    /// How many may be lost.
    pub probes: Option<u32>,
    /// Idle time before the first.
    pub time: Option<GoDuration>,
    /// Time between two.
    pub interval: Option<GoDuration>,
}

/// Limits of requests; 0 is none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPSettings {
    /// Requests that wait for a connection.
    pub http1_max_pending_requests: Option<u32>,
    /// Requests at once.
    pub http2_max_requests: Option<u32>,
    /// Requests in a connection's life.
    pub max_requests_per_connection: Option<u32>,
    /// Retries at once.
    pub max_retries: Option<u32>,
    /// A connection's longest idle time.
    pub idle_timeout: Option<GoDuration>,
    /// Whether HTTP/1.1 callers are served by HTTP/2.
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// Whether the caller's protocol is kept.
    pub use_client_protocol: Option<bool>,
    /// Streams of one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// Pings on HTTP/2 connections.
    pub http2_keep_alive: Option<ConnectionKeepalive>,
}

/// Whether HTTP/1.1 callers are served by HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // named as upstream
pub enum H2UpgradePolicy {
    Default,
    DoNotUpgrade,
    Upgrade,
}

/// Pings on HTTP/2 connections.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionKeepalive {
    /// Time between two; required.
    pub interval: Option<GoDuration>,
    /// For the answer; required.
    pub timeout: Option<GoDuration>,
}

/// Which endpoints are left out for a while.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// Older form of `consecutiveGatewayErrors`.
    pub consecutive_errors: Option<u32>,
    /// Whether failures of our own making count apart.
    pub split_external_local_origin_errors: Option<bool>,
    /// How many of those in a row; 5 if absent.
    pub consecutive_local_origin_failures: Option<u32>,
    /// How many 502, 503, 504 in a row; off if absent.
    pub consecutive_gateway_errors: Option<u32>,
    /// How many 5xx in a row; 5 if absent, 0 is off.
    pub consecutive_5xx_errors: Option<u32>,
    /// Between two sweeps; 10 s if absent.
    pub interval: Option<GoDuration>,
    /// Unit of the time left out; 30 s if absent.
    pub base_ejection_time: Option<GoDuration>,
    /// Largest share that may be left out; 10 if absent.
    pub max_ejection_percent: Option<u32>,
    /// Share below which everybody is asked; 0 if absent.
    pub min_health_percent: Option<u32>,
    /// What counts as an error, in place of 5xx.
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// TLS to the endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTLSSettings {
    /// Whether, and with which certificate.
    pub mode: Option<TLSmode>,
    /// A file, for `MUTUAL`.
    pub client_certificate: Option<String>,
    /// A file, for `MUTUAL`.
    pub private_key: Option<String>,
    /// A file; the system's if absent.
    pub ca_certificates: Option<String>,
    /// A Secret, in place of files.
    pub credential_name: Option<String>,
    /// Names that the endpoint must prove.
    pub subject_alt_names: Vec<String>,
    /// The server name to send.
    pub sni: Option<String>,
    /// Whether the certificate is not looked at.
    pub insecure_skip_verify: Option<bool>,
    /// A file with revoked certificates.
    pub ca_crl: Option<String>,
}

/// Whether there is TLS to the endpoint, and with which certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // named as upstream
pub enum TLSmode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

/// A tunnel through another proxy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TunnelSettings {
    /// `CONNECT` (if absent) or `POST`.
    pub protocol: Option<String>,
    /// Its far end.
    pub target_host: String,
    /// Its far end's port.
    pub target_port: u16,
}

/// The PROXY protocol.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyProtocol {
    /// Its version; `V1` if absent.
    pub version: Option<ProxyProtocolVersion>,
}

/// The PROXY protocol's versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)] // named as upstream
pub enum ProxyProtocolVersion {
    V1,
    V2,
}

/// How many retries at once.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// Of the requests under way; 20 if absent.
    pub percent: Option<f64>,
    /// How many in any case; 3 if absent.
    pub min_retry_concurrency: Option<u32>,
    /// Over which time requests are counted.
    pub budget_interval: Option<GoDuration>,
}
