//! `GRPCRoute`.

use serde::Deserialize;

use super::{HTTPBackendRef, HTTPRouteFilter, HTTPValueMatch, ParentRef, SessionPersistence};
use crate::config::ObjectMeta;

/// `GRPCRoute`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GRPCRoute {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: GRPCRouteSpec,
}

/// `spec` of a GRPCRoute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GRPCRouteSpec {
    /// What the route attaches to.
    pub parent_refs: Vec<ParentRef>,
    /// Host names it serves; all if empty. Without effect on Service parents.
    pub hostnames: Vec<String>,
    /// Rules.
    pub rules: Vec<GRPCRouteRule>,
}

/// A rule: matches (ORed), filters, backends.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GRPCRouteRule {
    /// Name.
    pub name: Option<String>,
    /// Alternatives; every call if empty.
    pub matches: Vec<GRPCRouteMatch>,
    /// Filters. The shape is HTTPRoute's; which kinds there are is less.
    pub filters: Vec<HTTPRouteFilter>,
    /// Backends by weight.
    pub backend_refs: Vec<HTTPBackendRef>,
    /// Sessions.
    pub session_persistence: Option<SessionPersistence>,
}

/// A match: all given parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GRPCRouteMatch {
    /// Service and method.
    pub method: Option<GRPCMethodMatch>,
    /// Headers, all of them.
    pub headers: Vec<HTTPValueMatch>,
}

/// Which service and method; one of them may be left open.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GRPCMethodMatch {
    /// `Exact` (default) or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The service with its package.
    pub service: Option<String>,
    /// The method.
    pub method: Option<String>,
}
