//! The status of AuthorizationPolicies.

use std::sync::Arc;

use super::authz::{Attaches, PolicyInput, ztunnel};
use super::binding::Bindings;
use super::guard::Policies;
use super::status::{Condition, Statuses, WAYPOINT_ACCEPTED, ZTUNNEL_ACCEPTED};
use crate::config::istio::PolicyTargetReference;
use crate::config::{Problem, ResourceStore, Severity};
use crate::name::{Kind, ResourceRef};
use crate::snapshot::Node;

/// What policies' targets are looked up in.
pub(crate) struct Targets<'s, 'a> {
    pub(crate) store: &'s ResourceStore,
    pub(crate) bindings: &'s Bindings<'s, 'a>,
    pub(crate) node: &'s Node,
}

enum Found {
    Yes,
    NotBound,
    No,
}

/// Why the policy cannot be carried out at all.
fn invalid(input: &PolicyInput<'_>, found: &[Problem]) -> Option<String> {
    let error = || found.iter().find(|it| it.severity == Severity::Error);
    let broken = input.entry.broken.as_ref();
    broken.or_else(|| Some(&error()?.text)).cloned()
}

/// What is said of a policy that names no targets.
fn untargeted(input: &PolicyInput<'_>, found: &[Problem]) -> Condition {
    if let Some(why) = invalid(input, found) {
        let text = format!("the workloads that it selects deny everything: {why}");
        return Condition::new(ZTUNNEL_ACCEPTED, false, "UnsupportedValue", text);
    }
    let (status, reason, text) = ztunnel(input.policy, input.entry);
    Condition::new(ZTUNNEL_ACCEPTED, status, reason, text)
}

impl Targets<'_, '_> {
    /// One condition per policy: of those with targets what their waypoints make of them, of others what a ztunnel does. Several targets are flattened into one, as upstream does.
    pub(crate) fn report(
        &self,
        policies: &Policies<'_>,
        validated: &[Arc<[Problem]>],
        problems: &mut Vec<Problem>,
        statuses: &mut Statuses,
    ) {
        for (input, found) in policies.iter().zip(validated) {
            let refs = input.policy.target_refs();
            let condition = match refs.is_empty() {
                true => untargeted(input, found),
                false => self.policy(input, refs, found, problems),
            };
            statuses.of(input.entry).set(condition);
        }
    }

    fn policy(
        &self,
        input: &PolicyInput<'_>,
        refs: &[PolicyTargetReference],
        found: &[Problem],
        problems: &mut Vec<Problem>,
    ) -> Condition {
        let condition = |status, reason: &'static str, text: String| {
            Condition::new(WAYPOINT_ACCEPTED, status, reason, text)
        };
        if let Some(why) = invalid(input, found) {
            return condition(false, "Invalid", format!("its targets deny everything: {why}"));
        }
        let (mut bound, mut unbound, mut missing) = (0, Vec::new(), Vec::new());
        for (at, it) in refs.iter().enumerate() {
            let name = format!("{} {}/{}", it.kind, input.policy.metadata.namespace, it.name);
            match self.target(&input.policy.metadata.namespace, it) {
                Found::Yes => bound += 1,
                Found::NotBound => unbound.push(name),
                Found::No => {
                    problems.push(input.entry.problem(
                        Severity::Warning,
                        format!("spec.targetRefs[{at}]"),
                        format!("{name} does not exist; nothing is enforced there"),
                        "name a Service, ServiceEntry or Gateway of the policy's own namespace",
                    ));
                    missing.push(name);
                }
            }
        }
        let missing = (!missing.is_empty()).then(|| format!("{} does not exist", missing.join(", ")));
        let unbound = (!unbound.is_empty()).then(|| {
            let names = unbound.join(", ");
            format!("{names} has no waypoint; its workloads that run inmesh enforce the policy")
        });
        match (missing, unbound) {
            (None, None) => condition(true, "Accepted", "bound to every target".to_owned()),
            (missing, unbound) if bound > 0 => {
                let parts: Vec<String> = missing.into_iter().chain(unbound).collect();
                condition(true, "PartiallyInvalid", parts.join("; "))
            }
            (Some(missing), _) => condition(false, "TargetNotFound", missing),
            (None, Some(unbound)) => condition(false, "AncestorNotBound", unbound),
        }
    }

    fn target(&self, namespace: &str, it: &PolicyTargetReference) -> Found {
        let bound = |kind, exists: bool| match exists {
            false => Found::No,
            true if self
                .bindings
                .declared(&ResourceRef::new(kind, namespace, it.name.as_str()))
                .is_some() =>
            {
                Found::Yes
            }
            true => Found::NotBound,
        };
        let exists = |yes: bool| if yes { Found::Yes } else { Found::No };
        match it.kind.as_str() {
            "Service" => bound(Kind::Service, self.store.service(namespace, &it.name).is_some()),
            "ServiceEntry" => bound(
                Kind::ServiceEntry,
                self.store.service_entry(namespace, &it.name).is_some(),
            ),
            "Gateway" => exists(self.store.gateway(namespace, &it.name).is_some()),
            // The class need not be written down to exist; its policies count only in the root namespace.
            "GatewayClass" => exists(*self.node.root_namespace == *namespace),
            _ => Found::No,
        }
    }
}
