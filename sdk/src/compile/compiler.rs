//! Compiling again and again: what one run leaves for the next.

use std::sync::Arc;

use super::memo::Same;
use super::outbound::{self, Standpoint};
use super::{Compiled, Handover, guard, routing, service, service_entry, waypoint, workload};
use crate::config::ResourceStore;
use crate::snapshot::{Node, Snapshot};

/// Compiles as [`compile`](super::compile()) does, and keeps the parts for the next time: a run then costs what changed, and
/// a look at everything else.
///
/// What it keeps is let go of with it. The first run, and one for another [`Node`], makes everything.
#[derive(Debug, Default)]
pub struct Compiler {
    known: Known,
}

impl Compiler {
    /// Compiles what is applied; the result is that of [`compile`](super::compile()) but for the order of clusters.
    pub fn compile(
        &mut self,
        store: &ResourceStore,
        node: &Node,
        handover: &Handover,
        previous: Option<&Snapshot>,
    ) -> Compiled {
        super::run(store, node, handover, previous, &mut self.known)
    }
}

/// The parts that were made last, room by room.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// For whom they were made.
    node: Option<Node>,
    standpoint: Option<Same<Standpoint>>,
    pub(super) members: workload::Known,
    pub(super) services: service::Known,
    pub(super) service_entries: service_entry::Known,
    pub(super) waypoints: waypoint::Known,
    pub(super) outbound: outbound::Known,
    pub(super) policies: guard::Validated,
    pub(super) engines: guard::Known,
    pub(super) routes: routing::Known,
}

impl Known {
    /// Nothing that was made for somebody else, or under another mesh configuration, is of any use.
    pub(super) fn stand_on(&mut self, node: &Node) {
        if self.node.as_ref() != Some(node) {
            *self = Self {
                node: Some(node.clone()),
                ..Self::default()
            };
        }
    }

    /// The standpoint that was taken before, as long as it is the same.
    pub(super) fn standpoint(&mut self, now: Standpoint) -> Same<Standpoint> {
        match &self.standpoint {
            Some(known) if ***known == now => known.clone(),
            _ => self.standpoint.insert(Same(Arc::new(now))).clone(),
        }
    }

    /// Forgets what this run had no use for.
    pub(super) fn sweep(&mut self) {
        self.members.sweep();
        self.services.sweep();
        self.service_entries.sweep();
        self.outbound.sweep();
        self.policies.sweep();
        self.engines.sweep();
        self.routes.sweep();
    }
}
