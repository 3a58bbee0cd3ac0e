//! `VirtualService` to lists of rules.
//!
//! ```text
//! VirtualService ─▶ delegates merged ─▶ does it count for this host, here? ─▶ route by route ─▶ a list in a RouteTable
//! ```
//!
//! Who counts: in a client every VirtualService that is bound to the mesh, exported to it, and names the host most
//! specifically; in a waypoint those of the service's and of the waypoint's own namespace; on a Gateway those that are
//! bound to it. Several are put one after the other, the oldest first.
//!
//! A route that cannot be carried out as written answers 503 and is reported. Its `tls` and `tcp` routes make lists of their
//! own, see [`connection`].

mod answer;
mod connection;
mod delegate;
mod extras;
mod header;
mod host;
mod matching;
mod report;
mod rule;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use connection::Connections;
pub(crate) use host::{HostGlob, full_name};
pub(crate) use report::{Declared, Sight, Spoken, glob};

use super::findings::Findings;
use super::labels;
use super::memo::{Same, same};
use super::registry::{Asked, Meant, Registry, Told, Unknown};
use super::route::time::created;
use crate::config::istio::VirtualService as Written;
use crate::config::istio::virtual_service::{HTTPMatchRequest, HTTPRoute};
use crate::config::{Entry, Labels, Problem, ResourceStore, Severity, contains};
use crate::matcher::HostPattern;
use crate::policy::route::RouteTableBuilder;

/// All VirtualServices that have hosts, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct VirtualServices<'a> {
    all: Vec<VirtualService<'a>>,
    /// Those that write a host out, by the host.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// Those that have a host with a wildcard.
    wild: Vec<usize>,
}

/// A VirtualService with hosts.
#[derive(Debug)]
pub(crate) struct VirtualService<'a> {
    pub(crate) spec: &'a Written,
    pub(crate) entry: &'a Arc<Entry>,
    /// When it was made.
    pub(crate) created: Option<u64>,
    hosts: Vec<HostGlob>,
    /// `namespace/name`, or `mesh`.
    gateways: Vec<Box<str>>,
    http: Vec<HttpRoute<'a>>,
}

/// A route, where it was written.
#[derive(Debug)]
struct HttpRoute<'a> {
    route: Cow<'a, HTTPRoute>,
    entry: &'a Arc<Entry>,
    /// Of the resource that writes it.
    namespace: &'a str,
    /// Index in that resource's `spec.http`.
    index: u32,
    /// Whether callers may ask for faults by headers.
    fault_headers: bool,
}

/// Where a table is for.
pub(crate) struct Scope<'s> {
    /// What VirtualServices call it: `mesh`, or a Gateway's `namespace/name`.
    pub(crate) gateway: &'s str,
    /// The port that callers address.
    pub(crate) port: u16,
    /// Who calls, where that is known when compiling: not in a waypoint.
    pub(crate) labels: Option<&'s Labels>,
    /// The namespace of this process.
    pub(crate) namespace: &'s str,
    /// What destinations mean.
    pub(crate) registry: &'s Registry<'s>,
    /// Notes what is asked of it, for whoever wants to know.
    pub(crate) told: Option<&'s RefCell<Vec<Told>>>,
    /// The DNS suffix of services.
    pub(crate) domain: &'s str,
}

impl Scope<'_> {
    /// What a destination means.
    fn find(&self, asked: Asked<'_>) -> Result<Meant, Unknown> {
        let found = self.registry.find(asked);
        if let Some(told) = self.told {
            told.borrow_mut().push(Told::of(asked, &found));
        }
        found
    }

    /// Whether tokens are verified before routes are looked up.
    fn knows_claims(&self) -> bool {
        !(self.gateway == MESH && self.labels.is_some())
    }
}

/// What VirtualServices call sidecars, clients and waypoints.
pub(crate) const MESH: &str = "mesh";

