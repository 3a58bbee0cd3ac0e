//! What the status of each resource should say, as data: whoever can write a status writes it.
//!
//! ```text
//! Service, AuthorizationPolicy …                 conditions
//! GatewayClass                                   conditions, supportedFeatures
//! Gateway, ListenerSet                           conditions, listeners[name].conditions
//! HTTPRoute …                                    parents[parentRef].conditions
//! BackendTLSPolicy                               ancestors[ancestorRef].conditions
//! ```
//!
//! The types serialize to the very `status` that Kubernetes shows, but for `lastTransitionTime`, which only whoever
//! keeps the earlier status can know.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::config::Entry;
use crate::config::gateway::ParentRef;
use crate::name::{Kind, ResourceRef};

/// Condition type of Services, ServiceEntries and WorkloadEntries.
pub(crate) const WAYPOINT_BOUND: &str = "istio.io/WaypointBound";
/// Condition type of AuthorizationPolicies with `targetRefs`.
pub(crate) const WAYPOINT_ACCEPTED: &str = "WaypointAccepted";
/// Condition type of Gateways, their listeners, routes' parents and policies' ancestors.
pub(crate) const ACCEPTED: &str = "Accepted";
/// Condition type of listeners, routes' parents and policies' ancestors.
pub(crate) const RESOLVED_REFS: &str = "ResolvedRefs";
/// Condition type of routes' parents; said only where some rules are carried out and others cannot be.
pub(crate) const PARTIALLY_INVALID: &str = "PartiallyInvalid";
/// Condition type of routes' parents that are Services, as Istio's ambient mode says it.
pub(crate) const RESOLVED_WAYPOINTS: &str = "ResolvedWaypoints";
/// Condition type of AuthorizationPolicies without `targetRefs`.
pub(crate) const ZTUNNEL_ACCEPTED: &str = "ZtunnelAccepted";
/// Condition type of ServiceEntries that only a waypoint can serve; said only where there is none.
pub(crate) const WAYPOINT_MISSING: &str = "istio.io/WaypointMissing";
/// Condition type of Gateways and their listeners.
pub(crate) const PROGRAMMED: &str = "Programmed";
/// Condition type of listeners.
pub(crate) const CONFLICTED: &str = "Conflicted";
/// Condition type of GatewayClasses.
pub(crate) const SUPPORTED_VERSION: &str = "SupportedVersion";
/// Condition type of listeners; said only where it is so.
pub(crate) const OVERLAPPING_TLS: &str = "OverlappingTLSConfig";

/// Why a valid listener cannot be served on the machine that it should be served on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// Its port cannot be bound.
    Port(String),
    /// TLS cannot be terminated with what it refers to.
    Tls(String),
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(text) | Self::Tls(text) => f.write_str(text),
        }
    }
}

/// The status of every resource of which anything is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(BTreeMap<ResourceRef, Arc<ResourceStatus>>);

/// What the status of one resource should say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ResourceStatus {
    /// Whose status.
    #[serde(skip)]
    pub resource: ResourceRef,
    /// The resource's `metadata.generation`; unknown for what was written by hand.
    #[serde(skip)]
    pub generation: Option<i64>,
    /// Where a Gateway can be reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// What is said of the resource as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What Gateways of a class can do, in alphabetical order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supported_features: Vec<Feature>,
    /// How many ListenerSets add listeners to a Gateway, where any may or would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_listener_sets: Option<u32>,
    /// What is said of each listener of a Gateway or a ListenerSet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerStatus>,
    /// What is said of a route by each of its parents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<ParentStatus>,
    /// What is said of a policy by each Gateway or Service through which it applies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<AncestorStatus>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Condition {
    /// The condition's type: `Accepted`, `ResolvedRefs`, `istio.io/WaypointBound`, …
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether it holds.
    #[serde(serialize_with = "as_kubernetes_does")]
    pub status: bool,
    /// The generation of the resource that this was said of, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Why, in one word.
    pub reason: Cow<'static, str>,
    /// Why, in a sentence.
    pub message: String,
}

/// Something that Gateway API's conformance suite has a name for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Feature {
    /// The name: `HTTPRoute`, `HTTPRouteCORS`, …
    pub name: &'static str,
}

