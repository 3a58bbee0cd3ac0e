//! Which DestinationRule applies to a host, seen from here.
//!
//! As Istio looks: first among the caller's own namespace's rules, then among those that the service's namespace
//! exports, then among those of the root namespace; in each the most particular host wins. Rules of one namespace for
//! the same host are one rule: the first that has a traffic policy gives it, subsets are put together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::balance;
use crate::compile::labels::{LOAD_BALANCER, PEAK_EWMA};
use crate::compile::service::Destination;
use crate::config::istio::DestinationRule;
use crate::config::istio::destination_rule::{LoadBalancerSettings, Subset, TrafficPolicy};
use crate::config::{Entry, Labels, Problem, ResourceStore, Severity};
use crate::name::Host;
use crate::policy::balance::Algorithm;
use crate::snapshot::Node;

/// All DestinationRules, by namespace.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    by_namespace: HashMap<&'a str, Ordered<'a>>,
    /// Who calls.
    namespace: &'a str,
    labels: &'a Labels,
    root: &'a str,
}

/// The rules of one namespace.
#[derive(Debug, Default)]
struct Ordered<'a> {
    /// In the order in which they count.
    all: Vec<Rule<'a>>,
    /// Those that write a host out, by the host.
    exact: HashMap<Host, Vec<usize>>,
    /// Those that have a wildcard.
    wild: Vec<usize>,
}

impl<'a> Ordered<'a> {
    fn index(&mut self) {
        for (at, rule) in self.all.iter().enumerate() {
            match &rule.host {
                Pattern::Exact(host) => self.exact.entry(host.clone()).or_default().push(at),
                Pattern::Ending(_) => self.wild.push(at),
            }
        }
    }

    /// Those that may be for a host, in their order.
    fn naming(&self, host: &Host) -> Vec<&Rule<'a>> {
        let exact = self.exact.get(host).map(Vec::as_slice).unwrap_or_default();
        let mut found = [exact, &self.wild].concat();
        found.sort_unstable();
        found.into_iter().filter_map(|at| self.all.get(at)).collect()
    }
}

#[derive(Debug)]
struct Rule<'a> {
    rule: &'a DestinationRule,
    entry: &'a Arc<Entry>,
    host: Pattern,
}

/// The host that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(Host),
    /// Every host that ends like this; everything if it is empty.
    Ending(String),
}

/// The rule that applies to one host.
#[derive(Debug, Default)]
pub(crate) struct Applied<'a> {
    /// Its policy, and where that is written.
    pub(crate) policy: Option<(&'a TrafficPolicy, &'a Arc<Entry>)>,
    /// Whether one of them asks for endpoints to be told by how long they took of late.
    pub(crate) timed: bool,
    /// The first of them that cannot be read as it was written, and speaks of TLS.
    pub(crate) broken: Option<&'a Arc<Entry>>,
    /// Its subsets, each name once, and where each is written.
    pub(crate) subsets: Vec<(&'a Subset, &'a Arc<Entry>)>,
    /// All of them, in their order.
    pub(crate) rules: Vec<&'a Arc<Entry>>,
}

impl Applied<'_> {
    /// Whether anything is said of TLS.
    pub(crate) fn begins_tls(&self) -> bool {
        let says =
            |it: &TrafficPolicy| it.tls.is_some() || it.port_level_settings.iter().any(|it| it.tls.is_some());
        let of_subsets = self
            .subsets
            .iter()
            .filter_map(|(it, _)| it.traffic_policy.as_deref());
        self.policy
            .map(|(it, _)| it)
            .into_iter()
            .chain(of_subsets)
            .any(says)
    }
}

impl<'a> Rules<'a> {
    /// Reads all rules, for a caller in `namespace` with these labels.
    pub(crate) fn read(
        store: &'a ResourceStore,
        node: &'a Node,
        namespace: &'a str,
        labels: &'a Labels,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut by_namespace: HashMap<&str, Ordered<'_>> = HashMap::new();
        for (rule, entry) in store.destination_rules() {
            let own = &*rule.metadata.namespace;
            match Pattern::parse(&rule.spec.host, own, &node.cluster_domain) {
                Some(host) => {
                    check(rule, entry, problems);
                    let known = by_namespace.entry(own).or_default();
                    known.all.push(Rule { rule, entry, host });
                }
                None => problems.push(entry.problem(
                    Severity::Error,
                    "spec.host",
                    format!(
                        "`{}` is no host name; the rule applies to nothing",
                        rule.spec.host
                    ),
                    "name a service, a host, or `*.` and a domain",
                )),
            }
        }
        for rules in by_namespace.values_mut() {
            // The oldest counts first; one with a selector before one without.
            rules.all.sort_by_key(|it| {
                let meta = &it.rule.metadata;
                let created = meta.creation_timestamp.as_deref();
                (
                    it.rule.spec.workload_selector.is_none(),
                    created.is_none(),
                    created,
                    &meta.name,
                )
            });
            rules.index();
        }
        Self {
            by_namespace,
            namespace,
            labels,
            root: &node.root_namespace,
        }
    }

    /// The problems of rules for hosts that nobody has.
    pub(crate) fn report(&self, destinations: &[Arc<Destination>], problems: &mut Vec<Problem>) {
        let exact = self.by_namespace.values().flat_map(|it| &it.exact);
        let mut exact = exact.peekable();
        if exact.peek().is_none() {
            return;
        }
        let known: HashSet<&Host> = destinations.iter().map(|it| &it.host).collect();
        let wild: Vec<&str> = destinations
            .iter()
            .filter_map(|it| it.wildcard.as_deref())
            .collect();
        let is_known =
            |host: &Host| known.contains(host) || wild.iter().any(|it| host.as_str().ends_with(it));
        let lost: HashSet<&Host> = exact.map(|(host, _)| host).filter(|it| !is_known(it)).collect();
        for rule in self.by_namespace.values().flat_map(|it| &it.all) {
            if let Pattern::Exact(host) = &rule.host
                && lost.contains(host)
            {
                problems.push(rule.entry.problem(
                    Severity::Warning,
                    "spec.host",
                    format!("no service is called {host}; the rule applies to nothing"),
                    "name a Service, or write a ServiceEntry for the host",
                ));
            }
        }
    }

