//! `TCPRoute` and `TLSRoute`: routes of connections that are passed on as bytes.

use serde::Deserialize;

use super::{BackendObjectReference, ParentRef};
use crate::config::ObjectMeta;

/// `TCPRoute`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TCPRoute {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: TCPRouteSpec,
}

/// `spec` of a TCPRoute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TCPRouteSpec {
    /// What the route attaches to.
    pub parent_refs: Vec<ParentRef>,
    /// Rules; a cluster takes one.
    pub rules: Vec<ConnectionRouteRule>,
}

/// `TLSRoute`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TLSRoute {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: TLSRouteSpec,
}

/// `spec` of a TLSRoute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TLSRouteSpec {
    /// What the route attaches to.
    pub parent_refs: Vec<ParentRef>,
    /// Server names that clients ask for (SNI). Required since v1; before, none were all.
    pub hostnames: Vec<String>,
    /// Rules; a cluster takes one.
    pub rules: Vec<ConnectionRouteRule>,
}

/// A rule of either: backends, and nothing to match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionRouteRule {
    /// Name.
    pub name: Option<String>,
    /// Backends by weight.
    pub backend_refs: Vec<BackendRef>,
}

/// A backend and its share.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendRef {
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
}

impl Default for BackendRef {
    fn default() -> Self {
        Self {
            group: None,
            kind: None,
            namespace: None,
            name: String::new(),
            port: None,
            weight: 1,
        }
    }
}

impl BackendRef {
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
