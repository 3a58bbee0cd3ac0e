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

use super::{Coverage, Covered, Policies};
use crate::config::{Lines, Place};

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
    /// Where it stands: `file:line`, if it was read from a file.
    pub at: Option<String>,
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
            at: None,
        }
    }

    /// A check that could not be made at all.
    pub fn failed(check: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            check: check.into(),
            expected: "a case that can be tried".into(),
            observed: why.to_string(),
            why: String::new(),
            at: None,
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
            at,
        } = self;
        let verdict = if *passed { "ok    " } else { "FAILED" };
        write!(f, "{verdict} {check}: expected {expected}, observed {observed}")?;
        if !why.is_empty() {
            write!(f, " ({why})")?;
        }
        match at {
            Some(at) if !passed => write!(f, " at {at}"),
            _ => Ok(()),
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

/// Runs files of cases, against their own policies and those of a configuration.
#[derive(Debug, Default)]
pub struct Cases {
    policies: Option<Policies>,
    /// What was reached of the rules that files hold themselves.
    own: Vec<Covered>,
}

impl Cases {
    /// Cases that bring their policies with them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cases about these policies. What a case brings itself applies besides; what it says of the mesh takes the place of
    /// what the configuration says.
    pub fn of(policies: Policies) -> Self {
        Self {
            policies: Some(policies),
            own: Vec::new(),
        }
    }

    /// Runs what a file holds.
    ///
    /// # Errors
    /// If it is no file of cases. What is wrong with a single check is an outcome.
    pub fn run(&mut self, file: Value) -> Result<Vec<Outcome>, CaseError> {
        self.run_at(file, &Standing::Nowhere)
    }

    /// Reads a file of YAML and runs it; outcomes then say where in it they stand.
    ///
    /// # Errors
    /// If it cannot be read, or as [`Cases::run`].
    pub fn run_file(&mut self, path: &Path) -> Result<Vec<Outcome>, CaseError> {
        let text = std::fs::read_to_string(path).map_err(CaseError::new)?;
        let file = serde_saphyr::from_str(&text).map_err(CaseError::new)?;
        self.run_at(file, &Standing::In(path.display().to_string(), Lines::of(&text)))
    }

    fn run_at(&mut self, file: Value, at: &Standing) -> Result<Vec<Outcome>, CaseError> {
        let (list, mut outcomes) = match file.get("type").map(Value::as_str) {
            None | Some(Some("decision")) => {
                let world = World::of(file, self.policies.as_ref())?;
                let outcomes = world.run();
                self.own
                    .extend(world.coverage(|field| at.place(&world.case().id, field)));
                ("requests", outcomes)
            }
            Some(Some("validation")) => ("checks", validation::run(shape::read(file)?)?),
            Some(other) => {
                return Err(CaseError(format!(
                    "unknown type {}",
                    other.unwrap_or("that is no text")
                )));
            }
        };
        for (index, outcome) in outcomes.iter_mut().enumerate() {
            outcome.at = at.line(&format!("{list}[{index}]"));
        }
        Ok(outcomes)
    }

    /// Which rules were reached so far: of the configuration, and of the files themselves.
    pub fn coverage(&self) -> Coverage {
        let policies = self.policies.as_ref();
        let coverage = policies.map(Policies::coverage).unwrap_or_default();
        coverage.with(self.own.iter().cloned())
    }
}

/// Where a file's cases stand.
enum Standing {
    Nowhere,
    In(String, Lines),
}

impl Standing {
    fn line(&self, field: &str) -> Option<String> {
        let Self::In(file, lines) = self else { return None };
        Some(format!("{file}:{}", lines.line(field)?))
    }

    fn place(&self, id: &str, field: &str) -> Place {
        let (file, line) = match self {
            Self::Nowhere => (id, 0),
            Self::In(file, lines) => (file.as_str(), lines.line(field).unwrap_or(0)),
        };
        Place {
            file: file.into(),
            line,
            column: 0,
        }
    }
}

/// Runs what a file holds.
///
/// # Errors
/// As [`Cases::run`].
pub fn run(file: Value) -> Result<Vec<Outcome>, CaseError> {
    Cases::new().run(file)
}

/// Reads a file of YAML and runs it.
///
/// # Errors
/// As [`Cases::run_file`].
pub fn run_file(path: &Path) -> Result<Vec<Outcome>, CaseError> {
    Cases::new().run_file(path)
}
