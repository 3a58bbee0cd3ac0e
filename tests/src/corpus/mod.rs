//! Cases as data: policies, facts of the mesh, requests, and what must come of them.
//!
//! [`authz::run_file`] reads one file of `tests/corpus/authz` and judges every request in it through the public API
//! of the library. What the library does not do yet is skipped and says so.

pub mod authz;
mod case;
mod validation;

use std::fmt;

/// How one check of one file came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `authz-001-action-order/a3`.
    pub check: String,
    /// What happened.
    pub verdict: Verdict,
}

/// What happened to a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Otherwise.
    Failed(String),
    /// Not tried, and why.
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Passed => write!(f, "passed  {}", self.check),
            Verdict::Failed(why) => write!(f, "FAILED  {}: {why}", self.check),
            Verdict::Skipped(why) => write!(f, "SKIPPED {}: {why}", self.check),
        }
    }
}
