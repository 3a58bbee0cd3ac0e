//! Gateways as waypoints: who their instances are, and who may use them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::handover::Handover;
use super::labels;
use super::namespace::Namespaces;
use super::workload::{Member, Members, describe, trust_domain};
use crate::config::gateway::{AllowedRoutes, Gateway};
use crate::config::{Entry, Labels, Problem, ResourceStore, Severity};
use crate::name::{Kind, ResourceRef, SpiffeId};
use crate::snapshot::{Node, WaypointTarget};

/// The port that waypoints and workloads accept HBONE on.
pub(crate) const HBONE_PORT: u16 = 15008;

/// A Gateway that may be somebody's waypoint.
#[derive(Debug)]
pub(crate) struct Waypoint<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) reference: ResourceRef,
    /// Instances that take calls now.
    pub(crate) instances: Arc<[WaypointTarget]>,
    /// Whom its instances prove to be, those that are not ready included.
    pub(crate) identities: Vec<SpiffeId>,
    /// Whether it had an instance once, now included.
    pub(crate) ready: bool,
    for_services: bool,
    for_workloads: bool,
}

impl Waypoint<'_> {
    pub(crate) fn class(&self) -> &str {
        &self.gateway.spec.gateway_class_name
    }

    /// Whether it names callers in `x-forwarded-client-cert`, too.
    pub(crate) fn forwards_client_cert(&self) -> bool {
        let asked = self.gateway.metadata.annotations.get(labels::XFCC);
        asked.is_some_and(|value| value == "true")
    }

    /// Whether it listens for HBONE at all.
    pub(crate) fn is_waypoint(&self) -> bool {
        hbone_listener(self.gateway).is_some()
    }

    /// The `allowedRoutes` of its HBONE listener.
    fn allowed(&self) -> Option<&AllowedRoutes> {
        hbone_listener(self.gateway).and_then(|it| it.allowed_routes.as_ref())
    }
}

fn hbone_listener(gateway: &Gateway) -> Option<&crate::config::gateway::Listener> {
    let listeners = gateway.spec.listeners.iter();
    listeners
        .into_iter()
        .find(|it| it.protocol.eq_ignore_ascii_case("HBONE") && it.port == HBONE_PORT)
}

/// What an object's labels lead to (ambient.md §4).
#[derive(Debug)]
pub(crate) enum Asked<'w, 'a> {
    /// No waypoint is asked for.
    Nothing,
    /// This one, and it may be used.
    Bound(&'w Waypoint<'a>),
    /// One that may not or cannot be used: calls go straight to the workloads.
    Refused {
        /// The condition's reason.
        reason: &'static str,
        /// The condition's message.
        message: String,
    },
}

/// Something that labels may bind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'o> {
    pub(crate) kind: Kind,
    pub(crate) namespace: &'o str,
    pub(crate) labels: &'o Labels,
    /// Not seen outside its own namespace.
    pub(crate) private: bool,
}

/// The instances of Gateways as they were last time: shared as long as they are the same.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<ResourceRef, Arc<[WaypointTarget]>>);

impl Known {
    fn shared(&self, gateway: &ResourceRef, instances: Vec<WaypointTarget>) -> Arc<[WaypointTarget]> {
        let before = self.0.get(gateway).filter(|it| ***it == *instances);
        before.cloned().unwrap_or_else(|| instances.into())
    }
}

/// All Gateways, by namespace and name.
#[derive(Debug)]
pub(crate) struct Waypoints<'a> {
    /// By namespace, then name.
    all: BTreeMap<&'a str, BTreeMap<&'a str, Waypoint<'a>>>,
}