impl<'a> VirtualServices<'a> {
    /// Reads them all, delegates merged into those that name them.
    pub(crate) fn read(store: &'a ResourceStore, domain: &str, problems: &mut Vec<Problem>) -> Self {
        let delegates: HashMap<(&str, &str), (&Written, &Arc<Entry>)> = store
            .virtual_services()
            .filter(|(it, _)| it.spec.hosts.is_empty())
            .map(|(it, entry)| ((&*it.metadata.namespace, &*it.metadata.name), (it, entry)))
            .collect();
        let roots = store
            .virtual_services()
            .filter(|(it, _)| !it.spec.hosts.is_empty());
        let mut all: Vec<_> = roots
            .map(|(it, entry)| VirtualService::read(it, entry, &delegates, domain, problems))
            .collect();
        all.sort_by_cached_key(|it| {
            let meta = &it.spec.metadata;
            (
                it.created.unwrap_or(u64::MAX),
                meta.name.clone(),
                meta.namespace.clone(),
            )
        });
        let mut index = Self::default();
        for (at, it) in all.iter().enumerate() {
            for host in &it.hosts {
                let listed = match host {
                    HostGlob::Exact(host) => index.exact.entry(host.clone()).or_default(),
                    HostGlob::Ending(_) => &mut index.wild,
                };
                if listed.last() != Some(&at) {
                    listed.push(at);
                }
            }
        }
        Self { all, ..index }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those that may name a host, the oldest first.
    fn naming(&self, host: &HostGlob) -> impl Iterator<Item = &VirtualService<'a>> {
        let exact = match host {
            HostGlob::Exact(host) => self.exact.get(host).map(Vec::as_slice),
            HostGlob::Ending(_) => None,
        };
        let mut found = [exact.unwrap_or_default(), &self.wild].concat();
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|at| self.all.get(at))
    }

    /// Those that a client applies to a host: of those it sees, the ones that name the host most specifically.
    pub(crate) fn for_client(&self, host: &HostGlob, client: &str) -> Vec<&VirtualService<'a>> {
        let seen = |it: &&VirtualService<'a>| it.is_bound_to(MESH) && it.is_exported_to(client);
        let naming: Vec<_> = self
            .naming(host)
            .filter(seen)
            .filter_map(|it| Some((it.names(host)?.order(), it)))
            .collect();
        let best = naming.iter().map(|(order, _)| *order).min();
        let mut best: Vec<_> = naming
            .into_iter()
            .filter(|(order, _)| Some(*order) == best)
            .map(|(_, it)| it)
            .collect();
        best.sort_by_key(|it| it.closeness(client));
        best
    }

    /// Those that a waypoint applies to a host (ambient.md §5.1).
    pub(crate) fn for_waypoint(
        &self,
        host: &HostGlob,
        service: &str,
        waypoint: &str,
    ) -> Vec<&VirtualService<'a>> {
        let counts = |it: &&VirtualService<'a>| {
            let own = it.namespace();
            (own == service || own == waypoint)
                && it.is_bound_to(MESH)
                && it.is_exported_to(waypoint)
                && it.names(host).is_some()
        };
        let mut found: Vec<_> = self.naming(host).filter(counts).collect();
        found.sort_by_key(|it| it.closeness(waypoint));
        found
    }
}

impl<'a> VirtualServices<'a> {
    /// Those that are bound to a Gateway of Istio's (`namespace/name`) and seen from where it is served, with the hosts
    /// that they have in common with a server's.
    pub(crate) fn for_gateway(
        &self,
        gateway: &str,
        served_in: &str,
        hosts: impl Fn(&str) -> Vec<HostPattern>,
    ) -> Vec<(&VirtualService<'a>, Vec<HostPattern>)> {
        let counts = |it: &&VirtualService<'a>| it.is_bound_to(gateway) && it.is_exported_to(served_in);
        let bound = self.all.iter().filter(counts).map(|it| {
            let servers = hosts(it.namespace());
            let shared = it.hosts.iter().filter_map(HostGlob::pattern).flat_map(|own| {
                let shared = servers.iter().filter_map(|server| own.intersect(server));
                shared.collect::<Vec<_>>()
            });
            (it, shared.collect::<Vec<_>>())
        });
        bound.filter(|(_, hosts)| !hosts.is_empty()).collect()
    }
}

