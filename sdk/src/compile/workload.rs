//! Pods and WorkloadEntries, read once into one shape.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use super::labels;
use super::memo::{Address, Found, Same, Table};
use crate::config::core::{Deployment, Pod};
use crate::config::istio::WorkloadEntry;
use crate::config::{Entry, Labels, Problem, Resource, ResourceStore, Severity};
use crate::name::{Kind, SpiffeId, TrustDomain, WorkloadName};
use crate::policy::balance::{Locality, Workload};
use crate::snapshot::Node;

/// A Pod or WorkloadEntry as the rest of compile sees it.
#[derive(Debug)]
pub(crate) struct Member {
    /// `Pod` or `WorkloadEntry`.
    pub(crate) kind: Kind,
    pub(crate) entry: Arc<Entry>,
    pub(crate) name: WorkloadName,
    pub(crate) addresses: Vec<IpAddr>,
    /// Takes traffic now.
    pub(crate) ready: bool,
    /// Neither finished nor being deleted.
    pub(crate) alive: bool,
    /// Accepts HBONE on 15008 (ambient.md §2: tunnel label or redirection annotation).
    pub(crate) hbone: bool,
    /// Shares its node's address, which therefore does not name it.
    pub(crate) host_network: bool,
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) workload: Arc<Workload>,
    /// Where it runs.
    pub(crate) locality: Locality,
    /// The node it runs on.
    pub(crate) node: Option<Arc<str>>,
    /// The Deployment that made it.
    owner: Option<Arc<Entry>>,
    /// The labels of a WorkloadEntry that has some in two places.
    merged: Option<Labels>,
}

impl Member {
    /// Own labels, or those of the Deployment that made it where it has none.
    pub(crate) fn labels(&self) -> &Labels {
        if let Some(merged) = &self.merged {
            return merged;
        }
        let own = &self.entry.resource.metadata().labels;
        match self.owner() {
            Some(owner) if own.is_empty() => &owner.spec.template.metadata.labels,
            _ => own,
        }
    }

    /// A container port (or a WorkloadEntry's port) by name.
    pub(crate) fn port_named(&self, name: &str) -> Option<u16> {
        match &self.entry.resource {
            Resource::Pod(pod) => {
                let own = pod.spec.containers.iter();
                let template = self.owner().into_iter();
                let template = template.flat_map(|it| &it.spec.template.spec.containers);
                own.chain(template)
                    .flat_map(|container| &container.ports)
                    .find(|port| port.name.as_deref() == Some(name))
                    .map(|port| port.container_port)
            }
            Resource::WorkloadEntry(entry) => entry.spec.ports.get(name).copied(),
            _ => None,
        }
    }

    /// The Gateway whose instance it is.
    pub(crate) fn gateway(&self) -> Option<&str> {
        self.labels().get(labels::GATEWAY_NAME).map(String::as_str)
    }

    /// A WorkloadEntry's share.
    pub(crate) fn weight(&self) -> u32 {
        match &self.entry.resource {
            Resource::WorkloadEntry(entry) => entry.spec.weight.unwrap_or(1).max(1),
            _ => 1,
        }
    }

    /// A WorkloadEntry's host name, where it has no address.
    pub(crate) fn dns(&self) -> Option<&str> {
        let Resource::WorkloadEntry(entry) = &self.entry.resource else {
            return None;
        };
        let address = entry.spec.address.as_deref().filter(|it| !it.is_empty());
        address.filter(|it| it.parse::<IpAddr>().is_err())
    }

    fn owner(&self) -> Option<&Deployment> {
        deployment(self.owner.as_ref()?)
    }
}

fn deployment(entry: &Entry) -> Option<&Deployment> {
    match &entry.resource {
        Resource::Deployment(deployment) => Some(deployment),
        _ => None,
    }
}

/// What a member is made of.
#[derive(Debug, PartialEq)]
pub(crate) struct Written {
    entry: Same<Entry>,
    owner: Option<Same<Entry>>,
    node: Option<Same<Entry>>,
}

/// The members that were read last time.
pub(crate) type Known = Table<Written, Found<Arc<Member>>>;

/// All members, found by name, address or label.
#[derive(Debug, Default)]
pub(crate) struct Members<'a> {
    all: Vec<Arc<Member>>,
    by_name: HashMap<(Kind, &'a str, &'a str), usize>,
    by_address: HashMap<IpAddr, usize>,
    /// By the digest of namespace, key and value; whoever is found must be asked.
    by_label: HashMap<u64, Vec<usize>>,
}

