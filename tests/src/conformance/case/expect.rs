//! What must come of a request.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// What must come of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// One of these status codes.
    pub status: Vec<u16>,
    /// Any but these.
    pub status_not: Vec<u16>,
    /// gRPC's status.
    pub grpc_status: Option<GrpcStatus>,
    /// Whether a backend answers, or the data plane without one.
    pub answered_by: Option<AnsweredBy>,
    /// Which Deployment answers.
    pub backend: Option<Backend>,
    /// The request as it must arrive.
    pub backend_sees: Option<BackendSees>,
    /// The response as it must arrive.
    pub response: Option<Response>,
    /// `Location`, taken apart.
    pub redirect: Option<Redirect>,
    /// Who must get copies.
    pub mirrored_to: Vec<Mirrored>,
    /// What the suite tolerates; the README states the rule.
    pub mirror_tolerance: Option<Value>,
    /// 408 and 504 are the same.
    pub timeout_class: bool,
    /// Shares.
    pub distribution: Option<Distribution>,
    /// A rule for each answer.
    pub every_response: Option<EveryResponse>,
    /// Worked out, not asserted by the suite.
    pub derived: Option<Derived>,
}

/// gRPC's status.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcStatus {
    /// Its name.
    pub name: String,
    /// Its number.
    pub code: i32,
}

/// Who answers.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AnsweredBy {
    /// A backend.
    Backend,
    /// Not a backend: none sees the request.
    Dataplane,
}

/// Which Deployment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Its name; `None` is any in that namespace.
    pub name: Option<String>,
    /// Its namespace.
    pub namespace: String,
}

/// The request as it must arrive.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackendSees {
    /// Its method.
    pub method: Option<String>,
    /// Its raw path and query.
    pub path: Option<String>,
    /// Its host.
    pub host: Option<String>,
    /// Header fields, values joined with `,`.
    pub headers: BTreeMap<String, String>,
    /// Header fields that must not be there.
    pub absent_headers: Vec<String>,
    /// TLS server name.
    pub sni: Option<String>,
    /// The port of the pod.
    pub http_port: Option<String>,
    /// Whether the suite does not look at it.
    pub derived: bool,
    /// What the suite's table says, where that differs.
    pub suite_value_path: Option<String>,
}

/// The response as it must arrive.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Response {
    /// Header fields, values joined with `,`.
    pub headers: BTreeMap<String, String>,
    /// Header fields with alternatives.
    pub header_one_of: BTreeMap<String, Vec<String>>,
    /// Header fields that must not be there.
    pub absent_headers: Vec<String>,
    /// Whether blanks do not count.
    pub ignore_whitespace: bool,
    /// The version of HTTP.
    pub protocol: Option<String>,
}

/// `Location`, taken apart.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Its scheme.
    pub scheme: String,
    /// Its host; `None` is any.
    pub host: Option<String>,
    /// Its port; `None` is none, or the scheme's own.
    pub port: Option<u16>,
    /// Its path.
    pub path: String,
    /// What the suite leaves to defaults.
    pub not_given_by_suite: Vec<String>,
}

/// Who gets copies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirrored {
    /// The Deployment.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Of how many requests in a hundred; `None` is all.
    pub percent: Option<u32>,
}

/// Shares.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// The backends' namespace.
    pub backend_namespace: String,
    /// The shares by Deployment; nobody else may answer.
    pub weights: BTreeMap<String, f64>,
    /// By how much a share may be missed.
    pub tolerance_abs: f64,
    /// Whether a share of 0 is exact.
    pub zero_weight_gets_none: bool,
    /// Of so many rounds one must be good.
    pub max_rounds: usize,
}

/// A rule for each answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EveryResponse {
    /// The header that the backend saw.
    pub backend_seen_header: String,
    /// How many values it has.
    pub value_count: usize,
    /// What it equals, in words.
    pub equals: BackendName,
}

/// The only thing a header is compared with.
#[derive(Clone, Copy, Debug, Deserialize)]
pub enum BackendName {
    /// The Deployment that answered.
    #[serde(rename = "name of the backend that answered")]
    Answering,
}

/// Worked out, not asserted by the suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Derived {
    /// How many requests reach backends.
    pub backend_attempts: Option<usize>,
}
