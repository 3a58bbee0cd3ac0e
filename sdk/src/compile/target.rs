//! The status of AuthorizationPolicies that name their targets.

use super::authz::{Attaches, PolicyInput, validate};
use super::binding::Bindings;
use super::guard::Policies;
use super::status::{Condition, Statuses, WAYPOINT_ACCEPTED};
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

impl Targets<'_, '_> {
    /// One condition per policy with targets; several targets are flattened into one, as upstream does.
    pub(crate) fn report(
        &self,
        policies: &Policies<'_>,
        problems: &mut Vec<Problem>,
        statuses: &mut Statuses,
    ) {
        for input in policies.iter() {
            let refs = input.policy.target_refs();
            if !refs.is_empty() {
                let condition = self.policy(input, refs, problems);
                statuses.of(input.entry).set(condition);
            }
        }
    }

    fn policy(
        &self,
        input: &PolicyInput<'_>,
        refs: &[PolicyTargetReference],
        problems: &mut Vec<Problem>,
    ) -> Condition {
        let condition = |status, reason: &'static str, text: String| {
            Condition::new(WAYPOINT_ACCEPTED, status, reason, text)
        };
        let invalid = validate(input.policy, input.entry)
            .into_iter()
            .find(|it| it.severity == Severity::Error);
        if let Some(why) = input.entry.broken.clone().or_else(|| invalid.map(|it| it.text)) {
            return condition(false, "Invalid", format!("its targets deny everything: {why}"));
        }
        let mut unbound = None;
        for (at, it) in refs.iter().enumerate() {
            let name = format!("{} {}/{}", it.kind, input.policy.metadata.namespace, it.name);
            match self.target(&input.policy.metadata.namespace, it) {
                Found::Yes => {}
                Found::NotBound => unbound = Some(name),
                Found::No => {
                    problems.push(input.entry.problem(
                        Severity::Warning,
                        format!("spec.targetRefs[{at}]"),
                        format!("{name} does not exist; nothing is enforced there"),
                        "name a Service, ServiceEntry or Gateway of the policy's own namespace",
                    ));
                    return condition(false, "TargetNotFound", format!("{name} does not exist"));
                }
            }
        }
        match unbound {
            Some(name) => {
                let text =
                    format!("{name} has no waypoint; its workloads that run inmesh enforce the policy");
                condition(false, "AncestorNotBound", text)
            }
            None => condition(true, "Accepted", "bound to every target".to_owned()),
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
