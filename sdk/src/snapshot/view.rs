//! Everything a request may need to know, frozen.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use super::{Asks, ByService, Gate, GatewayView, KeyCell, MeshFacts, MetricPlans};
use crate::matcher::{HostMap, TextSet};
use crate::name::{Host, ResourceRef, ServiceName, SpiffeId};
use crate::policy::authz::AuthzEngine;
use crate::policy::balance::{Endpoint, EndpointSet, Workload};
use crate::policy::connection::ConnectionTable;
use crate::policy::normalize::PathNormalization;
use crate::policy::route::{ClusterId, RouteTable, Session};
use crate::telemetry::Propagation;
use crate::telemetry::access::AccessLogs;
use crate::telemetry::recording::{TracePlan, TracePlans};

/// Who this process is; the input of compile beside the resources.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Own namespace: short host names are completed with it.
    pub namespace: Arc<str>,
    /// Own pod, if known: found in the resources by name, else by address.
    pub pod: Option<Arc<str>>,
    /// Own address, if known.
    pub addr: Option<IpAddr>,
    /// Own labels, where the Pod object does not say (yet).
    pub labels: std::collections::BTreeMap<String, String>,
    /// Own identity.
    pub identity: Option<SpiffeId>,
    /// What this process is.
    pub role: Role,
    /// Istio's root namespace: `istio-system` unless configured.
    pub root_namespace: Arc<str>,
    /// The mesh's trust domain and its aliases, the trust domain first.
    pub trust_domains: Vec<Arc<str>>,
    /// DNS suffix of services: `cluster.local` unless configured.
    pub cluster_domain: Arc<str>,
    /// The cluster's id: `Kubernetes` unless configured.
    pub cluster_id: Arc<str>,
    /// Which headers carry the contexts of traces where no provider says so.
    pub propagation: Propagation,
    /// How far paths are normalized where the mesh configuration does not say.
    pub paths: PathNormalization,
}

/// What a process is in the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// An application: judged as a workload.
    Workload,
    /// A stand-alone waypoint or ingress: the Gateway of this namespace and name.
    Gateway {
        /// The Gateway's namespace.
        namespace: Arc<str>,
        /// The Gateway's name.
        name: Arc<str>,
    },
}

/// Index of a [`ServiceView`] in the pinned snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u32);

/// Everything a request may need to know, frozen: built by `compile`, never changed after.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts configurations, from 1; 0 is the empty snapshot before the first.
    pub generation: u64,
    /// Services by host as a caller writes it (`reviews`, `reviews.default`, FQDN): exact names.
    pub hosts: HashMap<Host, ServiceId>,
    /// Services by wildcard host (`*.example.com` of a ServiceEntry).
    pub wildcard_hosts: HostMap<ServiceId>,
    /// Services by virtual address.
    pub vips: HashMap<IpAddr, ServiceId>,
    /// All services.
    pub services: Vec<Arc<ServiceView>>,
    /// All clusters; route backends and service ports point into it.
    pub clusters: Vec<Arc<Cluster>>,
    /// What this process enforces on what it receives.
    pub inbound: InboundPolicy,
    /// What that asks for beside a decision ([`Snapshot::asks`]).
    pub asks: OnceLock<Asks>,
    /// How many requests it lets in.
    pub limits: super::RateLimits,
    /// What the Gateway that this process serves listens on, tunnels apart.
    pub gateway: GatewayView,
    /// Workloads addressed by pod IP: how to reach them, by address. Port is appended to the CONNECT authority.
    pub pods: HashMap<IpAddr, Arc<PodView>>,
    /// What the mesh-wide configuration says, if there is one.
    pub mesh: Option<Arc<MeshFacts>>,
    /// Where the keys come from that verify tokens.
    pub keys: Vec<Arc<KeyCell>>,
    /// The labels of this process's own workload.
    pub me: Arc<Workload>,
    /// This process's own identity, if known.
    pub my_identity: Option<SpiffeId>,
    /// This process's own address, if known.
    pub my_ip: Option<IpAddr>,
    /// What this process says of itself in `baggage`, as ztunnel does.
    pub baggage: Option<http::HeaderValue>,
    /// How far the paths of requests are normalized before anybody judges them.
    pub paths: PathNormalization,
    /// What is written of requests.
    pub logs: ByService<AccessLogs>,
    /// How requests are traced.
    pub traces: TracePlans<ByService<TracePlan>>,
    /// Which metrics are told.
    pub metrics: MetricPlans,
    /// The principals that are told why something was decided.
    pub explained_to: TextSet,
}

