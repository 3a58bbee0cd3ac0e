//! Services and ServiceEntries, read into one shape: a destination with ports, and what stands behind each.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::workload::Members;
use super::{labels, protocol};
use crate::config::core::{EndpointSlice, IntOrString, Service, ServicePort};
use crate::config::{Entry, Labels, Problem, ResourceStore, Severity};
use crate::name::{Host, Kind, ServiceName, SpiffeId};
use crate::policy::balance::{Locality, Workload};
use crate::policy::tls::Origination;
use crate::snapshot::{AppProtocol, Node};

/// A Service, or one host of a ServiceEntry.
#[derive(Debug)]
pub(crate) struct Destination<'a> {
    /// `Service` or `ServiceEntry`.
    pub(crate) kind: Kind,
    pub(crate) entry: &'a Arc<Entry>,
    pub(crate) name: ServiceName,
    pub(crate) host: Host,
    /// `.example.com` where the host is `*.example.com`.
    pub(crate) wildcard: Option<Arc<str>>,
    pub(crate) labels: &'a Labels,
    /// Whose labels select its workloads; empty where endpoints are listed.
    pub(crate) selector: &'a Labels,
    pub(crate) vips: Vec<IpAddr>,
    pub(crate) ports: Vec<Port>,
    /// Namespaces that see it; `None` is all.
    pub(crate) visible_in: Option<BTreeSet<Arc<str>>>,
}

/// One port of a destination.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) name: Option<String>,
    pub(crate) protocol: AppProtocol,
    /// Which port of a workload it leads to; the same number if absent.
    pub(crate) target: Option<IntOrString>,
    /// Whether it is declared as HTTP over TLS: bytes, unless a policy says how TLS is begun.
    pub(crate) https: bool,
    /// Whether it is declared as TLS of any kind.
    pub(crate) secure: bool,
    /// What a policy demands to be spoken below HTTP.
    pub(crate) tls: Origination,
    /// Who stands behind it, ready or not.
    pub(crate) backings: Vec<Backing>,
}

/// One address behind a port.
#[derive(Clone, Debug)]
pub(crate) struct Backing {
    /// The Pod or WorkloadEntry, where it is known.
    pub(crate) member: Option<usize>,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) ready: bool,
    pub(crate) weight: u32,
    pub(crate) hbone: bool,
    pub(crate) identities: Arc<[SpiffeId]>,
    pub(crate) workload: Arc<Workload>,
    /// Where it is.
    pub(crate) locality: Locality,
    /// The node it is on.
    pub(crate) node: Option<Arc<str>>,
    /// The labels that are written where it is listed, where no object of its own has any.
    pub(crate) written: Option<Arc<Labels>>,
}

impl Backing {
    /// Its labels, as far as somebody wrote any: what subsets are told apart by.
    pub(crate) fn labels<'l>(&'l self, members: &'l Members<'_>) -> Option<&'l Labels> {
        let of_member = || self.member.map(|at| &*members.get(at).labels);
        self.written.as_deref().or_else(of_member)
    }
}

impl Destination<'_> {
    /// Whether the namespace may see it.
    pub(crate) fn is_visible_in(&self, namespace: &str) -> bool {
        self.visible_in
            .as_ref()
            .is_none_or(|list| list.contains(namespace))
    }
}

/// EndpointSlices by namespace and service.
pub(crate) type Slices<'a> = HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>;

/// Reads the slices, filed under the Service that their label names.
pub(crate) fn slices(store: &ResourceStore) -> Slices<'_> {
    let mut index: Slices<'_> = HashMap::new();
    for (slice, _) in store.endpoint_slices() {
        if let Some(service) = slice.metadata.labels.get(labels::SERVICE_NAME) {
            index
                .entry((&slice.metadata.namespace, service))
                .or_default()
                .push(slice);
        }
    }
    for list in index.values_mut() {
        list.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    }
    index
}

