//! Which policies concern which target.

use std::sync::Arc;

use super::MeshSettings;
use crate::config::istio::{
    AuthorizationPolicy, PolicyTargetReference, RequestAuthentication, Telemetry, WorkloadSelector,
};
use crate::config::{Entry, Labels, ObjectMeta};
use crate::name::ServiceName;

/// The class of Istio's waypoints.
const WAYPOINT_CLASS: &str = "istio-waypoint";

/// A policy and where it was read.
#[derive(Debug)]
pub struct PolicyInput<'a, P = AuthorizationPolicy> {
    /// The policy.
    pub policy: &'a P,
    /// Where it was read.
    pub entry: &'a Arc<Entry>,
}

impl<P> Clone for PolicyInput<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for PolicyInput<'_, P> {}

/// A policy that says itself to what it applies.
pub trait Attaches {
    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// Workloads by label.
    fn selector(&self) -> Option<&WorkloadSelector>;
    /// The targets that count: the legacy singular only where there is no list.
    fn target_refs(&self) -> &[PolicyTargetReference];
}

macro_rules! attaches {
    ($($policy:ty),*) => {
        $(impl Attaches for $policy {
            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn selector(&self) -> Option<&WorkloadSelector> {
                self.spec.selector.as_ref()
            }

            fn target_refs(&self) -> &[PolicyTargetReference] {
                match (&self.spec.target_refs[..], &self.spec.target_ref) {
                    ([], Some(one)) => std::slice::from_ref(one),
                    (list, _) => list,
                }
            }
        })*
    };
}

attaches!(AuthorizationPolicy, RequestAuthentication, Telemetry);

/// Where a service is declared; policies name the two kinds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    /// A `Service`.
    Kubernetes,
    /// A `ServiceEntry`.
    External,
}

/// A Gateway (waypoint or ingress) that enforces.
#[derive(Clone, Copy, Debug)]
pub struct GatewayTarget<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its class; `istio-waypoint` for a waypoint.
    pub class: &'a str,
}

/// For what an engine is made.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A workload, as a sidecar or ztunnel guards it.
    Workload {
        /// Its namespace.
        namespace: &'a str,
        /// Its labels.
        labels: &'a Labels,
    },
    /// A service, guarded by its waypoint or, where it has none, by its workloads.
    Service {
        /// The service.
        service: &'a ServiceName,
        /// Where it is declared.
        registry: Registry,
        /// The waypoint that enforces, if one does: its own policies apply to the service too.
        waypoint: Option<GatewayTarget<'a>>,
    },
    /// A Gateway itself: an ingress, or a waypoint where no service is meant.
    Gateway {
        /// The Gateway.
        gateway: GatewayTarget<'a>,
        /// Labels of its pods, which selectors of an ingress ask for.
        labels: &'a Labels,
    },
}

/// The policies that apply to a target (Istio "policy attachment"), in the order given.
///
/// A policy that could not be read so far that its target is unknown applies to every target of its namespace, and
/// from the root namespace, or where not even the namespace is known, to every target.
pub fn attached<'a, P: Attaches>(
    all: impl Iterator<Item = PolicyInput<'a, P>>,
    target: &Target<'_>,
    settings: &MeshSettings<'_>,
) -> Vec<PolicyInput<'a, P>> {
    all.filter(|input| target.is_met_by(input, settings.root_namespace))
        .collect()
}

impl Target<'_> {
    fn is_met_by<P: Attaches>(&self, input: &PolicyInput<'_, P>, root: &str) -> bool {
        let policy = input.policy;
        let namespace = &*policy.metadata().namespace;
        let refs = policy.target_refs();
        if super::broken(input.entry).is_some() {
            let untold = refs.is_empty() && policy.selector().is_none();
            let near = namespace == root || self.namespaces().contains(&Some(namespace));
            if namespace.is_empty() || (untold && near) {
                return true;
            }
        }
        match self {
            Self::Workload {
                namespace: own,
                labels,
            } => refs.is_empty() && selects(policy, own, labels, root),
            Self::Service {
                service,
                registry,
                waypoint,
            } => {
                let names = |one: &PolicyTargetReference| {
                    namespace == &*service.namespace && names_service(one, &service.name, *registry)
                };
                refs.iter().any(names)
                    || waypoint.is_some_and(|gateway| gateway.is_named_by(refs, namespace, root))
            }
            Self::Gateway { gateway, labels } => {
                let selected = gateway.class != WAYPOINT_CLASS
                    && refs.is_empty()
                    && selects(policy, gateway.namespace, labels, root);
                selected || gateway.is_named_by(refs, namespace, root)
            }
        }
    }

    fn namespaces(&self) -> [Option<&str>; 2] {
        match self {
            Self::Workload { namespace, .. } => [Some(namespace), None],
            Self::Service {
                service, waypoint, ..
            } => [
                Some(&service.namespace),
                waypoint.map(|gateway| gateway.namespace),
            ],
            Self::Gateway { gateway, .. } => [Some(gateway.namespace), None],
        }
    }
}

impl GatewayTarget<'_> {
    fn is_named_by(&self, refs: &[PolicyTargetReference], namespace: &str, root: &str) -> bool {
        refs.iter().any(|one| {
            is_local(one)
                && one.group == "gateway.networking.k8s.io"
                && match one.kind.as_str() {
                    "Gateway" => namespace == self.namespace && one.name == self.name,
                    "GatewayClass" => {
                        namespace == root && self.class == WAYPOINT_CLASS && one.name == WAYPOINT_CLASS
                    }
                    _ => false,
                }
        })
    }
}

fn selects(policy: &impl Attaches, namespace: &str, labels: &Labels, root: &str) -> bool {
    let from = &*policy.metadata().namespace;
    let chosen = policy.selector().is_none_or(|selector| {
        selector
            .match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    });
    (from == namespace || from == root) && chosen
}

fn names_service(one: &PolicyTargetReference, name: &str, registry: Registry) -> bool {
    let kind = match registry {
        Registry::Kubernetes => one.kind == "Service" && matches!(one.group.as_str(), "" | "core"),
        Registry::External => one.kind == "ServiceEntry" && one.group == "networking.istio.io",
    };
    kind && is_local(one) && one.name == name
}

/// A reference into another namespace is invalid and never matches.
fn is_local(one: &PolicyTargetReference) -> bool {
    one.namespace.as_deref().is_none_or(str::is_empty)
}
