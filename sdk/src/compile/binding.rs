//! Who is bound to which waypoint: by the labels now, and by what was so a moment ago.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::authz::GatewayTarget;
use super::handover::{Binding, BindingKey, Handover};
use super::labels;
use super::namespace::Namespaces;
use super::service::Destination;
use super::status::{Condition, Statuses, WAYPOINT_BOUND, WAYPOINT_MISSING};
use super::waypoint::{Asked, Object, Waypoint, Waypoints};
use super::workload::Members;
use crate::config::{Entry, Problem, Severity};
use crate::name::{Kind, ResourceRef, SpiffeId};

/// All bindings, seen from three sides: callers, destinations, waypoints.
#[derive(Debug)]
pub(crate) struct Bindings<'w, 'a> {
    waypoints: &'w Waypoints<'a>,
    now: HashMap<ResourceRef, &'w Waypoint<'a>>,
    before: BTreeMap<&'w ResourceRef, Vec<&'w Binding>>,
    young: &'w BTreeSet<BindingKey>,
}

impl<'w, 'a> Bindings<'w, 'a> {
    /// Follows the labels of every service and workload; what is refused is reported once per object.
    pub(crate) fn read(
        destinations: &[Arc<Destination>],
        members: &Members<'_>,
        waypoints: &'w Waypoints<'a>,
        namespaces: &Namespaces<'_>,
        handover: &'w Handover,
        report: &mut Report<'_>,
    ) -> Self {
        let mut now = HashMap::new();
        let mut bind = |object: Object<'_>, entry: &Entry| {
            let reference = entry.reference();
            if now.contains_key(&reference) {
                return;
            }
            report.canary(object, entry);
            let asked = waypoints.asked(object, namespaces);
            report.outcome(&reference, &asked, entry);
            if let Asked::Bound(waypoint) = asked {
                now.insert(reference, waypoint);
            }
        };
        for it in destinations {
            let private = it
                .visible_in
                .as_ref()
                .is_some_and(|list| list.iter().all(|ns| *ns == it.name.namespace));
            let object = Object {
                kind: it.kind,
                namespace: &it.name.namespace,
                labels: it.labels(),
                private,
            };
            bind(object, &it.entry);
        }
        for it in members.iter().filter(|it| it.alive) {
            let namespace = &*it.name.namespace;
            bind(
                Object {
                    kind: it.kind,
                    namespace,
                    labels: it.labels(),
                    private: false,
                },
                &it.entry,
            );
        }
        for it in destinations.iter().filter(|it| it.wildcard.is_some()) {
            if !now.contains_key(&it.entry.reference()) {
                report.missing(&it.entry);
            }
        }
        Self {
            waypoints,
            now,
            before: handover.by_object(),
            young: &handover.young,
        }
    }

    /// Whether nothing is bound now.
    pub(crate) fn is_empty(&self) -> bool {
        self.now.is_empty()
    }

    /// What is bound now, for the clock of `control`.
    pub(crate) fn all(&self) -> Vec<Binding> {
        let binding = |(object, waypoint): (&ResourceRef, &&Waypoint<'_>)| Binding {
            key: BindingKey {
                object: object.clone(),
                gateway: waypoint.reference.clone(),
            },
            class: waypoint.class().into(),
            identities: waypoint.identities.clone(),
        };
        let mut all: Vec<Binding> = self.now.iter().map(binding).collect();
        all.sort();
        all
    }

    /// The waypoint that the labels name now.
    pub(crate) fn declared(&self, object: &ResourceRef) -> Option<&'w Waypoint<'a>> {
        self.now.get(object).copied()
    }

    /// The waypoint a caller goes through: while a new one is young the one before it, if that still stands.
    pub(crate) fn for_caller(&self, object: &ResourceRef) -> Option<&'w Waypoint<'a>> {
        let waypoint = self.declared(object)?;
        let key = BindingKey {
            object: object.clone(),
            gateway: waypoint.reference.clone(),
        };
        if !self.young.contains(&key) {
            return Some(waypoint);
        }
        let before = self
            .before
            .get(object)?
            .iter()
            .filter(|it| it.key.gateway != waypoint.reference);
        let standing = before.filter_map(|it| self.waypoints.get(&it.key.gateway));
        standing.into_iter().find(|it| !it.instances.is_empty())
    }

    /// Whether a Gateway is or was anybody's waypoint, or could be.
    pub(crate) fn is_waypoint(&self, gateway: &ResourceRef) -> bool {
        let before = || {
            self.before
                .values()
                .flatten()
                .any(|it| it.key.gateway == *gateway)
        };
        self.waypoints
            .get(gateway)
            .map_or_else(before, Waypoint::is_waypoint)
    }

    /// Whose calls a destination takes as judged by its waypoint.
    pub(crate) fn trusted(&self, object: &ResourceRef) -> Vec<SpiffeId> {
        let now = self.declared(object).into_iter().flat_map(|it| &it.identities);
        let before = self
            .before
            .get(object)
            .into_iter()
            .flatten()
            .flat_map(|it| &it.identities);
        now.chain(before)
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// The given Gateway as the waypoint that must serve the object: bound now, or a moment ago.
    pub(crate) fn served_by<'g>(
        &'g self,
        object: &ResourceRef,
        gateway: &'g ResourceRef,
    ) -> Option<GatewayTarget<'g>> {
        let target = |class| GatewayTarget {
            namespace: &gateway.namespace,
            name: &gateway.name,
            class,
        };
        if let Some(waypoint) = self.declared(object).filter(|it| it.reference == *gateway) {
            return Some(target(waypoint.class()));
        }
        let before = self
            .before
            .get(object)?
            .iter()
            .find(|it| it.key.gateway == *gateway)?;
        Some(target(&before.class))
    }
}

