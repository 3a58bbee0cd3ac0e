//! ServiceEntries: hosts that Kubernetes does not know, one destination per host.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::memo::{Address, Found, Same, Table, same};
use super::protocol;
use super::service::{Backing, Destination, Port, backing, stranger, visible_in};
use super::workload::{Member, Members, describe, trust_domain, tunnels};
use crate::config::core::IntOrString;
use crate::config::istio::{ServiceEntry, ServiceEntryPort, WorkloadEntrySpec};
use crate::config::{Entry, Labels, Problem, ResourceStore, Severity};
use crate::name::{Host, Kind, ServiceName, SpiffeId};
use crate::policy::balance::Locality;
use crate::policy::tls::Origination;
use crate::snapshot::Node;

/// Addresses that DNS gave for names, as far as they are known.
pub type Resolved = BTreeMap<Host, Vec<IpAddr>>;

/// What reading a ServiceEntry needs beside it.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a, 's> {
    pub(crate) node: &'s Node,
    pub(crate) members: &'s Members<'a>,
    pub(crate) resolved: &'s Resolved,
}

/// What a ServiceEntry asked, and what it was told.
#[derive(Debug, PartialEq)]
enum Told {
    /// Whom its selector selects.
    Selected(Vec<Same<Member>>),
    /// Whose address this is.
    Address(IpAddr, Option<Same<Member>>),
    /// What DNS says of a name.
    Name(Host, Vec<IpAddr>),
}

impl Surroundings<'_, '_> {
    fn selected(&self, namespace: &str, labels: &Labels) -> Told {
        Told::Selected(same(self.members.selected(namespace, labels)))
    }

    fn address(&self, ip: IpAddr) -> Told {
        Told::Address(ip, self.members.at_address(ip).map(Same::of))
    }

    fn name(&self, host: &Host) -> Told {
        Told::Name(host.clone(), self.resolved.get(host).cloned().unwrap_or_default())
    }

    /// Whether an entry would be told the same again.
    fn still(&self, service: &ServiceEntry, told: &Told) -> bool {
        let now = match told {
            Told::Selected(_) => match &service.spec.workload_selector {
                Some(selector) => self.selected(&service.metadata.namespace, &selector.labels),
                None => return false,
            },
            Told::Address(ip, _) => self.address(*ip),
            Told::Name(host, _) => self.name(host),
        };
        now == *told
    }
}

/// What a ServiceEntry comes to.
#[derive(Debug)]
pub(crate) struct Hosts {
    destinations: Vec<Arc<Destination>>,
    told: Vec<Told>,
}

/// The ServiceEntries that were read last time.
pub(crate) type Known = Table<Same<Entry>, Found<Hosts>>;

