//! Which cluster a route's backend means, and whether the route may refer to it (ReferenceGrant).

use std::collections::{HashMap, HashSet};

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

/// What can be a backend, seen from here.
#[derive(Debug)]
pub(crate) struct Directory<'a> {
    grants: &'a Grants<'a>,
    clusters: HashMap<(Kind, String, String, u16), (ClusterId, AppProtocol)>,
    services: HashSet<(Kind, String, String)>,
    /// By what clusters are dialled.
    addresses: HashMap<ClusterId, (Host, u16)>,
}

impl<'a> Directory<'a> {
    pub(crate) fn new(grants: &'a Grants<'a>) -> Self {
        Self {
            grants,
            clusters: HashMap::new(),
            services: HashSet::new(),
            addresses: HashMap::new(),
        }
    }

    /// As routes attached to such a frontend may use it.
    pub(crate) fn seen_from(&'a self, frontend: Frontend) -> Seen<'a> {
        Seen {
            directory: self,
            frontend,
        }
    }

    pub(crate) fn add(&mut self, kind: Kind, namespace: &str, name: &str) {
        self.services
            .insert((kind, namespace.to_owned(), name.to_owned()));
    }

    /// Of a ServiceEntry with several hosts the first is meant.
    pub(crate) fn add_port(
        &mut self,
        (kind, namespace, name): (Kind, &str, &str),
        (host, port): (&Host, u16),
        cluster: ClusterId,
        protocol: AppProtocol,
    ) {
        self.addresses.insert(cluster, (host.clone(), port));
        let key = (kind, namespace.to_owned(), name.to_owned(), port);
        self.clusters.entry(key).or_insert((cluster, protocol));
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
        if !self
            .services
            .contains(&(kind, namespace.to_owned(), name.clone()))
        {
            let text = format!("{spelled} {namespace}/{name} does not exist");
            return refuse(UnresolvedReason::BackendNotFound, text);
        }
        let Some(port) = backend.port else {
            let text = format!("the port of {spelled} {namespace}/{name} is not given");
            return refuse(UnresolvedReason::BackendNotFound, text);
        };
        match self
            .clusters
            .get(&(kind, namespace.to_owned(), name.clone(), port))
        {
            None => {
                let text = format!("{spelled} {namespace}/{name} has no port {port}");
                refuse(UnresolvedReason::BackendNotFound, text)
            }
            Some((_, AppProtocol::Tcp)) if !is_of_connections(from.kind) => {
                let text = format!("port {port} of {spelled} {namespace}/{name} does not speak HTTP");
                refuse(UnresolvedReason::UnsupportedProtocol, text)
            }
            Some((cluster, _)) => Ok(*cluster),
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

    fn address(&self, cluster: ClusterId) -> Option<(Host, u16)> {
        self.directory.addresses.get(&cluster).cloned()
    }
}
