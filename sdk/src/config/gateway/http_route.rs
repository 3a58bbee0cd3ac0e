//! `HTTPRoute`.

use serde::Deserialize;

use crate::config::ObjectMeta;

/// `HTTPRoute`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRoute {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: HTTPRouteSpec,
}

/// `spec` of an HTTPRoute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRouteSpec {
    /// What the route attaches to.
    pub parent_refs: Vec<ParentRef>,
    /// Host names it serves; all if empty. Without effect on Service parents.
    pub hostnames: Vec<String>,
    /// Rules.
    pub rules: Vec<HTTPRouteRule>,
}

/// What a route attaches to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentRef {
    /// `gateway.networking.k8s.io` if absent; empty for core.
    pub group: Option<String>,
    /// `Gateway` if absent.
    pub kind: Option<String>,
    /// The route's own if absent.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// One listener.
    pub section_name: Option<String>,
    /// One port.
    pub port: Option<u16>,
}

/// A rule: matches (ORed), filters, backends.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRouteRule {
    /// Name.
    pub name: Option<String>,
    /// Alternatives; everything if empty.
    pub matches: Vec<HTTPRouteMatch>,
    /// Filters, in order.
    pub filters: Vec<HTTPRouteFilter>,
    /// Backends by weight.
    pub backend_refs: Vec<HTTPBackendRef>,
    /// Timeouts.
    pub timeouts: Option<HTTPRouteTimeouts>,
    /// Retries.
    pub retry: Option<HTTPRouteRetry>,
    /// Sessions.
    pub session_persistence: Option<SessionPersistence>,
}

/// A match: all given parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRouteMatch {
    /// Path.
    pub path: Option<HTTPPathMatch>,
    /// Headers, all of them.
    pub headers: Vec<HTTPValueMatch>,
    /// Query parameters, all of them.
    pub query_params: Vec<HTTPValueMatch>,
    /// Method.
    pub method: Option<String>,
}

/// A path match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPPathMatch {
    /// `Exact`, `PathPrefix` (default) or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `/` if absent.
    pub value: Option<String>,
}

/// A header or query parameter match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPValueMatch {
    /// `Exact` (default) or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A filter: `kind` says which of the others is meant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRouteFilter {
    /// `RequestHeaderModifier`, `ResponseHeaderModifier`, `RequestRedirect`, `URLRewrite`, `RequestMirror`, `CORS`,
    /// `ExternalAuth` or `ExtensionRef`. In a GRPCRoute only some.
    #[serde(rename = "type")]
    pub kind: String,
    /// For `RequestHeaderModifier`.
    pub request_header_modifier: Option<HTTPHeaderFilter>,
    /// For `ResponseHeaderModifier`.
    pub response_header_modifier: Option<HTTPHeaderFilter>,
    /// For `RequestRedirect`.
    pub request_redirect: Option<HTTPRequestRedirect>,
    /// For `URLRewrite`.
    #[serde(rename = "urlRewrite")]
    pub url_rewrite: Option<HTTPURLRewrite>,
    /// For `RequestMirror`.
    pub request_mirror: Option<HTTPRequestMirror>,
    /// For `CORS`.
    pub cors: Option<HTTPCors>,
    /// For `ExternalAuth`.
    pub external_auth: Option<HTTPExternalAuth>,
    /// For `ExtensionRef`.
    pub extension_ref: Option<ExtensionRef>,
}

/// Header edits: `set`, then `add`, then `remove`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPHeaderFilter {
    /// Overwrite.
    pub set: Vec<HTTPHeader>,
    /// Append.
    pub add: Vec<HTTPHeader>,
    /// Delete.
    pub remove: Vec<String>,
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPHeader {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A redirect.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRequestRedirect {
    /// Scheme.
    pub scheme: Option<String>,
    /// Host.
    pub hostname: Option<String>,
    /// Path.
    pub path: Option<HTTPPathModifier>,
    /// Port.
    pub port: Option<u16>,
    /// 302 if absent.
    pub status_code: Option<u16>,
}

/// A rewrite of host and path.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPURLRewrite {
    /// Host.
    pub hostname: Option<String>,
    /// Path.
    pub path: Option<HTTPPathModifier>,
}

/// How a path changes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPPathModifier {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For `ReplaceFullPath`.
    pub replace_full_path: Option<String>,
    /// For `ReplacePrefixMatch`.
    pub replace_prefix_match: Option<String>,
}

/// A copy of requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRequestMirror {
    /// Who gets it.
    pub backend_ref: BackendObjectReference,
    /// Of how many in a hundred; all if neither this nor `fraction` is given.
    pub percent: Option<i32>,
    /// Of how many.
    pub fraction: Option<Fraction>,
}

