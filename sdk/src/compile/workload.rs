//! Pods and WorkloadEntries, read once into one shape.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::labels;
use crate::config::core::{Deployment, Pod};
use crate::config::istio::WorkloadEntry;
use crate::config::{Entry, Labels, Problem, ResourceStore, Severity};
use crate::name::{Kind, SpiffeId, TrustDomain, WorkloadName};
use crate::policy::balance::{Locality, Workload};
use crate::snapshot::Node;

/// A Pod or WorkloadEntry as the rest of compile sees it.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    /// `Pod` or `WorkloadEntry`.
    pub(crate) kind: Kind,
    pub(crate) entry: &'a Arc<Entry>,
    pub(crate) name: WorkloadName,
    /// Own labels, or those of the Deployment that made it where it has none.
    pub(crate) labels: Cow<'a, Labels>,
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
    /// A WorkloadEntry's host name, where it has no address.
    pub(crate) dns: Option<&'a str>,
    /// Where it runs.
    pub(crate) locality: Locality,
    /// The node it runs on.
    pub(crate) node: Option<&'a str>,
    ports: Ports<'a>,
}

#[derive(Debug)]
enum Ports<'a> {
    Pod(&'a Pod, Option<&'a Deployment>),
    Entry(&'a WorkloadEntry),
}

impl Member<'_> {
    /// A container port (or a WorkloadEntry's port) by name.
    pub(crate) fn port_named(&self, name: &str) -> Option<u16> {
        match &self.ports {
            Ports::Pod(pod, deployment) => {
                let own = pod.spec.containers.iter();
                let template = deployment.iter().flat_map(|it| &it.spec.template.spec.containers);
                own.chain(template)
                    .flat_map(|container| &container.ports)
                    .find(|port| port.name.as_deref() == Some(name))
                    .map(|port| port.container_port)
            }
            Ports::Entry(entry) => entry.spec.ports.get(name).copied(),
        }
    }

    /// The Gateway whose instance it is.
    pub(crate) fn gateway(&self) -> Option<&str> {
        self.labels.get(labels::GATEWAY_NAME).map(String::as_str)
    }

    /// A WorkloadEntry's share.
    pub(crate) fn weight(&self) -> u32 {
        match &self.ports {
            Ports::Pod(..) => 1,
            Ports::Entry(entry) => entry.spec.weight.unwrap_or(1).max(1),
        }
    }
}

/// All members, found by name, address or label.
#[derive(Debug, Default)]
pub(crate) struct Members<'a> {
    all: Vec<Member<'a>>,
    by_name: HashMap<(Kind, &'a str, &'a str), usize>,
    by_address: HashMap<IpAddr, usize>,
    by_namespace: HashMap<&'a str, Vec<usize>>,
    by_label: HashMap<(Arc<str>, String, String), Vec<usize>>,
}

impl<'a> Members<'a> {
    /// Reads every Pod and WorkloadEntry.
    pub(crate) fn read(store: &'a ResourceStore, node: &Node, problems: &mut Vec<Problem>) -> Self {
        let domain = trust_domain(node);
        let deployments = Deployments::read(store);
        let nodes: HashMap<&str, &Labels> = store
            .nodes()
            .map(|(it, _)| (&*it.metadata.name, &it.metadata.labels))
            .collect();
        let mut all: Vec<Member<'a>> = store
            .pods()
            .map(|(pod, entry)| {
                let mut member = pod_member(pod, entry, deployments.owner(pod), node, &domain, problems);
                let on = member.node.and_then(|name| nodes.get(name));
                member.locality = locality(&member.labels, on.copied());
                member
            })
            .collect();
        all.extend(
            store
                .workload_entries()
                .map(|(workload, entry)| entry_member(workload, entry, node, &domain, problems)),
        );
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Self::index(all)
    }

    fn index(all: Vec<Member<'a>>) -> Self {
        let mut index = Self::default();
        for (at, member) in all.iter().enumerate() {
            let meta = member.entry.resource.metadata();
            index
                .by_name
                .insert((member.kind, &meta.namespace, &meta.name), at);
            index.by_namespace.entry(&meta.namespace).or_default().push(at);
            if member.alive && !member.host_network {
                for address in &member.addresses {
                    index.by_address.entry(*address).or_insert(at);
                }
            }
            for (key, value) in member.labels.iter() {
                let key = (meta.namespace.clone(), key.clone(), value.clone());
                index.by_label.entry(key).or_default().push(at);
            }
        }
        index.all = all;
        index
    }

