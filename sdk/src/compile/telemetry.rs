//! Telemetries: which of them speak about what comes in, and where.
//!
//! From the mesh's down to a service's own (Istio "Telemetry", "Scope, Inheritance, and Overrides"):
//!
//! 1. that of the root namespace, without a selector or targets;
//! 2. that of our own namespace, likewise;
//! 3. where a service of another namespace is served: that of its namespace, likewise;
//! 4. what names the workload, the Gateway or the service, in the last of these namespaces alone.
//!
//! Of several at one level the oldest counts. What the levels come to is for those to say who know what they are about:
//! `access_log`, `metrics`.

use std::collections::HashMap;
use std::sync::Arc;

use super::authz::{GatewayTarget, MeshSettings, PolicyInput, Registry, Target, attached};
use super::binding::Bindings;
use super::inbound::Own;
use super::service::Destination;
use crate::config::istio::Telemetry;
use crate::config::{Problem, ResourceStore, Severity};
use crate::name::{Kind, ResourceRef};
use crate::snapshot::{ByService, Node, Role};
use crate::telemetry::cel::NodeFacts;

/// All Telemetries that are applied, and for whom they are read.
pub(super) struct Telemetries<'s, 'a> {
    store: &'a ResourceStore,
    node: &'s Node,
    /// What expressions know of us.
    pub(super) facts: NodeFacts,
    all: Vec<PolicyInput<'a, Telemetry>>,
}

/// Who is asked about: a process, and what it serves.
#[derive(Clone, Copy)]
pub(super) struct Seat<'s, 'a> {
    pub(super) gateway: Option<&'s ResourceRef>,
    pub(super) own: &'s Own,
    pub(super) destinations: &'s [Arc<Destination>],
    pub(super) bindings: &'s Bindings<'s, 'a>,
}

/// Who we are, as Istio's proxies say it of themselves.
fn node_facts(node: &Node, own: &Own) -> NodeFacts {
    let me = &own.workload;
    let kind = match node.role {
        Role::Gateway { .. } => "waypoint",
        Role::Workload => "sidecar",
    };
    let address = own.ip().map(|ip| ip.to_string()).unwrap_or_default();
    let (namespace, domain) = (&node.namespace, &node.cluster_domain);
    let account = node.identity.as_ref().map_or("", |id| id.service_account());
    let metadata = [
        ("NAME", &*me.name),
        ("NAMESPACE", namespace),
        ("WORKLOAD_NAME", &me.owner),
        ("CLUSTER_ID", &node.cluster_id),
        ("MESH_ID", node.trust_domains.first().map_or("", |domain| domain)),
        ("SERVICE_ACCOUNT", account),
        ("INSTANCE_IPS", &address),
    ];
    let metadata = metadata.map(|(key, value)| (Arc::from(key), Arc::from(value)));
    let labels = own
        .labels
        .iter()
        .map(|(key, value)| (format!("LABELS/{key}").into(), value.as_str().into()));
    NodeFacts {
        id: format!(
            "{kind}~{address}~{}.{namespace}~{namespace}.svc.{domain}",
            me.name
        )
        .into(),
        cluster: format!(
            "{}.{namespace}",
            if account.is_empty() { &*me.owner } else { account }
        )
        .into(),
        metadata: metadata.into_iter().chain(labels).collect(),
    }
}

impl<'s, 'a> Telemetries<'s, 'a> {
    pub(super) fn read(store: &'a ResourceStore, node: &'s Node, own: &Own) -> Self {
        let inputs = store.telemetries();
        let mut all: Vec<_> = inputs
            .map(|(policy, entry)| PolicyInput { policy, entry })
            .collect();
        all.sort_by_key(|it| {
            let meta = &it.policy.metadata;
            (meta.creation_timestamp.clone(), meta.name.clone())
        });
        let facts = node_facts(node, own);
        Self {
            store,
            node,
            facts,
            all,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PolicyInput<'a, Telemetry>> {
        self.all.iter()
    }

    /// The levels that apply to a process as a whole, wider ones first.
    pub(super) fn levels(&self, seat: Seat<'_, '_>) -> Vec<&'a Telemetry> {
        let labels = &seat.own.labels;
        match seat.gateway {
            None => {
                let namespace = &*self.node.namespace;
                let mut levels = self.wide(namespace);
                levels.extend(self.near(&Target::Workload { namespace, labels }, namespace));
                levels
            }
            Some(gateway) => {
                let named = self.named(gateway);
                let mut levels = self.wide(&gateway.namespace);
                let target = Target::Gateway {
                    gateway: named,
                    labels,
                };
                levels.extend(self.near(&target, &gateway.namespace));
                levels
            }
        }
    }

