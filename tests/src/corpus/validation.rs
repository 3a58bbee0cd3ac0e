//! Files of what admission must say.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use inmesh::compile::authz;
use inmesh::config::istio::{AuthorizationPolicy, PeerAuthentication};
use inmesh::config::{Entry, Problem, Resource, Severity};
use serde_json::{Value, json};

use super::Outcome;
use super::case::{Check, Checks};

pub(super) fn run(value: Value) -> Result<Vec<Outcome>> {
    let file: Checks = serde_json::from_value(value)?;
    let outcome = |check: &Check| {
        let name = format!("{}/{}", file.id, check.id);
        judge(&name, check).unwrap_or_else(|error| Outcome::failed(name, format!("{error:#}")))
    };
    Ok(file.checks.iter().map(outcome).collect())
}

fn judge(name: &str, check: &Check) -> Result<Outcome> {
    let spec = match (&check.spec, &check.paths) {
        (Some(spec), None) => spec.clone(),
        (None, Some(paths)) => json!({"rules": [{"to": [{"operation": {"paths": paths}}]}]}),
        _ => bail!("a check has either a spec or paths"),
    };
    let object = json!({"metadata": {"name": "case", "namespace": "default"}, "spec": spec});
    let problems = match check.kind.as_deref().unwrap_or("AuthorizationPolicy") {
        "AuthorizationPolicy" => serde_json::from_value::<AuthorizationPolicy>(object)
            .map(|policy| authz::validate(&policy, &entry(Resource::AuthorizationPolicy(policy.clone())))),
        "PeerAuthentication" => serde_json::from_value::<PeerAuthentication>(object).map(|policy| {
            authz::validate_peer(&policy, &entry(Resource::PeerAuthentication(policy.clone())))
        }),
        other => bail!("not done yet: {other} is not read"),
    }
    .context("the spec does not fit its kind");
    let has = |severity| match &problems {
        Ok(problems) => problems
            .iter()
            .any(|problem: &Problem| problem.severity == severity),
        Err(_) => severity == Severity::Error,
    };
    // Where the file does not say, warnings are not asked for.
    let verdict = |valid: bool, warned: Option<bool>| {
        format!(
            "{}{}",
            if valid { "valid" } else { "invalid" },
            match warned {
                Some(true) => " with a warning",
                Some(false) => " without a warning",
                None => "",
            }
        )
    };
    let said = match &problems {
        Ok(problems) => problems
            .iter()
            .map(|problem| problem.text.as_str())
            .collect::<Vec<_>>()
            .join("; "),
        Err(error) => format!("{error:#}"),
    };
    let observed = verdict(
        !has(Severity::Error),
        check.warning.map(|_| has(Severity::Warning)),
    );
    Ok(Outcome::of(name, verdict(check.valid, check.warning), observed)
        .because(format!("{said}; wanted: {}", check.error)))
}

/// An object as if it had been read from a file of its own.
pub(super) fn entry(resource: Resource) -> Arc<Entry> {
    Arc::new(Entry::from_resource(resource, "case.yaml"))
}
