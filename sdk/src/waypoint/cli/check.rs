//! `waypoint check`.

use clap::Args;
use serde_json::json;

use super::{FINE, Named, Output, WRONG, read, runtime};
use crate::compile::{Handover, compile};
use crate::config::Severity;
use crate::mesh::{Error, node_for_check};
use crate::snapshot::Role;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Directories or files with YAML.
    #[arg(value_name = "[NAMESPACE=]PATH", required = true)]
    paths: Vec<String>,

    /// Also fail if something that is written is not enforced.
    #[arg(long)]
    strict: bool,

    /// Compile as this Gateway's waypoint instead of as a workload.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    gateway: Option<Named>,

    /// Show what the status of each resource would say, too.
    #[arg(long)]
    conditions: bool,

    /// Istio's root namespace.
    #[arg(long, default_value = "istio-system", value_name = "NAMESPACE")]
    root_namespace: String,

    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Check {
    pub(super) fn main(self) -> Result<u8, Error> {
        let (store, mut problems) = runtime(1)?.block_on(read(&self.paths))?;
        let mut node = node_for_check("default", &self.root_namespace);
        if let Some(gateway) = &self.gateway {
            node.namespace = gateway.namespace.as_str().into();
            node.role = Role::Gateway {
                namespace: gateway.namespace.as_str().into(),
                name: gateway.name.as_str().into(),
            };
        }
        let compiled = compile(&store, &node, &Handover::default(), None);
        problems.extend(compiled.problems);
        problems.sort_by(|a, b| a.place.cmp(&b.place).then_with(|| a.cmp(b)));
        problems.dedup();
        let count = |severity| {
            problems
                .iter()
                .filter(|problem| problem.severity == severity)
                .count()
        };
        let (errors, warnings, ignored) = (
            count(Severity::Error),
            count(Severity::Warning),
            count(Severity::Ignored),
        );
        match self.output {
            Output::Text => {
                for problem in &problems {
                    println!("{problem}");
                }
                if self.conditions {
                    for status in compiled.statuses.iter() {
                        for (of, condition) in status.all() {
                            let of = of.map(|of| format!(" ({of})")).unwrap_or_default();
                            println!("{}{of}: {condition}", status.resource);
                        }
                    }
                }
                println!(
                    "{} resources: {errors} errors, {warnings} warnings, {ignored} ignored",
                    store.len()
                );
            }
            Output::Json | Output::Yaml => {
                let document = json!({
                    "read": store.len(),
                    "errors": errors,
                    "warnings": warnings,
                    "ignored": ignored,
                    "problems": problems.iter().map(crate::mesh::admin::problem).collect::<Vec<_>>(),
                    "resources": compiled.statuses,
                });
                self.output.print(&document)?;
            }
        }
        Ok(if errors > 0 || self.strict && ignored > 0 {
            WRONG
        } else {
            FINE
        })
    }
}
