//! From resources to the snapshot that requests are judged by.
//!
//! ```text
//! ResourceStore ─▶ Members, Destinations, Waypoints ─▶ Bindings ─┬▶ Outbound ─▶ clusters, routes, hosts, pods
//!      Node ─────▶                                               ├▶ Inbound ──▶ engines, guards
//!      Handover ─▶ (what is young, what lingers)                 └▶ problems, conditions, names to look up
//! ```
//!
//! The only room that knows both Kubernetes and engines. [`compile`] is pure: same inputs, same result; it reads no
//! clock, no network and no file. What must be known of time comes in as a [`Handover`]. A [`Compiler`] gives the same
//! result sooner: it keeps the parts that it made, each with what it was made of (`memo`).

mod access_log;
mod annotations;
pub mod authn;
pub mod authz;
mod backend_policy;
mod backend_tls;
mod backends;
mod binding;
mod carry;
mod compiler;
mod explained;
mod files;
mod findings;
mod gateway;
mod guard;
mod handover;
mod inbound;
mod labels;
mod memo;
mod mesh_config;
mod metrics;
mod namespace;
mod numbers;
mod outbound;
mod protocol;
mod rate_limit;
mod registry;
mod rivals;
pub mod route;
mod routing;
mod service;
mod service_entry;
mod sessions;
pub mod status;
mod target;
mod telemetry;
#[cfg(test)]
mod tests;
mod trace_provider;
mod trace_tag;
mod tracing;
pub mod traffic;
mod virtual_service;
mod waypoint;
mod workload;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use compiler::Compiler;
pub use files::{Content, Contents};
pub use handover::{Binding, BindingKey, Handover};
pub use service_entry::Resolved;
pub use status::{Condition, ResourceStatus, Statuses};

use crate::config::{Problem, ResourceStore};
use crate::name::{Host, Kind, ResourceRef};
use crate::snapshot::{InboundPolicy, Node, Role, Snapshot};
use authz::PeerInput;
use compiler::Known;
use service::Destination;

/// What compiling gave.
#[derive(Debug)]
pub struct Compiled {
    /// What requests are judged by.
    pub snapshot: Snapshot,
    /// What is wrong with the resources, each thing once, in a stable order.
    pub problems: Vec<Problem>,
    /// What the status of each resource should say.
    pub statuses: Statuses,
    /// What is bound to which waypoint now; the next [`Handover`] is made of it.
    pub bindings: Vec<Binding>,
    /// Gateways that have or had an instance; for [`Handover::ready`].
    pub ready: BTreeSet<ResourceRef>,
    /// Host names that must be looked up in DNS; for [`Handover::resolved`].
    pub names: BTreeSet<Host>,
    /// Files that must be read; for [`Handover::files`].
    pub files: BTreeSet<Box<str>>,
}

/// Compiles what is applied into what one process needs of it.
///
/// Endpoints that were in the previous snapshot keep their live state. The generation is one more than the previous
/// snapshot's. Nothing here fails: what cannot be carried out is refused where it stands and reported.
pub fn compile(
    store: &ResourceStore,
    node: &Node,
    handover: &Handover,
    previous: Option<&Snapshot>,
) -> Compiled {
    Compiler::default().compile(store, node, handover, previous)
}

