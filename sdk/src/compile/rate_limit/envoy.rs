//! Envoy's own configuration, as far as it is about rate limits. Every field that is not here makes a piece invalid: a
//! limit that is carried out in part only is none.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config::istio::GoDuration;

/// `type.googleapis.com/` and these.
pub(super) const LOCAL: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
pub(super) const GLOBAL: &str = "envoy.extensions.filters.http.ratelimit.v3.RateLimit";
const EXPRESSION: &str = "envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor";
const TYPED_STRUCTS: [&str; 2] = ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

/// Reads a shape. Protobuf's JSON knows two spellings of each field; here both become one.
pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_json::from_value(snake_case(value)).map_err(|error| error.to_string())
}

fn snake_case(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| (snake(key), snake_case(value));
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Array(items) => items.iter().map(snake_case).collect(),
        other => other.clone(),
    }
}

fn snake(key: &str) -> String {
    let mut snake = String::with_capacity(key.len());
    for char in key.chars() {
        if char.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(char.to_ascii_lowercase());
    }
    snake
}

/// The type and the fields of a `typed_config`, unpacked where they are in a TypedStruct.
pub(super) fn typed(value: &Value) -> Result<(String, Value), String> {
    let mut fields: Map<String, Value> = match value {
        Value::Object(fields) => fields.clone(),
        _ => return Err("typed_config has no fields".into()),
    };
    let kind = fields
        .remove("@type")
        .and_then(|it| it.as_str().map(str::to_owned));
    let kind = kind.ok_or("typed_config has no @type")?;
    let name = |url: &str| url.rsplit_once('/').map_or(url, |(_, name)| name).to_owned();
    if !TYPED_STRUCTS.contains(&&*name(&kind)) {
        return Ok((name(&kind), Value::Object(fields)));
    }
    let url = fields.get("type_url").or_else(|| fields.get("typeUrl"));
    let url = url
        .and_then(Value::as_str)
        .ok_or("the TypedStruct has no type_url")?;
    let inner = fields
        .get("value")
        .cloned()
        .unwrap_or_else(|| Value::Object(Map::new()));
    Ok((name(url), inner))
}

