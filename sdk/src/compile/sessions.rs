//! Sessions that an `XBackendTrafficPolicy` asks for: whatever route leads to its Services keeps them (GEP-1619).
//!
//! A rule that speaks of sessions itself is left alone: it has the wider view. In any other each backend with a policy
//! gets sessions of its own, which no other rule shares: a client that comes by another path begins another session.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::findings::Findings;
use super::route::session;
use super::route::time::created;
use super::service::Destination;
use crate::config::gateway::{SessionPersistence, XBackendTrafficPolicy};
use crate::config::{Entry, Problem, ResourceStore, Severity};
use crate::name::{Host, Kind, ResourceRef, ServiceName};
use crate::policy::route::{Action, CookiePath, RouteRule, RouteTable, Session, Target};
use crate::snapshot::{Cluster, Via};

/// What is asked for, by the Service.
#[derive(Default)]
pub(crate) struct Sessions<'a>(HashMap<&'a Host, Asked<'a>>);

/// What a policy asks for.
struct Asked<'a> {
    service: &'a ServiceName,
    written: &'a SessionPersistence,
    policy: &'a Arc<Entry>,
}

impl<'a> Sessions<'a> {
    /// Reads all policies; of two for one Service the older counts. One that cannot be carried out is reported and counts
    /// as if it were not there.
    pub(crate) fn read(
        store: &'a ResourceStore,
        destinations: &'a [Arc<Destination>],
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut all: Vec<_> = store
            .backend_traffic_policies()
            .filter_map(|(it, entry)| Some((it, it.spec.session_persistence.as_ref()?, entry)))
            .collect();
        if all.is_empty() {
            return Self::default();
        }
        all.sort_by_key(|(it, ..)| {
            let meta = &it.metadata;
            (created(meta).unwrap_or(u64::MAX), &meta.namespace, &meta.name)
        });
        let services: HashMap<_, _> = destinations
            .iter()
            .filter(|it| it.kind == Kind::Service)
            .map(|it| ((&*it.name.namespace, &*it.name.name), it))
            .collect();
        let mut sessions = Self::default();
        for (policy, written, entry) in all {
            let mut findings = Findings::new(entry, problems, "spec".into());
            let _ = session::compile(written, "", CookiePath::Unsaid, &mut findings);
            if findings.broken.is_some() {
                continue;
            }
            for (at, service) in targets(policy) {
                let Some(it) = services.get(&(&*policy.metadata.namespace, service)) else {
                    continue;
                };
                let asked = Asked {
                    service: &it.name,
                    written,
                    policy: entry,
                };
                if sessions.0.contains_key(&it.host) {
                    problems.push(entry.problem(
                        Severity::Warning,
                        format!("spec.targetRefs[{at}]"),
                        format!("an older policy already says how Service {service} keeps sessions"),
                        "keep one policy for each Service",
                    ));
                } else {
                    sessions.0.insert(&it.host, asked);
                }
            }
        }
        sessions
    }

    /// Whether nobody asks for any.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Completes the rules of a table.
    pub(crate) fn complete(&self, table: &mut RouteTable, clusters: &[Arc<Cluster>]) {
        if self.0.is_empty() {
            return;
        }
        let mut named = BTreeSet::new();
        for rule in table.rules_mut() {
            let scope = scope(rule, &mut named);
            if rule.session.is_some() {
                continue;
            }
            let Action::Forward(backends) = &mut rule.action else {
                continue;
            };
            for backend in backends.iter_mut() {
                let Target::Cluster(id) = backend.cluster else {
                    continue;
                };
                backend.session = clusters
                    .get(id.0 as usize)
                    .and_then(|cluster| self.of(cluster, &scope));
            }
        }
    }

    /// The sessions of a cluster's requests in a rule that `scope` names; empty where there is none. A waypoint keeps those
    /// of its services itself.
    pub(crate) fn of(&self, cluster: &Cluster, scope: &str) -> Option<Arc<Session>> {
        if !matches!(cluster.via, Via::Direct) {
            return None;
        }
        let asked = self.0.get(&cluster.host)?;
        // Whatever is wrong has been said.
        let mut said = Vec::new();
        let mut findings = Findings::new(asked.policy, &mut said, String::new());
        let scope = format!("{} {scope}", asked.service);
        session::compile(asked.written, &scope, CookiePath::Unsaid, &mut findings).map(Arc::new)
    }
}

fn targets(policy: &XBackendTrafficPolicy) -> impl Iterator<Item = (usize, &str)> {
    let all = policy.spec.target_refs.iter().enumerate();
    all.filter(|(_, it)| matches!(&*it.group, "" | "core") && it.kind == "Service")
        .map(|(at, it)| (at, &*it.name))
}

/// By the rule's name where it is the first of that name: sessions then survive a rule that is put before.
fn scope(rule: &RouteRule, named: &mut BTreeSet<(ResourceRef, Arc<str>)>) -> String {
    let origin = &rule.origin;
    let own = origin.name.as_ref();
    match own.filter(|name| named.insert((origin.resource.clone(), Arc::clone(name)))) {
        Some(name) => format!("{} {name}", origin.resource),
        None => format!("{}/{}", origin.resource, origin.rule),
    }
}
