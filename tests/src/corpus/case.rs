//! The shapes of case files; `tests/corpus/authz/README.md` describes them. A key that is not declared here is an error.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// A file of decisions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decisions {
    pub(super) id: String,
    #[serde(rename = "type")]
    _type: Option<IgnoredAny>,
    #[serde(rename = "title")]
    _title: Option<String>,
    #[serde(rename = "tags")]
    _tags: Option<Vec<String>>,
    #[serde(rename = "note")]
    _note: Option<String>,
    pub(super) layer: String,
    #[serde(default)]
    pub(super) mesh: Mesh,
    pub(super) target: Enforcer,
    #[serde(default)]
    pub(super) providers: BTreeMap<String, Provider>,
    #[serde(default)]
    pub(super) policies: Vec<Value>,
    #[serde(default)]
    pub(super) defaults: Map<String, Value>,
    pub(super) requests: Vec<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Mesh {
    pub(super) root_namespace: String,
    pub(super) trust_domain: String,
    pub(super) trust_domain_aliases: Vec<String>,
    pub(super) path_normalization: String,
    pub(super) num_trusted_proxies: u32,
}

impl Default for Mesh {
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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Enforcer {
    pub(super) kind: String,
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) gateway: String,
    #[serde(default)]
    pub(super) services: Vec<Addressed>,
    #[serde(default)]
    pub(super) use_remote_address: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Addressed {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) registry: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) decision: String,
}

/// One request, defaults merged in.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) layer: Option<String>,
    pub(super) peer: Option<String>,
    pub(super) src_ip: IpAddr,
    pub(super) dst_ip: IpAddr,
    pub(super) dst_port: u16,
    pub(super) sni: Option<String>,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) claims: Option<Map<String, Value>>,
    pub(super) tokens: Option<Vec<Value>>,
    pub(super) expect: String,
    pub(super) status: Option<u16>,
    pub(super) audit: Option<bool>,
    pub(super) normalized: Option<String>,
    pub(super) why: String,
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
    pub(super) id: String,
    #[serde(rename = "type")]
    _type: String,
    #[serde(rename = "title")]
    _title: Option<String>,
    #[serde(rename = "tags")]
    _tags: Option<Vec<String>>,
    #[serde(rename = "note")]
    _note: Option<String>,
    pub(super) checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) id: String,
    pub(super) kind: Option<String>,
    pub(super) spec: Option<Value>,
    pub(super) paths: Option<Vec<String>>,
    pub(super) valid: bool,
    pub(super) warning: Option<bool>,
    #[serde(default)]
    pub(super) error: String,
    #[serde(rename = "why")]
    _why: Option<String>,
    #[serde(rename = "conf")]
    _conf: Option<String>,
    #[serde(rename = "src")]
    _src: Option<String>,
}