impl<'a> Waypoints<'a> {
    pub(crate) fn read(
        store: &'a ResourceStore,
        node: &Node,
        members: &Members<'_>,
        handover: &Handover,
        known: &mut Known,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut instances: HashMap<(&str, &str), Vec<&Member>> = HashMap::new();
        for member in members.iter() {
            if let Some(gateway) = member.gateway() {
                instances
                    .entry((&member.name.namespace, gateway))
                    .or_default()
                    .push(member);
            }
        }
        let classes: HashMap<&str, &Labels> = store
            .gateway_classes()
            .map(|(it, _)| (&*it.metadata.name, &it.metadata.labels))
            .collect();
        let mut all: BTreeMap<&str, BTreeMap<&str, Waypoint<'a>>> = BTreeMap::new();
        for (gateway, entry) in store.gateways() {
            let key = (&*gateway.metadata.namespace, &*gateway.metadata.name);
            let pods = instances.get(&key).map(Vec::as_slice).unwrap_or_default();
            let class = classes.get(gateway.spec.gateway_class_name.as_str()).copied();
            let read = waypoint(gateway, entry, class, pods, node, handover, known, problems);
            all.entry(key.0).or_default().insert(key.1, read);
        }
        let all = Self { all };
        let instances = all
            .iter()
            .map(|it| (it.reference.clone(), Arc::clone(&it.instances)));
        known.0 = instances.collect();
        all
    }

    pub(crate) fn get(&self, gateway: &ResourceRef) -> Option<&Waypoint<'a>> {
        self.named(&gateway.namespace, &gateway.name)
    }

    pub(crate) fn named(&self, namespace: &str, name: &str) -> Option<&Waypoint<'a>> {
        self.all.get(namespace)?.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waypoint<'a>> {
        self.all.values().flat_map(BTreeMap::values)
    }

    /// The Gateways that have or had an instance.
    pub(crate) fn ready(&self) -> BTreeSet<ResourceRef> {
        self.iter()
            .filter(|it| it.ready)
            .map(|it| it.reference.clone())
            .collect()
    }

    /// Which waypoint an object's labels, else its namespace's, lead to.
    pub(crate) fn asked(&self, object: Object<'_>, namespaces: &Namespaces<'_>) -> Asked<'_, 'a> {
        // What is a waypoint itself never gets one.
        if [labels::GATEWAY_NAME, labels::GATEWAY_MANAGED]
            .iter()
            .any(|it| object.labels.contains_key(*it))
        {
            return Asked::Nothing;
        }
        let own = object.labels.get(labels::USE_WAYPOINT).map(String::as_str);
        let (name, namespace) = match own.filter(|it| !it.is_empty()) {
            Some(name) => (
                name,
                object
                    .labels
                    .get(labels::USE_WAYPOINT_NAMESPACE)
                    .map(String::as_str),
            ),
            None => match namespaces
                .label(object.namespace, labels::USE_WAYPOINT)
                .filter(|it| !it.is_empty())
            {
                Some(name) => (
                    name,
                    namespaces.label(object.namespace, labels::USE_WAYPOINT_NAMESPACE),
                ),
                None => return Asked::Nothing,
            },
        };
        if name == labels::NONE {
            return Asked::Nothing;
        }
        self.checked(
            object,
            namespace.unwrap_or(object.namespace),
            name,
            own.is_some(),
            namespaces,
        )
    }

    fn checked(
        &self,
        object: Object<'_>,
        namespace: &str,
        name: &str,
        own_label: bool,
        namespaces: &Namespaces<'_>,
    ) -> Asked<'_, 'a> {
        let refused = |reason, message| Asked::Refused { reason, message };
        let Some(waypoint) = self.named(namespace, name) else {
            return refused(
                "WaypointIsNotReady",
                format!("waypoint {namespace}/{name} does not exist"),
            );
        };
        let is_workload = matches!(object.kind, Kind::Pod | Kind::WorkloadEntry);
        // A workload that only inherits its namespace's label is not meant by a waypoint for services.
        if is_workload && !own_label && !waypoint.for_workloads {
            return Asked::Nothing;
        }
        if !waypoint.is_waypoint() {
            let text = format!("Gateway {namespace}/{name} has no HBONE listener on port {HBONE_PORT}");
            return refused("WaypointIsNotReady", text);
        }
        if !waypoint.ready {
            return refused(
                "WaypointIsNotReady",
                format!("waypoint {namespace}/{name} has no ready instance"),
            );
        }
        if object.private && namespace != object.namespace {
            let text = format!("the entry is not exported to waypoint {namespace}/{name}");
            return refused("CrossNamespaceWaypointForbidden", text);
        }
        if !namespaces.admits(waypoint.allowed(), namespace, object.namespace) {
            let text = format!(
                "waypoint {namespace}/{name} does not allow namespace {}",
                object.namespace
            );
            return refused("AttachmentDenied", text);
        }
        if if is_workload {
            waypoint.for_workloads
        } else {
            waypoint.for_services
        } {
            return Asked::Bound(waypoint);
        }
        let what = if is_workload { "workloads" } else { "services" };
        refused(
            "UnsupportedTrafficType",
            format!("waypoint {namespace}/{name} is not for {what}"),
        )
    }
}