/// How a pod-addressed call reaches its workload.
#[derive(Debug)]
pub struct PodView {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its identity.
    pub identity: Option<SpiffeId>,
    /// Whether it accepts HBONE on 15008.
    pub hbone: bool,
    /// Its workload waypoint, if pod-addressed traffic must pass one: `addr:15008` and identity of each instance.
    pub waypoint: Option<Arc<[WaypointTarget]>>,
}

/// One instance of a waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaypointTarget {
    /// `podIP:15008`.
    pub addr: SocketAddr,
    /// Whom it must prove to be.
    pub identity: SpiffeId,
    /// The workload, for labels.
    pub workload: Arc<Workload>,
}

/// One destination service as seen from here.
#[derive(Debug)]
pub struct ServiceView {
    /// Namespace and name.
    pub name: ServiceName,
    /// The fully qualified host name.
    pub host: Host,
    /// Ports, sorted.
    pub ports: Vec<ServicePortView>,
}

impl ServiceView {
    /// The port with the given number.
    pub fn port(&self, number: u16) -> Option<&ServicePortView> {
        self.ports.iter().find(|port| port.number == number)
    }
}

/// One port of a service.
#[derive(Debug)]
pub struct ServicePortView {
    /// The number callers use.
    pub number: u16,
    /// What is spoken there.
    pub protocol: AppProtocol,
    /// The routes that apply *here*: empty where a waypoint will route. No match in a non-empty table is a 404;
    /// an empty table forwards to `cluster`.
    pub routes: Arc<RouteTable>,
    /// The routes of connections that are not HTTP, where they apply; likewise empty if there is none.
    pub connections: Arc<ConnectionTable>,
    /// Where a request or connection without a route goes.
    pub cluster: ClusterId,
    /// How the requests of a session are kept together where no route says what becomes of them.
    pub session: Option<Arc<Session>>,
}

/// What an application speaks on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    /// HTTP/1.1 (`http`, also `kubernetes.io/ws`).
    #[default]
    Http1,
    /// HTTP/2 without TLS (`http2`, `kubernetes.io/h2c`, `grpc`, `grpc-web`).
    Http2,
    /// Not HTTP: bytes.
    Tcp,
    /// Not declared; treated as HTTP if the bytes look like it.
    Unknown,
}

/// One (service, port), or a subset of it, as a place to send requests to, from here.
#[derive(Debug)]
pub struct Cluster {
    /// The service.
    pub service: ServiceName,
    /// The service's host name, for `forwarded` and metrics.
    pub host: Host,
    /// The service port.
    pub port: u16,
    /// The subset that a DestinationRule declares; `None` is all of it.
    pub subset: Option<Arc<str>>,
    /// What is spoken there.
    pub protocol: AppProtocol,
    /// How requests get there.
    pub via: Via,
    /// Who can be asked: workloads, or instances of the waypoint.
    pub endpoints: EndpointSet,
}

/// `host:port`, and the subset if it is one.
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        match &self.subset {
            Some(subset) => write!(f, " subset {subset}"),
            None => Ok(()),
        }
    }
}

/// How a request reaches a cluster's endpoints; decided at compile time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// Straight to the workloads (HBONE or plain, as each endpoint says).
    Direct,
    /// Through the service's waypoint (the Gateway of this namespace and name), which routes and retries.
    Waypoint {
        /// The waypoint's namespace.
        namespace: Arc<str>,
        /// The waypoint's name.
        name: Arc<str>,
    },
}

/// What this process enforces on what it receives.
#[derive(Debug, Default)]
pub enum InboundPolicy {
    /// No configuration yet: everything is denied.
    #[default]
    DenyAll,
    /// As a workload.
    Workload(Arc<WorkloadInbound>),
    /// As a waypoint or gateway.
    Waypoint(Arc<WaypointInbound>),
}

