//! The status of BackendTLSPolicies, by the Gateways whose routes lead to their targets.

use std::collections::{BTreeMap, BTreeSet};

use super::{BackendTls, Read, is_service};
use crate::compile::gateway::{Controllers, Fault, Gateways};
use crate::compile::status::{ACCEPTED, Condition, RESOLVED_REFS, Reference, Statuses};
use crate::config::gateway::SectionTargetReference;
use crate::config::{Problem, ResourceStore, Severity};
use crate::name::{Kind, ResourceRef, ServiceName};

/// How many ancestors a status may name (Gateway API, `PolicyStatus.ancestors`).
const ANCESTORS: usize = 16;

/// Which Gateways' routes lead to which Services.
#[derive(Debug, Default)]
pub(crate) struct Uses(BTreeMap<ServiceName, BTreeSet<ResourceRef>>);

impl Uses {
    pub(crate) fn add(&mut self, service: ServiceName, gateway: ResourceRef) {
        self.0.entry(service).or_default().insert(gateway);
    }

    fn of(&self, service: &ServiceName) -> impl Iterator<Item = &ResourceRef> {
        self.0.get(service).into_iter().flatten()
    }
}

impl BackendTls<'_> {
    /// The status of every policy, and the problems of those that are not carried out as written.
    pub(crate) fn report(
        &self,
        store: &ResourceStore,
        gateways: &Gateways<'_>,
        controllers: &Controllers<'_>,
        uses: &Uses,
        problems: &mut Vec<Problem>,
        statuses: &mut Statuses,
    ) {
        for read in &self.all {
            read.say(problems);
            let mut rivals = read.rivals.iter();
            for (at, target) in read.policy.spec.target_refs.iter().enumerate() {
                let rival = if is_service(target) { rivals.next() } else { None };
                let rival = rival.and_then(Option::as_deref);
                let verdict = read.verdict(target, rival, store);
                if let Err(fault) = &verdict
                    && read.demand.as_ref().err() != Some(fault)
                {
                    problems.push(read.entry.problem(
                        Severity::Warning,
                        format!("spec.targetRefs[{at}]"),
                        format!("{}: {}", fault.reason, fault.text),
                        "name a Service of the policy's own namespace that no other policy targets",
                    ));
                }
                let namespace = &*read.policy.metadata.namespace;
                let service = ServiceName::new(namespace, target.name.as_str());
                let mut ancestors: Vec<(Reference, &str)> = Vec::new();
                for gateway in uses.of(&service) {
                    let found = gateways.get(&gateway.namespace, &gateway.name);
                    let class = found.map_or("", |it| &it.gateway.spec.gateway_class_name);
                    ancestors.push((Reference::to(gateway), controllers.of(class)));
                }
                // What no Gateway leads to is called within the mesh.
                if ancestors.is_empty() {
                    let kind = ResourceRef::new(Kind::Service, namespace, target.name.as_str());
                    let mut reference = Reference::to(&kind);
                    target.group.clone_into(&mut reference.group);
                    target.kind.clone_into(&mut reference.kind);
                    ancestors.push((reference, controllers.of_service(None)));
                }
                let status = statuses.of(read.entry);
                for (reference, controller) in ancestors {
                    if status.ancestors.len() < ANCESTORS {
                        read.write(&verdict, status.ancestor(reference, controller));
                    }
                }
            }
        }
    }
}

impl Read<'_> {
    /// What becomes of one target.
    fn verdict(
        &self,
        target: &SectionTargetReference,
        rival: Option<&str>,
        store: &ResourceStore,
    ) -> Result<(), Fault> {
        let (namespace, name) = (&*self.policy.metadata.namespace, &target.name);
        let lost = |text: String| Err(Fault::new("TargetNotFound", text));
        if !is_service(target) {
            return lost(format!(
                "{} {name} cannot be a target: only a Service",
                target.kind
            ));
        }
        let Some((service, _)) = store.service(namespace, name) else {
            return lost(format!("Service {namespace}/{name} does not exist"));
        };
        let section = target.section_name.as_deref().filter(|it| !it.is_empty());
        let mut ports = service.spec.ports.iter();
        if let Some(section) = section
            && !ports.any(|it| it.name.as_deref() == Some(section))
        {
            return lost(format!("Service {namespace}/{name} has no port called {section}"));
        }
        if let Some(rival) = rival {
            return Err(Fault::new(
                "Conflicted",
                format!("{rival} is older, or first by name, and has the target"),
            ));
        }
        self.demand.as_ref().map(drop).map_err(Clone::clone)
    }

    /// Of several targets with one ancestor the worst verdict is shown.
    fn write(&self, verdict: &Result<(), Fault>, status: &mut crate::compile::status::AncestorStatus) {
        if status.condition(ACCEPTED).is_none_or(|it| it.status) {
            status.set(match verdict {
                Ok(()) => Condition::new(ACCEPTED, true, "Accepted", "TLS is begun as demanded"),
                Err(fault) => Condition::new(ACCEPTED, false, fault.reason, &*fault.text),
            });
        }
        status.set(match &self.unresolved {
            None => Condition::new(
                RESOLVED_REFS,
                true,
                "ResolvedRefs",
                "every reference leads somewhere",
            ),
            Some(fault) => Condition::new(RESOLVED_REFS, false, fault.reason, &*fault.text),
        });
    }

    fn say(&self, problems: &mut Vec<Problem>) {
        match (&self.demand, &self.unresolved) {
            // The reader of the text has said it already.
            _ if self.entry.broken.is_some() => {}
            // Whoever has its targets decides what becomes of them.
            (Err(_), _) if !self.rivals.is_empty() && self.rivals.iter().all(Option::is_some) => {}
            (Err(fault), _) if self.policy.spec.target_refs.is_empty() => problems.push(self.entry.problem(
                Severity::Error,
                "spec.targetRefs",
                format!("{}: {}; none of them is spoken to", fault.reason, fault.text),
                "name a Service",
            )),
            (Err(fault), _) => problems.push(self.entry.problem(
                Severity::Error,
                "spec.validation",
                format!("{}: {}; the target is not spoken to", fault.reason, fault.text),
                "name a ConfigMap with certificates under ca.crt, and the host to be proved",
            )),
            (Ok(_), Some(fault)) => problems.push(self.entry.problem(
                Severity::Error,
                "spec.validation.caCertificateRefs",
                format!("{}: {}; the other references count", fault.reason, fault.text),
                "name a ConfigMap with certificates under ca.crt",
            )),
            (Ok(_), None) => {}
        }
    }
}
