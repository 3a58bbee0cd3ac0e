//! Cases as data: what is configured, what is asked, and what must come of it.
//!
//! ```text
//! run(path) ── every .yaml below it ──▶ no `type`, or `decision`  inmesh::testing::cases  may this caller do this here?
//!                                       `validation`              inmesh::testing::cases  what does admission say?
//!                                       `table`                   traffic                 rows of inputs and outputs
//! ```
//!
//! A file that cannot be read, a key nobody knows and a kind nobody reads are failures like any other: what is not
//! tried is not passed.

mod traffic;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use inmesh::testing::cases;
pub use inmesh::testing::cases::Outcome;
use serde_json::Value;

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
    // YAML 1.2: `n` is a letter.
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: Value = serde_saphyr::from_str_with_options(&std::fs::read_to_string(file)?, options)?;
    match value.get("type").and_then(Value::as_str) {
        Some("table") => traffic::run(value),
        _ => Ok(cases::run(value)?),
    }
}
