//! Cases as data: what is configured, what is asked, and what must come of it.
//!
//! ```text
//! run(path) ── every .yaml below it ──▶ no `type`, or `decision`  authz       may this caller do this here?
//!                                       `validation`              validation  what does admission say?
//!                                       `table`                   traffic     rows of inputs and outputs
//! ```
//!
//! A file that cannot be read, a key nobody knows and a kind nobody reads are failures like any other: what is not
//! tried is not passed.

mod authz;
mod case;
mod traffic;
mod validation;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// How one check of one file came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `authz-001-action-order/a3`.
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

/// Runs every case file below a folder, in the order of their paths, or one file.
///
/// # Errors
/// If the folder cannot be listed or holds no case file.
pub fn run(path: &Path) -> Result<Vec<Outcome>> {
    let mut files = Vec::new();
    collect(path, &mut files).with_context(|| path.display().to_string())?;
    files.sort();
    if files.is_empty() {
        bail!("no case file below {}", path.display());
    }
    Ok(files
        .iter()
        .flat_map(|file| {
            run_file(file).unwrap_or_else(|error| {
                vec![Outcome::failed(file.display().to_string(), format!("{error:#}"))]
            })
        })
        .collect())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let is_case = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if path.is_dir() || is_case {
            collect(&path, files)?;
        }
    }
    Ok(())
}

fn run_file(file: &Path) -> Result<Vec<Outcome>> {
    let value: Value = serde_saphyr::from_str(&std::fs::read_to_string(file)?)?;
    match value.get("type").map(|kind| kind.as_str()) {
        None | Some(Some("decision")) => authz::run(value),
        Some(Some("validation")) => validation::run(value),
        Some(Some("table")) => traffic::run(value),
        Some(other) => bail!("unknown type {}", other.unwrap_or("that is no text")),
    }
}
