//! Engines for targets: which policies attach is asked once per target, and equal sets share one engine.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::authn::{self, KeyCells};
use super::authz::{
    Attaches, MeshSettings, PeerInput, PolicyInput, Target, attached, engine, rules_about_tokens, validate,
    validate_peer,
};
use super::memo::{Address, Found, Same, Spread, Table, same};
use super::mesh_config::Mesh;
use crate::config::istio::{AuthorizationPolicy, RequestAuthentication};
use crate::config::{Entry, Problem, Severity};
use crate::policy::authz::{AuthzEngine, Layer};
use crate::snapshot::{Gate, KeyCell, Snapshot};

/// Policies of one kind by what they may attach to, so that a target asks few of them.
#[derive(Debug)]
pub(crate) struct Policies<'a, P = AuthorizationPolicy> {
    all: Vec<PolicyInput<'a, P>>,
    targeted: HashMap<(&'a str, &'a str, &'a str), Vec<usize>>,
    untargeted: HashMap<&'a str, Vec<usize>>,
    /// Broken ones whose target is not known: they meet everything in their namespace.
    broken: HashMap<&'a str, Vec<usize>>,
}

impl<'a, P: Attaches> Policies<'a, P> {
    pub(crate) fn read(policies: impl Iterator<Item = (&'a P, &'a Arc<Entry>)>) -> Self {
        let mut index = Self {
            all: Vec::new(),
            targeted: HashMap::new(),
            untargeted: HashMap::new(),
            broken: HashMap::new(),
        };
        for (at, (policy, entry)) in policies.enumerate() {
            index.all.push(PolicyInput { policy, entry });
            let namespace = &*policy.metadata().namespace;
            let refs = policy.target_refs();
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PolicyInput<'a, P>> {
        self.all.iter()
    }

    /// The policies that attach to the target, by index.
    fn attached(&self, target: &Target<'_>, settings: &MeshSettings<'_>) -> Vec<usize> {
        let mut chosen = self.candidates(target, settings.root_namespace);
        chosen.retain(|at| !attached(std::iter::once(self.all[*at]), target, settings).is_empty());
        chosen
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
        // Not even their namespace could be read.
        take(self.broken.get(""));
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// What is wrong with each policy, as it was found last time.
pub(crate) type Validated = Table<Same<Entry>, Arc<[Problem]>>;

/// The engines that were made last time, by layer and policies.
pub(crate) type Known = Table<(u8, Vec<Same<Entry>>), Found<Arc<AuthzEngine>>, Digest>;

/// The digest of what an engine is made of; what it is made of is compared, too.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(u64);

impl Digest {
    fn of(layer: u8, policies: &[Same<Entry>]) -> Self {
        let mut digest = Spread::default();
        digest.write_u64(u64::from(layer));
        policies.iter().for_each(|it| Address::of(it).hash(&mut digest));
        Self(digest.finish())
    }
}

/// What is wrong with each policy, in their order.
pub(crate) fn validated(policies: &Policies<'_>, known: &mut Validated) -> Vec<Arc<[Problem]>> {
    let of = |it: &PolicyInput<'_>| {
        let found = known.checked(
            Address::of(it.entry),
            Same::of(it.entry),
            |_| true,
            |_| validate(it.policy, it.entry).into(),
        );
        Arc::clone(found)
    };
    policies.iter().map(of).collect()
}

/// Makes engines, and keeps them for targets with the same policies.
pub(crate) struct Guards<'s, 'a> {
    policies: &'s Policies<'a>,
    tokens: &'s Policies<'a, RequestAuthentication>,
    mesh: &'s Mesh,
    settings: MeshSettings<'s>,
    keys: KeyCells,
    known: &'s mut Known,
    engines: HashMap<(u8, Vec<usize>), Arc<AuthzEngine>>,
    gates: HashMap<(Vec<usize>, Vec<usize>), Arc<Gate>>,
}

impl<'s, 'a> Guards<'s, 'a> {
    pub(crate) fn new(
        policies: &'s Policies<'a>,
        tokens: &'s Policies<'a, RequestAuthentication>,
        mesh: &'s Mesh,
        known: &'s mut Known,
        previous: Option<&Snapshot>,
    ) -> Self {
        Self {
            policies,
            tokens,
            mesh,
            settings: MeshSettings {
                authorizers: mesh,
                ..MeshSettings::from(&mesh.node)
            },
            keys: KeyCells::carried(previous),
            known,
            engines: HashMap::new(),
            gates: HashMap::new(),
        }
    }

    /// What requests meet at a target.
    pub(crate) fn gate(&mut self, target: &Target<'_>, problems: &mut Vec<Problem>) -> Arc<Gate> {
        let chosen = self.policies.attached(target, &self.settings);
        let believed = self.tokens.attached(target, &self.settings);
        let key = (chosen, believed);
        if let Some(made) = self.gates.get(&key) {
            return made.clone();
        }
        if key.1.is_empty() {
            for input in key.0.iter().map(|at| self.policies.all[*at]) {
                problems.extend(rules_about_tokens(input.policy).map(|rule| tokenless(&input, rule)));
            }
        }
        let inputs = key.1.iter().map(|at| self.tokens.all[*at]);
        let made = match authn::rules(inputs, &mut self.keys, problems) {
            Ok(tokens) => {
                let authz = self.made(Layer::Http, key.0.clone(), problems);
                let authorizer = authz.authorizer().and_then(|name| self.mesh.authorizer(name));
                Gate {
                    authz,
                    tokens,
                    authorizer,
                }
            }
            Err(why) => Gate::closed(why),
        };
        let made = Arc::new(made);
        self.gates.insert(key, made.clone());
        made
    }

    /// The engine of a target on a layer without requests.
    pub(crate) fn engine(
        &mut self,
        layer: Layer,
        target: &Target<'_>,
        problems: &mut Vec<Problem>,
    ) -> Arc<AuthzEngine> {
        let chosen = self.policies.attached(target, &self.settings);
        self.made(layer, chosen, problems)
    }

    fn made(&mut self, layer: Layer, chosen: Vec<usize>, problems: &mut Vec<Problem>) -> Arc<AuthzEngine> {
        let key = (layer as u8, chosen);
        if let Some(made) = self.engines.get(&key) {
            return made.clone();
        }
        let inputs: Vec<PolicyInput<'a>> = key.1.iter().map(|at| self.policies.all[*at]).collect();
        let fresh = || {
            let (made, problems) = engine(&inputs, layer, &self.settings);
            Found {
                value: Arc::new(made),
                problems,
            }
        };
        // Whom a policy may ask is for the mesh configuration to say.
        let asks = |it: &PolicyInput<'_>| it.policy.spec.action.as_deref() == Some("CUSTOM");
        let made = if inputs.iter().any(asks) {
            fresh().tell(problems).clone()
        } else {
            let entries = same(inputs.iter().map(|it| it.entry));
            let digest = Digest::of(key.0, &entries);
            let made = self
                .known
                .checked(digest, (key.0, entries), |_| true, |_| fresh());
            Arc::clone(made.tell(problems))
        };
        let made = match &self.mesh.closed {
            None => made,
            Some(why) => Arc::new(AuthzEngine::deny_all(Arc::clone(why))),
        };
        self.engines.insert(key, made.clone());
        made
    }

    /// The key sources that any target needs.
    pub(crate) fn into_keys(self) -> Vec<Arc<KeyCell>> {
        self.keys.used()
    }
}

/// A rule asks about tokens where none is ever verified.
fn tokenless(input: &PolicyInput<'_>, rule: usize) -> Problem {
    let text =
        "no RequestAuthentication applies to the same target: every request counts as one without a token";
    input.entry.problem(
        Severity::Warning,
        format!("spec.rules[{rule}]"),
        text,
        "add a RequestAuthentication with the same selector or targetRefs",
    )
}

/// What is wrong with security resources, wherever they attach.
pub(crate) fn check(
    policies: &[Arc<[Problem]>],
    tokens: &Policies<'_, RequestAuthentication>,
    peers: &[PeerInput<'_>],
    problems: &mut Vec<Problem>,
) {
    problems.extend(policies.iter().flat_map(|it| it.iter().cloned()));
    for it in tokens.iter() {
        problems.extend(authn::validate(it.policy, it.entry));
    }
    for it in peers {
        problems.extend(validate_peer(it.policy, it.entry));
    }
}
