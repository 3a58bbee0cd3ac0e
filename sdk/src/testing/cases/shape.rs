//! The shapes of case files. A key that is not declared here is an error: what is not understood is not passed over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// A file of decisions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decisions {
    /// Its id.
    pub id: String,
    #[serde(rename = "type")]
    _type: Option<IgnoredAny>,
    #[serde(rename = "title")]
    _title: Option<String>,
    #[serde(rename = "tags")]
    _tags: Option<Vec<String>>,
    #[serde(rename = "note")]
    _note: Option<String>,
    /// On which layer requests are judged: `http`, `tcp` or `l4`.
    pub layer: String,
    /// Facts of the mesh.
    #[serde(default)]
    pub mesh: MeshFacts,
    /// Who enforces.
    pub target: Enforcer,
    /// External authorizers and their fixed answers.
    #[serde(default)]
    pub providers: BTreeMap<String, Provider>,
    /// Every policy of the cluster.
    #[serde(default)]
    pub policies: Vec<Value>,
    /// What requests have that do not say.
    #[serde(default)]
    pub defaults: Map<String, Value>,
    /// The requests.
    pub requests: Vec<Map<String, Value>>,
}

/// Facts of the mesh.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MeshFacts {
    /// Where policies for the whole mesh are.
    pub root_namespace: String,
    /// The trust domain.
    pub trust_domain: String,
    /// Its other names.
    pub trust_domain_aliases: Vec<String>,
    /// How far paths are normalized.
    pub path_normalization: String,
    /// How many proxies in front of a gateway are believed.
    pub num_trusted_proxies: u32,
}

impl Default for MeshFacts {
    fn default() -> Self {
        Self {
            root_namespace: "istio-system".into(),
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Vec::new(),
            path_normalization: "BASE".into(),
            num_trusted_proxies: 0,
        }
    }
}

/// Who enforces.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Enforcer {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The Gateway that it is.
    #[serde(default)]
    pub gateway: String,
    /// The services that it serves; the first is addressed.
    #[serde(default)]
    pub services: Vec<Served>,
    /// Whether it is an edge.
    #[serde(default)]
    pub use_remote_address: bool,
}

/// A service behind a waypoint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Served {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `Kubernetes` or `External`.
    pub registry: String,
}

/// An external authorizer with a fixed answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// `allow` or `deny`.
    pub decision: String,
}

/// A token that is made and sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSent {
    /// Where: `header:<name>`, `query:<name>` or `cookie:<name>`.
    #[serde(rename = "in")]
    pub at: String,
    /// What stands before it.
    #[serde(default)]
    pub prefix: String,
    /// `valid`, `expired`, `not_yet_valid`, `bad_signature`, `unknown_kid` or `malformed`.
    #[serde(default = "valid")]
    pub state: String,
    /// Its claims.
    #[serde(default)]
    pub claims: Value,
}

fn valid() -> String {
    "valid".into()
}

/// One request, defaults merged in.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Its id.
    pub id: String,
    /// On which layer requests are judged: `http`, `tcp` or `l4`.
    pub layer: Option<String>,
    /// The SPIFFE id; none on plaintext.
    pub peer: Option<String>,
    /// The direct peer.
    pub src_ip: IpAddr,
    /// The destination.
    pub dst_ip: IpAddr,
    /// Its port.
    pub dst_port: u16,
    /// The server name of the TLS connection.
    pub sni: Option<String>,
    /// `:method`.
    pub method: String,
    /// `:authority`.
    pub host: String,
    /// `:path` as received.
    pub path: String,
    /// Headers as parsed.
    pub headers: Vec<(String, String)>,
    /// Claims of a token that has been verified.
    pub claims: Option<Map<String, Value>>,
    /// Tokens to be made and sent.
    pub tokens: Option<Vec<TokenSent>>,
    /// `allow`, `deny`, `unauthorized` or `bad_request`.
    pub expect: String,
    /// The status that goes with it.
    pub status: Option<u16>,
    /// Whether an AUDIT policy must match.
    pub audit: Option<bool>,
    /// The path that must be judged and sent on.
    pub normalized: Option<String>,
    /// Why, for people.
    pub why: String,
    #[serde(rename = "conf")]
    _conf: Option<String>,
    #[serde(rename = "src")]
    _src: Option<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            id: String::new(),
            layer: None,
            peer: None,
            src_ip: [10, 0, 0, 5].into(),
            dst_ip: [10, 0, 1, 5].into(),
            dst_port: 8080,
            sni: None,
            method: "GET".into(),
            host: "svc".into(),
            path: "/".into(),
            headers: Vec::new(),
            claims: None,
            tokens: None,
            expect: String::new(),
            status: None,
            audit: None,
            normalized: None,
            why: String::new(),
            _conf: None,
            _src: None,
        }
    }
}

/// A file of what admission must say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checks {
    /// Its id.
    pub id: String,
    #[serde(rename = "type")]
    _type: String,
    #[serde(rename = "title")]
    _title: Option<String>,
    #[serde(rename = "tags")]
    _tags: Option<Vec<String>>,
    #[serde(rename = "note")]
    _note: Option<String>,
    /// The checks.
    pub checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: Option<String>,
    /// A spec.
    pub spec: Option<Value>,
    /// Paths of an ALLOW policy, instead of a spec.
    pub paths: Option<Vec<String>>,
    /// Whether admission takes it.
    pub valid: bool,
    /// Whether it warns.
    pub warning: Option<bool>,
    /// What it says, roughly.
    #[serde(default)]
    pub error: String,
    #[serde(rename = "why")]
    _why: Option<String>,
    #[serde(rename = "conf")]
    _conf: Option<String>,
    #[serde(rename = "src")]
    _src: Option<String>,
}

/// Reads a file of one kind.
pub(super) fn read<T: serde::de::DeserializeOwned>(file: Value) -> Result<T, super::CaseError> {
    serde_json::from_value(file).map_err(super::CaseError::new)
}