/// Reads one Service. `None` if it names nothing that can be called; problems say why.
pub(crate) fn read<'a>(
    service: &'a Service,
    entry: &'a Arc<Entry>,
    node: &Node,
    members: &Members<'_>,
    slices: &Slices<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Destination<'a>> {
    let meta = &service.metadata;
    if service.spec.kind.as_deref() == Some("ExternalName") {
        problems.push(entry.problem(
            Severity::Error,
            "spec.type",
            "ExternalName services are not supported; the name is not served",
            "write a ServiceEntry with resolution DNS for the external host",
        ));
        return None;
    }
    let text = format!("{}.{}.svc.{}", meta.name, meta.namespace, node.cluster_domain);
    let Ok(host) = Host::parse(&text) else {
        let what = format!("`{text}` is not a host name");
        problems.push(entry.problem(Severity::Error, "metadata.name", what, "use a DNS label as name"));
        return None;
    };
    let scope = Scope {
        service,
        entry,
        members,
        slices: slices.get(&(&*meta.namespace, &*meta.name)),
        node,
    };
    let mut ports: Vec<Port> = Vec::new();
    for (at, port) in service.spec.ports.iter().enumerate() {
        if let Some(read) = scope.port(at, port, problems) {
            ports.push(read);
        }
    }
    ports.sort_by_key(|port| port.number);
    Some(Destination {
        kind: Kind::Service,
        entry,
        name: ServiceName::new(meta.namespace.clone(), meta.name.clone()),
        host,
        wildcard: None,
        labels: &meta.labels,
        selector: &service.spec.selector,
        vips: virtual_addresses(service, entry, problems),
        ports,
        visible_in: meta
            .annotations
            .get(labels::EXPORT_TO)
            .and_then(|list| visible_in(list.split(','), &meta.namespace)),
    })
}

/// The namespaces that an `exportTo` names: `.` is the own one, `~` none; `None` is all.
pub(crate) fn visible_in<'t>(
    list: impl Iterator<Item = &'t str>,
    own: &Arc<str>,
) -> Option<BTreeSet<Arc<str>>> {
    let mut named = BTreeSet::new();
    for text in list.map(str::trim) {
        match text {
            "*" => return None,
            "." => drop(named.insert(Arc::clone(own))),
            "~" | "" => {}
            other => drop(named.insert(other.into())),
        }
    }
    Some(named)
}

fn virtual_addresses(service: &Service, entry: &Arc<Entry>, problems: &mut Vec<Problem>) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let spec = &service.spec;
    for text in spec.cluster_ip.iter().chain(&spec.cluster_ips) {
        if text.is_empty() || text == "None" {
            continue;
        }
        match text.parse() {
            Ok(ip) if found.contains(&ip) => {}
            Ok(ip) => found.push(ip),
            Err(_) => problems.push(entry.problem(
                Severity::Error,
                "spec.clusterIP",
                format!("`{text}` is not an IP address; the service has no such virtual address"),
                "give an IP address, or `None` for a headless service",
            )),
        }
    }
    found
}

/// One Service and where its endpoints come from.
struct Scope<'a, 's> {
    service: &'a Service,
    entry: &'a Arc<Entry>,
    members: &'s Members<'s>,
    slices: Option<&'s Vec<&'s EndpointSlice>>,
    node: &'s Node,
}

impl Scope<'_, '_> {
    fn port(&self, at: usize, port: &ServicePort, problems: &mut Vec<Problem>) -> Option<Port> {
        let mut refuse = |severity, field: &str, text: String, remedy: &str| {
            problems.push(
                self.entry
                    .problem(severity, format!("spec.ports[{at}].{field}"), text, remedy),
            );
        };
        match port.protocol.as_deref() {
            None | Some("TCP") => {}
            Some(other) => {
                let text = format!("{other} is not carried by the mesh; the port is not served");
                refuse(Severity::Ignored, "protocol", text, "remove the port or use TCP");
                return None;
            }
        }
        if port.port == 0 {
            refuse(
                Severity::Error,
                "port",
                "the port has no number".into(),
                "give a port from 1 to 65535",
            );
            return None;
        }
        let earlier = &self.service.spec.ports[..at];
        let is_tcp = |it: &&ServicePort| matches!(it.protocol.as_deref(), None | Some("TCP"));
        if earlier.iter().filter(is_tcp).any(|it| it.port == port.port) {
            let text = format!(
                "port {} is declared twice; the first declaration counts",
                port.port
            );
            refuse(Severity::Error, "port", text, "remove one of the two");
            return None;
        }
        let mut backings = match self.slices {
            Some(slices) => self.listed(port, slices),
            None => self.selected(port, Kind::Pod),
        };
        // EndpointSlices never list WorkloadEntries; a selector chooses them beside the pods.
        backings.extend(self.selected(port, Kind::WorkloadEntry));
        Some(Port {
            number: port.port,
            name: port.name.clone(),
            target: port.target_port.clone(),
            protocol: protocol::of_port(port.app_protocol.as_deref(), port.name.as_deref()),
            https: protocol::is_https(port.app_protocol.as_deref(), port.name.as_deref()),
            secure: protocol::is_tls(port.app_protocol.as_deref(), port.name.as_deref()),
            tls: Origination::None,
            backings,
        })
    }

