//! What the YAML says, to be asked without a mesh.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::coverage::Reached;
use super::{Coverage, Target};
use crate::compile::{Compiled, Handover, compile};
use crate::config::{Entry, Labels, Problem, ResourceStore, Severity, yaml};
use crate::name::{Kind, TrustDomain};
use crate::snapshot::{Node, Role};
use crate::source;

/// What the YAML of a cluster says of who may do what; see the [module](super) for an example.
///
/// Clones share what was reached. As tests run in no particular order, ask for [`Policies::coverage`] at the end of the
/// one that asks for everything.
#[derive(Clone, Debug)]
pub struct Policies {
    pub(super) store: ResourceStore,
    problems: Vec<Problem>,
    root_namespace: Arc<str>,
    pub(super) authorizers: BTreeMap<String, bool>,
    pub(super) reached: Arc<Reached>,
}

/// Why policies cannot be asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// There is nothing to read.
    Source(source::SourceError),
    /// A policy, or a text that may hold one, is wrong: in a mesh its target would deny everything.
    Problems(Vec<Problem>),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => fmt::Display::fmt(error, f),
            Self::Problems(problems) => {
                f.write_str("the policies are not right")?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source(error) => Some(error),
            Self::Problems(_) => None,
        }
    }
}

impl Policies {
    /// Reads a file, or a directory and those below it. What names no namespace is in `default`.
    ///
    /// # Errors
    /// If there is nothing to read, or a policy is wrong.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        Self::load_in("default", path)
    }

    /// As [`Policies::load`], for what `kubectl apply -n` puts into a namespace.
    ///
    /// # Errors
    /// As there.
    pub fn load_in(namespace: &str, path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let read = source::look(path.as_ref(), Some(namespace)).map_err(LoadError::Source)?;
        Self::of(read.0, read.1)
    }

    /// Reads a text. What names no namespace is in `default`.
    ///
    /// # Errors
    /// If a policy in it is wrong.
    pub fn from_yaml(text: &str) -> Result<Self, LoadError> {
        let parsed = yaml::read("(text)", text, None);
        Self::of(parsed.entries.into_iter().map(Arc::new), parsed.problems)
    }

    fn of(entries: impl IntoIterator<Item = Arc<Entry>>, found: Vec<Problem>) -> Result<Self, LoadError> {
        let mut store = ResourceStore::default();
        entries.into_iter().for_each(|entry| store.apply(entry));
        Self::of_store(store, found)
    }

    /// What was read already, and what was found wrong with it.
    pub(crate) fn of_store(store: ResourceStore, found: Vec<Problem>) -> Result<Self, LoadError> {
        let mut policies = Self {
            store,
            problems: found,
            root_namespace: "istio-system".into(),
            authorizers: BTreeMap::new(),
            reached: Arc::default(),
        };
        let compiled = policies.seen_by(&policies.node("default", Labels::new()));
        policies.problems.extend(compiled.problems);
        policies.problems.sort();
        policies.problems.dedup();
        // What is wrong elsewhere may be so because only policies are loaded.
        let of_policy = |problem: &&Problem| {
            let secures = problem.resource.as_ref().is_none_or(|of| of.kind.is_security());
            problem.severity == Severity::Error && secures
        };
        let wrong: Vec<Problem> = policies.problems.iter().filter(of_policy).cloned().collect();
        match wrong.is_empty() {
            true => Ok(policies),
            false => Err(LoadError::Problems(wrong)),
        }
    }

    /// With another root namespace than `istio-system`, where the mesh configuration does not name one.
    #[must_use]
    pub fn root_namespace(mut self, namespace: &str) -> Self {
        self.root_namespace = namespace.into();
        self
    }

    /// Says what the external authorizer of this name answers to everything.
    #[must_use]
    pub fn authorizer(mut self, name: &str, allows: bool) -> Self {
        self.authorizers.insert(name.to_owned(), allows);
        self
    }

    /// What is wrong or odd with what was read, though it could be.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// A workload: the Deployment, Pod or WorkloadEntry of this name, else the only Deployment whose pods are labelled
    /// `app: <name>`, else whatever would be labelled so.
    pub fn workload(&self, name: &str, namespace: &str) -> Target<'_> {
        Target::workload(self, name, namespace)
    }

    /// The workload with these labels.
    pub fn labelled(&self, namespace: &str, labels: &[(&str, &str)]) -> Target<'_> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Target::labelled(self, namespace, labels.iter().map(owned).collect())
    }

    /// A service, where its policies are enforced: at its waypoint if it has one, else at its workloads. One that nobody
    /// declares is taken for one on port 80 in front of what is labelled `app: <name>`.
    pub fn service(&self, name: &str, namespace: &str) -> Target<'_> {
        Target::service(self, name, namespace)
    }

    /// A listener of a Gateway.
    pub fn gateway(&self, name: &str, namespace: &str, listener: &str) -> Target<'_> {
        Target::gateway(self, name, namespace, listener)
    }

    /// Which rules were reached by what was asked so far.
    pub fn coverage(&self) -> Coverage {
        self.reached.of(&self.store)
    }

    pub(super) fn seen_by(&self, node: &Node) -> Compiled {
        // In files no waypoint has an instance: each that is declared counts as one that had.
        let handover = Handover {
            ready: self
                .store
                .gateways()
                .map(|(_, entry)| entry.reference())
                .collect(),
            ..Handover::default()
        };
        compile(&self.store, node, &handover, None)
    }

    pub(super) fn node(&self, namespace: &str, labels: Labels) -> Node {
        Node {
            namespace: namespace.into(),
            pod: None,
            addr: None,
            labels,
            identity: None,
            role: Role::Workload,
            root_namespace: Arc::clone(&self.root_namespace),
            trust_domains: vec![TrustDomain::default().as_str().into()],
            cluster_domain: "cluster.local".into(),
            cluster_id: "Kubernetes".into(),
            propagation: Default::default(),
            paths: Default::default(),
        }
    }

    /// The entries of policies, for cases that ask about them.
    pub(super) fn security(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let kinds = [
            Kind::AuthorizationPolicy,
            Kind::RequestAuthentication,
            Kind::PeerAuthentication,
        ];
        kinds.into_iter().flat_map(|kind| self.store.of_kind(kind))
    }
}