impl<'a> Members<'a> {
    /// Reads every Pod and WorkloadEntry.
    pub(crate) fn read(
        store: &'a ResourceStore,
        node: &Node,
        known: &mut Known,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let deployments = Deployments::read(store);
        let nodes: HashMap<&str, &Arc<Entry>> = store
            .nodes()
            .map(|(it, entry)| (&*it.metadata.name, entry))
            .collect();
        let mut index = Self::default();
        for (pod, entry) in store.pods() {
            let on = pod.spec.node_name.as_deref().and_then(|name| nodes.get(name));
            let written = Written {
                entry: Same::of(entry),
                owner: deployments.owner(pod).map(Same::of),
                node: on.map(|it| Same::of(it)),
            };
            let found = known.part(Address::of(entry), written, node, read);
            index.add(entry, found.tell(problems));
        }
        for (_, entry) in store.workload_entries() {
            let written = Written {
                entry: Same::of(entry),
                owner: None,
                node: None,
            };
            let found = known.part(Address::of(entry), written, node, read);
            index.add(entry, found.tell(problems));
        }
        index
    }

    fn add(&mut self, entry: &'a Entry, member: &Arc<Member>) {
        let at = self.all.len();
        let meta = entry.resource.metadata();
        self.by_name
            .insert((member.kind, &meta.namespace, &meta.name), at);
        if member.alive && !member.host_network {
            for address in &member.addresses {
                self.by_address.entry(*address).or_insert(at);
            }
        }
        for (key, value) in member.labels() {
            let listed = self.by_label.entry(digest(&meta.namespace, key, value));
            listed.or_default().push(at);
        }
        self.all.push(Arc::clone(member));
    }

    /// All of them: Pods, then WorkloadEntries, by namespace and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.all.iter()
    }

    pub(crate) fn named(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Arc<Member>> {
        let at = self.by_name.get(&(kind, namespace, name))?;
        self.all.get(*at)
    }

    /// Whose address it is; addresses of nodes are nobody's.
    pub(crate) fn at_address(&self, address: IpAddr) -> Option<&Arc<Member>> {
        self.all.get(*self.by_address.get(&address)?)
    }

    /// The addresses by which a member is known, and nobody else.
    pub(crate) fn addresses<'m>(&'m self, member: &'m Arc<Member>) -> impl Iterator<Item = IpAddr> + 'm {
        let owns = |it: &IpAddr| self.at_address(*it).is_some_and(|it| Arc::ptr_eq(it, member));
        member.addresses.iter().copied().filter(owns)
    }

    /// The members of a namespace with all of these labels. An empty selector selects nobody (as a Service's does).
    pub(crate) fn selected(&self, namespace: &str, selector: &Labels) -> Vec<&Arc<Member>> {
        let mut shortest: Option<&Vec<usize>> = None;
        for (key, value) in selector {
            match self.by_label.get(&digest(namespace, key, value)) {
                None => return Vec::new(),
                Some(list) if shortest.is_none_or(|it| list.len() < it.len()) => shortest = Some(list),
                Some(_) => {}
            }
        }
        let candidates = shortest.map(Vec::as_slice).unwrap_or_default();
        let candidates = candidates.iter().filter_map(|at| self.all.get(*at));
        let chosen = |it: &&Arc<Member>| *it.name.namespace == *namespace && selects(selector, it.labels());
        candidates.filter(chosen).collect()
    }
}

fn digest(namespace: &str, key: &str, value: &str) -> u64 {
    let mut digest = DefaultHasher::new();
    (namespace, key, value).hash(&mut digest);
    digest.finish()
}

/// Whether every pair of the selector is among the labels; an empty selector selects nobody.
pub(crate) fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The mesh's trust domain.
pub(crate) fn trust_domain(node: &Node) -> TrustDomain {
    let first = node.trust_domains.first();
    first
        .and_then(|text| TrustDomain::parse(text).ok())
        .unwrap_or_default()
}

/// Deployments by namespace and name, and by the labels they select.
struct Deployments<'a> {
    by_name: HashMap<(&'a str, &'a str), Made<'a>>,
    by_label: HashMap<(&'a str, &'a str, &'a str), Vec<Made<'a>>>,
}

/// A Deployment, and where it is written.
type Made<'a> = (&'a Deployment, &'a Arc<Entry>);

