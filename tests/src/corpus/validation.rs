//! Files of what admission must say.

use std::sync::Arc;

use anyhow::Result;
use inmesh::compile::authz;
use inmesh::config::istio::{AuthorizationPolicy, PeerAuthentication};
use inmesh::config::{Entry, Problem, Resource, Severity};
use serde_json::{Value, json};

use super::case::{Check, Checks};
use super::{Outcome, Verdict};

pub(super) fn run(value: Value) -> Result<Vec<Outcome>> {
    let file: Checks = serde_json::from_value(value)?;
    let outcome = |check: &Check| Outcome {
        check: format!("{}/{}", file.id, check.id),
        verdict: judge(check),
    };
    Ok(file.checks.iter().map(outcome).collect())
}

fn judge(check: &Check) -> Verdict {
    let spec = check.spec.clone().unwrap_or_else(
        || json!({"rules": [{"to": [{"operation": {"paths": check.paths.clone().unwrap_or_default()}}]}]}),
    );
    let object = json!({"metadata": {"name": "case", "namespace": "default"}, "spec": spec});
    let kind = check.kind.as_deref().unwrap_or("AuthorizationPolicy");
    let problems = match kind {
        "AuthorizationPolicy" => serde_json::from_value::<AuthorizationPolicy>(object)
            .map(|policy| authz::validate(&policy, &entry(Resource::AuthorizationPolicy(policy.clone())))),
        "PeerAuthentication" => serde_json::from_value::<PeerAuthentication>(object).map(|policy| {
            authz::validate_peer(&policy, &entry(Resource::PeerAuthentication(policy.clone())))
        }),
        other => return Verdict::Skipped(format!("{other} is not read yet")),
    };
    let has = |problems: &[Problem], severity| problems.iter().any(|problem| problem.severity == severity);
    let (valid, warns, said) = match &problems {
        Ok(problems) => (
            !has(problems, Severity::Error),
            has(problems, Severity::Warning),
            format!("{problems:?}"),
        ),
        Err(error) => (false, false, error.to_string()),
    };
    if valid != check.valid {
        return Verdict::Failed(format!("valid is {valid}, expected {}: {said}", check.valid));
    }
    match check.warning {
        Some(expected) if expected != warns => Verdict::Failed(format!("warning is {warns}: {said}")),
        _ => Verdict::Passed,
    }
}

/// An object as if it had been read from a file of its own.
pub(super) fn entry(resource: Resource) -> Arc<Entry> {
    Arc::new(Entry::from_resource(resource, "case.yaml"))
}