/// What a workload enforces. A request passes if `http` allows it and so does every service's guard of its port;
/// a TCP connection likewise with `l4` and the guards' `tcp`.
#[derive(Debug)]
pub struct WorkloadInbound {
    /// Policies of workload, namespace and mesh (no `targetRefs`), on HTTP requests.
    pub http: Arc<Gate>,
    /// The same policies on connections, as ztunnel would enforce them.
    pub l4: Arc<AuthzEngine>,
    /// Every service port behind which a local port stands: a tunnel to `podIP:port` does not prove which service
    /// was meant, so all of them apply.
    pub ports: HashMap<u16, Vec<ServiceGuard>>,
    /// Where plaintext is refused (`PeerAuthentication`).
    pub strict: StrictPorts,
    /// Identities of the waypoints that configuration binds to this workload's own address.
    pub waypoints: Vec<SpiffeId>,
}

/// What the policies that target one service port demand.
#[derive(Debug)]
pub struct ServiceGuard {
    /// The service.
    pub service: ServiceName,
    /// Its fully qualified host.
    pub host: Host,
    /// The service port: policies that target services judge this port, wherever they are enforced.
    pub port: u16,
    /// On HTTP requests.
    pub http: Arc<Gate>,
    /// On TCP connections.
    pub tcp: Arc<AuthzEngine>,
    /// Identities of the waypoints that configuration binds to the service (empty in a waypoint). What comes from
    /// them was judged there under the caller's identity; this guard is then not asked again.
    pub waypoints: Vec<SpiffeId>,
}

/// On which workload ports mutual TLS is required.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrictPorts {
    /// For ports not listed.
    pub default: bool,
    /// By workload port.
    pub ports: HashMap<u16, bool>,
}

impl StrictPorts {
    /// Whether plaintext is refused on this port.
    pub fn is_strict(&self, port: u16) -> bool {
        self.ports.get(&port).copied().unwrap_or(self.default)
    }
}

/// What a waypoint or gateway enforces. Whatever is not listed is not served: its CONNECT is refused.
#[derive(Debug)]
pub struct WaypointInbound {
    /// The Gateway.
    pub gateway: ResourceRef,
    /// Guards of the services it serves, one per port.
    pub services: HashMap<ServiceId, Vec<ServiceGuard>>,
    /// Whether callers are also named in `x-forwarded-client-cert` (annotation
    /// `ambient.istio.io/xfcc-include-client-identity` of the Gateway).
    pub forwards_client_cert: bool,
    /// Guards of the workloads it serves (pod-addressed calls), by address.
    pub workloads: HashMap<IpAddr, Arc<Gate>>,
}

impl Snapshot {
    /// Which headers tell whom a request is passed on to of its trace.
    pub(crate) fn propagation(&self, place: Option<&super::Place>) -> &Propagation {
        match place {
            Some(place) => &self.traces.received.at(place).propagation,
            None => &self.traces.sent.propagation,
        }
    }

    /// The service that a caller's host names.
    pub fn service_by_host(&self, host: &Host) -> Option<ServiceId> {
        self.service_by_text(host.as_str(), || host.ip())
    }

    /// As [`Snapshot::service_by_host`], by the host's text, and the address that it may be.
    pub(super) fn service_by_text(
        &self,
        host: &str,
        ip: impl FnOnce() -> Option<IpAddr>,
    ) -> Option<ServiceId> {
        if let Some(id) = self.hosts.get(host) {
            return Some(*id);
        }
        match ip() {
            Some(ip) => self.vips.get(&ip).copied(),
            None => self.wildcard_hosts.best(host).copied(),
        }
    }

    /// A service by index.
    pub fn service(&self, id: ServiceId) -> Option<&Arc<ServiceView>> {
        self.services.get(id.0 as usize)
    }

    /// A cluster by index.
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.get(id.0 as usize)
    }

    /// This process's own address for `forwarded`, `0.0.0.0` if unknown.
    pub fn my_addr(&self) -> IpAddr {
        self.my_ip.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    }

    /// Whether a peer is told why something was decided.
    pub fn explains_to(&self, peer: Option<&SpiffeId>) -> bool {
        peer.is_some_and(|peer| self.explained_to.matches(peer.principal()))
    }

    /// Every endpoint of every cluster.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.clusters
            .iter()
            .flat_map(|cluster| cluster.endpoints.endpoints())
    }
}