/// An address of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Address {
    /// `IPAddress` or `Hostname`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The address.
    pub value: String,
}

/// What is said of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: String,
    /// The kinds of route that may attach.
    pub supported_kinds: Vec<RouteKind>,
    /// How many routes are attached.
    pub attached_routes: u32,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// A kind of route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct RouteKind {
    /// Its group.
    pub group: Cow<'static, str>,
    /// Its name.
    pub kind: Cow<'static, str>,
}

/// What is said of a route by one parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ParentStatus {
    /// The parent, as the route refers to it.
    pub parent_ref: Reference,
    /// Who says it.
    pub controller_name: String,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// What is said of a policy by one ancestor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AncestorStatus {
    /// The Gateway or Service through which the policy applies.
    pub ancestor_ref: Reference,
    /// Who says it.
    pub controller_name: String,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// A reference to a parent or ancestor, every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Reference {
    /// Group; empty for core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// One listener, or one port by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// One port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A resource with nothing but its name and its status, as `kubectl get -o yaml` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'s> {
    api_version: String,
    kind: &'static str,
    metadata: Metadata<'s>,
    status: &'s ResourceStatus,
}

#[derive(Debug, Serialize)]
struct Metadata<'s> {
    name: &'s str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
}

/// A list of resources with their `apiVersion`, `kind`, `metadata` and `status`.
impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|status| Object {
            api_version: status.resource.kind.api_version(),
            kind: status.resource.kind.as_str(),
            metadata: Metadata {
                name: &status.resource.name,
                namespace: &status.resource.namespace,
                generation: status.generation,
            },
            status,
        }))
    }
}

fn as_kubernetes_does<S: Serializer>(status: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *status { "True" } else { "False" })
}

// ===== impl Statuses =====

impl Statuses {
    /// The status of one resource, if anything is to be said of it.
    pub fn get(&self, resource: &ResourceRef) -> Option<&ResourceStatus> {
        self.0.get(resource).map(|it| &**it)
    }

    /// Every status, by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &ResourceStatus> {
        self.0.values().map(|it| &**it)
    }

    /// The status of an entry's resource, made if need be.
    pub(crate) fn of(&mut self, entry: &Entry) -> &mut ResourceStatus {
        let resource = entry.reference();
        let generation = entry.resource.metadata().generation;
        let status = self
            .0
            .entry(resource)
            .or_insert_with_key(|resource| Arc::new(ResourceStatus::new(resource.clone(), generation)));
        Arc::make_mut(status)
    }

    /// Takes over what was said of a resource before.
    pub(crate) fn share(&mut self, status: &Arc<ResourceStatus>) {
        self.0.insert(status.resource.clone(), Arc::clone(status));
    }

    /// All of them, to be shared.
    pub(crate) fn into_shared(self) -> Vec<Arc<ResourceStatus>> {
        self.0.into_values().collect()
    }

    /// Says of a listener that it cannot be served on the machine it should be served on.
    ///
    /// A listener of a ListenerSet is called `namespace/set/name`.
    pub(crate) fn unserved(&mut self, gateway: &ResourceRef, listener: &str, why: &Unserved) {
        let of_set = listener.split_once('/').and_then(|(namespace, rest)| {
            let (set, listener) = rest.split_once('/')?;
            Some((ResourceRef::new(Kind::ListenerSet, namespace, set), listener))
        });
        let (owner, listener) = of_set.unwrap_or_else(|| (gateway.clone(), listener));
        let Some(status) = self.0.get_mut(&owner).map(Arc::make_mut) else {
            return;
        };
        let generation = status.generation;
        let Some(said) = status.listeners.iter_mut().find(|it| it.name == listener) else {
            return;
        };
        let (kind, reason, text) = match why {
            Unserved::Port(text) => (ACCEPTED, "PortUnavailable", text),
            Unserved::Tls(text) => (RESOLVED_REFS, "InvalidCertificateRef", text),
        };
        for (kind, reason) in [(kind, reason), (PROGRAMMED, "Invalid")] {
            let mut condition = Condition::new(kind, false, reason, text);
            condition.observed_generation = generation;
            said.set(condition);
        }
    }

    /// Writes on every condition which generation it was said of.
    pub(crate) fn observe(&mut self) {
        for status in self.0.values_mut() {
            let generation = status.generation;
            // What is shared has it already.
            if status
                .all_conditions()
                .all(|it| it.observed_generation == generation)
            {
                continue;
            }
            for condition in Arc::make_mut(status).conditions_mut() {
                condition.observed_generation = generation;
            }
        }
    }
}

