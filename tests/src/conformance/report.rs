//! What came of a run, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::case::Mode;
use super::compare::Difference;
use super::shape::Shape;

/// What came of one case.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Otherwise.
    Failed(Vec<Difference>),
}

/// One case and what came of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `Test/NN`.
    pub id: String,
    /// The suite's name of it.
    pub name: String,
    /// What came of it.
    pub verdict: Verdict,
}

impl Entry {
    /// One case and what came of it.
    pub fn new(id: &str, name: &str, verdict: Verdict) -> Self {
        Self {
            id: id.to_owned(),
            name: name.split_whitespace().collect::<Vec<_>>().join(" "),
            verdict,
        }
    }

    fn passed(&self) -> bool {
        matches!(self.verdict, Verdict::Passed)
    }
}

/// What came of one test in one shape.
#[derive(Clone, Debug)]
pub struct TestReport {
    /// The suite's name.
    pub test: String,
    /// Where the configuration was carried out.
    pub shape: Shape,
    /// What it is about.
    pub summary: String,
    /// What it needs.
    pub features: Vec<String>,
    /// Whether the suite may skip it.
    pub provisional: bool,
    /// How it was carried to the mesh.
    pub mode: Mode,
    /// Its cases.
    pub entries: Vec<Entry>,
    /// How long it took.
    pub seconds: f64,
}

impl TestReport {
    /// A test that could not even be read counts as one failure.
    pub fn unreadable(test: &str, shape: Shape, error: &anyhow::Error) -> Self {
        let difference = Difference::new("the file of cases", "of the format", format_args!("{error:#}"));
        Self {
            test: test.to_owned(),
            shape,
            summary: String::new(),
            features: Vec::new(),
            provisional: false,
            mode: Mode::StatusOnly,
            entries: vec![Entry::new(
                &format!("{test}/00"),
                "read",
                Verdict::Failed(vec![difference]),
            )],
            seconds: 0.0,
        }
    }

    /// How many passed.
    pub fn passed(&self) -> usize {
        self.entries.iter().filter(|it| it.passed()).count()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.entries.len() - self.passed()
    }

    /// As lines for a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let verdict = if self.failed() == 0 { "ok    " } else { "FAILED" };
        let (test, shape, seconds) = (&self.test, self.shape, self.seconds);
        let (passed, all) = (self.passed(), self.entries.len());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{verdict} {test} [{shape}] {passed}/{all} in {seconds:.1}s");
        for entry in &self.entries {
            match &entry.verdict {
                Verdict::Passed => drop(writeln!(text, "  passed {} {}", entry.id, entry.name)),
                Verdict::Failed(differences) => {
                    let _ = writeln!(text, "  FAILED {} {}", entry.id, entry.name);
                    for difference in differences {
                        let _ = writeln!(text, "         {}", difference.field);
                        let _ = writeln!(text, "           expected {}", difference.expected);
                        let _ = writeln!(text, "           observed {}", difference.observed);
                    }
                }
            }
        }
        text
    }

    fn json(&self) -> Value {
        let entry = |entry: &Entry| {
            let differences: &[Difference] = match &entry.verdict {
                Verdict::Passed => &[],
                Verdict::Failed(differences) => differences,
            };
            json!({ "id": entry.id, "name": entry.name, "passed": entry.passed(), "differences": differences })
        };
        json!({
            "test": self.test,
            "shape": self.shape.to_string(),
            "seconds": self.seconds,
            "passed": self.passed(),
            "failed": self.failed(),
            "cases": self.entries.iter().map(entry).collect::<Vec<_>>(),
        })
    }
}

/// The totals of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// How many cases passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
}

/// The totals of all tests.
pub fn totals(reports: &[TestReport]) -> Totals {
    Totals {
        passed: reports.iter().map(TestReport::passed).sum(),
        failed: reports.iter().map(TestReport::failed).sum(),
    }
}

/// Everything, for programs.
pub fn json(reports: &[TestReport]) -> Value {
    let totals = totals(reports);
    json!({
        "tests": reports.iter().map(TestReport::json).collect::<Vec<_>>(),
        "passed": totals.passed,
        "failed": totals.failed,
    })
}

/// A table for the documentation: a row per test, a column per shape.
pub fn table(reports: &[TestReport]) -> String {
    let mut rows: BTreeMap<&str, Vec<&TestReport>> = BTreeMap::new();
    for report in reports {
        rows.entry(&report.test).or_default().push(report);
    }
    let mut text = String::from(
        "| test | features | carried as | library | waypoint |\n| --- | --- | --- | --- | --- |\n",
    );
    for (test, shapes) in &rows {
        let cell = |shape| match shapes.iter().find(|it| it.shape == shape) {
            None => "–".to_owned(),
            Some(it) if it.failed() == 0 => format!("{}/{}", it.passed(), it.entries.len()),
            Some(it) => format!("**{}/{}**", it.passed(), it.entries.len()),
        };
        let features = shapes
            .first()
            .map(|it| it.features.join(", "))
            .unwrap_or_default();
        let mode = shapes.first().map_or("", |it| mode(it.mode));
        let (library, waypoint) = (cell(Shape::Library), cell(Shape::Waypoint));
        let _ = writeln!(text, "| {test} | {features} | {mode} | {library} | {waypoint} |");
    }
    text
}

/// A page of the documentation: how the cases were run, the table, and every case that did not come out.
pub fn page(reports: &[TestReport]) -> String {
    let (own, suite): (Vec<_>, Vec<_>) = reports.iter().cloned().partition(|it| it.test.starts_with("Own"));
    let mut text = String::from(PAGE);
    for (title, reports) in [("The suite's cases", &suite), ("Cases of our own", &own)] {
        if reports.is_empty() {
            continue;
        }
        let Totals { passed, failed } = totals(reports);
        let _ = writeln!(text, "\n## {title}\n\n{passed} passed, {failed} failed.\n");
        text.push_str(&table(reports));
    }
    let failed = reports.iter().flat_map(|report| {
        let failed = report.entries.iter().filter(|it| !it.passed());
        failed.map(move |entry| (report.shape, entry))
    });
    let mut failed = failed.peekable();
    if failed.peek().is_some() {
        text.push_str("\n## Cases that did not come out\n\n");
    }
    for (shape, entry) in failed {
        let _ = writeln!(text, "- {} [{shape}] {}", entry.id, entry.name);
    }
    text
}

/// How a page begins.
const PAGE: &str = "# Gateway API conformance

<!-- Written by a program, see below; edits are lost. -->

The cases of Gateway API's own suite, transcribed as data (`tests/conformance`), and cases of our own for what the suite
leaves out (`tests/conformance-own`), each in two shapes: the configuration applied in the process of the caller, and by a
waypoint or Gateway in between. The format, what each way of carrying a case to a mesh means (native, rewrite, facade, status
only), and what is left out of the suite are described in `tests/conformance/README.md`.

This page is written by

```text
cargo run --release --bin conformance -- --page sdk/src/docs/conformance.md \\
    --cases tests/conformance/cases --cases tests/conformance-own/cases \\
    --manifests tests/conformance/manifests --manifests tests/conformance-own/manifests
```

A number is of cases that passed, and of all; a bold one has failures, which are listed at the end.
";

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Rewrite => "rewrite",
        Mode::Facade => "facade",
        Mode::StatusOnly => "status only",
    }
}
