//! `VirtualService`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::GoDuration;
use crate::config::{Labels, ObjectMeta};

/// `VirtualService`: routes of hosts, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualService {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: VirtualServiceSpec,
}

/// `spec` of a VirtualService.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualServiceSpec {
    /// Hosts it is for: short names, full names, `*.`-wildcards. None makes it a delegate.
    pub hosts: Vec<String>,
    /// Where it applies: `mesh` (if absent) or Gateways as `name` or `namespace/name`.
    pub gateways: Vec<String>,
    /// HTTP routes; the first that matches decides.
    pub http: Vec<HTTPRoute>,
    /// Routes of TLS connections, by server name.
    pub tls: Vec<TLSRoute>,
    /// Routes of other connections.
    pub tcp: Vec<TCPRoute>,
    /// Namespaces that see it; all if empty.
    pub export_to: Vec<String>,
}

/// One HTTP route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRoute {
    /// Name, for people.
    pub name: Option<String>,
    /// Alternatives; everything if empty.
    #[serde(rename = "match")]
    pub matches: Vec<HTTPMatchRequest>,
    /// Destinations by weight.
    pub route: Vec<HTTPRouteDestination>,
    /// An answer that sends the caller elsewhere.
    pub redirect: Option<HTTPRedirect>,
    /// An answer given right here.
    pub direct_response: Option<HTTPDirectResponse>,
    /// Another VirtualService that has the routes.
    pub delegate: Option<Delegate>,
    /// What the destination sees of host and path.
    pub rewrite: Option<HTTPRewrite>,
    /// For the whole exchange, retries included.
    pub timeout: Option<GoDuration>,
    /// When to try again.
    pub retries: Option<HTTPRetry>,
    /// Delays and errors made on purpose.
    pub fault: Option<HTTPFaultInjection>,
    /// Who gets a copy.
    pub mirror: Option<Destination>,
    /// Who get copies.
    pub mirrors: Vec<HTTPMirrorPolicy>,
    /// Share of `mirror`, in percent; deprecated.
    pub mirror_percent: Option<u32>,
    /// Share of `mirror`.
    pub mirror_percentage: Option<Percent>,
    /// Cross-origin rules.
    pub cors_policy: Option<CorsPolicy>,
    /// Edits of headers.
    pub headers: Option<Headers>,
}

/// A match: all given parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPMatchRequest {
    /// Name, for people.
    pub name: Option<String>,
    /// The path, without query.
    pub uri: Option<StringMatch>,
    /// The scheme.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The authority, as the caller wrote it.
    pub authority: Option<StringMatch>,
    /// Headers that must be there.
    pub headers: BTreeMap<String, StringMatch>,
    /// The port that was addressed.
    pub port: Option<u16>,
    /// Labels of the caller's workload.
    pub source_labels: Labels,
    /// Where it applies, in place of the VirtualService's list.
    pub gateways: Vec<String>,
    /// Query parameters that must be there.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Whether `uri` (exact or prefix) ignores case.
    pub ignore_uri_case: bool,
    /// Headers that must not be there, or not so.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Namespace of the caller's workload.
    pub source_namespace: Option<String>,
    /// Prefix of Envoy's own statistics.
    pub stat_prefix: Option<String>,
}

/// One of three ways to compare text; none of them: any text that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StringMatch {
    /// Equality.
    pub exact: Option<String>,
    /// A prefix.
    pub prefix: Option<String>,
    /// An RE2 expression for the whole text.
    pub regex: Option<String>,
}

/// A destination with its share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRouteDestination {
    /// Where to.
    pub destination: Option<Destination>,
    /// Its share.
    pub weight: u32,
    /// Edits of headers, after the route's.
    pub headers: Option<Headers>,
}

/// A destination of connections with its share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteDestination {
    /// Where to.
    pub destination: Option<Destination>,
    /// Its share.
    pub weight: u32,
}

/// A service, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// Its host; a short name is completed with the VirtualService's namespace.
    pub host: String,
    /// A subset of its DestinationRule.
    pub subset: Option<String>,
    /// Its port; may be left out if it has only one.
    pub port: Option<PortSelector>,
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortSelector {
    /// Its number.
    pub number: u16,
}

/// Another VirtualService, without hosts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; the root's if absent.
    pub namespace: Option<String>,
}

/// Edits of headers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// Of the request.
    pub request: HeaderOperations,
    /// Of the response.
    pub response: HeaderOperations,
}

/// Edits of a message's headers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderOperations {
    /// Replace all values.
    pub set: BTreeMap<String, String>,
    /// Append a value.
    pub add: BTreeMap<String, String>,
    /// Delete all values.
    pub remove: Vec<String>,
}

/// A redirect.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRedirect {
    /// The new path.
    pub uri: Option<String>,
    /// The new path's beginning, in place of the matched prefix.
    pub prefix_rewrite: Option<String>,
    /// The new host.
    pub authority: Option<String>,
    /// The new port.
    pub port: Option<u16>,
    /// How to find the new port.
    pub derive_port: Option<RedirectPortSelection>,
    /// The new scheme.
    pub scheme: Option<String>,
    /// The status; 301 if absent.
    pub redirect_code: Option<u16>,
}