/// One run; what is known is used where it still holds, and left as this run has it.
fn run(
    store: &ResourceStore,
    node: &Node,
    handover: &Handover,
    previous: Option<&Snapshot>,
    known: &mut Known,
) -> Compiled {
    let (mut problems, mut statuses, mut names) = (Vec::new(), Statuses::default(), BTreeSet::new());
    let mesh = mesh_config::Mesh::read(store, node, previous, &mut problems);
    let node = &mesh.node;
    known.stand_on(node);
    let namespaces = namespace::Namespaces::read(store);
    let members = workload::Members::read(store, node, &mut known.members, &mut problems);
    let mut destinations = destinations(store, node, &members, handover, known, &mut names, &mut problems);
    let gateway = match &node.role {
        Role::Workload => None,
        Role::Gateway { namespace, name } => {
            Some(ResourceRef::new(Kind::Gateway, namespace.clone(), name.clone()))
        }
    };
    let grants = backends::Grants::read(store);
    let files = files::Files::new(&handover.files);
    let material = gateway::Material {
        store,
        grants: &grants,
    };
    let gateways = gateway::Gateways::read(&material, &namespaces);
    let served = gateway
        .as_ref()
        .and_then(|it| gateways.get(&it.namespace, &it.name));
    let backend_tls = backend_tls::BackendTls::read(&material, &served.and_then(|it| it.client.clone()));
    backend_tls.apply(&mut destinations);
    let waypoints = waypoint::Waypoints::read(
        store,
        node,
        &members,
        handover,
        &mut known.waypoints,
        &mut problems,
    );
    let mut report = binding::Report {
        problems: &mut problems,
        statuses: &mut statuses,
    };
    let bindings = binding::Bindings::read(
        &destinations,
        &members,
        &waypoints,
        &namespaces,
        handover,
        &mut report,
    );

    let home = gateway.as_ref().map_or(&*node.namespace, |it| &*it.namespace);
    let visible: Vec<Arc<Destination>> = destinations
        .iter()
        .filter(|it| it.is_visible_in(home))
        .cloned()
        .collect();
    let own = inbound::Own::find(node, &members);
    let standpoint = known.standpoint(own.standpoint());
    let routes = routing::Routes::read(store);
    let connections = routing::Routes::of_connections(store);
    let virtual_services = virtual_service::VirtualServices::read(store, &node.cluster_domain, &mut problems);
    let carry = carry::Carry::of(previous);
    let traffic = traffic::Traffic {
        rules: traffic::Rules::read(store, node, home, &own.labels, &mut problems),
        constraints: traffic::Constraints::read(store, &mut problems),
        namespaces: &namespaces,
        own: own.spot(node),
        default: Arc::default(),
        credentials: traffic::Credentials {
            store,
            files: &files,
            namespace: home,
            is_gateway: gateway.is_some(),
        },
    };
    traffic.rules.report(&destinations, &mut problems);
    let sessions = sessions::Sessions::read(store, &destinations, &mut problems);
    let vias = outbound::Vias {
        gateway: gateway.as_ref(),
        bindings: &bindings,
        namespaces: &namespaces,
    };
    let vias: Vec<_> = visible.iter().map(|it| vias.of(it)).collect();
    let outbound = outbound::Outbound {
        node,
        standpoint: &standpoint,
        gateway: gateway.as_ref(),
        destinations: &visible,
        vias: &vias,
        members: &members,
        bindings: &bindings,
        routes: &routes,
        connections: &connections,
        virtual_services: &virtual_services,
        labels: &own.labels,
        carry: &carry,
        traffic: &traffic,
        sessions: &sessions,
    };
    let explained = explained::Explained {
        store,
        namespaces: &namespaces,
    };
    annotations::report(store, &mut problems);
    let mut directory = backends::Directory::new(&grants);
    let mut registry = registry::Registry::default();
    let clusters = outbound.clusters(&mut known.outbound, &mut directory, &mut registry, &mut problems);
    let mut snapshot = Snapshot {
        generation: previous.map_or(0, |it| it.generation) + 1,
        pods: outbound.pods(),
        me: own.workload.clone(),
        my_identity: node.identity.clone(),
        my_ip: own.ip(),
        baggage: baggage(&own.workload),
        mesh: mesh.facts.clone(),
        paths: node.paths,
        explained_to: explained.to(node, gateway.as_ref(), &own),
        ..Snapshot::default()
    };
    outbound.services(
        &mut snapshot,
        &clusters,
        &mut known.outbound,
        &directory,
        &registry,
        &mut problems,
    );
    snapshot.clusters = clusters.all;

    snapshot.limits = rate_limit::Bearer {
        namespace: home,
        labels: &own.labels,
        known: own.is_known(node),
        gateway: gateway.as_ref(),
        root: &node.root_namespace,
        previous,
    }
    .limits(store, &mut problems);

    let policies = guard::Policies::read(store.authorization_policies());
    let tokens = guard::Policies::read(store.request_authentications());
    let peers: Vec<PeerInput<'_>> = store
        .peer_authentications()
        .map(|(policy, entry)| PeerInput { policy, entry })
        .collect();
    let validated = guard::validated(&policies, &mut known.policies);
    guard::check(&validated, &tokens, &peers, &mut problems);
    let mut guards = guard::Guards::new(&policies, &tokens, &mesh, &mut known.engines, previous);
    let inbound = inbound::Inbound {
        node,
        members: &members,
        bindings: &bindings,
        own: &own,
    };
    snapshot.inbound = match &gateway {
        None => {
            let workload = inbound.workload(&destinations, &peers, &mut guards, &mut problems);
            InboundPolicy::Workload(Arc::new(workload))
        }
        Some(gateway) => {
            let forwards = waypoints
                .get(gateway)
                .is_some_and(waypoint::Waypoint::forwards_client_cert);
            let waypoint = inbound.waypoint(gateway, forwards, &visible, &mut guards, &mut problems);
            InboundPolicy::Waypoint(Arc::new(waypoint))
        }
    };
    let istio_gateways = gateway::IstioGateways::read(store);
    istio_gateways.report(&members, &mut problems);
    if let Some(reference) = &gateway {
        let listeners = gateway::Listeners {
            routes: &routes,
            connections: &connections,
            namespaces: &namespaces,
            directory: &directory,
            sessions: &sessions,
            clusters: &snapshot.clusters,
            labels: &own.labels,
            previous,
        };
        let view = served.map(|it| listeners.of(it, reference, &mut guards, &mut problems));
        let servers = gateway::Servers {
            gateways: &istio_gateways,
            listeners: &listeners,
            own: reference,
            class: served.map_or("", |it| &it.gateway.spec.gateway_class_name),
            virtual_services: &virtual_services,
            registry: &registry,
            domain: &node.cluster_domain,
            store,
            files: &files,
        };
        snapshot.gateway = servers.added(view.unwrap_or_default(), &mut guards, &mut problems);
    }
    snapshot.keys = guards.into_keys();
    let telemetries = telemetry::Telemetries::read(store, node, &own);
    telemetries.report(&mut problems);
    let seat = telemetry::Seat {
        gateway: gateway.as_ref(),
        own: &own,
        destinations: &visible,
        bindings: &bindings,
    };
    let logging = access_log::Logging::new(&telemetries, snapshot.mesh.as_deref());
    logging.report(&mut problems);
    snapshot.logs = logging.plan(seat);
    let traces = tracing::Traces {
        telemetries: &telemetries,
        facts: snapshot.mesh.as_deref(),
        node,
        own: &own,
    };
    traces.report(&mut problems);
    snapshot.traces = traces.plans(seat);
    let counting = metrics::Counting::new(&telemetries, snapshot.mesh.as_deref());
    counting.report(&mut problems);
    snapshot.metrics = counting.plans(seat);

    let addresses = |it: &gateway::Looked<'_>| {
        let reference = it.entry.reference();
        let instances = waypoints.get(&reference).map(|it| it.instances.iter());
        let mut addresses: Vec<_> = instances.into_iter().flatten().map(|it| it.addr.ip()).collect();
        addresses.extend(own.ip().filter(|_| gateway.as_ref() == Some(&reference)));
        addresses.sort();
        addresses.dedup();
        addresses
    };
    gateway::report(&gateways, store, addresses, &mut problems, &mut statuses);
    let controllers = gateway::Controllers::read(store);
    let waypoint =
        |kind: Kind, namespace: &str, name: &str| bindings.declared(&ResourceRef::new(kind, namespace, name));
    let mut uses = backend_tls::Uses::default();
    for routes in [&routes, &connections] {
        let sight = routing::Sight {
            routes,
            store,
            namespaces: &namespaces,
            directory: &directory,
            gateways: &gateways,
            controllers: &controllers,
            waypoint: &waypoint,
        };
        routes.report(&sight, &mut known.routes, &mut problems, &mut statuses, &mut uses);
    }
    backend_tls.report(
        store,
        &gateways,
        &controllers,
        &uses,
        &mut problems,
        &mut statuses,
    );
    backend_policy::report(store, &controllers, &mut problems, &mut statuses);
    let declared = virtual_service::Declared::of(match virtual_services.is_empty() {
        true => &[],
        false => &destinations,
    });
    virtual_services.report(
        &virtual_service::Sight {
            declared: &declared,
            waypoint: &|it| {
                let object = it.entry.reference();
                let bound = waypoint(object.kind, &object.namespace, &object.name)?;
                Some(&*bound.reference.namespace)
            },
            gateway: &|name| istio_gateways.spoken(name),
        },
        &mut problems,
    );
    target::Targets {
        store,
        bindings: &bindings,
        node,
    }
    .report(&policies, &validated, &mut problems, &mut statuses);

    problems.sort();
    problems.dedup();
    statuses.observe();
    known.sweep();
    let (bindings, ready) = (bindings.all(), waypoints.ready());
    Compiled {
        snapshot,
        problems,
        statuses,
        bindings,
        ready,
        names,
        files: files.into_asked(),
    }
}

