//! Which cluster a route's backend means, and whether the route may refer to it (ReferenceGrant).

use std::collections::HashMap;

use smallvec::SmallVec;

use super::route::{Backends, Unresolved, UnresolvedReason};
use crate::config::ResourceStore;
use crate::config::gateway::{BackendObjectReference, ReferenceGrant};
use crate::name::{Host, Kind, ResourceRef};
use crate::policy::route::ClusterId;
use crate::snapshot::AppProtocol;

const ISTIO_GROUP: &str = "networking.istio.io";

/// ReferenceGrants by the namespace that they open.
#[derive(Debug, Default)]
pub(crate) struct Grants<'a> {
    by_namespace: HashMap<&'a str, Vec<&'a ReferenceGrant>>,
}

impl<'a> Grants<'a> {
    pub(crate) fn read(store: &'a ResourceStore) -> Self {
        let mut index = Self::default();
        for (grant, _) in store.reference_grants() {
            index
                .by_namespace
                .entry(&grant.metadata.namespace)
                .or_default()
                .push(grant);
        }
        index
    }

    /// Whether a route or Gateway may refer to an object of another namespace: one grant there must fit all of both.
    pub(crate) fn admit(&self, from: &ResourceRef, kind: Kind, namespace: &str, name: &str) -> bool {
        let grants = self.by_namespace.get(namespace).into_iter().flatten();
        grants.into_iter().any(|grant| {
            let comes = grant.spec.from.iter().any(|it| {
                it.group == from.kind.group()
                    && it.kind == from.kind.as_str()
                    && it.namespace == *from.namespace
            });
            let goes = grant.spec.to.iter().any(|it| {
                it.group == kind.group()
                    && it.kind == kind.as_str()
                    && it.name.as_deref().is_none_or(|it| it.is_empty() || it == name)
            });
            comes && goes
        })
    }
}

/// What a route is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frontend {
    /// A service of the mesh. Its callers could call the backend themselves, so a route to another namespace opens
    /// nothing and needs no ReferenceGrant (GEP-1294).
    Mesh,
    /// A Gateway, which lets in what could not call the backend: other namespaces must agree to it.
    Gateway,
}

/// A directory as a frontend's routes may use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'d> {
    directory: &'d Directory<'d>,
    frontend: Frontend,
}

/// The same, with a note of what was asked.
#[derive(Debug)]
pub(crate) struct Noted<'d> {
    seen: Seen<'d>,
    told: Vec<Told>,
}

/// A question of a route, and what it was told.
#[derive(Debug)]
pub(crate) enum Told {
    /// Which cluster a backend means.
    Cluster {
        frontend: Frontend,
        from: ResourceRef,
        backend: BackendObjectReference,
        found: Result<ClusterId, Unresolved>,
    },
    /// By what a cluster is dialled.
    Address(ClusterId, Option<(Host, u16)>),
}

impl Told {
    /// Whether it would be told the same again.
    pub(crate) fn holds(&self, directory: &Directory<'_>) -> bool {
        match self {
            Self::Cluster {
                frontend,
                from,
                backend,
                found,
            } => directory.find(*frontend, from, backend) == *found,
            Self::Address(cluster, found) => directory.address(*cluster) == found.as_ref(),
        }
    }
}

/// What can be a backend, seen from here.
#[derive(Debug)]
pub(crate) struct Directory<'a> {
    grants: &'a Grants<'a>,
    /// The ports of what is known by kind, namespace and name.
    known: HashMap<(Kind, &'a str, &'a str), SmallVec<[Port; 2]>>,
    /// By what clusters are dialled, those of ports by their numbers.
    addresses: Vec<Option<(Host, u16)>>,
}

/// A port that can be a backend.
#[derive(Clone, Copy, Debug)]
struct Port {
    number: u16,
    cluster: ClusterId,
    protocol: AppProtocol,
}

impl<'a> Directory<'a> {
    pub(crate) fn new(grants: &'a Grants<'a>) -> Self {
        Self {
            grants,
            known: HashMap::new(),
            addresses: Vec::new(),
        }
    }