/// How a redirect finds its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // named as upstream
pub enum RedirectPortSelection {
    FromProtocolDefault,
    FromRequestPort,
}

/// An answer given by the proxy itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPDirectResponse {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Option<HTTPBody>,
}

/// A body, given as text or as base64.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPBody {
    /// Text.
    pub string: Option<String>,
    /// Base64.
    pub bytes: Option<String>,
}

/// A rewrite of what the destination sees.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRewrite {
    /// The new path, or what takes the place of the matched prefix.
    pub uri: Option<String>,
    /// The new authority.
    pub authority: Option<String>,
    /// A replacement by expression.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// A replacement by expression.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegexRewrite {
    /// What is replaced, everywhere in the path.
    #[serde(rename = "match")]
    pub matches: String,
    /// What takes its place; `\1` to `\9` are groups.
    pub rewrite: String,
}

/// When to try again.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRetry {
    /// How often to try again; 0 switches retries off.
    pub attempts: u32,
    /// For one attempt.
    pub per_try_timeout: Option<GoDuration>,
    /// What is worth another attempt.
    pub retry_on: Option<String>,
    /// Whether retries go to other localities.
    pub retry_remote_localities: Option<bool>,
    /// Whether retries avoid the endpoints already tried; true if absent.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// The unit of the pause between attempts.
    pub backoff: Option<GoDuration>,
}

/// Delays and errors made on purpose.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPFaultInjection {
    /// A delay before the request is sent.
    pub delay: Option<FaultDelay>,
    /// An error in place of an answer.
    pub abort: Option<FaultAbort>,
}

/// A delay made on purpose.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FaultDelay {
    /// Share in percent; deprecated.
    pub percent: Option<u32>,
    /// How long.
    pub fixed_delay: Option<GoDuration>,
    /// Not implemented upstream.
    pub exponential_delay: Option<GoDuration>,
    /// Share of requests; none if absent.
    pub percentage: Option<Percent>,
}

/// An error made on purpose.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FaultAbort {
    /// An HTTP status.
    pub http_status: Option<u16>,
    /// A gRPC status by name.
    pub grpc_status: Option<String>,
    /// Not implemented upstream.
    pub http2_error: Option<String>,
    /// Share of requests; none if absent.
    pub percentage: Option<Percent>,
}

/// Who gets a copy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPMirrorPolicy {
    /// Where to.
    pub destination: Option<Destination>,
    /// Share of requests; all if absent.
    pub percentage: Option<Percent>,
}

/// A share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Percent {
    /// From 0 to 100.
    pub value: f64,
}

/// Cross-origin rules.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CorsPolicy {
    /// Origins; deprecated.
    pub allow_origin: Vec<String>,
    /// Origins.
    pub allow_origins: Vec<StringMatch>,
    /// Methods.
    pub allow_methods: Vec<String>,
    /// Headers of requests.
    pub allow_headers: Vec<String>,
    /// Headers of responses.
    pub expose_headers: Vec<String>,
    /// How long a preflight holds.
    pub max_age: Option<GoDuration>,
    /// Whether credentials may be sent.
    pub allow_credentials: Option<bool>,
    /// What becomes of a preflight whose origin does not match.
    pub unmatched_preflights: Option<UnmatchedPreflights>,
}

/// What becomes of a preflight whose origin does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // named as upstream
pub enum UnmatchedPreflights {
    Unspecified,
    Forward,
    Ignore,
}

/// A route of TLS connections that are passed on unopened.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TLSRoute {
    /// Alternatives.
    #[serde(rename = "match")]
    pub matches: Vec<TLSMatchAttributes>,
    /// Destinations by weight.
    pub route: Vec<RouteDestination>,
}

/// A route of connections.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TCPRoute {
    /// Alternatives; everything if empty.
    #[serde(rename = "match")]
    pub matches: Vec<L4MatchAttributes>,
    /// Destinations by weight.
    pub route: Vec<RouteDestination>,
}

/// A match of TLS connections: all given parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TLSMatchAttributes {
    /// Server names; `*.`-wildcards allowed.
    pub sni_hosts: Vec<String>,
    /// Blocks of destination addresses.
    pub destination_subnets: Vec<String>,
    /// The port that was addressed.
    pub port: Option<u16>,
    /// Labels of the caller's workload.
    pub source_labels: Labels,
    /// Where it applies, in place of the VirtualService's list.
    pub gateways: Vec<String>,
    /// Namespace of the caller's workload.
    pub source_namespace: Option<String>,
}

/// A match of connections: all given parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct L4MatchAttributes {
    /// Blocks of destination addresses.
    pub destination_subnets: Vec<String>,
    /// The port that was addressed.
    pub port: Option<u16>,
    /// A block of source addresses.
    pub source_subnet: Option<String>,
    /// Labels of the caller's workload.
    pub source_labels: Labels,
    /// Where it applies, in place of the VirtualService's list.
    pub gateways: Vec<String>,
    /// Namespace of the caller's workload.
    pub source_namespace: Option<String>,
}