    pub(crate) fn get(&self, at: usize) -> &Member<'a> {
        &self.all[at]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Member<'a>)> {
        self.all.iter().enumerate()
    }

    pub(crate) fn named(&self, kind: Kind, namespace: &str, name: &str) -> Option<usize> {
        self.by_name.get(&(kind, namespace, name)).copied()
    }

    /// Whose address it is; addresses of nodes are nobody's.
    pub(crate) fn at_address(&self, address: IpAddr) -> Option<usize> {
        self.by_address.get(&address).copied()
    }

    /// The members of a namespace with all of these labels. An empty selector selects nobody (as a Service's does).
    pub(crate) fn selected(&self, namespace: &str, selector: &Labels) -> Vec<usize> {
        let namespace: Arc<str> = namespace.into();
        let mut shortest: Option<&Vec<usize>> = None;
        for (key, value) in selector {
            match self
                .by_label
                .get(&(namespace.clone(), key.clone(), value.clone()))
            {
                None => return Vec::new(),
                Some(list) if shortest.is_none_or(|it| list.len() < it.len()) => shortest = Some(list),
                Some(_) => {}
            }
        }
        let candidates = shortest.map(Vec::as_slice).unwrap_or_default();
        let chosen = |at: &&usize| selects(selector, &self.all[**at].labels);
        candidates.iter().filter(chosen).copied().collect()
    }
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
    by_name: HashMap<(&'a str, &'a str), &'a Deployment>,
    by_label: HashMap<(&'a str, &'a str, &'a str), Vec<&'a Deployment>>,
}

impl<'a> Deployments<'a> {
    fn read(store: &'a ResourceStore) -> Self {
        let mut index = Self {
            by_name: HashMap::new(),
            by_label: HashMap::new(),
        };
        for (deployment, _) in store.deployments() {
            let meta = &deployment.metadata;
            index.by_name.insert((&meta.namespace, &meta.name), deployment);
            if let Some((key, value)) = deployment.spec.selector.match_labels.first_key_value() {
                index
                    .by_label
                    .entry((&meta.namespace, key, value))
                    .or_default()
                    .push(deployment);
            }
        }
        index
    }

    /// The Deployment that made a pod: the longest name that prefixes the pod's, else one that selects its labels.
    fn owner(&self, pod: &Pod) -> Option<&'a Deployment> {
        let (namespace, name) = (&*pod.metadata.namespace, &*pod.metadata.name);
        let labels = &pod.metadata.labels;
        let fits = |it: &Deployment| labels.is_empty() || it.spec.selector.matches(labels);
        let prefixes = name.rmatch_indices('-').map(|(at, _)| &name[..at]);
        let by_name = prefixes.filter_map(|prefix| self.by_name.get(&(namespace, prefix)).copied());
        by_name.into_iter().find(|it| fits(it)).or_else(|| {
            labels.iter().find_map(|(key, value)| {
                let listed = self.by_label.get(&(namespace, key.as_str(), value.as_str()))?;
                listed.iter().copied().find(|it| it.spec.selector.matches(labels))
            })
        })
    }
}

fn pod_member<'a>(
    pod: &'a Pod,
    entry: &'a Arc<Entry>,
    deployment: Option<&'a Deployment>,
    node: &Node,
    domain: &TrustDomain,
    problems: &mut Vec<Problem>,
) -> Member<'a> {
    let meta = &pod.metadata;
    let template = deployment.map(|it| &it.spec.template);
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
    let owner = deployment.map(|it| it.metadata.name.clone());
    Member {
        kind: Kind::Pod,
        entry,
        name: WorkloadName::new(meta.namespace.clone(), meta.name.clone()),
        addresses,
        ready: alive && pod.status.conditions.iter().any(is_ready),
        alive,
        hbone: tunnels(labels) || redirected,
        host_network: pod.spec.host_network || template.is_some_and(|it| it.spec.host_network),
        identity: identity(domain, &meta.namespace, account, entry, problems),
        workload: Arc::new(describe(&meta.namespace, &meta.name, owner, labels, node)),
        labels: Cow::Borrowed(labels),
        dns: None,
        locality: Locality::default(),
        node: pod.spec.node_name.as_deref(),
        ports: Ports::Pod(pod, deployment),
    }
}

fn entry_member<'a>(
    workload: &'a WorkloadEntry,
    entry: &'a Arc<Entry>,
    node: &Node,
    domain: &TrustDomain,
    problems: &mut Vec<Problem>,
) -> Member<'a> {
    let (meta, spec) = (&workload.metadata, &workload.spec);
    let labels = if spec.labels.is_empty() {
        Cow::Borrowed(&meta.labels)
    } else {
        let mut all = meta.labels.clone();
        all.extend(spec.labels.clone());
        Cow::Owned(all)
    };
    let address = spec.address.as_deref().filter(|it| !it.is_empty());
    let ip = address.and_then(|it| it.parse::<IpAddr>().ok());
    let redirected = meta
        .annotations
        .get(labels::REDIRECTION)
        .is_some_and(|it| it == "enabled");
    let account = spec.service_account.as_deref();
    Member {
        kind: Kind::WorkloadEntry,
        entry,
        name: WorkloadName::new(meta.namespace.clone(), meta.name.clone()),
        addresses: ip.into_iter().collect(),
        ready: meta.deletion_timestamp.is_none(),
        alive: meta.deletion_timestamp.is_none(),
        hbone: tunnels(&labels) || redirected,
        host_network: false,
        identity: identity(domain, &meta.namespace, account, entry, problems),
        workload: Arc::new(describe(&meta.namespace, &meta.name, None, &labels, node)),
        dns: address.filter(|_| ip.is_none()),
        locality: match spec.locality.as_deref() {
            Some(text) => Locality::parse(text),
            None => locality(&labels, None),
        },
        node: None,
        labels,
        ports: Ports::Entry(workload),
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
    entry: &Arc<Entry>,
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
    entry: &Arc<Entry>,
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