impl<'a> Deployments<'a> {
    fn read(store: &'a ResourceStore) -> Self {
        let mut index = Self {
            by_name: HashMap::new(),
            by_label: HashMap::new(),
        };
        for (deployment, entry) in store.deployments() {
            let meta = &deployment.metadata;
            index
                .by_name
                .insert((&meta.namespace, &meta.name), (deployment, entry));
            if let Some((key, value)) = deployment.spec.selector.match_labels.first_key_value() {
                index
                    .by_label
                    .entry((&meta.namespace, key, value))
                    .or_default()
                    .push((deployment, entry));
            }
        }
        index
    }

    /// The Deployment that made a pod: the longest name that prefixes the pod's, else one that selects its labels.
    fn owner(&self, pod: &Pod) -> Option<&'a Arc<Entry>> {
        if self.by_name.is_empty() {
            return None;
        }
        let (namespace, name) = (&*pod.metadata.namespace, &*pod.metadata.name);
        let labels = &pod.metadata.labels;
        let fits = |it: &Deployment| labels.is_empty() || it.spec.selector.matches(labels);
        let prefixes = name.rmatch_indices('-').map(|(at, _)| &name[..at]);
        let mut by_name = prefixes.filter_map(|prefix| self.by_name.get(&(namespace, prefix)).copied());
        let found = by_name.find(|(it, _)| fits(it)).or_else(|| {
            labels.iter().find_map(|(key, value)| {
                let listed = self.by_label.get(&(namespace, key.as_str(), value.as_str()))?;
                let mut listed = listed.iter().copied();
                listed.find(|(it, _)| it.spec.selector.matches(labels))
            })
        });
        found.map(|(_, entry)| entry)
    }
}

fn read(written: &Written, node: &Node) -> Found<Arc<Member>> {
    Found::by(|problems| {
        let entry = &*written.entry;
        let domain = trust_domain(node);
        Arc::new(match &entry.resource {
            Resource::WorkloadEntry(it) => entry_member(it, entry, node, &domain, problems),
            Resource::Pod(it) => pod_member(it, written, node, &domain, problems),
            // Nothing else is ever read here.
            _ => pod_member(&Pod::default(), written, node, &domain, problems),
        })
    })
}

fn pod_member(
    pod: &Pod,
    written: &Written,
    node: &Node,
    domain: &TrustDomain,
    problems: &mut Vec<Problem>,
) -> Member {
    let (meta, entry) = (&pod.metadata, &*written.entry);
    let made_by = written.owner.as_ref().and_then(|it| deployment(it));
    let template = made_by.map(|it| &it.spec.template);
    let labels = match template {
        Some(template) if meta.labels.is_empty() => &template.metadata.labels,
        _ => &meta.labels,
    };
    let account = pod
        .spec
        .service_account_name
        .as_deref()
        .filter(|it| !it.is_empty());
    let account = account.or_else(|| template.and_then(|it| it.spec.service_account_name.as_deref()));
    let listed = pod.status.pod_ips.iter().map(|it| it.ip.as_str());
    let addresses = addresses(
        pod.status.pod_ip.as_deref().into_iter().chain(listed),
        entry,
        problems,
    );
    let finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let is_ready = |it: &crate::config::core::PodCondition| it.kind == "Ready" && it.status == "True";
    let redirected = meta
        .annotations
        .get(labels::REDIRECTION)
        .is_some_and(|it| it == "enabled");
    let alive = !finished && meta.deletion_timestamp.is_none();
    let owner = made_by.map(|it| it.metadata.name.clone());
    let on = written.node.as_ref().map(|it| &it.resource.metadata().labels);
    Member {
        kind: Kind::Pod,
        entry: Arc::clone(entry),
        name: WorkloadName::new(meta.namespace.clone(), meta.name.clone()),
        addresses,
        ready: alive && pod.status.conditions.iter().any(is_ready),
        alive,
        hbone: tunnels(labels) || redirected,
        host_network: pod.spec.host_network || template.is_some_and(|it| it.spec.host_network),
        identity: identity(domain, &meta.namespace, account, entry, problems),
        workload: Arc::new(describe(&meta.namespace, &meta.name, owner, labels, node)),
        locality: locality(labels, on),
        node: pod.spec.node_name.as_deref().map(Arc::from),
        owner: written.owner.as_ref().map(Same::shared),
        merged: None,
    }
}

