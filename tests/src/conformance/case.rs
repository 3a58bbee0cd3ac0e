//! The case format `gwapi-conformance-cases/1`; `tests/conformance/README.md` describes it.
//!
//! Reading is strict: a field or a kind that is not known here is an error, never something passed over.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::manifest;

/// The only format that is read.
const FORMAT: &str = "gwapi-conformance-cases/1";

/// One file: one test of the suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    format: String,
    /// The suite's name of the test.
    pub test: String,
    /// What it is about.
    pub summary: String,
    /// Where it was transcribed from.
    pub source: Source,
    /// North-south, or pod to Service.
    pub style: Style,
    /// What the suite itself compares. We compare everything; this only says when response headers count.
    pub comparator: Comparator,
    /// Whether the suite may skip it.
    pub provisional: bool,
    /// What must be supported.
    pub features: Vec<String>,
    /// The configuration.
    pub manifests: Manifests,
    /// For readers.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What is to be filled in before anything is sent.
    #[serde(default)]
    pub fixtures: Vec<Fixture>,
    /// Whether cases must run from top to bottom.
    #[serde(default)]
    pub ordered: bool,
    /// What must hold before anything is sent.
    #[serde(default)]
    pub preconditions: Vec<Precondition>,
    case_count: usize,
    /// How the test is carried to a mesh.
    pub mesh_mapping: Mapping,
    /// The cases.
    pub cases: Vec<Case>,
}

/// Where a test was transcribed from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The release.
    pub tag: String,
    /// The file.
    pub go: String,
}

/// What kind of traffic a test is about.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// From outside, through a Gateway.
    Gateway,
    /// Pod to Service.
    Mesh,
}

/// What the suite compares.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the suite's names
pub enum Comparator {
    Http,
    Grpc,
    Mesh,
}

/// Paths below the folder of manifests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifests {
    /// What all tests of the style share.
    pub base: String,
    /// What this test adds.
    pub test: Vec<String>,
}

/// What a harness fills in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// EndpointSlices that get the addresses of…
    pub fill_endpoint_slices: Vec<Id>,
    /// …the pods of this Deployment.
    pub from_pods_of: Id,
}

/// How a test is carried to a mesh.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// How.
    pub mode: Mode,
    /// Why not simpler.
    #[serde(default)]
    pub why: Vec<String>,
}

/// How a test is carried to a mesh.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// As it is: it is a mesh test.
    Native,
    /// Gateways become Services.
    Rewrite,
    /// Gateways stay, and our own Gateway role serves them.
    Facade,
    /// Nothing is sent.
    StatusOnly,
}

/// `namespace/name`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Id {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(format!("`{text}` is not namespace/name")),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object, and for parents the sections of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub id: Id,
    /// Listeners, one parent status each.
    #[serde(default)]
    pub sections: Vec<String>,
}

/// A condition of a status.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: Truth,
    /// Its reason; `None` is any.
    pub reason: Option<String>,
}

/// A condition's status.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[allow(missing_docs)] // Kubernetes' words
pub enum Truth {
    True,
    False,
}

/// What must hold before anything is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Precondition {
    /// Whose status.
    pub object: Object,
    /// Towards which parent.
    pub parent: Option<Object>,
    /// The condition.
    pub condition: Option<Condition>,
    /// Whether the Gateway must have an address.
    #[serde(default)]
    pub has_address: bool,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Case {
    /// One HTTP exchange.
    Http(Traffic),
    /// One unary RPC.
    Grpc(Traffic),
    /// An upgrade and frames.
    Websocket(Traffic),
    /// Shares per backend.
    Distribution(Traffic),
    /// Share of copies.
    MirrorDistribution(Traffic),
    /// A rule between each answer and who gave it.
    SelfConsistent(Traffic),
    /// What a status says.
    Status(StatusCase),
    /// A change of the configuration.
    Action(ActionCase),
}

/// A case that sends something.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// `Test/NN`.
    pub id: String,
    /// The suite's name of it.
    pub name: String,
    /// The calling pod.
    pub from: Option<From>,
    /// Where to.
    pub to: To,
    /// What is sent.
    pub request: Request,
    /// How often.
    pub send: Option<Send>,
    /// WebSocket messages.
    #[serde(default)]
    pub frames: Vec<Frame>,
    /// What must come of it.
    pub expect: Expect,
}