/// Reads every ServiceEntry into one destination per host; `names` collects what must be looked up in DNS.
pub(crate) fn read_all(
    store: &ResourceStore,
    around: Surroundings<'_, '_>,
    known: &mut Known,
    names: &mut BTreeSet<Host>,
    problems: &mut Vec<Problem>,
) -> Vec<Arc<Destination>> {
    let mut all = Vec::new();
    for (service, entry) in store.service_entries() {
        let found = known.checked(
            Address::of(entry),
            Same::of(entry),
            |known| known.value.told.iter().all(|told| around.still(service, told)),
            |entry| {
                Found::by(|problems| {
                    let told = RefCell::default();
                    let destinations = read(service, entry, &around, &told, problems);
                    Hosts {
                        destinations: destinations.into_iter().map(Arc::new).collect(),
                        told: told.into_inner(),
                    }
                })
            },
        );
        let hosts = found.tell(problems);
        all.extend(hosts.destinations.iter().cloned());
        names.extend(hosts.told.iter().filter_map(|told| match told {
            Told::Name(host, _) => Some(host.clone()),
            _ => None,
        }));
    }
    all
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Resolution {
    Static,
    Dns,
    /// The address that a caller dials: one of the entry's own, else what DNS says of the host, as the caller would have
    /// asked it.
    Dialled,
}

fn read(
    service: &ServiceEntry,
    entry: &Arc<Entry>,
    around: &Surroundings<'_, '_>,
    told: &RefCell<Vec<Told>>,
    problems: &mut Vec<Problem>,
) -> Vec<Destination> {
    let spec = &service.spec;
    let resolution = match spec.resolution.as_deref() {
        Some("STATIC") => Resolution::Static,
        Some("DNS" | "DNS_ROUND_ROBIN") => Resolution::Dns,
        None | Some("" | "NONE") => Resolution::Dialled,
        other => {
            problems.push(entry.problem(
                Severity::Error,
                "spec.resolution",
                format!(
                    "resolution {} is not supported; the hosts are not served",
                    other.unwrap_or_default()
                ),
                "use STATIC with endpoints, DNS, or NONE",
            ));
            return Vec::new();
        }
    };
    if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
        problems.push(entry.problem(
            Severity::Error,
            "spec.endpoints",
            "endpoints and workloadSelector exclude each other; the hosts are not served",
            "keep one of the two",
        ));
        return Vec::new();
    }
    if resolution == Resolution::Dialled && !(spec.endpoints.is_empty() && spec.workload_selector.is_none()) {
        problems.push(entry.problem(
            Severity::Error,
            "spec.resolution",
            "resolution NONE excludes endpoints and workloadSelector; the hosts are not served",
            "use STATIC or DNS, or list no endpoints",
        ));
        return Vec::new();
    }
    let vips = addresses(service, entry, problems);
    let reader = Reader {
        service,
        entry,
        around,
        told,
        resolution,
        identities: alternatives(service, entry, problems),
        addresses: &vips,
    };
    let mut found = Vec::new();
    for (at, text) in spec.hosts.iter().enumerate() {
        let Some((host, wildcard)) = reader.host(at, text, problems) else {
            continue;
        };
        let ports = reader.ports(&host, problems);
        found.push(Destination {
            kind: Kind::ServiceEntry,
            entry: Arc::clone(entry),
            nth: at as u32,
            name: ServiceName::new(service.metadata.namespace.clone(), service.metadata.name.clone()),
            host,
            short: Vec::new(),
            wildcard,
            // Several hosts cannot share one address: it would not say which of them is meant.
            vips: if spec.hosts.len() == 1 {
                vips.clone()
            } else {
                Vec::new()
            },
            ports,
            visible_in: match spec.export_to.as_slice() {
                [] => None,
                list => visible_in(list.iter().map(String::as_str), &service.metadata.namespace),
            },
        });
    }
    if spec.hosts.len() > 1 && !vips.is_empty() {
        problems.push(entry.problem(
            Severity::Ignored,
            "spec.addresses",
            "addresses of an entry with several hosts do not say which host is meant and are not served",
            "write one ServiceEntry per host",
        ));
    }
    found
}

fn addresses(service: &ServiceEntry, entry: &Arc<Entry>, problems: &mut Vec<Problem>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (at, text) in service.spec.addresses.iter().enumerate() {
        let single = text
            .strip_suffix("/32")
            .or_else(|| text.strip_suffix("/128"))
            .unwrap_or(text);
        match single.parse() {
            Ok(ip) => found.push(ip),
            Err(_) => problems.push(entry.problem(
                Severity::Ignored,
                format!("spec.addresses[{at}]"),
                format!("`{text}` is not a single IP address and is not served"),
                "list single addresses",
            )),
        }
    }
    found
}

/// The identities that workloads must prove one of. Other names are for TLS that is begun to the hosts.
fn alternatives(service: &ServiceEntry, entry: &Arc<Entry>, problems: &mut Vec<Problem>) -> Arc<[SpiffeId]> {
    let mut found = Vec::new();
    let names = service.spec.subject_alt_names.iter().enumerate();
    for (at, text) in names.filter(|(_, text)| text.starts_with("spiffe:")) {
        match SpiffeId::parse(text) {
            Ok(id) => found.push(id),
            Err(why) => problems.push(entry.problem(
                Severity::Ignored,
                format!("spec.subjectAltNames[{at}]"),
                format!("`{text}` is no SPIFFE identity: {why}"),
                "write spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
            )),
        }
    }
    found.into()
}

