//! Services and ServiceEntries, read into one shape: a destination with ports, and what stands behind each.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::memo::{Address, Found, Same, Table, same};
use super::workload::{Member, Members};
use super::{labels, protocol};
use crate::config::core::{Endpoint, EndpointSlice, IntOrString, Service, ServicePort};
use crate::config::{Entry, Labels, Problem, Resource, ResourceStore, Severity};
use crate::name::{Host, Kind, ServiceName, SpiffeId};
use crate::policy::balance::{Locality, Workload};
use crate::policy::tls::Origination;
use crate::snapshot::{AppProtocol, Node};

/// A Service, or one host of a ServiceEntry.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// `Service` or `ServiceEntry`.
    pub(crate) kind: Kind,
    pub(crate) entry: Arc<Entry>,
    /// Which of the hosts of its resource it is.
    pub(crate) nth: u32,
    pub(crate) name: ServiceName,
    pub(crate) host: Host,
    /// What a resolver's search list would complete to the host.
    pub(crate) short: Vec<Host>,
    /// `.example.com` where the host is `*.example.com`.
    pub(crate) wildcard: Option<Arc<str>>,
    pub(crate) vips: Vec<IpAddr>,
    pub(crate) ports: Vec<Port>,
    /// Namespaces that see it; `None` is all.
    pub(crate) visible_in: Option<BTreeSet<Arc<str>>>,
}

/// One port of a destination.
#[derive(Clone, Debug)]
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
    pub(crate) member: Option<Arc<Member>>,
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
    pub(crate) fn labels(&self) -> Option<&Labels> {
        let of_member = || self.member.as_ref().map(|it| it.labels());
        self.written.as_deref().or_else(of_member)
    }
}

impl Destination {
    pub(crate) fn labels(&self) -> &Labels {
        &self.entry.resource.metadata().labels
    }

    /// What is made of it is remembered under this.
    pub(crate) fn address(&self) -> Address {
        Address::nth(&self.entry, self.nth)
    }

    /// Whose labels select its workloads; empty where endpoints are listed.
    pub(crate) fn selector(&self) -> &Labels {
        let selected = match &self.entry.resource {
            Resource::Service(it) => Some(&it.spec.selector),
            Resource::ServiceEntry(it) => it.spec.workload_selector.as_ref().map(|it| &it.labels),
            _ => None,
        };
        selected.unwrap_or(const { &Labels::new() })
    }

    /// Whether the namespace may see it.
    pub(crate) fn is_visible_in(&self, namespace: &str) -> bool {
        self.visible_in
            .as_ref()
            .is_none_or(|list| list.contains(namespace))
    }
}

/// EndpointSlices by namespace and service, in the order of their names.
type Slices<'a> = HashMap<(&'a str, &'a str), Vec<(&'a EndpointSlice, &'a Arc<Entry>)>>;

/// Files the slices under the Service that their label names.
fn slices(store: &ResourceStore) -> Slices<'_> {
    let mut index: Slices<'_> = HashMap::new();
    for (slice, entry) in store.endpoint_slices() {
        if let Some(service) = slice.metadata.labels.get(labels::SERVICE_NAME) {
            index
                .entry((&slice.metadata.namespace, service))
                .or_default()
                .push((slice, entry));
        }
    }
    index
}

/// What a Service's destination is made of.
#[derive(Debug, PartialEq)]
pub(crate) struct Written {
    entry: Same<Entry>,
    slices: Vec<Listed>,
    /// Whom its selector selects.
    selected: Vec<Same<Member>>,
}

/// A slice.
#[derive(Debug, PartialEq)]
struct Listed {
    slice: Same<Entry>,
    /// Who is meant by each of its endpoints, where that is known.
    members: Vec<Option<Same<Member>>>,
}

impl Listed {
    fn slice(&self) -> Option<&EndpointSlice> {
        match &self.slice.resource {
            Resource::EndpointSlice(slice) => Some(slice),
            _ => None,
        }
    }
}

/// The destinations that were read last time; `None` for what names nothing that can be called.
pub(crate) type Known = Table<Written, Found<Option<Arc<Destination>>>>;

/// Reads every Service.
pub(crate) fn read_all(
    store: &ResourceStore,
    node: &Node,
    members: &Members<'_>,
    known: &mut Known,
    problems: &mut Vec<Problem>,
) -> Vec<Arc<Destination>> {
    let slices = slices(store);
    let mut all = Vec::new();
    for (service, entry) in store.services() {
        let meta = &service.metadata;
        let listed = slices.get(&(&*meta.namespace, &*meta.name)).into_iter().flatten();
        let listed = listed.map(|(slice, entry)| Listed {
            slice: Same::of(entry),
            members: slice
                .endpoints
                .iter()
                .map(|it| meant(it, &meta.namespace, members))
                .collect(),
        });
        let written = Written {
            entry: Same::of(entry),
            slices: listed.collect(),
            selected: same(members.selected(&meta.namespace, &service.spec.selector)),
        };
        let found = known.part(Address::of(entry), written, node, destination);
        all.extend(found.tell(problems).clone());
    }
    all
}

