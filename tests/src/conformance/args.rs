//! The command line, and a run of everything it asks for.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use futures_util::{StreamExt, stream};

use super::case::Test;
use super::gateway::Program;
use super::report::{self, TestReport};
use super::run::run;
use super::shape::{Shape, Shapes};
use super::town::Town;

/// Runs Gateway API conformance cases against inmesh.
#[derive(Clone, Debug, Parser)]
#[command(name = "conformance")]
pub struct Args {
    /// Folder with files of cases; may be given several times.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/cases"))]
    pub cases: Vec<PathBuf>,

    /// Folder with the manifests that the cases name; of several the first that has a file counts.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/manifests"))]
    pub manifests: Vec<PathBuf>,

    /// Where the configuration is carried out: library, waypoint, or both.
    #[arg(long, default_value = "both")]
    pub shape: Shapes,

    /// Only tests of this name, or whose name has this part; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub test: Vec<String>,

    /// Print one JSON document instead of lines.
    #[arg(long, conflicts_with = "table")]
    pub json: bool,

    /// Print a Markdown table instead of lines.
    #[arg(long)]
    pub table: bool,

    /// Write a page for the documentation to this file, in place of what it holds.
    #[arg(long, value_name = "FILE")]
    pub page: Option<PathBuf>,

    /// How many tests run at a time.
    #[arg(long, default_value_t = 4, value_name = "COUNT")]
    pub jobs: usize,
}

/// A file of cases: its name, and the test if it could be read.
#[derive(Debug)]
pub struct File {
    name: String,
    test: Result<Test>,
}

impl File {
    /// The file's name without its extension, which is the test's.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Reads folders of cases; `only` names or parts of names select.
///
/// # Errors
/// If the folder cannot be read, or a selection selects nothing.
pub fn read(folders: &[PathBuf], only: &[String]) -> Result<Vec<File>> {
    let mut paths = Vec::new();
    for folder in folders {
        let listing = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in listing {
            paths.push(entry?.path());
        }
    }
    paths.retain(|it| it.extension().is_some_and(|it| it == "yaml" || it == "yml"));
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path);
        let test = text
            .map_err(anyhow::Error::from)
            .and_then(|text| Test::read(&text));
        files.push(File { name, test });
    }
    if !only.is_empty() {
        let exact = |file: &File| only.contains(&file.name);
        let any_exact = files.iter().any(exact);
        files.retain(|file| match any_exact {
            true => exact(file),
            false => only.iter().any(|part| file.name.contains(part)),
        });
    }
    ensure!(!files.is_empty(), "no test is selected in {folders:?}");
    Ok(files)
}

/// Runs all files in all shapes; `told` hears of each test in order.
pub async fn run_all(
    town: &Town,
    files: &[File],
    shapes: Shapes,
    jobs: usize,
    mut told: impl FnMut(&TestReport),
) -> Vec<TestReport> {
    let all = files
        .iter()
        .flat_map(|file| shapes.each().into_iter().map(move |shape| (file, shape)));
    let reports = stream::iter(all).map(|(file, shape): (&File, Shape)| async move {
        match &file.test {
            Ok(test) => run(town, test, shape).await,
            Err(error) => TestReport::unreadable(&file.name, shape, error),
        }
    });
    let mut reports = reports.buffered(jobs.max(1));
    let mut done = Vec::new();
    while let Some(report) = reports.next().await {
        told(&report);
        done.push(report);
    }
    done
}

impl Args {
    /// Does what they say; gives whether nothing failed.
    ///
    /// # Errors
    /// If nothing could be tried.
    pub async fn run(self, waypoint: Program) -> Result<bool> {
        let files = read(&self.cases, &self.test)?;
        let town = Town::new(self.manifests, waypoint)?;
        let lines = !self.json && !self.table;
        let told = |report: &TestReport| {
            if lines {
                print!("{}", report.text());
            }
        };
        let reports = run_all(&town, &files, self.shape, self.jobs, told).await;
        let totals = report::totals(&reports);
        if let Some(page) = &self.page {
            fs::write(page, report::page(&reports)).with_context(|| format!("writing {}", page.display()))?;
        }
        if self.json {
            println!("{:#}", report::json(&reports));
        } else {
            if self.table {
                println!("{}", report::table(&reports));
            }
            println!("{} passed, {} failed", totals.passed, totals.failed);
        }
        Ok(totals.failed == 0)
    }
}
