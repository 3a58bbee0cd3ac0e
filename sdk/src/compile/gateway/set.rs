//! ListenerSets: which Gateway takes which, in what order, and what is said of them (GEP-1713).

use std::collections::HashMap;
use std::sync::Arc;

use super::Looked;
use super::listener::{Checked, Fault};
use crate::compile::namespace::Namespaces;
use crate::compile::route::time::created;
use crate::compile::status::{ACCEPTED, Condition, PROGRAMMED, Statuses};
use crate::config::gateway::{Gateway, ListenerSet};
use crate::config::{Entry, Problem, ResourceStore, Severity};
use crate::name::{Kind, ResourceRef};

/// A ListenerSet that names a Gateway.
#[derive(Debug)]
pub(crate) struct Set<'a> {
    pub(crate) set: &'a ListenerSet,
    pub(crate) entry: &'a Arc<Entry>,
    pub(crate) reference: ResourceRef,
    /// Whether the Gateway takes it.
    pub(crate) admitted: Result<(), Fault>,
}

/// All ListenerSets by namespace and name of the Gateway that they name; those of one Gateway in the order of precedence.
#[derive(Debug, Default)]
pub(super) struct Sets<'a>(HashMap<(&'a str, &'a str), Vec<Set<'a>>>);

impl<'a> Sets<'a> {
    pub(super) fn read(store: &'a ResourceStore, namespaces: &Namespaces<'_>) -> Self {
        let mut all = Self::default();
        for (set, entry) in store.listener_sets() {
            let parent = &set.spec.parent_ref;
            let own = &*set.metadata.namespace;
            let namespace = parent.namespace.as_deref().unwrap_or(own);
            let gateway = store.gateway(namespace, &parent.name).map(|(gateway, _)| gateway);
            all.0.entry((namespace, &parent.name)).or_default().push(Set {
                set,
                entry,
                reference: entry.reference(),
                admitted: admitted(set, gateway, namespaces),
            });
        }
        for sets in all.0.values_mut() {
            // The oldest first, then by `namespace/name`.
            sets.sort_by_cached_key(|it| {
                let age = created(&it.set.metadata).unwrap_or(u64::MAX);
                (age, it.reference.clone())
            });
        }
        all
    }

    /// Takes those that name a Gateway.
    pub(super) fn take(&mut self, gateway: &'a Gateway) -> Vec<Set<'a>> {
        let meta = &gateway.metadata;
        self.0
            .remove(&(&*meta.namespace, &*meta.name))
            .unwrap_or_default()
    }

    /// Those that are left.
    pub(super) fn into_rest(self) -> Vec<Set<'a>> {
        self.0.into_values().flatten().collect()
    }
}

fn admitted(set: &ListenerSet, gateway: Option<&Gateway>, namespaces: &Namespaces<'_>) -> Result<(), Fault> {
    let parent = &set.spec.parent_ref;
    let group = parent.group.as_deref().unwrap_or_else(|| Kind::Gateway.group());
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    if group != Kind::Gateway.group() || kind != "Gateway" {
        let text = format!("a ListenerSet belongs to a Gateway, not to {kind} of group `{group}`");
        return Err(Fault::new("Invalid", text));
    }
    let Some(gateway) = gateway else {
        let text = format!("Gateway {} does not exist", parent.name);
        return Err(Fault::new("ParentNotAccepted", text));
    };
    let allowed = gateway.spec.allowed_listeners.as_ref();
    let rule = allowed.and_then(|it| it.namespaces.as_ref());
    match namespaces.takes(rule, &gateway.metadata.namespace, &set.metadata.namespace) {
        true => Ok(()),
        false => {
            let text = format!(
                "allowedListeners of Gateway {} takes no ListenerSets of {}",
                parent.name, set.metadata.namespace
            );
            Err(Fault::new("NotAllowed", text))
        }
    }
}

/// Says what becomes of the ListenerSets that name a Gateway of which this is said; returns how many are attached, if
/// that is worth telling.
pub(super) fn report(
    gateway: &Looked<'_>,
    conditions: &[Condition],
    problems: &mut Vec<Problem>,
    statuses: &mut Statuses,
) -> Option<u32> {
    let is = |kind: &str| conditions.iter().any(|it| it.kind == kind && it.status);
    let mut attached = 0;
    for (at, set) in gateway.sets.iter().enumerate() {
        if set.admitted.is_err() {
            refused(set, problems, statuses);
            continue;
        }
        let own = || gateway.listeners.iter().filter(|it| it.set == Some(at));
        let is_valid = |it: &Checked<'_>| it.accepted.is_ok() && it.conflict.is_none();
        let accepted = if !is(ACCEPTED) {
            Err(("ParentNotAccepted", "the Gateway is not accepted"))
        } else if !own().any(is_valid) {
            Err(("ListenersNotValid", "no listener is valid"))
        } else {
            Ok(())
        };
        attached += u32::from(accepted.is_ok());
        let programmed = match accepted {
            Err(("ParentNotAccepted", text)) => Err(("ParentNotProgrammed", text)),
            Err(why) => Err(why),
            Ok(()) if !is(PROGRAMMED) => Err(("ParentNotProgrammed", "the Gateway is not programmed")),
            Ok(()) if !own().any(|it| it.serves().is_some()) => {
                Err(("ListenersNotValid", "no listener can be served"))
            }
            Ok(()) => Ok(()),
        };
        let status = statuses.of(set.entry);
        status.set(match accepted {
            Ok(()) => Condition::new(ACCEPTED, true, "Accepted", "the Gateway takes its listeners"),
            Err((reason, text)) => Condition::new(ACCEPTED, false, reason, text),
        });
        status.set(match programmed {
            Ok(()) => Condition::new(PROGRAMMED, true, "Programmed", "its listeners are served"),
            Err((reason, text)) => Condition::new(PROGRAMMED, false, reason, text),
        });
    }
    let is_told = !gateway.sets.is_empty() || gateway.gateway.spec.allowed_listeners.is_some();
    is_told.then_some(attached)
}

/// Says that nobody serves the listeners of a ListenerSet.
pub(super) fn refused(set: &Set<'_>, problems: &mut Vec<Problem>, statuses: &mut Statuses) {
    let Err(fault) = &set.admitted else { return };
    let (field, remedy) = match fault.reason {
        "NotAllowed" => ("spec", "let the Gateway take it by spec.allowedListeners"),
        _ => ("spec.parentRef", "name a Gateway that exists"),
    };
    problems.push(set.entry.problem(
        Severity::Error,
        field,
        format!("{}: its listeners are not served: {}", fault.reason, fault.text),
        remedy,
    ));
    let status = statuses.of(set.entry);
    for kind in [ACCEPTED, PROGRAMMED] {
        status.set(Condition::new(kind, false, fault.reason, &*fault.text));
    }
}