    /// As routes attached to such a frontend may use it.
    pub(crate) fn seen_from(&'a self, frontend: Frontend) -> Seen<'a> {
        Seen {
            directory: self,
            frontend,
        }
    }

    pub(crate) fn add(&mut self, kind: Kind, namespace: &'a str, name: &'a str) {
        self.known.entry((kind, namespace, name)).or_default();
    }

    /// Of a ServiceEntry with several hosts the first is meant.
    pub(crate) fn add_port(
        &mut self,
        key: (Kind, &'a str, &'a str),
        (host, number): (&Host, u16),
        cluster: ClusterId,
        protocol: AppProtocol,
    ) {
        let at = cluster.0 as usize;
        if self.addresses.len() <= at {
            self.addresses.resize(at + 1, None);
        }
        self.addresses[at] = Some((host.clone(), number));
        let ports = self.known.entry(key).or_default();
        if ports.iter().all(|it| it.number != number) {
            ports.push(Port {
                number,
                cluster,
                protocol,
            });
        }
    }

    /// What is said of each of a route's backends.
    pub(crate) fn told(
        &self,
        frontend: Frontend,
        from: &ResourceRef,
        backends: impl Iterator<Item = BackendObjectReference>,
    ) -> Vec<Told> {
        let told = backends.map(|backend| Told::Cluster {
            frontend,
            from: from.clone(),
            found: self.find(frontend, from, &backend),
            backend,
        });
        told.collect()
    }

    /// By what a cluster is dialled.
    fn address(&self, cluster: ClusterId) -> Option<&(Host, u16)> {
        self.addresses.get(cluster.0 as usize)?.as_ref()
    }

    /// The cluster a backend means in a route that is attached to such a frontend.
    pub(crate) fn find(
        &self,
        frontend: Frontend,
        from: &ResourceRef,
        backend: &BackendObjectReference,
    ) -> Result<ClusterId, Unresolved> {
        let refuse = |reason, text: String| Err(Unresolved { reason, text });
        let group = backend.group.as_deref().unwrap_or_default();
        let group = if group == "core" { "" } else { group };
        let (kind, spelled) = match (group, backend.kind.as_deref().unwrap_or("Service")) {
            ("", "Service") => (Kind::Service, "Service"),
            (ISTIO_GROUP, "ServiceEntry") => (Kind::ServiceEntry, "ServiceEntry"),
            (group, kind) => {
                let dot = if group.is_empty() { "" } else { "/" };
                return refuse(
                    UnresolvedReason::InvalidKind,
                    format!("{group}{dot}{kind} cannot be a backend"),
                );
            }
        };
        let namespace = backend.namespace.as_deref().unwrap_or(&from.namespace);
        let name = &backend.name;
        let granted = || self.grants.admit(from, kind, namespace, name);
        if frontend == Frontend::Gateway && namespace != &*from.namespace && !granted() {
            let text = format!(
                "no ReferenceGrant in {namespace} lets {}s of {} refer to {spelled} {name}",
                from.kind, from.namespace
            );
            return refuse(UnresolvedReason::RefNotPermitted, text);
        }
        let Some(ports) = self.known.get(&(kind, namespace, name.as_str())) else {
            let text = format!("{spelled} {namespace}/{name} does not exist");
            return refuse(UnresolvedReason::BackendNotFound, text);
        };
        let Some(number) = backend.port else {
            let text = format!("the port of {spelled} {namespace}/{name} is not given");
            return refuse(UnresolvedReason::BackendNotFound, text);
        };
        match ports.iter().find(|it| it.number == number) {
            None => {
                let text = format!("{spelled} {namespace}/{name} has no port {number}");
                refuse(UnresolvedReason::BackendNotFound, text)
            }
            Some(it) if it.protocol == AppProtocol::Tcp && !is_of_connections(from.kind) => {
                let text = format!("port {number} of {spelled} {namespace}/{name} does not speak HTTP");
                refuse(UnresolvedReason::UnsupportedProtocol, text)
            }
            Some(it) => Ok(it.cluster),
        }
    }
}

/// Whether a kind of route passes on bytes, whatever they are.
fn is_of_connections(kind: Kind) -> bool {
    matches!(kind, Kind::TCPRoute | Kind::TLSRoute)
}

impl Backends for Seen<'_> {
    fn resolve(
        &mut self,
        from: &ResourceRef,
        target: &BackendObjectReference,
    ) -> Result<ClusterId, Unresolved> {
        self.directory.find(self.frontend, from, target)
    }

    fn address(&mut self, cluster: ClusterId) -> Option<(Host, u16)> {
        self.directory.address(cluster).cloned()
    }
}

impl<'d> Noted<'d> {
    pub(crate) fn new(seen: Seen<'d>) -> Self {
        Self {
            seen,
            told: Vec::new(),
        }
    }

    /// All that was asked, and what it was told.
    pub(crate) fn into_told(self) -> Vec<Told> {
        self.told
    }
}

impl Backends for Noted<'_> {
    fn resolve(
        &mut self,
        from: &ResourceRef,
        target: &BackendObjectReference,
    ) -> Result<ClusterId, Unresolved> {
        let found = self.seen.resolve(from, target);
        self.told.push(Told::Cluster {
            frontend: self.seen.frontend,
            from: from.clone(),
            backend: target.clone(),
            found: found.clone(),
        });
        found
    }

    fn address(&mut self, cluster: ClusterId) -> Option<(Host, u16)> {
        let found = self.seen.address(cluster);
        self.told.push(Told::Address(cluster, found.clone()));
        found
    }
}