impl<'a> VirtualService<'a> {
    fn read(
        it: &'a Written,
        entry: &'a Arc<Entry>,
        delegates: &HashMap<(&'a str, &'a str), (&'a Written, &'a Arc<Entry>)>,
        domain: &str,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let namespace = &*it.metadata.namespace;
        let fault_headers = asks_for_fault_headers(it);
        let mut http = Vec::new();
        for (index, route) in it.spec.http.iter().enumerate() {
            let Some(to) = &route.delegate else {
                http.push(HttpRoute {
                    route: Cow::Borrowed(route),
                    entry,
                    namespace,
                    index: index as u32,
                    fault_headers,
                });
                continue;
            };
            let at = format!("spec.http[{index}].delegate");
            let within = to
                .namespace
                .as_deref()
                .filter(|it| !it.is_empty())
                .unwrap_or(namespace);
            let mut refuse = |what: String, remedy: &str| {
                problems.push(entry.problem(Severity::Error, &at, what, remedy));
            };
            let Some((delegate, source)) = delegates.get(&(within, &*to.name)) else {
                refuse(
                    format!(
                        "there is no VirtualService {within}/{} without hosts; the route is left out",
                        to.name
                    ),
                    "write the delegate, without hosts",
                );
                continue;
            };
            if !exports(&delegate.spec.export_to, within, namespace) {
                refuse(
                    format!(
                        "{within}/{} is not exported to {namespace}; the route is left out",
                        to.name
                    ),
                    "export the delegate",
                );
                continue;
            }
            let mut root = route.clone();
            spell_out(&mut root, namespace, domain);
            for (index, leaf) in delegate.spec.http.iter().enumerate() {
                match delegate::merge(&root, leaf) {
                    Some(merged) => http.push(HttpRoute {
                        route: Cow::Owned(merged),
                        entry: source,
                        namespace: within,
                        index: index as u32,
                        fault_headers,
                    }),
                    None => problems.push(source.problem(
                        Severity::Warning,
                        format!("spec.http[{index}].match"),
                        format!(
                            "is no part of what {} delegates; the route is left out",
                            entry.reference()
                        ),
                        "match a part of what the root matches",
                    )),
                }
            }
        }
        let gateways = match it.spec.gateways.as_slice() {
            [] => vec![MESH.into()],
            names => names.iter().map(|it| gateway(it, namespace)).collect(),
        };
        Self {
            spec: it,
            entry,
            created: created(&it.metadata),
            hosts: it
                .spec
                .hosts
                .iter()
                .map(|it| HostGlob::read(it, namespace, domain))
                .collect(),
            gateways,
            http,
        }
    }

    pub(crate) fn namespace(&self) -> &'a str {
        &self.spec.metadata.namespace
    }

    /// All that it was read from: itself, and what each of its routes was written by.
    pub(crate) fn written(&self) -> Vec<Same<Entry>> {
        let mut all = same(std::iter::once(self.entry).chain(self.http.iter().map(|it| it.entry)));
        all.dedup();
        all
    }

    /// The most specific of its hosts that covers a host.
    fn names(&self, host: &HostGlob) -> Option<&HostGlob> {
        let covering = self.hosts.iter().filter(|it| it.covers(host));
        covering.min_by_key(|it| it.order())
    }

    fn is_bound_to(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|it| **it == *gateway)
    }

    fn is_exported_to(&self, namespace: &str) -> bool {
        exports(&self.spec.spec.export_to, self.namespace(), namespace)
    }

    /// In which order Istio looks: first what a namespace keeps to itself, then what it is given, then what all see.
    fn closeness(&self, namespace: &str) -> u8 {
        let to = &self.spec.spec.export_to;
        let all = to.is_empty() || to.iter().any(|it| it == "*");
        match (all, self.namespace() == namespace) {
            (true, _) => 2,
            (false, true) => 0,
            (false, false) => 1,
        }
    }

    /// Appends its HTTP routes to a table, on these hosts.
    pub(crate) fn add(
        &self,
        builder: &mut RouteTableBuilder,
        hosts: &[HostPattern],
        scope: &Scope<'_>,
        problems: &mut Vec<Problem>,
    ) {
        for it in &self.http {
            let matches = it.matches();
            let mut applying = matches
                .iter()
                .filter(|(_, written)| applies(*written, it.namespace, scope))
                .peekable();
            if applying.peek().is_none() {
                continue;
            }
            let mut findings = Findings::new(it.entry, problems, format!("spec.http[{}]", it.index));
            let mut conditions = Vec::new();
            for (index, written) in applying {
                let at = format!("match[{index}]");
                conditions.push((
                    *index,
                    matching::conditions(*written, scope.knows_claims(), &at, &mut findings),
                ));
            }
            let Some(rule) = rule::compile(it, scope, &mut findings) else {
                continue;
            };
            let id = builder.rule(rule, self.created);
            for (index, conditions) in conditions {
                builder.listed(id, index, hosts, conditions);
            }
        }
    }
}

