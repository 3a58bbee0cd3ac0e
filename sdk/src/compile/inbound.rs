//! What this process enforces on what it receives: as a workload, or as a waypoint.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::authz::{GatewayTarget, MeshSettings, PeerInput, Registry, Target, strict_ports};
use super::binding::Bindings;
use super::guard::Guards;
use super::outbound::Standpoint;
use super::service::{Destination, Port};
use super::traffic::Spot;
use super::workload::{Member, Members, describe, selects};
use crate::config::core::IntOrString;
use crate::config::{Labels, Place, Problem, Severity};
use crate::name::{Kind, ResourceRef};
use crate::policy::authz::{AuthzEngine, Layer};
use crate::policy::balance::Workload;
use crate::snapshot::{Gate, Node, ServiceGuard, ServiceId, StrictPorts, WaypointInbound, WorkloadInbound};

/// This process's own workload: its Pod where that is known, else what the environment says.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) member: Option<Arc<Member>>,
    pub(crate) labels: Labels,
    pub(crate) workload: Arc<Workload>,
    addresses: Vec<IpAddr>,
}

impl Own {
    /// Whether we know what we are: our object is applied, or our labels were given.
    pub(crate) fn is_known(&self, node: &Node) -> bool {
        self.member.is_some() || !node.labels.is_empty()
    }

    /// Where we are, as far as that is known.
    pub(crate) fn spot<'s>(&'s self, node: &'s Node) -> Spot<'s> {
        let member = self.member.as_ref();
        Spot {
            locality: member.map(|it| it.locality.clone()).unwrap_or_default(),
            node: member.and_then(|it| it.node.as_deref()),
            cluster: &node.cluster_id,
            labels: Some(&self.labels),
        }
    }

    /// Where and what we are, as far as what we call depends on it.
    pub(crate) fn standpoint(&self) -> Standpoint {
        let member = self.member.as_ref();
        Standpoint {
            labels: self.labels.clone(),
            locality: member.map(|it| it.locality.clone()).unwrap_or_default(),
            node: member.and_then(|it| it.node.clone()),
        }
    }

    /// Our address, if known.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.addresses.first().copied()
    }

    pub(crate) fn find(node: &Node, members: &Members<'_>) -> Self {
        let by_name = || members.named(Kind::Pod, &node.namespace, node.pod.as_deref()?);
        let member = by_name().or_else(|| members.at_address(node.addr?));
        let mut labels = node.labels.clone();
        let mut addresses: Vec<IpAddr> = node.addr.into_iter().collect();
        let workload = match member {
            Some(it) => {
                labels.extend(
                    it.labels()
                        .iter()
                        .map(|(key, value)| (key.clone(), value.clone())),
                );
                addresses.extend(it.addresses.iter().filter(|_| !it.host_network));
                it.workload.clone()
            }
            None => {
                let name = node.pod.as_deref().unwrap_or_default();
                Arc::new(describe(&node.namespace, name, None, &labels, node))
            }
        };
        Self {
            member: member.cloned(),
            labels,
            workload,
            addresses,
        }
    }

    /// The local ports that a service port leads to here, whether this workload is ready (or listed) yet or not.
    fn ports(&self, node: &Node, it: &Destination, port: &Port) -> BTreeSet<u16> {
        let is_own = |member: &Arc<Member>| self.member.as_ref().is_some_and(|own| Arc::ptr_eq(own, member));
        let backs = |backing: &&super::service::Backing| {
            backing.member.as_ref().is_some_and(is_own) || self.addresses.contains(&backing.ip)
        };
        let mut found: BTreeSet<u16> = port.backings.iter().filter(backs).map(|it| it.port).collect();
        if it.name.namespace == node.namespace && selects(it.selector(), &self.labels) {
            found.extend(match &port.target {
                None | Some(IntOrString::Int(0)) => Some(port.number),
                Some(IntOrString::Int(number)) => Some(*number),
                Some(IntOrString::String(name)) => self.member.as_ref().and_then(|it| it.port_named(name)),
            });
        }
        found
    }
}

/// What the inbound half is made of.
pub(crate) struct Inbound<'s, 'a> {
    pub(crate) node: &'s Node,
    pub(crate) members: &'s Members<'a>,
    pub(crate) bindings: &'s Bindings<'s, 'a>,
    pub(crate) own: &'s Own,
}

