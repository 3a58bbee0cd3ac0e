//! Istio's mesh-wide configuration (`mesh/v1alpha1 MeshConfig`): what of it inmesh carries out.
//!
//! It is no resource of its own: it is YAML in the key `mesh` of the ConfigMap `istio` in the root namespace.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::GoDuration;
use super::telemetry::CustomTag;
use crate::config::node::Node;
use crate::config::typed;

/// The mesh-wide configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// Where policies for the whole mesh are.
    pub root_namespace: String,
    /// The mesh's own trust domain.
    pub trust_domain: String,
    /// Other names of it.
    pub trust_domain_aliases: Vec<String>,
    /// How far paths are normalized.
    pub path_normalization: Option<PathNormalization>,
    /// Services that the mesh asks.
    pub extension_providers: Vec<ExtensionProvider>,
    /// Defaults of proxies.
    pub default_config: Option<ProxyConfig>,
    /// The file that access logs go to where nothing else says; none if empty.
    pub access_log_file: String,
    /// The format of their lines; Istio's own if empty.
    pub access_log_format: String,
    /// `TEXT` (if empty) or `JSON`.
    pub access_log_encoding: String,
    /// Which providers are used where no Telemetry names any.
    pub default_providers: Option<DefaultProviders>,
}

/// `defaultProviders`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultProviders {
    /// For access logs.
    pub access_logging: Vec<String>,
    /// For metrics; `prometheus` is what there is.
    pub metrics: Vec<String>,
    /// For traces; the first counts.
    pub tracing: Vec<String>,
}

/// `pathNormalization`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathNormalization {
    /// `DEFAULT`, `NONE`, `BASE`, `MERGE_SLASHES` or `DECODE_AND_MERGE_SLASHES`.
    pub normalization: String,
}

/// `defaultConfig`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// What stands in front of gateways.
    pub gateway_topology: Option<Topology>,
    /// What proxies say of themselves in headers.
    pub proxy_headers: Option<ProxyHeaders>,
    /// What is said of traces where no Telemetry says it.
    pub tracing: Option<ProxyTracing>,
}

/// `defaultConfig.proxyHeaders`, as far as waypoints and Gateways of ours write what it is about.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyHeaders {
    /// `server` of answers.
    pub server: Option<ServerHeader>,
    /// `x-envoy-upstream-service-time`.
    pub envoy_debug_headers: Option<HeaderSwitch>,
}

/// `proxyHeaders.server`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerHeader {
    /// Whether an upstream's own value is kept in any case.
    pub disabled: bool,
    /// What it is overwritten with; not at all if empty.
    pub value: String,
}

/// Whether a header is written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderSwitch {
    /// Whether not.
    pub disabled: bool,
}

/// `defaultConfig.tracing`, as far as it is not about providers, which `extensionProviders` are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyTracing {
    /// How many of the traces that begin in a process are recorded, in percent.
    pub sampling: Option<f64>,
    /// Tags of spans, by name.
    pub custom_tags: Option<BTreeMap<String, CustomTag>>,
    /// How long the path in a span may be.
    pub max_path_tag_length: Option<u32>,
    /// Whether spans say who recorded them.
    pub enable_istio_tags: Option<bool>,
}

/// `gatewayTopology`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topology {
    /// How many proxies in front of a gateway may be believed.
    pub num_trusted_proxies: Option<u32>,
}

/// Something that the mesh asks or writes to. Authorizers and files are carried out; anything else is reported.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    /// By what policies call it.
    pub name: String,
    /// An authorizer that is asked by HTTP.
    pub envoy_ext_authz_http: Option<ExtAuthzHttp>,
    /// An authorizer that is asked by gRPC.
    pub envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
    /// A file for access logs.
    pub envoy_file_access_log: Option<FileAccessLog>,
    /// Metrics to be fetched, which are served anyway.
    pub prometheus: Option<Empty>,
    /// A collector of spans that speaks OTLP.
    pub opentelemetry: Option<OpenTelemetry>,
    /// A collector of spans that speaks Zipkin.
    pub zipkin: Option<Zipkin>,
    /// A collector of access logs that speaks OTLP.
    pub envoy_otel_als: Option<OtelAccessLog>,
}

