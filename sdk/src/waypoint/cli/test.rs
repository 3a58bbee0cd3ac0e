//! `waypoint test`: policies as tests, for people without Rust.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{FINE, Output, WRONG, read, runtime};
use crate::mesh::{Error, ErrorKind};
use crate::testing::Policies;
use crate::testing::cases::{Cases, Outcome};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Test {
    /// Files of cases, or directories of such.
    #[arg(value_name = "CASES.yaml", required = true)]
    cases: Vec<PathBuf>,

    /// Directory or file with the policies that the cases are about; may be given several times.
    #[arg(long, value_name = "[NAMESPACE=]PATH")]
    config: Vec<String>,

    /// Also say which rules no request reached.
    #[arg(long)]
    coverage: bool,

    /// As --coverage, and fail if there are any.
    #[arg(long)]
    require_coverage: bool,

    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Test {
    pub(super) fn main(self) -> Result<u8, Error> {
        let mut cases = self.cases()?;
        let mut files = Vec::new();
        for path in &self.cases {
            collect(path, &mut files).map_err(|error| {
                Error::new(ErrorKind::Source, format!("{} cannot be read", path.display())).caused_by(error)
            })?;
        }
        files.sort();
        files.dedup();
        let mut outcomes = Vec::new();
        for file in &files {
            let name = file.display().to_string();
            outcomes.extend(cases.run_file(file).unwrap_or_else(|error| {
                let mut failed = Outcome::failed(name.clone(), error);
                failed.at = Some(name);
                vec![failed]
            }));
        }
        if outcomes.is_empty() {
            return Err(Error::new(ErrorKind::Source, "there are no cases"));
        }
        let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
        match self.output {
            Output::Text => self.print(&cases, &outcomes, failed),
            Output::Json | Output::Yaml => self.output.print(&self.document(&cases, &outcomes, failed))?,
        }
        let uncovered = self.require_coverage && cases.coverage().unreached().next().is_some();
        Ok(if failed > 0 || uncovered { WRONG } else { FINE })
    }

    fn cases(&self) -> Result<Cases, Error> {
        if self.config.is_empty() {
            return Ok(Cases::new());
        }
        let (store, problems) = runtime(1)?.block_on(read(&self.config))?;
        let policies = Policies::of_store(store, problems)
            .map_err(|error| Error::new(ErrorKind::Settings, error.to_string()))?;
        Ok(Cases::of(policies))
    }

    fn print(&self, cases: &Cases, outcomes: &[Outcome], failed: usize) {
        for outcome in outcomes {
            println!("{outcome}");
        }
        if self.coverage || self.require_coverage {
            println!("{}", cases.coverage());
        }
        println!("{} passed, {failed} failed", outcomes.len() - failed);
    }

    fn document(&self, cases: &Cases, outcomes: &[Outcome], failed: usize) -> Value {
        let case = |outcome: &Outcome| {
            json!({
                "check": outcome.check,
                "at": outcome.at,
                "passed": outcome.passed,
                "expected": outcome.expected,
                "observed": outcome.observed,
                "why": outcome.why,
            })
        };
        let mut document = json!({
            "passed": outcomes.len() - failed,
            "failed": failed,
            "cases": outcomes.iter().map(case).collect::<Vec<_>>(),
        });
        if self.coverage || self.require_coverage {
            let coverage = cases.coverage();
            let rule = |rule: &crate::testing::Covered| {
                json!({
                    "policy": rule.policy.to_string(),
                    "rule": rule.rule,
                    "at": rule.place.to_string(),
                })
            };
            document["coverage"] = json!({
                "rules": coverage.rules().len(),
                "reached": coverage.reached(),
                "unreached": coverage.unreached().map(rule).collect::<Vec<_>>(),
            });
        }
        document
    }
}

const HELP: &str = "\
A file of cases:

  id: readers
  layer: http                  # or tcp, l4
  target: {kind: workload, namespace: default, labels: {app: reviews}}
  policies: []                 # besides those of --config
  requests:
  - {id: read, method: GET, peer: 'spiffe://cluster.local/ns/default/sa/curl', expect: allow}
  - {id: write, method: POST, expect: deny}

A target may also be the waypoint of a service ({kind: waypoint, namespace, gateway, services: [{name, namespace,
registry: Kubernetes}]}) or a gateway ({kind: gateway, namespace, gateway}). A request has peer, src_ip, dst_ip, dst_port,
sni, method, host, path, headers, claims and tokens; expected is allow, deny, unauthorized or bad_request.

Exit codes: 0 all passed, 1 some did not or could not be tried, 2 the command line is wrong.";

/// The file, or every YAML file below the directory.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        std::fs::metadata(path)?;
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let is_case = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        // A link to a directory may lead back.
        if path.is_symlink() && path.is_dir() {
            continue;
        }
        if path.is_dir() || is_case {
            collect(&path, files)?;
        }
    }
    Ok(())
}
