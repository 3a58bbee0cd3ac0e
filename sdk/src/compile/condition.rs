//! What the status of each resource should say, as data: whoever can write a status writes it.

use crate::config::gateway::ParentRef;
use crate::name::ResourceRef;

/// One condition of one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// Whose status.
    pub resource: ResourceRef,
    /// For routes: the parent that it speaks of, as `namespace/name`, with `:port` or `/section` where given.
    pub parent: Option<String>,
    /// The condition's type: `Accepted`, `ResolvedRefs`, `istio.io/WaypointBound`, …
    pub kind: &'static str,
    /// Whether it holds.
    pub status: bool,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// Condition type of Services, ServiceEntries and WorkloadEntries.
pub(crate) const WAYPOINT_BOUND: &str = "istio.io/WaypointBound";
/// Condition type of AuthorizationPolicies with `targetRefs`.
pub(crate) const WAYPOINT_ACCEPTED: &str = "WaypointAccepted";
/// Condition type of Gateways and of routes' parents.
pub(crate) const ACCEPTED: &str = "Accepted";
/// Condition type of routes' parents.
pub(crate) const RESOLVED_REFS: &str = "ResolvedRefs";
/// Condition type of Gateways.
pub(crate) const PROGRAMMED: &str = "Programmed";

impl Condition {
    pub(crate) fn new(
        resource: ResourceRef,
        kind: &'static str,
        status: bool,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            resource,
            parent: None,
            kind,
            status,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn of_parent(mut self, parent: &ParentRef, namespace: &str) -> Self {
        let mut text = format!(
            "{}/{}",
            parent.namespace.as_deref().unwrap_or(namespace),
            parent.name
        );
        if let Some(port) = parent.port {
            text.push_str(&format!(":{port}"));
        }
        if let Some(section) = &parent.section_name {
            text.push_str(&format!("/{section}"));
        }
        self.parent = Some(text);
        self
    }
}