/// `opentelemetry`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OpenTelemetry {
    /// The service, `[<namespace>/]<host>`.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// How long the path in a span may be.
    pub max_tag_length: Option<u32>,
    /// OTLP/HTTP; OTLP/gRPC if absent.
    pub http: Option<OtlpHttp>,
    /// What OTLP/gRPC is told beside.
    pub grpc: Option<OtlpGrpc>,
    /// What is found out about the process.
    pub resource_detectors: Option<ResourceDetectors>,
    /// `ISTIO_CANONICAL` (default) or `OTEL_SEMANTIC_CONVENTIONS`: how the service is named.
    pub service_attribute_enrichment: Option<String>,
}

/// `http` of an OpenTelemetry provider.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OtlpHttp {
    /// The path.
    pub path: String,
    /// How long an answer may take.
    pub timeout: Option<GoDuration>,
    /// Header fields.
    pub headers: Vec<OtlpHeader>,
}

/// `grpc` of an OpenTelemetry provider.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OtlpGrpc {
    /// How long an answer may take.
    pub timeout: Option<GoDuration>,
    /// Metadata.
    pub initial_metadata: Vec<OtlpHeader>,
}

/// A header field.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OtlpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// The variable of this process that holds its value.
    pub env_name: Option<String>,
}

/// `resourceDetectors`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceDetectors {
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub environment: Option<Empty>,
}

/// `zipkin`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Zipkin {
    /// The service, `[<namespace>/]<host>`.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// How long the path in a span may be.
    pub max_tag_length: Option<u32>,
    /// The path; `/api/v2/spans` if empty.
    pub path: String,
    /// `USE_B3` (default) or `USE_B3_WITH_W3C_PROPAGATION`.
    pub trace_context_option: String,
    /// How long an answer may take.
    pub timeout: Option<GoDuration>,
    /// Header fields.
    pub headers: Vec<OtlpHeader>,
}

/// `envoyOtelAls`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OtelAccessLog {
    /// The service, `[<namespace>/]<host>`.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// What the log is called.
    pub log_name: String,
    /// Text, which is a record's body, and labels, which are its attributes.
    pub log_format: Option<LogFormat>,
}

/// A message without fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Empty {}

/// `envoyFileAccessLog`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileAccessLog {
    /// The file; `/dev/stdout` and `/dev/stderr` are the process's own.
    pub path: String,
    /// The format of a line.
    pub log_format: Option<LogFormat>,
    /// Whether what is absent is left out.
    pub omit_empty_values: bool,
}

/// `logFormat`: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogFormat {
    /// A line of text.
    pub text: Option<String>,
    /// JSON, whose texts are formats.
    pub labels: Option<serde_json::Value>,
}

/// `envoyExtAuthzHttp`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtAuthzHttp {
    /// The service, `[<namespace>/]<host>`.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// How long it may take.
    pub timeout: Option<GoDuration>,
    /// What is put in front of the path that is asked about.
    pub path_prefix: String,
    /// Whether requests pass where it cannot be asked.
    pub fail_open: bool,
    /// The status where it cannot be asked.
    pub status_on_error: String,
    /// Request headers that it is told.
    pub include_request_headers_in_check: Vec<String>,
    /// The same, in the spelling of older releases.
    pub include_headers_in_check: Vec<String>,
    /// Headers that it is told besides.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// How much of the body it is told.
    pub include_request_body_in_check: Option<RequestBody>,
    /// Headers of its answer that go on with an allowed request.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of its answer that go back with a denial.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of its answer that go back with the response to an allowed request.
    pub headers_to_downstream_on_allow: Vec<String>,
    /// Whether the route is chosen again after it has changed the request.
    pub clear_route_cache: Option<bool>,
}