    fn selected(&self, port: &ServicePort, kind: Kind) -> Vec<Backing> {
        let namespace = &self.service.metadata.namespace;
        let chosen = self
            .members
            .selected(namespace, &self.service.spec.selector)
            .into_iter();
        let of_kind = chosen.filter(|at| self.members.get(*at).kind == kind);
        let backing = |at| {
            let member = self.members.get(at);
            let ready = member.ready || (member.alive && self.service.spec.publish_not_ready_addresses);
            backing(self.members, at, target(self.members, at, port)?, ready)
        };
        of_kind.filter_map(backing).collect()
    }

    fn listed(&self, port: &ServicePort, slices: &[&EndpointSlice]) -> Vec<Backing> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for slice in slices {
            if slice.address_type.as_deref() == Some("FQDN") {
                continue;
            }
            let named = |it: &&crate::config::core::EndpointPort| {
                it.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
                    && matches!(it.protocol.as_deref(), None | Some("TCP"))
            };
            let Some(number) = slice.ports.iter().find(named).and_then(|it| it.port) else {
                continue;
            };
            for endpoint in &slice.endpoints {
                let Some(ip) = endpoint
                    .addresses
                    .first()
                    .and_then(|it| it.parse::<IpAddr>().ok())
                else {
                    continue;
                };
                let target = endpoint
                    .target_ref
                    .as_ref()
                    .filter(|it| it.kind.as_deref() == Some("Pod"));
                let by_name = target.and_then(|it| {
                    let namespace = it
                        .namespace
                        .as_deref()
                        .unwrap_or(&self.service.metadata.namespace);
                    self.members.named(Kind::Pod, namespace, it.name.as_deref()?)
                });
                let member = by_name.or_else(|| self.members.at_address(ip));
                let conditions = &endpoint.conditions;
                let ready = conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false);
                // One workload counts once, whichever of its address families a slice lists first.
                if !seen.insert((member, member.is_none().then_some(ip), number)) {
                    continue;
                }
                let mut it = match member {
                    Some(at) => at_address(self.members, at, ip, number),
                    None => stranger(ip, number, ready, &self.service.metadata.namespace, self.node),
                };
                it.ready = ready;
                if it.locality.zone.is_empty() {
                    it.locality.zone = endpoint.zone.as_deref().unwrap_or_default().into();
                }
                it.node = it.node.or_else(|| endpoint.node_name.as_deref().map(Arc::from));
                found.push(it);
            }
        }
        found
    }
}

/// The port of the member that a service port leads to.
pub(crate) fn target(members: &Members<'_>, at: usize, port: &ServicePort) -> Option<u16> {
    let member = members.get(at);
    if member.kind == Kind::WorkloadEntry
        && let Some(own) = port.name.as_deref().and_then(|name| member.port_named(name))
    {
        return Some(own);
    }
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => member.port_named(name).or_else(|| name.parse().ok()),
    }
}

/// A member behind a port, at its first address.
pub(crate) fn backing(members: &Members<'_>, at: usize, port: u16, ready: bool) -> Option<Backing> {
    let ip = *members.get(at).addresses.first()?;
    let mut it = at_address(members, at, ip, port);
    it.ready = ready;
    Some(it)
}

fn at_address(members: &Members<'_>, at: usize, ip: IpAddr, port: u16) -> Backing {
    let member = members.get(at);
    Backing {
        member: Some(at),
        ip,
        port,
        ready: member.ready,
        weight: member.weight(),
        hbone: member.hbone,
        identities: member.identity.iter().cloned().collect(),
        workload: member.workload.clone(),
        locality: member.locality.clone(),
        node: member.node.map(Arc::from),
        written: None,
    }
}

/// An address that no Pod or WorkloadEntry explains: called in plaintext.
pub(crate) fn stranger(ip: IpAddr, port: u16, ready: bool, namespace: &str, node: &Node) -> Backing {
    let name = ip.to_string();
    Backing {
        member: None,
        ip,
        port,
        ready,
        weight: 1,
        hbone: false,
        identities: Arc::new([]),
        workload: Arc::new(super::workload::describe(
            namespace,
            &name,
            None,
            &Labels::new(),
            node,
        )),
        locality: Locality::default(),
        node: None,
        written: None,
    }
}