struct Reader<'a, 's, 'n> {
    service: &'a ServiceEntry,
    entry: &'a Arc<Entry>,
    around: &'s Surroundings<'n, 's>,
    /// Notes what is asked.
    told: &'s RefCell<Vec<Told>>,
    resolution: Resolution,
    identities: Arc<[SpiffeId]>,
    /// The entry's own.
    addresses: &'s [IpAddr],
}

impl Reader<'_, '_, '_> {
    fn host(&self, at: usize, text: &str, problems: &mut Vec<Problem>) -> Option<(Host, Option<Arc<str>>)> {
        let mut refuse = |text: String, remedy: &str| {
            problems.push(
                self.entry
                    .problem(Severity::Error, format!("spec.hosts[{at}]"), text, remedy),
            );
            None
        };
        let Ok(host) = Host::parse(text) else {
            return refuse(
                format!("`{text}` is not a host name"),
                "write a DNS name, optionally starting with `*.`",
            );
        };
        let Some(suffix) = host.as_str().strip_prefix('*').map(Arc::<str>::from) else {
            return if host.as_str().contains('*') {
                refuse(
                    format!("`{text}`: a `*` may only be the whole first label"),
                    "write `*.example.com`",
                )
            } else {
                Some((host, None))
            };
        };
        if !suffix.starts_with('.') || suffix.len() < 2 || suffix.contains('*') {
            return refuse(
                format!("`{text}` would claim every name"),
                "write `*.example.com`",
            );
        }
        if self.asks_dns() {
            return refuse(
                format!("`{text}` cannot be looked up in DNS"),
                "list endpoints or addresses, or name the hosts",
            );
        }
        Some((host, Some(suffix)))
    }

    fn ports(&self, host: &Host, problems: &mut Vec<Problem>) -> Vec<Port> {
        let mut ports: Vec<Port> = Vec::new();
        for (at, port) in self.service.spec.ports.iter().enumerate() {
            let twice = ports.iter().any(|it| it.number == port.number);
            let udp = port
                .protocol
                .as_deref()
                .is_some_and(|it| it.eq_ignore_ascii_case("UDP"));
            if port.number == 0 || twice || udp {
                problems.push(self.entry.problem(
                    if udp { Severity::Ignored } else { Severity::Error },
                    format!("spec.ports[{at}]"),
                    format!(
                        "port {} cannot be served: it is zero, declared twice or UDP",
                        port.number
                    ),
                    "give each port a number of its own and a TCP protocol",
                ));
                continue;
            }
            ports.push(Port {
                number: port.number,
                name: Some(port.name.clone()).filter(|it| !it.is_empty()),
                target: port.target_port.map(IntOrString::Int),
                protocol: protocol::of_entry_port(port.protocol.as_deref(), &port.name),
                https: protocol::is_https(
                    port.protocol.as_deref().filter(|it| !it.is_empty()),
                    Some(&port.name),
                ),
                secure: protocol::is_tls(
                    port.protocol.as_deref().filter(|it| !it.is_empty()),
                    Some(&port.name),
                ),
                tls: Origination::None,
                backings: self.backings(host, port, problems),
            });
        }
        ports.sort_by_key(|port| port.number);
        ports
    }

    fn backings(&self, host: &Host, port: &ServiceEntryPort, problems: &mut Vec<Problem>) -> Vec<Backing> {
        let number = match self.resolution {
            // What is dialled is dialled by its port, too.
            Resolution::Dialled => port.number,
            _ => port.target_port.unwrap_or(port.number),
        };
        let mut found = match &self.service.spec.workload_selector {
            Some(selector) => self.selected(&selector.labels, port, number),
            None => {
                let listed = self.service.spec.endpoints.iter().enumerate();
                listed
                    .flat_map(|(at, it)| self.listed(at, it, port, number, problems))
                    .collect()
            }
        };
        let own = match self.resolution {
            Resolution::Dialled => self.addresses.to_vec(),
            _ => Vec::new(),
        };
        let ips = if self.asks_dns() { self.look_up(host) } else { own };
        let namespace = &self.service.metadata.namespace;
        found.extend(
            ips.iter()
                .map(|ip| stranger(*ip, number, true, namespace, self.around.node)),
        );
        if !self.identities.is_empty() {
            for it in &mut found {
                it.identities = self.identities.clone();
            }
        }
        found
    }

    /// Whether the hosts themselves are looked up.
    fn asks_dns(&self) -> bool {
        let spec = &self.service.spec;
        match self.resolution {
            Resolution::Static => false,
            Resolution::Dns => spec.endpoints.is_empty() && spec.workload_selector.is_none(),
            Resolution::Dialled => self.addresses.is_empty(),
        }
    }

    fn look_up(&self, host: &Host) -> Vec<IpAddr> {
        if let Some(ip) = host.ip() {
            return vec![ip];
        }
        let told = self.around.name(host);
        let ips = match &told {
            Told::Name(_, ips) => ips.clone(),
            _ => Vec::new(),
        };
        self.told.borrow_mut().push(told);
        ips
    }

    /// Who is known by an address.
    fn known(&self, ip: IpAddr) -> Option<Arc<Member>> {
        let told = self.around.address(ip);
        let member = match &told {
            Told::Address(_, member) => member.as_ref().map(Same::shared),
            _ => None,
        };
        self.told.borrow_mut().push(told);
        member
    }

    /// Whom a selector selects.
    fn chosen(&self, labels: &Labels) -> Vec<Arc<Member>> {
        let told = self.around.selected(&self.service.metadata.namespace, labels);
        let members = match &told {
            Told::Selected(members) => members.iter().map(Same::shared).collect(),
            _ => Vec::new(),
        };
        self.told.borrow_mut().push(told);
        members
    }

    fn selected(&self, labels: &Labels, port: &ServiceEntryPort, number: u16) -> Vec<Backing> {
        let mut found = Vec::new();
        for member in self.chosen(labels) {
            let own = (member.kind == Kind::WorkloadEntry)
                .then(|| member.port_named(&port.name))
                .flatten();
            let number = own.unwrap_or(number);
            found.extend(backing(&member, number, member.ready));
            let dns = member.dns().filter(|_| self.resolution == Resolution::Dns);
            if let Some(host) = dns.and_then(|it| Host::parse(it).ok()) {
                let plain = |ip| Backing {
                    member: Some(Arc::clone(&member)),
                    hbone: member.hbone,
                    identities: member.identity.iter().cloned().collect(),
                    workload: member.workload.clone(),
                    ..stranger(ip, number, member.ready, &member.name.namespace, self.around.node)
                };
                found.extend(self.look_up(&host).into_iter().map(plain));
            }
        }
        found
    }

    fn listed(
        &self,
        at: usize,
        spec: &WorkloadEntrySpec,
        port: &ServiceEntryPort,
        number: u16,
        problems: &mut Vec<Problem>,
    ) -> Vec<Backing> {
        let node = self.around.node;
        let namespace = &self.service.metadata.namespace;
        let address = spec.address.as_deref().unwrap_or_default();
        let host = Host::parse(address).ok();
        let ips = match host {
            Some(host) if host.ip().is_some() || self.resolution == Resolution::Dns => self.look_up(&host),
            _ => {
                problems.push(self.entry.problem(
                    Severity::Error,
                    format!("spec.endpoints[{at}].address"),
                    format!("`{address}` is not an IP address; the endpoint is left out"),
                    "give an IP address, or use resolution DNS",
                ));
                return Vec::new();
            }
        };
        let number = spec.ports.get(&port.name).copied().unwrap_or(number);
        let account = spec
            .service_account
            .as_deref()
            .filter(|it| !it.is_empty())
            .unwrap_or("default");
        let identity = SpiffeId::new(&trust_domain(node), namespace, account).ok();
        let labels = (!spec.labels.is_empty()).then(|| Arc::new(spec.labels.clone()));
        let backing = |ip: IpAddr| {
            let mut it = stranger(ip, number, true, namespace, node);
            it.member = self.known(ip);
            it.weight = spec.weight.unwrap_or(1).max(1);
            it.hbone = tunnels(&spec.labels);
            it.identities = identity.iter().cloned().collect();
            it.workload = Arc::new(describe(namespace, &ip.to_string(), None, &spec.labels, node));
            it.written = labels.clone();
            it.locality = spec.locality.as_deref().map(Locality::parse).unwrap_or_default();
            it
        };
        ips.into_iter().map(backing).collect()
    }
}
