//! Files of what admission must say.

use serde_json::json;

use super::shape::{Check, Checks};
use super::{CaseError, Outcome, policies};
use crate::compile::{authn, authz};
use crate::config::{Problem, Resource, Severity};

pub(super) fn run(file: Checks) -> Result<Vec<Outcome>, CaseError> {
    let outcome = |check: &Check| {
        let name = format!("{}/{}", file.id, check.id);
        judge(&name, check).unwrap_or_else(|error| Outcome::failed(name, error))
    };
    Ok(file.checks.iter().map(outcome).collect())
}

fn judge(name: &str, check: &Check) -> Result<Outcome, CaseError> {
    let spec = match (&check.spec, &check.paths) {
        (Some(spec), None) => spec.clone(),
        (None, Some(paths)) => json!({"rules": [{"to": [{"operation": {"paths": paths}}]}]}),
        _ => return Err(CaseError("a check has either a spec or paths".into())),
    };
    let object = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": check.kind.as_deref().unwrap_or("AuthorizationPolicy"),
        "metadata": {"name": "case", "namespace": "default"},
        "spec": spec,
    });
    let (entry, mut problems) = policies::read(&object)?;
    problems.extend(match &entry.resource {
        _ if entry.broken.is_some() => Vec::new(),
        Resource::AuthorizationPolicy(policy) => authz::validate(policy, &entry),
        Resource::PeerAuthentication(policy) => authz::validate_peer(policy, &entry),
        Resource::RequestAuthentication(policy) => authn::validate(policy, &entry),
        _ => Vec::new(),
    });
    let has = |severity| {
        problems
            .iter()
            .any(|problem: &Problem| problem.severity == severity)
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
    let said: Vec<_> = problems.iter().map(|problem| problem.text.as_str()).collect();
    let observed = verdict(
        !has(Severity::Error),
        check.warning.map(|_| has(Severity::Warning)),
    );
    Ok(
        Outcome::of(name, verdict(check.valid, check.warning), observed).because(format!(
            "{}; wanted: {}",
            said.join("; "),
            check.error
        )),
    )
}