#[allow(clippy::too_many_arguments)] // one call, each argument another table
fn waypoint<'a>(
    gateway: &'a Gateway,
    entry: &'a Arc<Entry>,
    class: Option<&Labels>,
    pods: &[&Member],
    node: &Node,
    handover: &Handover,
    known: &Known,
    problems: &mut Vec<Problem>,
) -> Waypoint<'a> {
    let meta = &gateway.metadata;
    let traffic = meta
        .labels
        .get(labels::WAYPOINT_FOR)
        .or_else(|| class?.get(labels::WAYPOINT_FOR));
    let traffic = traffic.map_or("service", String::as_str);
    if !["service", "workload", "all", "none"].contains(&traffic) {
        problems.push(entry.problem(
            Severity::Error,
            format!("metadata.labels.{}", labels::WAYPOINT_FOR),
            format!("`{traffic}` is no kind of traffic; the waypoint serves nobody"),
            "use service, workload, all or none",
        ));
    }
    let account = meta
        .annotations
        .get(labels::GATEWAY_ACCOUNT)
        .map_or(&*meta.name, String::as_str);
    let expected = SpiffeId::new(&trust_domain(node), &meta.namespace, account).ok();
    let alive = || pods.iter().filter(|it| it.alive);
    let mut identities: BTreeSet<SpiffeId> = alive().filter_map(|it| it.identity.clone()).collect();
    let mut instances: Vec<WaypointTarget> = alive()
        .filter(|it| it.ready)
        .filter_map(|it| {
            Some(WaypointTarget {
                addr: SocketAddr::new(*it.addresses.first()?, HBONE_PORT),
                identity: it.identity.clone()?,
                workload: it.workload.clone(),
            })
        })
        .collect();
    if pods.is_empty() {
        identities.extend(expected.clone());
        instances = reported(gateway, expected.as_ref(), node);
    }
    let reference = entry.reference();
    let reported = !gateway.status.addresses.is_empty();
    Waypoint {
        gateway,
        ready: !instances.is_empty() || reported || handover.ready.contains(&reference),
        instances: known.shared(&reference, instances),
        reference,
        identities: identities.into_iter().collect(),
        for_services: matches!(traffic, "service" | "all"),
        for_workloads: matches!(traffic, "workload" | "all"),
    }
}

/// Instances by `status.addresses`, for a waypoint whose pods we are not told of.
fn reported(gateway: &Gateway, identity: Option<&SpiffeId>, node: &Node) -> Vec<WaypointTarget> {
    let Some(identity) = identity else {
        return Vec::new();
    };
    let meta = &gateway.metadata;
    let addresses = gateway.status.addresses.iter();
    let ips = addresses.filter_map(|it| it.value.parse::<IpAddr>().ok());
    ips.map(|ip| WaypointTarget {
        addr: SocketAddr::new(ip, HBONE_PORT),
        identity: identity.clone(),
        workload: Arc::new(describe(&meta.namespace, &meta.name, None, &meta.labels, node)),
    })
    .collect()
}
