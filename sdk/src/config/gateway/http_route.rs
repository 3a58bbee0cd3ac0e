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
    /// `RequestHeaderModifier`, `ResponseHeaderModifier`, `RequestRedirect`, `URLRewrite`; others are refused.
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