impl HttpRoute<'_> {
    /// Its matches; a route without one matches everything.
    fn matches(&self) -> Vec<(u32, Option<&HTTPMatchRequest>)> {
        match self.route.matches.as_slice() {
            [] => vec![(0, None)],
            all => all
                .iter()
                .enumerate()
                .map(|(at, it)| (at as u32, Some(it)))
                .collect(),
        }
    }
}

/// Whether callers of a VirtualService's routes may ask for faults by Envoy's headers, which Istio never lets them.
fn asks_for_fault_headers(it: &Written) -> bool {
    let annotation = it.metadata.annotations.get(labels::FAULT_HEADERS);
    annotation.is_some_and(|value| value == "true")
}

/// Whether a match counts here: what is settled before any request comes.
fn applies(written: Option<&HTTPMatchRequest>, namespace: &str, scope: &Scope<'_>) -> bool {
    let Some(written) = written else { return true };
    let of_port = written.port.is_none_or(|it| it == 0 || it == scope.port);
    of_port
        && from_here(
            &written.gateways,
            &written.source_labels,
            written.source_namespace.as_deref(),
            namespace,
            scope,
        )
}

/// Whether the caller is the one that a match of a resource in `namespace` means. A list of Gateways says all there is
/// to say of that, as in Istio.
pub(crate) fn from_here(
    gateways: &[String],
    source_labels: &Labels,
    source_namespace: Option<&str>,
    namespace: &str,
    scope: &Scope<'_>,
) -> bool {
    // A waypoint serves callers of all kinds.
    if !source_labels.is_empty() && scope.labels.is_none() {
        return false;
    }
    if !gateways.is_empty() {
        return gateways
            .iter()
            .any(|it| *gateway(it, namespace) == *scope.gateway);
    }
    let labelled = scope.labels.is_none_or(|own| contains(own, source_labels));
    let within = source_namespace.is_none_or(|it| it.is_empty() || it == scope.namespace);
    labelled && within
}

/// A Gateway as `namespace/name`: short names are of the namespace, `name.namespace.…` is an older form.
fn gateway(text: &str, namespace: &str) -> Box<str> {
    if text == MESH {
        return text.into();
    }
    let (within, name) = match (text.split_once('/'), text.split_once('.')) {
        (Some((".", name)), _) => (namespace, name),
        (Some(whole), _) => whole,
        (None, Some((name, rest))) => (rest.split('.').next().unwrap_or(rest), name),
        (None, None) => (namespace, text),
    };
    format!("{within}/{name}").into()
}

fn exports(to: &[String], own: &str, namespace: &str) -> bool {
    let admits = |it: &String| match it.as_str() {
        "*" => true,
        "." => own == namespace,
        it => it == namespace,
    };
    to.is_empty() || to.iter().any(admits)
}

/// Completes the names of mirrors, which a delegate in another namespace may inherit.
fn spell_out(route: &mut HTTPRoute, namespace: &str, domain: &str) {
    let mirrors = route.mirrors.iter_mut().filter_map(|it| it.destination.as_mut());
    for to in route.mirror.iter_mut().chain(mirrors) {
        to.host = full_name(&to.host, namespace, domain);
    }
    for it in &mut route.matches {
        it.gateways = it
            .gateways
            .iter()
            .map(|it| gateway(it, namespace).into())
            .collect();
    }
}