    /// What the levels come to by `make`, for everything that comes in and for the services for which it is something else.
    pub(super) fn by_service<T: PartialEq>(
        &self,
        seat: Seat<'_, '_>,
        make: impl Fn(&[&'a Telemetry]) -> Arc<T>,
    ) -> ByService<T> {
        let everywhere = make(&self.levels(seat));
        let mut services = HashMap::new();
        // Where nothing is written, nothing is written for a service.
        if let Some(gateway) = seat.gateway.filter(|_| !self.all.is_empty()) {
            let wide = self.wide(&gateway.namespace);
            let named = self.named(gateway);
            for it in seat.destinations {
                if seat.bindings.served_by(&it.entry.reference(), gateway).is_none() {
                    continue;
                }
                let found = make(&self.of_service(it, gateway, named, &wide));
                if found != everywhere {
                    services.insert(it.host.clone(), found);
                }
            }
        }
        ByService { everywhere, services }
    }

    /// The levels that apply to a service behind a waypoint.
    fn of_service(
        &self,
        it: &Destination,
        gateway: &ResourceRef,
        named: GatewayTarget<'_>,
        wide: &[&'a Telemetry],
    ) -> Vec<&'a Telemetry> {
        let registry = match it.kind {
            Kind::ServiceEntry => Registry::External,
            _ => Registry::Kubernetes,
        };
        let target = Target::Service {
            service: &it.name,
            registry,
            waypoint: Some(named),
        };
        let mut levels = wide.to_vec();
        if it.name.namespace != gateway.namespace {
            levels.extend(self.of_namespace(&it.name.namespace));
        }
        levels.extend(self.near(&target, &it.name.namespace));
        levels
    }

    fn named<'g>(&'g self, gateway: &'g ResourceRef) -> GatewayTarget<'g> {
        let class = self.store.gateway(&gateway.namespace, &gateway.name);
        GatewayTarget {
            namespace: &gateway.namespace,
            name: &gateway.name,
            class: class.map_or("", |(it, _)| it.spec.gateway_class_name.as_str()),
        }
    }

    /// The Telemetries of mesh and namespace, wider ones first.
    fn wide(&self, namespace: &str) -> Vec<&'a Telemetry> {
        let root = &*self.node.root_namespace;
        let mut levels: Vec<_> = self.of_namespace(root).into_iter().collect();
        if namespace != root {
            levels.extend(self.of_namespace(namespace));
        }
        levels
    }

    /// The Telemetry for the whole of a namespace.
    fn of_namespace(&self, namespace: &str) -> Option<&'a Telemetry> {
        let of = |it: &&PolicyInput<'a, Telemetry>| *it.policy.metadata.namespace == *namespace;
        let mut wide = self.all.iter().filter(|it| is_wide(it.policy));
        wide.find(of).map(|it| it.policy)
    }

    /// The Telemetry that names a target, in one namespace.
    fn near(&self, target: &Target<'_>, namespace: &str) -> Option<&'a Telemetry> {
        let settings = MeshSettings::from(self.node);
        let named = self.all.iter().copied();
        let named = named.filter(|it| !is_wide(it.policy) && *it.policy.metadata.namespace == *namespace);
        attached(named, target, &settings).first().map(|it| it.policy)
    }

    /// What is wrong with Telemetries, whatever they say.
    pub(super) fn report(&self, problems: &mut Vec<Problem>) {
        let mut wide: HashMap<&str, &str> = HashMap::new();
        for it in &self.all {
            let (meta, spec) = (&it.policy.metadata, &it.policy.spec);
            let targeted = spec.target_ref.is_some() || !spec.target_refs.is_empty();
            if spec.selector.is_some() && targeted {
                let text = "it has both a selector and targets: the selector does not count";
                let problem = it
                    .entry
                    .problem(Severity::Warning, "spec.selector", text, "keep one of them");
                problems.push(problem);
            }
            if !is_wide(it.policy) {
                continue;
            }
            let oldest = *wide.entry(&meta.namespace).or_insert(&meta.name);
            if oldest != &*meta.name {
                let text = format!(
                    "Telemetry {oldest} is older and for the whole namespace too: only that one counts"
                );
                let remedy = "join the two, or give this one a selector or targets";
                problems.push(it.entry.problem(Severity::Ignored, "spec", text, remedy));
            }
        }
    }
}

/// Whether it is for the whole of its namespace, or of the mesh.
fn is_wide(it: &Telemetry) -> bool {
    let spec = &it.spec;
    spec.selector.is_none() && spec.target_ref.is_none() && spec.target_refs.is_empty()
}