impl Inbound<'_, '_> {
    /// What a workload enforces.
    pub(crate) fn workload(
        &self,
        destinations: &[Arc<Destination>],
        peers: &[PeerInput<'_>],
        guards: &mut Guards<'_, '_>,
        problems: &mut Vec<Problem>,
    ) -> WorkloadInbound {
        let target = Target::Workload {
            namespace: &self.node.namespace,
            labels: &self.own.labels,
        };
        let settings = MeshSettings::from(self.node);
        let (strict, found) = strict_ports(
            peers.iter().copied(),
            &self.node.namespace,
            &self.own.labels,
            &settings,
        );
        problems.extend(found);
        if !self.own.is_known(self.node) {
            return self.stranger(strict, problems);
        }
        let mut ports: HashMap<u16, Vec<ServiceGuard>> = HashMap::new();
        for it in destinations {
            for port in &it.ports {
                let local = self.own.ports(self.node, it, port);
                if local.is_empty() {
                    self.unknown_port(it, port, problems);
                }
                for number in local {
                    let guard = self.guard(it, port, guards, problems);
                    ports.entry(number).or_default().push(guard);
                }
            }
        }
        let own = self.own.member.as_ref().map(|it| it.entry.reference());
        let waypoints = own.map(|own| self.bindings.trusted(&own)).unwrap_or_default();
        WorkloadInbound {
            http: guards.gate(&target, problems),
            l4: guards.engine(Layer::L4, &target, problems),
            ports,
            strict,
            waypoints,
        }
    }

    /// What a workload enforces that cannot find itself: without its labels nobody can say which policies are its own,
    /// and silence is never permission.
    fn stranger(&self, strict: StrictPorts, problems: &mut Vec<Problem>) -> WorkloadInbound {
        let name = match (&self.node.pod, self.node.addr) {
            (Some(pod), _) => format!("Pod {}/{pod}", self.node.namespace),
            (None, Some(addr)) => format!("a Pod with the address {addr}"),
            (None, None) => "this process".to_owned(),
        };
        let why: Arc<str> =
            format!("{name} is not in the configuration and has no labels, so its policies are unknown")
                .into();
        // One that has no name only calls, as far as anybody has said.
        if self.node.pod.is_some() || self.node.addr.is_some() {
            problems.push(Problem {
                severity: Severity::Warning,
                place: Place {
                    file: "(this process)".into(),
                    line: 0,
                    column: 0,
                },
                resource: None,
                field: String::new(),
                text: format!("{why}: everything that it receives is denied"),
                remedy: "apply its Pod object, or give its labels to the builder".to_owned(),
            });
        }
        WorkloadInbound {
            http: Arc::new(Gate::closed(Arc::clone(&why))),
            l4: Arc::new(AuthzEngine::deny_all(why)),
            ports: HashMap::new(),
            strict,
            waypoints: Vec::new(),
        }
    }

    /// A named target port of ours that nothing translates: the service's policies cannot be placed.
    fn unknown_port(&self, it: &Destination, port: &Port, problems: &mut Vec<Problem>) {
        let Some(IntOrString::String(name)) = &port.target else {
            return;
        };
        if it.name.namespace == self.node.namespace && selects(it.selector(), &self.own.labels) {
            problems.push(it.entry.problem(
                Severity::Warning,
                "spec.ports",
                format!(
                    "target port `{name}` of port {} is no port of this workload; it does not guard it",
                    port.number
                ),
                "declare the container port in the Pod or its Deployment, or give the target port by number",
            ));
        }
    }

    /// The guard of one service port, in front of a workload of the service: a call that does not come through the
    /// waypoint meets the waypoint's own policies here.
    fn guard(
        &self,
        it: &Destination,
        port: &Port,
        guards: &mut Guards<'_, '_>,
        problems: &mut Vec<Problem>,
    ) -> ServiceGuard {
        let object = it.entry.reference();
        let waypoint = self
            .bindings
            .declared(&object)
            .map(|it| (&it.reference, it.class()));
        let waypoint = waypoint.map(|(gateway, class)| GatewayTarget {
            namespace: &gateway.namespace,
            name: &gateway.name,
            class,
        });
        let mut guard = service_guard(it, port, waypoint, guards, problems);
        guard.waypoints = self.bindings.trusted(&object);
        guard
    }

    /// What a Gateway enforces on tunnels: only what is bound to it is served.
    pub(crate) fn waypoint(
        &self,
        gateway: &ResourceRef,
        forwards_client_cert: bool,
        destinations: &[Arc<Destination>],
        guards: &mut Guards<'_, '_>,
        problems: &mut Vec<Problem>,
    ) -> WaypointInbound {
        let mut services = HashMap::new();
        for (at, it) in destinations.iter().enumerate() {
            let object = it.entry.reference();
            if let Some(target) = self.bindings.served_by(&object, gateway) {
                let ports = it.ports.iter();
                let of_ports = ports
                    .map(|port| service_guard(it, port, Some(target), guards, problems))
                    .collect();
                services.insert(ServiceId(at as u32), of_ports);
            }
        }
        let mut workloads = HashMap::new();
        for member in self.members.iter().filter(|it| it.alive && !it.host_network) {
            let Some(target) = self.bindings.served_by(&member.entry.reference(), gateway) else {
                continue;
            };
            let target = Target::Gateway {
                gateway: target,
                labels: &self.own.labels,
            };
            let gate = guards.gate(&target, problems);
            for address in self.members.addresses(member) {
                workloads.insert(address, gate.clone());
            }
        }
        WaypointInbound {
            gateway: gateway.clone(),
            forwards_client_cert,
            services,
            workloads,
        }
    }
}

fn service_guard(
    it: &Destination,
    port: &Port,
    waypoint: Option<GatewayTarget<'_>>,
    guards: &mut Guards<'_, '_>,
    problems: &mut Vec<Problem>,
) -> ServiceGuard {
    let registry = match it.kind {
        Kind::ServiceEntry => Registry::External,
        _ => Registry::Kubernetes,
    };
    let target = Target::Service {
        service: &it.name,
        registry,
        waypoint,
    };
    ServiceGuard {
        service: it.name.clone(),
        host: it.host.clone(),
        port: port.number,
        http: guards.gate(&target, problems),
        tcp: guards.engine(Layer::Tcp, &target, problems),
        waypoints: Vec::new(),
    }
}