/// A calling pod.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct From {
    /// Its namespace.
    pub namespace: String,
    /// Its Deployment.
    pub deployment: String,
}

/// Where something is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct To {
    /// A Gateway's port.
    pub gateway: Option<Id>,
    /// The listeners that the suite waited for.
    #[serde(default)]
    pub listeners: Vec<String>,
    /// A Service's address and port.
    pub service: Option<Id>,
    /// A pod's address and port.
    pub pod: Option<From>,
    /// The port.
    pub port: u16,
}

/// What is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is spoken.
    pub protocol: Protocol,
    /// With or without TLS.
    pub scheme: Scheme,
    /// The method.
    pub method: Option<String>,
    /// Path and query.
    pub path: Option<String>,
    /// Full path of the RPC; `None` is any unary one.
    pub grpc_method: Option<String>,
    /// Header fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// `Host` or `:authority`; `None` is one that no manifest names.
    pub host: Option<String>,
    /// TLS server name.
    pub sni: Option<String>,
    /// The body.
    pub body: Option<String>,
    /// What the backend must put on its answer.
    #[serde(default)]
    pub backend_adds_response_headers: BTreeMap<String, String>,
    /// A query parameter that makes each probe unique.
    pub unique_query_param: Option<String>,
    /// Placeholders of the path.
    #[serde(default)]
    pub template: BTreeMap<String, String>,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2 over TLS.
    #[serde(rename = "h2")]
    H2,
    /// HTTP/2 with prior knowledge.
    #[serde(rename = "h2c")]
    H2c,
    /// gRPC, over `h2c`.
    #[serde(rename = "grpc")]
    Grpc,
    /// An upgrade.
    #[serde(rename = "websocket")]
    Websocket,
}

/// With or without TLS.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the schemes
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// How often something is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// So often.
    pub total: usize,
    /// So many at a time.
    #[serde(default = "one")]
    pub concurrency: usize,
    /// A header that about half of the requests carry, with a random number.
    pub jitter_header: Option<String>,
}

fn one() -> usize {
    1
}

/// A WebSocket message.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// What is sent.
    pub send: Message,
    /// Whether the same must come back.
    pub expect_echo: bool,
}

/// A WebSocket message's content.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Message {
    /// Text.
    #[serde(rename = "text")]
    Text(String),
    /// Bytes in hexadecimal.
    #[serde(rename = "binary_hex")]
    Binary(String),
}

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

/// What a status says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusCase {
    /// `Test/NN`.
    pub id: String,
    /// The suite's name of it.
    pub name: String,
    /// Whose status.
    pub object: Object,
    /// Towards which parent.
    pub parent: Option<Object>,
    /// Towards which ancestor; policies have those.
    pub ancestor: Option<Object>,
    /// What it must say.
    pub expect: ExpectStatus,
}

/// What a status must say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectStatus {
    /// A condition.
    pub condition: Option<Condition>,
    /// No parent, or a single one that does not accept.
    pub no_accepted_parents: bool,
    /// Attached routes of the only listener.
    pub attached_routes_total: Option<u32>,
    /// That all conditions are of the newest generation, in words.
    pub all_conditions_observed_generation: Option<Observed>,
    /// That the generation is not that of the start.
    pub generation_changed_since_start: bool,
    /// Parents that must be among the status's.
    pub parents_include: Vec<ParentStatus>,
    /// Exactly these listeners.
    pub listeners: Vec<ListenerStatus>,
}

/// The only thing `observedGeneration` is compared with.
#[derive(Clone, Copy, Debug, Deserialize)]
pub enum Observed {
    /// The object's own.
    #[serde(rename = "equals metadata.generation")]
    Newest,
}

/// One parent of a route's status.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParentStatus {
    /// The parent.
    pub parent: Object,
    /// Conditions that must be among its own.
    pub conditions: Vec<Condition>,
}

/// One listener of a Gateway's status.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Kinds that must be among its own.
    #[serde(default)]
    pub supported_kinds: Vec<String>,
    /// How many routes are attached.
    pub attached_routes: Option<u32>,
    /// Conditions that must be among its own.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A change of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionCase {
    /// `Test/NN`.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What is done.
    #[serde(rename = "do")]
    pub act: Act,
}