// ===== impl ResourceStatus =====

impl ResourceStatus {
    fn new(resource: ResourceRef, generation: Option<i64>) -> Self {
        Self {
            resource,
            generation,
            addresses: Vec::new(),
            supported_features: Vec::new(),
            attached_listener_sets: None,
            conditions: Vec::new(),
            listeners: Vec::new(),
            parents: Vec::new(),
            ancestors: Vec::new(),
        }
    }

    /// A condition of the resource as a whole.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.conditions, kind)
    }

    /// Every condition, with the listener, parent or ancestor that it speaks of.
    pub fn all(&self) -> impl Iterator<Item = (Option<String>, &Condition)> {
        let whole = self.conditions.iter().map(|it| (None, it));
        let listeners = self.listeners.iter().flat_map(|it| {
            let of = format!("listener {}", it.name);
            it.conditions.iter().map(move |it| (Some(of.clone()), it))
        });
        let parents = self.parents.iter().flat_map(|it| {
            let of = format!("parent {}", it.parent_ref);
            it.conditions.iter().map(move |it| (Some(of.clone()), it))
        });
        let ancestors = self.ancestors.iter().flat_map(|it| {
            let of = format!("ancestor {}", it.ancestor_ref);
            it.conditions.iter().map(move |it| (Some(of.clone()), it))
        });
        whole.chain(listeners).chain(parents).chain(ancestors)
    }

    fn all_conditions(&self) -> impl Iterator<Item = &Condition> {
        let listeners = self.listeners.iter().flat_map(|it| &it.conditions);
        let parents = self.parents.iter().flat_map(|it| &it.conditions);
        let ancestors = self.ancestors.iter().flat_map(|it| &it.conditions);
        self.conditions
            .iter()
            .chain(listeners)
            .chain(parents)
            .chain(ancestors)
    }

    fn conditions_mut(&mut self) -> impl Iterator<Item = &mut Condition> {
        let listeners = self.listeners.iter_mut().flat_map(|it| &mut it.conditions);
        let parents = self.parents.iter_mut().flat_map(|it| &mut it.conditions);
        let ancestors = self.ancestors.iter_mut().flat_map(|it| &mut it.conditions);
        self.conditions
            .iter_mut()
            .chain(listeners)
            .chain(parents)
            .chain(ancestors)
    }

    /// Says something of the resource as a whole, in place of what was said of it under that type.
    pub(crate) fn set(&mut self, condition: Condition) {
        set(&mut self.conditions, condition);
    }

    /// Adds an address.
    pub(crate) fn address(&mut self, address: std::net::IpAddr) {
        self.addresses.push(Address {
            kind: "IPAddress",
            value: address.to_string(),
        });
    }

    /// Says what Gateways of the class can do.
    pub(crate) fn supports(&mut self, names: impl Iterator<Item = &'static str>) {
        self.supported_features = names.map(|name| Feature { name }).collect();
    }

    /// What is said of one listener.
    pub(crate) fn listener(&mut self, name: &str) -> &mut ListenerStatus {
        let known = self.listeners.iter().position(|it| it.name == name);
        let at = known.unwrap_or_else(|| {
            self.listeners.push(ListenerStatus {
                name: name.to_owned(),
                supported_kinds: Vec::new(),
                attached_routes: 0,
                conditions: Vec::new(),
            });
            self.listeners.len() - 1
        });
        &mut self.listeners[at]
    }

    /// What one ancestor says of the policy.
    pub(crate) fn ancestor(&mut self, ancestor_ref: Reference, controller: &str) -> &mut AncestorStatus {
        let known = self
            .ancestors
            .iter()
            .position(|it| it.ancestor_ref == ancestor_ref);
        let at = known.unwrap_or_else(|| {
            self.ancestors.push(AncestorStatus {
                ancestor_ref,
                controller_name: controller.to_owned(),
                conditions: Vec::new(),
            });
            self.ancestors.len() - 1
        });
        &mut self.ancestors[at]
    }

    /// What one parent says of the route.
    pub(crate) fn parent(&mut self, parent_ref: Reference, controller: &str) -> &mut ParentStatus {
        let known = self.parents.iter().position(|it| it.parent_ref == parent_ref);
        let at = known.unwrap_or_else(|| {
            self.parents.push(ParentStatus {
                parent_ref,
                controller_name: controller.to_owned(),
                conditions: Vec::new(),
            });
            self.parents.len() - 1
        });
        &mut self.parents[at]
    }
}