/// The member that an endpoint of a slice means: the one it names, else whose address it has.
fn meant(endpoint: &Endpoint, namespace: &str, members: &Members<'_>) -> Option<Same<Member>> {
    let target = endpoint
        .target_ref
        .as_ref()
        .filter(|it| it.kind.as_deref() == Some("Pod"));
    let by_name = target.and_then(|it| {
        let namespace = it.namespace.as_deref().unwrap_or(namespace);
        members.named(Kind::Pod, namespace, it.name.as_deref()?)
    });
    let by_address = || members.at_address(address(endpoint)?);
    by_name.or_else(by_address).map(Same::of)
}

/// An endpoint's first address, if it is one of IP.
fn address(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.addresses.first()?.parse().ok()
}

fn destination(written: &Written, node: &Node) -> Found<Option<Arc<Destination>>> {
    let Resource::Service(service) = &written.entry.resource else {
        return Found::by(|_| None);
    };
    Found::by(|problems| read(service, written, node, problems).map(Arc::new))
}

/// Reads one Service. `None` if it names nothing that can be called; problems say why.
fn read(
    service: &Service,
    written: &Written,
    node: &Node,
    problems: &mut Vec<Problem>,
) -> Option<Destination> {
    let (meta, entry) = (&service.metadata, &*written.entry);
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
        written,
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
        entry: Arc::clone(entry),
        nth: 0,
        name: ServiceName::new(meta.namespace.clone(), meta.name.clone()),
        host,
        short: short_names(&meta.name, &meta.namespace, node),
        wildcard: None,
        vips: virtual_addresses(service, entry, problems),
        ports,
        visible_in: meta
            .annotations
            .get(labels::EXPORT_TO)
            .and_then(|list| visible_in(list.split(','), &meta.namespace)),
    })
}

/// `name` from within its namespace, `name.ns`, `name.ns.svc`.
fn short_names(name: &str, namespace: &str, node: &Node) -> Vec<Host> {
    let own = (*namespace == *node.namespace).then(|| name.to_owned());
    let others = [format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")];
    let all = own.into_iter().chain(others);
    all.filter_map(|text| Host::parse(&text).ok()).collect()
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
struct Scope<'s> {
    service: &'s Service,
    written: &'s Written,
    node: &'s Node,
}

impl Scope<'_> {
    fn port(&self, at: usize, port: &ServicePort, problems: &mut Vec<Problem>) -> Option<Port> {
        let mut refuse = |severity, field: &str, text: String, remedy: &str| {
            problems.push(self.written.entry.problem(
                severity,
                format!("spec.ports[{at}].{field}"),
                text,
                remedy,
            ));
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
        let mut backings = match self.written.slices.is_empty() {
            false => self.listed(port),
            true => self.selected(port, Kind::Pod),
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
        let of_kind = self.written.selected.iter().filter(|it| it.kind == kind);
        let backing = |member: &Same<Member>| {
            let ready = member.ready || (member.alive && self.service.spec.publish_not_ready_addresses);
            backing(member, target(member, port)?, ready)
        };
        of_kind.filter_map(backing).collect()
    }

    fn listed(&self, port: &ServicePort) -> Vec<Backing> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let slices = self.written.slices.iter();
        for (slice, members) in slices.filter_map(|it| Some((it.slice()?, &it.members))) {
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
            for (endpoint, member) in slice.endpoints.iter().zip(members) {
                let member = member.as_deref();
                let Some(ip) = address(endpoint) else {
                    continue;
                };
                let conditions = &endpoint.conditions;
                let ready = conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false);
                // One workload counts once, whichever of its address families a slice lists first.
                let key = (member.map(Arc::as_ptr), member.is_none().then_some(ip), number);
                if !seen.insert(key) {
                    continue;
                }
                let mut it = match member {
                    Some(member) => at_address(member, ip, number),
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
fn target(member: &Member, port: &ServicePort) -> Option<u16> {
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
pub(crate) fn backing(member: &Arc<Member>, port: u16, ready: bool) -> Option<Backing> {
    let ip = *member.addresses.first()?;
    let mut it = at_address(member, ip, port);
    it.ready = ready;
    Some(it)
}

fn at_address(member: &Arc<Member>, ip: IpAddr, port: u16) -> Backing {
    Backing {
        member: Some(Arc::clone(member)),
        ip,
        port,
        ready: member.ready,
        weight: member.weight(),
        hbone: member.hbone,
        identities: member.identity.iter().cloned().collect(),
        workload: member.workload.clone(),
        locality: member.locality.clone(),
        node: member.node.clone(),
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
