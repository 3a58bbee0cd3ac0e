//! The status of XBackendTrafficPolicies, by the Services that they target (GEP-713, "Policy Attachment").
//!
//! What they ask for is carried out elsewhere, each part by whoever it is about: retries by [`traffic`](super::traffic),
//! sessions by [`sessions`](super::sessions). A policy is accepted by a target if all that it says counts there.

use std::collections::HashMap;
use std::sync::Arc;

use super::findings::Findings;
use super::gateway::{Controllers, Fault};
use super::route::session;
use super::route::time::created;
use super::status::{ACCEPTED, Condition, Reference, Statuses};
use super::traffic;
use crate::config::gateway::{LocalPolicyTargetReference, XBackendTrafficPolicy};
use crate::config::{Entry, Problem, ResourceStore, Severity};
use crate::name::{Kind, ResourceRef};
use crate::policy::route::CookiePath;

/// Which policy says how each Service is retried, and which how it keeps sessions.
#[derive(Default)]
struct Claims<'a> {
    retries: HashMap<(&'a str, &'a str), &'a str>,
    sessions: HashMap<(&'a str, &'a str), &'a str>,
}

/// The status of every policy, and a problem for targets that are not there.
pub(crate) fn report(
    store: &ResourceStore,
    controllers: &Controllers<'_>,
    problems: &mut Vec<Problem>,
    statuses: &mut Statuses,
) {
    let mut all: Vec<_> = store.backend_traffic_policies().collect();
    all.sort_by_key(|(it, _)| {
        let meta = &it.metadata;
        (created(meta).unwrap_or(u64::MAX), &meta.namespace, &meta.name)
    });
    let mut claims = Claims::default();
    for (policy, entry) in all {
        let own = &*policy.metadata.namespace;
        let valid = validity(policy, entry);
        for (at, target) in policy.spec.target_refs.iter().enumerate() {
            let verdict = target_of(store, own, target).and_then(|()| {
                valid.clone()?;
                claims.stake(policy, target)
            });
            if let Err(fault) = &verdict
                && fault.reason == TARGET_NOT_FOUND
                && is_service(target)
            {
                problems.push(entry.problem(
                    Severity::Warning,
                    format!("spec.targetRefs[{at}]"),
                    format!("{}: {}", fault.reason, fault.text),
                    "name a Service of the policy's own namespace",
                ));
            }
            let kind = ResourceRef::new(Kind::Service, own, target.name.as_str());
            let mut reference = Reference::to(&kind);
            target.group.clone_into(&mut reference.group);
            target.kind.clone_into(&mut reference.kind);
            let status = statuses
                .of(entry)
                .ancestor(reference, controllers.of_service(None));
            status.set(match verdict {
                Ok(()) => Condition::new(
                    ACCEPTED,
                    true,
                    "Accepted",
                    "the Service is called as the policy says",
                ),
                Err(fault) => Condition::new(ACCEPTED, false, fault.reason, fault.text),
            });
        }
    }
}

const TARGET_NOT_FOUND: &str = "TargetNotFound";

fn is_service(target: &LocalPolicyTargetReference) -> bool {
    matches!(&*target.group, "" | "core") && target.kind == "Service"
}

/// Whether there is what a policy targets.
fn target_of(store: &ResourceStore, own: &str, target: &LocalPolicyTargetReference) -> Result<(), Fault> {
    let lost = |text: String| Err(Fault::new(TARGET_NOT_FOUND, text));
    if !is_service(target) {
        return lost(format!("{} {} cannot be a target", target.kind, target.name));
    }
    match store.service(own, &target.name) {
        Some(_) => Ok(()),
        None => lost(format!("Service {own}/{} does not exist", target.name)),
    }
}

/// Whether all of it can be carried out as written. What is wrong is reported by who carries it out.
fn validity(policy: &XBackendTrafficPolicy, entry: &Arc<Entry>) -> Result<(), Fault> {
    let mut said = Vec::new();
    traffic::check_constraint(policy, entry, &mut said);
    if let Some(written) = &policy.spec.session_persistence {
        let mut findings = Findings::new(entry, &mut said, "spec".into());
        let _ = session::compile(written, "", CookiePath::Unsaid, &mut findings);
    }
    let wrong = said.iter().find(|it| it.severity == Severity::Error);
    match wrong {
        None => Ok(()),
        Some(it) => Err(Fault::new("Invalid", format!("{}: {}", it.field, it.text))),
    }
}

impl<'a> Claims<'a> {
    /// Has a policy decide about a target what no older one decides.
    fn stake(
        &mut self,
        policy: &'a XBackendTrafficPolicy,
        target: &'a LocalPolicyTargetReference,
    ) -> Result<(), Fault> {
        let spec = &policy.spec;
        let of = (&*policy.metadata.namespace, &*target.name);
        let own = &*policy.metadata.name;
        let mut older = None;
        for (says, claims) in [
            (spec.retry_constraint.is_some(), &mut self.retries),
            (spec.session_persistence.is_some(), &mut self.sessions),
        ] {
            if says {
                let first = *claims.entry(of).or_insert(own);
                older = older.or_else(|| (first != own).then_some(first));
            }
        }
        match older {
            None => Ok(()),
            Some(name) => Err(Fault::new(
                "Conflicted",
                format!(
                    "policy {name} is older, or first by name, and says the same of {}",
                    target.name
                ),
            )),
        }
    }
}