    /// The rule that applies to a host of a service in `service`.
    pub(crate) fn applied(&self, host: &Host, service: &str) -> Applied<'a> {
        if self.by_namespace.is_empty() {
            return Applied::default();
        }
        // What the root namespace says is meant for all: only what it keeps to itself is for callers of its own.
        let private = self.namespace == self.root;
        let own = self.best(host, self.namespace, |it| {
            self.is_ours(it) && (!private || it.is_private())
        });
        let exported = |namespace| self.best(host, namespace, |it| it.is_exported_to(self.namespace));
        let found = own.or_else(|| exported(service)).or_else(|| exported(self.root));
        found.map(merge).unwrap_or_default()
    }

    /// The rules of a namespace for the most particular host that matches, if one does.
    fn best(
        &self,
        host: &Host,
        namespace: &str,
        counts: impl Fn(&Rule<'a>) -> bool,
    ) -> Option<Vec<&Rule<'a>>> {
        let rules = self.by_namespace.get(namespace)?.naming(host);
        let fitting = rules.into_iter().filter(|it| counts(it) && it.host.matches(host));
        let best = fitting.clone().map(|it| it.host.rank()).max()?;
        let best: Vec<&Rule<'a>> = fitting.filter(|it| it.host.rank() == best).collect();
        // A rule for workloads like us takes the place of those for all.
        match best
            .first()
            .and_then(|it| it.rule.spec.workload_selector.as_ref())
        {
            None => Some(best),
            selector => Some(
                best.into_iter()
                    .filter(|it| it.rule.spec.workload_selector.as_ref() == selector)
                    .collect(),
            ),
        }
    }

    /// Whether a rule of our own namespace is for us.
    fn is_ours(&self, rule: &Rule<'_>) -> bool {
        let to = &rule.rule.spec.export_to;
        let exported = to.is_empty() || to.iter().any(|it| it == "." || it == "*" || it == self.namespace);
        let selected = rule.rule.spec.workload_selector.as_ref().is_none_or(|it| {
            it.match_labels
                .iter()
                .all(|(key, value)| self.labels.get(key) == Some(value))
        });
        exported && selected
    }
}

/// Whether a rule or a service asks for endpoints to be told by how long they took of late.
pub(super) fn is_timed(entry: &Entry) -> bool {
    let written = entry.resource.metadata().annotations.get(LOAD_BALANCER);
    written.is_some_and(|it| it == PEAK_EWMA)
}

/// Says where a rule asks for endpoints to be told by how long they took, and chooses them by something else.
fn check(rule: &DestinationRule, entry: &Entry, problems: &mut Vec<Problem>) {
    let chosen = |it: &LoadBalancerSettings| balance(it).algorithm != Algorithm::LeastRequest;
    let written = rule.spec.traffic_policy.as_deref();
    if is_timed(entry)
        && written
            .and_then(|it| it.load_balancer.as_ref())
            .is_some_and(chosen)
    {
        problems.push(entry.problem(
            Severity::Ignored,
            format!("metadata.annotations.{LOAD_BALANCER}"),
            "it says how the least loaded endpoint is told; the rule's loadBalancer asks for another",
            "remove one of the two",
        ));
    }
}

impl Rule<'_> {
    fn is_private(&self) -> bool {
        let own = &*self.rule.metadata.namespace;
        let spec = &self.rule.spec;
        spec.workload_selector.is_some()
            || matches!(spec.export_to.as_slice(), [it] if it == "." || it == own)
    }

    fn is_exported_to(&self, namespace: &str) -> bool {
        let to = &self.rule.spec.export_to;
        !self.is_private() && (to.is_empty() || to.iter().any(|it| it == "*" || it == namespace))
    }
}

fn merge<'a>(rules: Vec<&Rule<'a>>) -> Applied<'a> {
    let mut applied = Applied::default();
    for it in rules {
        let spec = &it.rule.spec;
        applied.rules.push(it.entry);
        if it.entry.broken.is_some() {
            applied.broken.get_or_insert(it.entry);
        }
        applied.timed |= is_timed(it.entry);
        if applied.policy.is_none() {
            applied.policy = spec.traffic_policy.as_deref().map(|policy| (policy, it.entry));
        }
        for subset in &spec.subsets {
            if applied.subsets.iter().all(|(known, _)| known.name != subset.name) {
                applied.subsets.push((subset, it.entry));
            }
        }
    }
    applied
}

impl Pattern {
    /// A name without a dot is a service of the rule's namespace.
    fn parse(text: &str, namespace: &str, domain: &str) -> Option<Self> {
        if let Some(ending) = text.strip_prefix('*') {
            let fits = ending.is_empty() || ending.starts_with('.');
            return fits.then(|| Self::Ending(ending.to_ascii_lowercase()));
        }
        match text.contains('.') {
            true => Host::parse(text),
            false => Host::parse(&format!("{text}.{namespace}.svc.{domain}")),
        }
        .ok()
        .map(Self::Exact)
    }

    fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Exact(own) => own == host,
            Self::Ending(ending) => host.as_str().ends_with(ending.as_str()),
        }
    }

    /// More is more particular.
    fn rank(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Ending(ending) => ending.len(),
        }
    }
}
