//! What the mesh-wide configuration says, as far as requests ask about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::HeaderValue;

use crate::policy::authorizer::Authorizer;
use crate::policy::normalize::PathNormalization;
use crate::telemetry::Propagation;
use crate::telemetry::access::AccessLog;
use crate::telemetry::recording::{SpanTarget, Tag};

/// What the mesh-wide configuration says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshFacts {
    /// Where policies for the whole mesh are, if it says so.
    pub root_namespace: Option<Arc<str>>,
    /// The mesh's own trust domain, if it says so.
    pub trust_domain: Option<Arc<str>>,
    /// Other names of it.
    pub trust_domain_aliases: Vec<Arc<str>>,
    /// How far paths are normalized, if it says so.
    pub paths: Option<PathNormalization>,
    /// How many proxies in front of a gateway may be believed about who calls.
    pub trusted_proxies: u32,
    /// What waypoints and Gateways say of themselves in answers.
    pub proxy_headers: ProxyHeaders,
    /// Whom CUSTOM policies ask, or why nobody can be asked.
    pub authorizers: BTreeMap<Arc<str>, Result<Arc<Authorizer>, Arc<str>>>,
    /// What access logs can be written to, by the names of the providers.
    pub logs: BTreeMap<Arc<str>, Arc<AccessLog>>,
    /// Which of them are used where no Telemetry says so.
    pub default_logs: Vec<Arc<str>>,
    /// What it says of traces.
    pub tracing: Arc<TraceFacts>,
    /// The providers that metrics can be told to, besides the one that there always is.
    pub metrics: BTreeSet<Arc<str>>,
}

/// What waypoints and Gateways say of themselves in answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyHeaders {
    /// What `server` is overwritten with; an upstream's own is kept otherwise.
    pub server: Option<HeaderValue>,
    /// Without `x-envoy-upstream-service-time`.
    pub untimed: bool,
}

/// What the mesh-wide configuration says of traces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceFacts {
    /// Where spans can go, by the names of the providers; or why they cannot.
    pub providers: BTreeMap<Arc<str>, Result<TraceProvider, Arc<str>>>,
    /// The one that is used where no Telemetry names any.
    pub default: Option<Arc<str>>,
    /// How many of the traces that begin here are recorded, in ten thousand, where no Telemetry says so.
    pub share: Option<u16>,
    /// Tags where no Telemetry has any.
    pub tags: Vec<Tag>,
    /// How long the path in a span may be.
    pub longest: Option<usize>,
    /// Whether spans say who recorded them, where no Telemetry says so.
    pub istio_tags: Option<bool>,
}

/// Somewhere that spans can go.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceProvider {
    /// Where, but for who we are.
    pub target: SpanTarget,
    /// Which headers carry contexts.
    pub propagation: Propagation,
    /// How long the path in a span may be.
    pub longest: Option<usize>,
    /// Whether the service is named as OpenTelemetry's conventions have it.
    pub by_conventions: bool,
}
