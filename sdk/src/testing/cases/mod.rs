//! Cases as data: what is configured, what is asked, and what must come of it.
//!
//! A file of **decisions** holds a `target` that enforces (a workload, the waypoint of a service, a gateway), all
//! `policies` of the cluster and `requests` with what is expected of each (`allow`, `deny`, `unauthorized`,
//! `bad_request`). A file of `type: validation` holds `checks`: specs, and whether admission takes them.
//!
//! ```
//! let case = serde_json::json!({
//!     "id": "gets-only", "layer": "http",
//!     "target": {"kind": "workload", "namespace": "default", "labels": {"app": "reviews"}},
//!     "policies": [{
//!         "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
//!         "metadata": {"name": "get", "namespace": "default"},
//!         "spec": {"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]},
//!     }],
//!     "requests": [
//!         {"id": "read", "method": "GET", "expect": "allow"},
//!         {"id": "write", "method": "POST", "expect": "deny"},
//!     ],
//! });
//! let outcomes = inmesh::testing::cases::run(case).unwrap();
//! assert!(outcomes.iter().all(|outcome| outcome.passed));
//! ```

mod decision;
mod policies;
mod shape;
mod validation;

use std::fmt;
use std::path::Path;

use serde_json::Value;

pub use decision::{Layered, World};
pub use shape::{Decisions, Enforcer, MeshFacts, Provider, Request, Served, TokenSent};

/// How one check of one file came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The file's id and the check's: `authz-001-action-order/a3`.
    pub check: String,
    /// What the file says.
    pub expected: String,
    /// What was seen.
    pub observed: String,
    /// What led there, for people.
    pub why: String,
    /// Whether the two agree.
    pub passed: bool,
}

impl Outcome {
    /// Compares.
    pub fn of(check: impl Into<String>, expected: impl Into<String>, observed: impl Into<String>) -> Self {
        let (expected, observed) = (expected.into(), observed.into());
        Self {
            check: check.into(),
            passed: expected == observed,
            expected,
            observed,
            why: String::new(),
        }
    }

    /// A check that could not be made at all.
    pub fn failed(check: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            check: check.into(),
            expected: "a case that can be tried".into(),
            observed: why.to_string(),
            why: String::new(),
            passed: false,
        }
    }

    /// With what led there.
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            check,
            expected,
            observed,
            why,
            passed,
        } = self;
        let verdict = if *passed { "ok    " } else { "FAILED" };
        write!(f, "{verdict} {check}: expected {expected}, observed {observed}")?;
        match why.is_empty() {
            true => Ok(()),
            false => write!(f, " ({why})"),
        }
    }
}

/// Why a file is no file of cases.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CaseError(pub(in crate::testing) String);

impl CaseError {
    fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// Runs what a file holds.
///
/// # Errors
/// If it is no file of cases. What is wrong with a single check is an outcome.
pub fn run(file: Value) -> Result<Vec<Outcome>, CaseError> {
    match file.get("type").map(Value::as_str) {
        None | Some(Some("decision")) => Ok(World::new(shape::read(file)?)?.run()),
        Some(Some("validation")) => validation::run(shape::read(file)?),
        Some(other) => Err(CaseError(format!(
            "unknown type {}",
            other.unwrap_or("that is no text")
        ))),
    }
}

/// Reads a file of YAML and runs it.
///
/// # Errors
/// If it cannot be read, or as [`run`].
pub fn run_file(path: &Path) -> Result<Vec<Outcome>, CaseError> {
    let text = std::fs::read_to_string(path).map_err(CaseError::new)?;
    run(serde_saphyr::from_str(&text).map_err(CaseError::new)?)
}