/// What a process says of itself on every tunnel, as ztunnel does.
fn baggage(me: &crate::policy::balance::Workload) -> Option<http::HeaderValue> {
    let members = [
        ("k8s.cluster.name", &me.cluster),
        ("k8s.namespace.name", &me.namespace),
        ("k8s.pod.name", &me.name),
        ("service.name", &me.canonical_service),
        ("service.version", &me.canonical_revision),
    ];
    let text: Vec<String> = members
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    (!text.is_empty())
        .then(|| text.join(","))
        .and_then(|text| http::HeaderValue::try_from(text).ok())
}

/// Every Service and every host of every ServiceEntry. Where two claim one name, Services come first, then what is in
/// our own namespace.
fn destinations(
    store: &ResourceStore,
    node: &Node,
    members: &workload::Members<'_>,
    handover: &Handover,
    known: &mut Known,
    names: &mut BTreeSet<Host>,
    problems: &mut Vec<Problem>,
) -> Vec<Arc<Destination>> {
    let mut all = service::read_all(store, node, members, &mut known.services, problems);
    let around = service_entry::Surroundings {
        node,
        members,
        resolved: &handover.resolved,
    };
    let mut entries = service_entry::read_all(store, around, &mut known.service_entries, names, problems);
    entries.sort_by_key(|it| it.name.namespace != node.namespace);
    all.extend(entries);
    all
}