/// `envoyExtAuthzGrpc`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)] // as of `ExtAuthzHttp`
pub struct ExtAuthzGrpc {
    pub service: String,
    pub port: u32,
    pub timeout: Option<GoDuration>,
    pub fail_open: bool,
    pub status_on_error: String,
    pub include_request_body_in_check: Option<RequestBody>,
    pub clear_route_cache: Option<bool>,
}

/// How much of a body an authorizer is told.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestBody {
    /// How many bytes.
    pub max_request_bytes: u32,
    /// Whether it is asked about the first of more bytes; otherwise such a request is refused with 413.
    pub allow_partial_message: bool,
    /// Whether the bytes are sent as such; otherwise as UTF-8 text.
    pub pack_as_bytes: bool,
}

/// What a text held.
#[derive(Debug, Default)]
pub struct ParsedMeshConfig {
    /// What is carried out.
    pub config: MeshConfig,
    /// The other fields, with their lines in the text.
    pub unknown: Vec<(String, u32)>,
}

/// Fields that change nothing of what we do: they are about proxies, and about the control plane that configures them.
const INERT: &[&str] = &[
    "configSources",
    "defaultConfig.concurrency",
    "defaultConfig.discoveryAddress",
    "defaultConfig.proxyMetadata",
    "dnsRefreshRate",
    "enableAutoMtls",
    "enablePrometheusMerge",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
];

impl MeshConfig {
    /// Reads the text of the key `mesh`.
    ///
    /// # Errors
    /// What is wrong with it, and at which of its lines.
    pub fn read(text: &str) -> Result<ParsedMeshConfig, (String, u32)> {
        if text.trim().is_empty() {
            return Ok(ParsedMeshConfig::default());
        }
        let node = Node::parse(text).map_err(|error| (error.text, error.at.line))?;
        let (config, remarks) = typed::read(&node, "");
        let config = config.map_err(|misfit: typed::Misfit| {
            let at = misfit.at.line;
            (format!("{}: {misfit}", misfit.field), at)
        })?;
        let unknown = remarks
            .unknown
            .into_iter()
            .filter(|remark| !INERT.contains(&remark.field.as_str()));
        Ok(ParsedMeshConfig {
            config,
            unknown: unknown.map(|remark| (remark.field, remark.at.line)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_out_is_told_from_what_is_not() {
        let text = "
accessLogFile: /dev/stdout
enableTracing: true
enablePrometheusMerge: true
trustDomain: td1
trustDomainAliases: [old]
pathNormalization: {normalization: MERGE_SLASHES}
defaultConfig: {discoveryAddress: istiod:15012, gatewayTopology: {numTrustedProxies: 2}}
extensionProviders:
- name: opa
  envoyExtAuthzGrpc: {service: opa.default.svc.cluster.local, port: 9191, timeout: 0.5s, failOpen: true}
- name: lightstep
  lightstep: {service: lightstep, port: 9411}
";
        let ParsedMeshConfig { config, unknown } = MeshConfig::read(text).unwrap();
        assert_eq!(
            (config.trust_domain.as_str(), config.trust_domain_aliases.len()),
            ("td1", 1)
        );
        assert_eq!(
            config.extension_providers[0]
                .envoy_ext_authz_grpc
                .as_ref()
                .unwrap()
                .port,
            9191
        );
        assert_eq!(
            unknown,
            [
                ("enableTracing".to_owned(), 3),
                ("extensionProviders[1].lightstep".to_owned(), 13)
            ]
        );
    }

    #[test]
    fn a_text_that_is_none_is_refused_with_its_line() {
        assert_eq!(MeshConfig::read("a: b\ntrustDomain: [x]\n").unwrap_err().1, 2);
        assert!(MeshConfig::read("a: [").is_err());
        assert_eq!(MeshConfig::read(" \n").unwrap().config, MeshConfig::default());
    }
}