/// A filter in a chain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpFilter {
    #[serde(default)]
    #[allow(dead_code)] // for people
    pub(super) name: String,
    pub(super) typed_config: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LocalRateLimit {
    #[allow(dead_code)] // names Envoy's statistics
    pub(super) stat_prefix: String,
    pub(super) status: Option<HttpStatus>,
    pub(super) token_bucket: Option<TokenBucket>,
    pub(super) filter_enabled: Option<Share>,
    pub(super) filter_enforced: Option<Share>,
    pub(super) response_headers_to_add: Vec<HeaderOption>,
    pub(super) descriptors: Vec<LocalDescriptor>,
    pub(super) stage: u32,
    pub(super) local_rate_limit_per_downstream_connection: bool,
    pub(super) enable_x_ratelimit_headers: Option<String>,
    pub(super) rate_limited_as_resource_exhausted: bool,
    pub(super) always_consume_default_token_bucket: Option<bool>,
    pub(super) max_dynamic_descriptors: Option<usize>,
    pub(super) rate_limits: Vec<RateLimit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpStatus {
    /// By number, or by Envoy's name for it.
    pub(super) code: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenBucket {
    pub(super) max_tokens: u32,
    pub(super) tokens_per_fill: Option<u32>,
    pub(super) fill_interval: GoDuration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Share {
    #[serde(default)]
    #[allow(dead_code)] // there is no runtime to ask
    runtime_key: String,
    pub(super) default_value: Option<Fraction>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fraction {
    pub(super) numerator: u32,
    pub(super) denominator: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderOption {
    pub(super) header: Pair,
    #[serde(default)]
    #[allow(dead_code)] // an answer of ours has no header that there could be two of
    append: Option<bool>,
    #[serde(default)]
    #[allow(dead_code)] // likewise
    append_action: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalDescriptor {
    pub(super) entries: Vec<Pair>,
    pub(super) token_bucket: TokenBucket,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GlobalRateLimit {
    pub(super) domain: String,
    #[serde(default)]
    pub(super) stage: u32,
    #[serde(default)]
    pub(super) request_type: Option<String>,
    #[serde(default)]
    pub(super) timeout: Option<GoDuration>,
    #[serde(default)]
    pub(super) failure_mode_deny: bool,
    #[serde(default)]
    pub(super) rate_limited_as_resource_exhausted: bool,
    pub(super) rate_limit_service: RateLimitService,
    #[serde(default)]
    pub(super) enable_x_ratelimit_headers: Option<String>,
    #[serde(default)]
    pub(super) disable_x_envoy_ratelimited_header: bool,
    #[serde(default)]
    pub(super) rate_limited_status: Option<HttpStatus>,
    #[serde(default)]
    pub(super) status_on_error: Option<HttpStatus>,
    #[serde(default)]
    #[allow(dead_code)] // names Envoy's statistics
    pub(super) stat_prefix: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimitService {
    pub(super) grpc_service: GrpcService,
    /// `V3`, or nothing.
    #[serde(default)]
    pub(super) transport_api_version: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrpcService {
    pub(super) envoy_grpc: EnvoyGrpc,
    /// Istio's documentation writes it here; the filter's own is what counts.
    #[serde(default)]
    pub(super) timeout: Option<GoDuration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnvoyGrpc {
    pub(super) cluster_name: String,
    /// The service has a name of its own here.
    #[serde(default)]
    #[allow(dead_code)]
    authority: Option<String>,
}

/// What is said of virtual hosts and routes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RouteSettings {
    pub(super) rate_limits: Vec<RateLimit>,
    pub(super) typed_per_filter_config: Map<String, Value>,
    /// The same of routes.
    pub(super) route: Option<RouteAction>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RouteAction {
    pub(super) rate_limits: Vec<RateLimit>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RateLimit {
    pub(super) stage: u32,
    pub(super) actions: Vec<Action>,
}

/// One of these.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Action {
    pub(super) generic_key: Option<GenericKey>,
    pub(super) request_headers: Option<RequestHeaders>,
    pub(super) query_parameters: Option<QueryParameters>,
    pub(super) remote_address: Option<Nothing>,
    pub(super) source_cluster: Option<Nothing>,
    pub(super) destination_cluster: Option<Nothing>,
    pub(super) header_value_match: Option<HeaderValueMatch>,
    pub(super) extension: Option<Extension>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GenericKey {
    pub(super) descriptor_value: String,
    #[serde(default)]
    pub(super) descriptor_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestHeaders {
    pub(super) header_name: String,
    pub(super) descriptor_key: String,
    #[serde(default)]
    pub(super) skip_if_absent: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryParameters {
    pub(super) query_parameter_name: String,
    pub(super) descriptor_key: String,
    #[serde(default)]
    pub(super) skip_if_absent: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderValueMatch {
    #[serde(default)]
    pub(super) descriptor_key: Option<String>,
    pub(super) descriptor_value: String,
    #[serde(default)]
    pub(super) expect_match: Option<bool>,
    pub(super) headers: Vec<HeaderMatcher>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderMatcher {
    pub(super) name: String,
    #[serde(default)]
    pub(super) exact_match: Option<String>,
    #[serde(default)]
    pub(super) prefix_match: Option<String>,
    #[serde(default)]
    pub(super) present_match: Option<bool>,
    #[serde(default)]
    pub(super) string_match: Option<StringMatcher>,
    #[serde(default)]
    pub(super) invert_match: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StringMatcher {
    pub(super) exact: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) safe_regex: Option<SafeRegex>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SafeRegex {
    pub(super) regex: String,
    #[serde(default)]
    #[allow(dead_code)] // there is one engine
    google_re2: Option<Nothing>,
}

/// An extension; the one that is known counts callers by who they are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Extension {
    #[serde(default)]
    #[allow(dead_code)] // for people
    name: String,
    typed_config: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expression {
    pub(super) descriptor_key: String,
    #[serde(default)]
    pub(super) skip_if_error: bool,
    pub(super) text: String,
}

impl Extension {
    pub(super) fn expression(&self) -> Result<Expression, String> {
        let (kind, fields) = typed(&self.typed_config)?;
        match kind == EXPRESSION {
            true => read(&fields),
            false => Err(format!("descriptors by {kind} are not supported")),
        }
    }
}

/// A cluster that is added; only where it is matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) load_assignment: Value,
}

impl Cluster {
    /// The one address of a cluster.
    pub(super) fn address(&self) -> Option<(String, u16)> {
        let endpoints = self.load_assignment.get("endpoints")?.as_array()?;
        let [endpoints] = endpoints.as_slice() else {
            return None;
        };
        let [endpoint] = endpoints.get("lb_endpoints")?.as_array()?.as_slice() else {
            return None;
        };
        let socket = endpoint.pointer("/endpoint/address/socket_address")?;
        let port = socket.get("port_value")?.as_u64()?;
        Some((
            socket.get("address")?.as_str()?.to_owned(),
            u16::try_from(port).ok()?,
        ))
    }
}
