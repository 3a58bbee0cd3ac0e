//! The case format `gwapi-conformance-cases/1`; `tests/conformance/README.md` describes it.
//!
//! Reading is strict: a field or a kind that is not known here is an error, never something passed over.

mod action;
mod expect;
#[cfg(test)]
mod samples;
mod status;
#[cfg(test)]
mod tests;
mod traffic;

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

pub use action::{Act, ActionCase, Create, Patch};
pub use expect::{
    AnsweredBy, Backend, BackendName, BackendSees, Derived, Distribution, EveryResponse, Expect, GrpcStatus,
    Mirrored, Redirect, Response,
};
pub use status::{ExpectStatus, ListenerStatus, Observed, ParentStatus, StatusCase};
pub use traffic::{Frame, From, Message, Protocol, Request, Scheme, Send, To, Traffic};

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
    /// Whether cases must run from top to bottom; those with actions among them always do.
    #[serde(default)]
    ordered: bool,
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
        let websocket = matches!(self, Self::Websocket(_));
        ensure!(
            many == traffic.send.is_some() || websocket,
            "`send` belongs to the kinds that send many, which must have it"
        );
        ensure!(
            traffic.frames.is_some() == websocket,
            "`frames` belong to kind websocket, which must have them"
        );
        ensure!(
            expect.distribution.is_some() == matches!(self, Self::Distribution(_)),
            "`expect.distribution` belongs to kind distribution, which must have it"
        );
        ensure!(
            expect.every_response.is_some() == matches!(self, Self::SelfConsistent(_)),
            "`expect.every_response` belongs to kind self-consistent, which must have it"
        );
        if let Self::MirrorDistribution(_) = self {
            ensure!(!expect.mirrored_to.is_empty(), "`expect.mirrored_to` is missing");
        }
        Ok(())
    }
}

impl Test {
    /// Whether cases must run from top to bottom.
    pub fn is_ordered(&self) -> bool {
        self.ordered || self.cases.iter().any(|it| matches!(it, Case::Action(_)))
    }

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