/// What is done.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// An object goes.
    Delete(Object),
    /// Fields of an object change.
    Patch(Patch),
    /// An object comes.
    Create(Create),
}

/// Fields that change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// The object's kind.
    pub kind: String,
    /// Its name.
    pub id: Id,
    /// New values by dotted path.
    pub set: BTreeMap<String, Value>,
}

/// An object that comes.
#[derive(Clone, Debug, Deserialize)]
pub struct Create {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub id: Id,
    /// The rest of it: `spec`, `data`, …
    #[serde(flatten)]
    pub fields: BTreeMap<String, Value>,
}

impl Case {
    /// `Test/NN`.
    pub fn id(&self) -> &str {
        match self {
            Self::Status(it) => &it.id,
            Self::Action(it) => &it.id,
            Self::Http(it)
            | Self::Grpc(it)
            | Self::Websocket(it)
            | Self::Distribution(it)
            | Self::MirrorDistribution(it)
            | Self::SelfConsistent(it) => &it.id,
        }
    }

    /// The suite's name of it.
    pub fn name(&self) -> &str {
        match self {
            Self::Status(it) => &it.name,
            Self::Action(it) => &it.name,
            Self::Http(it)
            | Self::Grpc(it)
            | Self::Websocket(it)
            | Self::Distribution(it)
            | Self::MirrorDistribution(it)
            | Self::SelfConsistent(it) => &it.name,
        }
    }

    /// The traffic, where it is a case that sends something.
    pub fn traffic(&self) -> Option<&Traffic> {
        match self {
            Self::Status(_) | Self::Action(_) => None,
            Self::Http(it)
            | Self::Grpc(it)
            | Self::Websocket(it)
            | Self::Distribution(it)
            | Self::MirrorDistribution(it)
            | Self::SelfConsistent(it) => Some(it),
        }
    }

    /// What its kind must and must not have.
    fn check(&self) -> Result<()> {
        let Some(traffic) = self.traffic() else {
            return Ok(());
        };
        let to = &traffic.to;
        let targets = [to.gateway.is_some(), to.service.is_some(), to.pod.is_some()];
        ensure!(
            targets.iter().filter(|it| **it).count() == 1,
            "`to` must name exactly one target"
        );
        let expect = &traffic.expect;
        let many = matches!(
            self,
            Self::Distribution(_) | Self::MirrorDistribution(_) | Self::SelfConsistent(_)
        );
        ensure!(
            traffic.send.is_some() == many,
            "`send` belongs to the kinds that send many, and only there"
        );
        ensure!(
            traffic.frames.is_empty() != matches!(self, Self::Websocket(_)),
            "`frames` belong to kind websocket, and only there"
        );
        ensure!(
            expect.distribution.is_some() == matches!(self, Self::Distribution(_)),
            "`expect.distribution` belongs to kind distribution, and only there"
        );
        ensure!(
            expect.every_response.is_some() == matches!(self, Self::SelfConsistent(_)),
            "`expect.every_response` belongs to kind self-consistent, and only there"
        );
        if let Self::MirrorDistribution(_) = self {
            ensure!(!expect.mirrored_to.is_empty(), "`expect.mirrored_to` is missing");
        }
        let says_something = !expect.status.is_empty()
            || !expect.status_not.is_empty()
            || expect.grpc_status.is_some()
            || expect.distribution.is_some();
        ensure!(says_something || many, "nothing is said of the status");
        Ok(())
    }
}

impl Test {
    /// Reads one file.
    ///
    /// # Errors
    /// If it is not of the format, to the last field.
    pub fn read(text: &str) -> Result<Self> {
        let test: Self = manifest::parse(text)?;
        ensure!(
            test.format == FORMAT,
            "format is `{}`, not `{FORMAT}`",
            test.format
        );
        ensure!(
            test.case_count == test.cases.len(),
            "case_count is {}, but there are {} cases",
            test.case_count,
            test.cases.len()
        );
        for case in &test.cases {
            case.check().with_context(|| case.id().to_owned())?;
        }
        Ok(test)
    }
}
