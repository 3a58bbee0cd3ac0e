//! What the mesh-wide configuration says, as far as requests ask about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::authorizer::Authorizer;
use crate::policy::normalize::PathNormalization;
use crate::telemetry::access::AccessLog;

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
    /// Whom CUSTOM policies ask, or why nobody can be asked.
    pub authorizers: BTreeMap<Arc<str>, Result<Arc<Authorizer>, Arc<str>>>,
    /// What access logs can be written to, by the names of the providers.
    pub logs: BTreeMap<Arc<str>, Arc<AccessLog>>,
    /// Which of them are used where no Telemetry says so.
    pub default_logs: Vec<Arc<str>>,
}