impl ListenerStatus {
    /// The condition of a type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.conditions, kind)
    }

    pub(crate) fn set(&mut self, condition: Condition) {
        set(&mut self.conditions, condition);
    }
}

impl AncestorStatus {
    /// The condition of a type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.conditions, kind)
    }

    pub(crate) fn set(&mut self, condition: Condition) {
        set(&mut self.conditions, condition);
    }
}

impl ParentStatus {
    /// The condition of a type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.conditions, kind)
    }

    pub(crate) fn set(&mut self, condition: Condition) {
        set(&mut self.conditions, condition);
    }
}

fn find<'c>(conditions: &'c [Condition], kind: &str) -> Option<&'c Condition> {
    conditions.iter().find(|it| it.kind == kind)
}

fn set(conditions: &mut Vec<Condition>, condition: Condition) {
    match conditions.iter_mut().find(|it| it.kind == condition.kind) {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

impl Condition {
    pub(crate) fn new(
        kind: &'static str,
        status: bool,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            status,
            observed_generation: None,
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// `Accepted=True Accepted: the route is attached`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = if self.status { "True" } else { "False" };
        write!(f, "{}={status} {}: {}", self.kind, self.reason, self.message)
    }
}

// ===== impl Reference =====

impl Reference {
    /// A reference to a whole object.
    pub(crate) fn to(resource: &ResourceRef) -> Self {
        Self {
            group: resource.kind.group().to_owned(),
            kind: resource.kind.as_str().to_owned(),
            namespace: resource.namespace.to_string(),
            name: resource.name.to_string(),
            section_name: None,
            port: None,
        }
    }

    /// What a route in a namespace refers to.
    pub(crate) fn of_parent(parent: &ParentRef, namespace: &str) -> Self {
        let group = parent.group.as_deref().unwrap_or_else(|| Kind::Gateway.group());
        Self {
            group: group.to_owned(),
            kind: parent.kind.as_deref().unwrap_or("Gateway").to_owned(),
            namespace: parent.namespace.as_deref().unwrap_or(namespace).to_owned(),
            name: parent.name.clone(),
            section_name: parent.section_name.clone(),
            port: parent.port,
        }
    }
}

/// `Kind namespace/name`, with `:port` and `/section` where given.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match &self.section_name {
            Some(section) => write!(f, "/{section}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::yaml;

    #[test]
    fn a_status_is_shaped_as_kubernetes_shows_it() {
        let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: n, \
                    generation: 3}\nspec: {parentRefs: [{name: g, sectionName: a}]}\n";
        let parsed = yaml::read("a.yaml", text, None);
        let entry = &parsed.entries[0];
        let crate::config::Resource::HTTPRoute(route) = &entry.resource else {
            panic!("{entry:?}");
        };
        let mut statuses = Statuses::default();
        let parent = Reference::of_parent(&route.spec.parent_refs[0], "n");
        let said = statuses.of(entry).parent(parent.clone(), "c");
        said.set(Condition::new(ACCEPTED, true, "Accepted", "yes"));
        let said = statuses.of(entry).parent(parent, "c");
        said.set(Condition::new(ACCEPTED, false, "NoMatchingParent", "no"));
        statuses.observe();
        assert_eq!(
            json!(statuses),
            json!([{
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": "r", "namespace": "n", "generation": 3},
                "status": {"parents": [{
                    "parentRef": {
                        "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "n", "name": "g",
                        "sectionName": "a",
                    },
                    "controllerName": "c",
                    "conditions": [{
                        "type": "Accepted", "status": "False", "observedGeneration": 3,
                        "reason": "NoMatchingParent", "message": "no",
                    }],
                }]},
            }])
        );
    }
}
