//! BackendTLSPolicies: which service ports are spoken to over TLS, whom they must prove to be, and what the policies'
//! status says.
//!
//! They hold for whoever calls the Service from here: an ingress, a waypoint, an application. A policy that cannot be
//! carried out keeps its target, which then is not spoken to at all; nothing falls back to plain text.

mod read;
mod report;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use read::Own;
pub(crate) use report::Uses;

use super::gateway::{Fault, Material};
use super::route::time::created;
use super::service::{Destination, Port};
use crate::config::Entry;
use crate::config::gateway::{BackendTLSPolicy, SectionTargetReference};
use crate::name::Kind;
use crate::policy::tls::{Origination, TlsOrigin};
use crate::snapshot::AppProtocol;

/// One policy and what it comes to.
#[derive(Debug)]
struct Read<'a> {
    policy: &'a BackendTLSPolicy,
    entry: &'a Arc<Entry>,
    /// What it demands, or why nobody can say.
    demand: Result<Arc<TlsOrigin>, Fault>,
    /// The first of its references that leads nowhere.
    unresolved: Option<Fault>,
    /// Of each of its targets: who has it instead, if somebody has.
    rivals: Vec<Option<String>>,
}

/// All BackendTLSPolicies.
#[derive(Debug, Default)]
pub(crate) struct BackendTls<'a> {
    /// Oldest first.
    all: Vec<Read<'a>>,
    /// By namespace, Service and port name; whoever came first.
    targets: HashMap<(&'a str, &'a str, Option<&'a str>), usize>,
    /// Namespaces with a policy of which not even the target can be told: it may be any of their Services.
    everywhere: HashMap<&'a str, usize>,
}

impl<'a> BackendTls<'a> {
    /// Reads all policies; `own` is what this process itself brings to a handshake.
    pub(crate) fn read(material: &Material<'a>, own: &Own) -> Self {
        let mut policies: Vec<_> = material.store.backend_tls_policies().collect();
        policies.sort_by_key(|(policy, _)| {
            let meta = &policy.metadata;
            let created = created(meta).unwrap_or(u64::MAX);
            (created, meta.namespace.clone(), meta.name.clone())
        });
        let mut index = Self::default();
        for (policy, entry) in policies {
            index.add(read::one(policy, entry, material, own));
        }
        index
    }

    fn add(&mut self, mut read: Read<'a>) {
        let at = self.all.len();
        let policy = read.policy;
        let namespace = &*policy.metadata.namespace;
        if policy.spec.target_refs.is_empty() {
            self.everywhere.entry(namespace).or_insert(at);
        }
        for target in policy.spec.target_refs.iter().filter(|it| is_service(it)) {
            let section = target.section_name.as_deref().filter(|it| !it.is_empty());
            let holder = *self
                .targets
                .entry((namespace, &target.name, section))
                .or_insert(at);
            let rival = self.all.get(holder).map(|it| it.entry.reference().to_string());
            read.rivals.push(rival);
        }
        self.all.push(read);
    }

    /// Applies what is demanded to the ports of all Services.
    pub(crate) fn apply(&self, destinations: &mut [Arc<Destination>]) {
        if self.all.is_empty() {
            return;
        }
        for destination in destinations.iter_mut().filter(|it| it.kind == Kind::Service) {
            let name = destination.name.clone();
            for at in 0..destination.ports.len() {
                let tls = self.of(&name.namespace, &name.name, &destination.ports[at]);
                if tls == Origination::None {
                    continue;
                }
                let port = &mut Arc::make_mut(destination).ports[at];
                port.tls = tls;
                // What is in the TLS that we begin is HTTP.
                if port.https {
                    port.protocol = AppProtocol::Http1;
                }
            }
        }
    }

    fn of(&self, namespace: &str, name: &str, port: &Port) -> Origination {
        let named = || self.targets.get(&(namespace, name, Some(port.name.as_deref()?)));
        let whole = || self.targets.get(&(namespace, name, None));
        let held = self.everywhere.get(namespace).or_else(named).or_else(whole);
        match held.and_then(|at| self.all.get(*at)) {
            None => Origination::None,
            Some(read) => match &read.demand {
                Ok(origin) => Origination::Tls(Arc::clone(origin)),
                Err(fault) => {
                    let text = format!("{}: {}: {}", read.entry.reference(), fault.reason, fault.text);
                    Origination::Refused(text.into())
                }
            },
        }
    }
}

fn is_service(target: &SectionTargetReference) -> bool {
    matches!(target.group.as_str(), "" | "core") && target.kind == Kind::Service.as_str()
}
