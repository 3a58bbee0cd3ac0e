//! Engines for targets: which policies attach is asked once per target, and equal sets share one engine.

use std::collections::HashMap;
use std::sync::Arc;

use super::authz::{MeshSettings, PeerInput, PolicyInput, Target, attached, engine, validate, validate_peer};
use crate::config::istio::{AuthorizationPolicy, PolicyTargetReference};
use crate::config::{Problem, ResourceStore};
use crate::policy::authz::{AuthzEngine, Layer};
use crate::snapshot::Node;

/// AuthorizationPolicies by what they may attach to, so that a target asks few of them.
#[derive(Debug, Default)]
pub(crate) struct Policies<'a> {
    all: Vec<PolicyInput<'a>>,
    targeted: HashMap<(&'a str, &'a str, &'a str), Vec<usize>>,
    untargeted: HashMap<&'a str, Vec<usize>>,
    /// Broken ones whose target is not known: they meet everything in their namespace.
    broken: HashMap<&'a str, Vec<usize>>,
}

/// The references that count: the legacy singular only where there is no list.
pub(crate) fn target_refs(policy: &AuthorizationPolicy) -> &[PolicyTargetReference] {
    match (&policy.spec.target_refs[..], &policy.spec.target_ref) {
        ([], Some(one)) => std::slice::from_ref(one),
        (list, _) => list,
    }
}

impl<'a> Policies<'a> {
    pub(crate) fn read(store: &'a ResourceStore) -> Self {
        let mut index = Self::default();
        for (at, (policy, entry)) in store.authorization_policies().enumerate() {
            index.all.push(PolicyInput { policy, entry });
            let namespace = &*policy.metadata.namespace;
            let refs = target_refs(policy);
            for it in refs {
                index
                    .targeted
                    .entry((namespace, &it.kind, &it.name))
                    .or_default()
                    .push(at);
            }
            if refs.is_empty() {
                index.untargeted.entry(namespace).or_default().push(at);
                if entry.broken.is_some() {
                    index.broken.entry(namespace).or_default().push(at);
                }
            }
        }
        index
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PolicyInput<'a>> {
        self.all.iter()
    }

    /// A superset of the policies that attach to the target.
    fn candidates(&self, target: &Target<'_>, root: &str) -> Vec<usize> {
        let mut found = Vec::new();
        let mut take = |list: Option<&Vec<usize>>| found.extend(list.into_iter().flatten().copied());
        let gateway = match target {
            Target::Workload { namespace, .. } => {
                take(self.untargeted.get(namespace));
                take(self.untargeted.get(root));
                None
            }
            Target::Service {
                service, waypoint, ..
            } => {
                for kind in ["Service", "ServiceEntry"] {
                    take(self.targeted.get(&(&*service.namespace, kind, &*service.name)));
                }
                take(self.broken.get(&*service.namespace));
                waypoint.as_ref()
            }
            Target::Gateway { gateway, .. } => {
                take(self.untargeted.get(gateway.namespace));
                take(self.untargeted.get(root));
                Some(gateway)
            }
        };
        if let Some(gateway) = gateway {
            take(self.targeted.get(&(gateway.namespace, "Gateway", gateway.name)));
            take(self.targeted.get(&(root, "GatewayClass", gateway.class)));
            take(self.broken.get(gateway.namespace));
        }
        take(self.broken.get(root));
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Makes engines, and keeps them for targets with the same policies.
pub(crate) struct Guards<'s, 'a> {
    policies: &'s Policies<'a>,
    settings: MeshSettings<'s>,
    made: HashMap<(u8, Vec<usize>), Arc<AuthzEngine>>,
}

impl<'s, 'a> Guards<'s, 'a> {
    pub(crate) fn new(policies: &'s Policies<'a>, node: &'s Node) -> Self {
        Self {
            policies,
            settings: MeshSettings::from(node),
            made: HashMap::new(),
        }
    }

    /// The engine of a target on a layer.
    pub(crate) fn engine(
        &mut self,
        layer: Layer,
        target: &Target<'_>,
        problems: &mut Vec<Problem>,
    ) -> Arc<AuthzEngine> {
        let candidates = self.policies.candidates(target, self.settings.root_namespace);
        let meets = |at: &usize| {
            let one = std::iter::once(self.policies.all[*at]);
            !attached(one, target, &self.settings).is_empty()
        };
        let chosen: Vec<usize> = candidates.into_iter().filter(meets).collect();
        let key = (layer as u8, chosen);
        if let Some(made) = self.made.get(&key) {
            return made.clone();
        }
        let inputs: Vec<PolicyInput<'a>> = key.1.iter().map(|at| self.policies.all[*at]).collect();
        let (made, found) = engine(&inputs, layer, &self.settings);
        problems.extend(found);
        let made = Arc::new(made);
        self.made.insert(key, made.clone());
        made
    }
}

/// What is wrong with security resources, wherever they attach.
pub(crate) fn check(policies: &Policies<'_>, peers: &[PeerInput<'_>], problems: &mut Vec<Problem>) {
    for it in policies.iter() {
        problems.extend(validate(it.policy, it.entry));
    }
    for it in peers {
        problems.extend(validate_peer(it.policy, it.entry));
    }
}
