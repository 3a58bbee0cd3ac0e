//! What compile must know of time, as data: which bindings are too new to use and which too recent to forget.
//!
//! Callers, waypoint and destinations read the same change at slightly different times. So a *new* binding is used
//! by callers only after the others had time to learn of it, and a *removed* one stays trusted by destinations and
//! served by its waypoint until the last caller has learned. `control` keeps the clock; compile stays pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::files::Contents;
use super::service_entry::Resolved;
use crate::name::{ResourceRef, SpiffeId};

/// That an object (Service, ServiceEntry, Pod, WorkloadEntry) uses a waypoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingKey {
    /// What is bound.
    pub object: ResourceRef,
    /// To which Gateway.
    pub gateway: ResourceRef,
}

/// A binding with what must be remembered of the waypoint when it is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    /// What is bound to what.
    pub key: BindingKey,
    /// The Gateway's class: policies name it.
    pub class: Arc<str>,
    /// Whom the waypoint's instances prove to be.
    pub identities: Vec<SpiffeId>,
}

/// What compile is told of time and of the world outside the resources.
///
/// The default is the first compile of a process: nothing is young, nothing lingers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Bindings known for so short a time that callers must not use them yet.
    pub young: BTreeSet<BindingKey>,
    /// Bindings (or identities of them) that were in force a moment ago and still count for destinations and waypoint.
    pub lingering: BTreeSet<Binding>,
    /// Gateways that once had an instance; while they exist, services stay bound to them even if all are down.
    pub ready: BTreeSet<ResourceRef>,
    /// What DNS says of the names that the last compile asked for.
    pub resolved: Resolved,
    /// What is in the files that the last compile asked for.
    pub files: Contents,
}

impl Handover {
    /// The lingering bindings by object.
    pub(crate) fn by_object(&self) -> BTreeMap<&ResourceRef, Vec<&Binding>> {
        let mut index: BTreeMap<&ResourceRef, Vec<&Binding>> = BTreeMap::new();
        for binding in &self.lingering {
            index.entry(&binding.key.object).or_default().push(binding);
        }
        index
    }
}