/// A fraction.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fraction {
    /// So many
    pub numerator: i32,
    /// of so many; 100 if absent.
    pub denominator: Option<i32>,
}

/// Which other origins may use a rule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPCors {
    /// `*`, or `https://example.com`, `https://*.example.com:8443`.
    pub allow_origins: Vec<String>,
    /// Whether with credentials.
    pub allow_credentials: Option<bool>,
    /// Methods, or `*`.
    pub allow_methods: Vec<String>,
    /// Request headers, or `*`.
    pub allow_headers: Vec<String>,
    /// Response headers, or `*`.
    pub expose_headers: Vec<String>,
    /// Seconds a browser may remember the answer; 5 if absent.
    pub max_age: Option<i32>,
}

/// Who is asked whether a request may pass.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPExternalAuth {
    /// `GRPC` or `HTTP`.
    pub protocol: String,
    /// Who is asked.
    pub backend_ref: BackendObjectReference,
    /// For `GRPC`.
    pub grpc: Option<GRPCAuthConfig>,
    /// For `HTTP`.
    pub http: Option<HTTPAuthConfig>,
    /// How much of the body is shown.
    pub forward_body: Option<ForwardBodyConfig>,
}

/// What a gRPC server that is asked gets to see.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GRPCAuthConfig {
    /// Headers shown; all if empty.
    pub allowed_headers: Vec<String>,
}

/// What an HTTP server that is asked gets to see.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPAuthConfig {
    /// In front of the request's path.
    pub path: Option<String>,
    /// Headers shown besides the usual ones.
    pub allowed_headers: Vec<String>,
    /// Headers of its answer that the request gets.
    pub allowed_response_headers: Vec<String>,
}

/// How much of a body is shown.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ForwardBodyConfig {
    /// Bytes; nothing if 0.
    pub max_size: u32,
}

/// An object that says what a filter does.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionRef {
    /// Group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// A backend without a share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendObjectReference {
    /// Empty (core) if absent.
    pub group: Option<String>,
    /// `Service` if absent.
    pub kind: Option<String>,
    /// The route's own if absent.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Required for Services.
    pub port: Option<u16>,
}

/// A backend and its share.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPBackendRef {
    /// Empty (core) if absent.
    pub group: Option<String>,
    /// `Service` if absent.
    pub kind: Option<String>,
    /// The route's own if absent.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Required for Services.
    pub port: Option<u16>,
    /// Share; 1 if absent.
    pub weight: u32,
    /// Filters for this backend alone.
    pub filters: Vec<HTTPRouteFilter>,
}

impl Default for HTTPBackendRef {
    fn default() -> Self {
        Self {
            group: None,
            kind: None,
            namespace: None,
            name: String::new(),
            port: None,
            weight: 1,
            filters: Vec::new(),
        }
    }
}

impl HTTPBackendRef {
    /// What it refers to.
    pub fn target(&self) -> BackendObjectReference {
        BackendObjectReference {
            group: self.group.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            port: self.port,
        }
    }
}

/// Timeouts, as Gateway API durations (`10s`, `500ms`, `1h30m`).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRouteTimeouts {
    /// For the whole request, retries included.
    pub request: Option<String>,
    /// For one attempt.
    pub backend_request: Option<String>,
}

/// Retries (GEP-1731).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRouteRetry {
    /// Response codes to retry on.
    pub codes: Vec<u16>,
    /// How often.
    pub attempts: Option<u32>,
    /// Least time between attempts.
    pub backoff: Option<String>,
}

/// Session persistence (GEP-1619), as v1.6 writes it and as its successor does.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionPersistence {
    /// Name of cookie or header.
    pub session_name: Option<String>,
    /// How long a session lasts at most.
    pub absolute_timeout: Option<String>,
    /// How long it lasts without a request.
    pub idle_timeout: Option<String>,
    /// `Cookie` (default) or `Header`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// For `Cookie`.
    pub cookie_config: Option<CookieConfig>,
    /// For `Cookie`, as the successor writes it.
    pub cookie: Option<CookieConfig>,
    /// For `Header`, as the successor writes it.
    pub header: Option<HeaderConfig>,
}

/// A session's cookie.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CookieConfig {
    /// Name.
    pub name: Option<String>,
    /// Path.
    pub path: Option<String>,
    /// `Session` (default) or `Permanent`.
    pub lifetime_type: Option<String>,
}

/// A session's header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderConfig {
    /// Name.
    pub name: String,
}