fn entry_member(
    workload: &WorkloadEntry,
    entry: &Arc<Entry>,
    node: &Node,
    domain: &TrustDomain,
    problems: &mut Vec<Problem>,
) -> Member {
    let (meta, spec) = (&workload.metadata, &workload.spec);
    let merged = (!spec.labels.is_empty()).then(|| {
        let mut all = meta.labels.clone();
        all.extend(spec.labels.clone());
        all
    });
    let labels = merged.as_ref().unwrap_or(&meta.labels);
    let address = spec.address.as_deref().filter(|it| !it.is_empty());
    let ip = address.and_then(|it| it.parse::<IpAddr>().ok());
    let redirected = meta
        .annotations
        .get(labels::REDIRECTION)
        .is_some_and(|it| it == "enabled");
    let account = spec.service_account.as_deref();
    Member {
        kind: Kind::WorkloadEntry,
        entry: Arc::clone(entry),
        name: WorkloadName::new(meta.namespace.clone(), meta.name.clone()),
        addresses: ip.into_iter().collect(),
        ready: meta.deletion_timestamp.is_none(),
        alive: meta.deletion_timestamp.is_none(),
        hbone: tunnels(labels) || redirected,
        host_network: false,
        identity: identity(domain, &meta.namespace, account, entry, problems),
        workload: Arc::new(describe(&meta.namespace, &meta.name, None, labels, node)),
        locality: match spec.locality.as_deref() {
            Some(text) => Locality::parse(text),
            None => locality(labels, None),
        },
        node: None,
        owner: None,
        merged,
    }
}

/// Where a workload runs: as its own label says, else as its node's labels do.
fn locality(own: &Labels, node: Option<&Labels>) -> Locality {
    if let Some(text) = own.get(labels::LOCALITY) {
        return Locality::parse(&text.replace('.', "/"));
    }
    let label = |key: &str| {
        let found = own.get(key).or_else(|| node?.get(key));
        found.map(|it| it.as_str().into()).unwrap_or_default()
    };
    Locality {
        region: label(labels::REGION),
        zone: label(labels::ZONE),
        subzone: label(labels::SUBZONE),
    }
}

/// Whether the labels say that the workload itself accepts HBONE.
pub(crate) fn tunnels(labels: &Labels) -> bool {
    let value = labels.get(labels::TUNNEL);
    value.is_some_and(|list| list.split(',').any(|it| it.trim() == "http"))
}

fn addresses<'t>(
    texts: impl Iterator<Item = &'t str>,
    entry: &Entry,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for text in texts.filter(|text| !text.is_empty()) {
        match text.parse::<IpAddr>() {
            Ok(ip) if found.contains(&ip) => {}
            Ok(ip) => found.push(ip),
            Err(_) => problems.push(entry.problem(
                Severity::Error,
                "status.podIPs",
                format!("`{text}` is not an IP address"),
                "give the address without a prefix length or port",
            )),
        }
    }
    found
}

fn identity(
    domain: &TrustDomain,
    namespace: &str,
    account: Option<&str>,
    entry: &Entry,
    problems: &mut Vec<Problem>,
) -> Option<SpiffeId> {
    let account = account.filter(|it| !it.is_empty()).unwrap_or("default");
    let made = SpiffeId::new(domain, namespace, account);
    made.map_err(|why| {
        problems.push(entry.problem(
            Severity::Error,
            "spec.serviceAccountName",
            format!("the workload has no identity and is not called: {why}"),
            "use a valid Kubernetes service account name",
        ));
    })
    .ok()
}

/// The labels of metrics and spans, as Istio derives them.
pub(crate) fn describe(
    namespace: &str,
    name: &str,
    owner: Option<Arc<str>>,
    labels: &Labels,
    node: &Node,
) -> Workload {
    let label = |keys: &[&str]| {
        keys.iter()
            .find_map(|key| labels.get(*key))
            .map(|it| Arc::<str>::from(it.as_str()))
    };
    let by_hash = || {
        let hash = labels.get("pod-template-hash")?;
        let (owner, _) = name.split_once(&format!("-{hash}-"))?;
        Some(owner.into())
    };
    let owner = owner.or_else(by_hash).unwrap_or_else(|| name.into());
    let canonical_service = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let canonical_service = canonical_service.unwrap_or_else(|| owner.clone());
    let canonical_revision = label(&[
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ]);
    let canonical_revision = canonical_revision.unwrap_or_else(|| "latest".into());
    Workload {
        name: name.into(),
        namespace: namespace.into(),
        app: label(&["app"]).unwrap_or_else(|| canonical_service.clone()),
        version: label(&["version"]).unwrap_or_else(|| canonical_revision.clone()),
        owner,
        canonical_service,
        canonical_revision,
        cluster: node.cluster_id.clone(),
    }
}