/// Where bindings are told of.
pub(crate) struct Report<'r> {
    pub(crate) problems: &'r mut Vec<Problem>,
    pub(crate) statuses: &'r mut Statuses,
}

impl Report<'_> {
    fn outcome(&mut self, reference: &ResourceRef, asked: &Asked<'_, '_>, entry: &Entry) {
        // Pods get no such condition from Istio either.
        let has_condition = reference.kind != Kind::Pod;
        let mut condition = |status, reason: &str, message: String| {
            if has_condition {
                let condition = Condition::new(WAYPOINT_BOUND, status, reason.to_owned(), message);
                self.statuses.of(entry).set(condition);
            }
        };
        match asked {
            Asked::Nothing => {}
            Asked::Bound(waypoint) => {
                let gateway = &waypoint.gateway.metadata;
                let text = format!(
                    "Successfully attached to waypoint {}/{}",
                    gateway.namespace, gateway.name
                );
                condition(true, "WaypointAccepted", text);
            }
            Asked::Refused { reason, message } => {
                condition(false, reason, message.clone());
                self.problems.push(entry.problem(
                    Severity::Warning,
                    format!("metadata.labels.{}", labels::USE_WAYPOINT),
                    format!("{reason}: {message}; calls go straight to the workloads"),
                    "name a Gateway that is ready and admits this namespace, or remove the label",
                ));
            }
        }
    }

    /// Nobody can look up a wildcard: in ambient mode only a waypoint can tell which host is meant.
    fn missing(&mut self, entry: &Entry) {
        let text = "a wildcard host needs a waypoint in ambient mode; callers that link inmesh do without";
        let condition = Condition::new(WAYPOINT_MISSING, true, "WaypointMissing", text);
        self.statuses.of(entry).set(condition);
    }

    fn canary(&mut self, object: Object<'_>, entry: &Entry) {
        if object.labels.contains_key(labels::USE_WAYPOINT_CANARY) {
            self.problems.push(entry.problem(
                Severity::Ignored,
                format!("metadata.labels.{}", labels::USE_WAYPOINT_CANARY),
                "a canary waypoint is not enforced; all calls go through the primary one",
                "remove the label",
            ));
        }
    }
}
