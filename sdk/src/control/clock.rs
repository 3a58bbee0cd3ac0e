//! What compile must know of time: since when bindings are known, and until when removed ones count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::compile::{Binding, BindingKey, Compiled, Contents, Handover, Resolved};
use crate::name::ResourceRef;

/// Remembers bindings and makes [`Handover`]s of them.
#[derive(Debug)]
pub(super) struct Clock {
    settle: Duration,
    linger: Duration,
    /// Bindings in force and since when; those of the first compilation have no time, they are old.
    known: BTreeMap<BindingKey, (Binding, Option<Instant>)>,
    /// Bindings, or former identities of them, that are gone, and since when.
    gone: BTreeMap<Binding, Instant>,
    ready: BTreeSet<ResourceRef>,
    first: bool,
}

impl Clock {
    pub(super) fn new(settle: Duration, linger: Duration) -> Self {
        Self {
            settle,
            linger,
            known: BTreeMap::new(),
            gone: BTreeMap::new(),
            ready: BTreeSet::new(),
            first: true,
        }
    }

    /// What compile is told now.
    pub(super) fn handover(&mut self, now: Instant, resolved: Resolved) -> Handover {
        let (settle, linger) = (self.settle, self.linger);
        self.gone.retain(|_, since| *since + linger > now);
        let young = |(key, (_, since)): (&BindingKey, &(Binding, Option<Instant>))| {
            since.filter(|since| *since + settle > now).map(|_| key.clone())
        };
        Handover {
            young: self.known.iter().filter_map(young).collect(),
            lingering: self.gone.keys().cloned().collect(),
            ready: self.ready.clone(),
            resolved,
            // Whoever reads files adds what is in them.
            files: Contents::default(),
        }
    }

    /// Takes in what a compilation found bound. Returns whether another one is due at once, because something is new or
    /// gone of which the last one was not told.
    pub(super) fn note(&mut self, compiled: &Compiled, now: Instant) -> bool {
        // Both are in the order of their keys.
        let known = self.known.values().map(|(binding, _)| binding);
        if !self.first && self.ready == compiled.ready && known.eq(&compiled.bindings) {
            return false;
        }
        let since = (!self.first).then_some(now);
        let mut changed = self.ready != compiled.ready && !self.first;
        self.ready.clone_from(&compiled.ready);
        let mut before = std::mem::take(&mut self.known);
        for binding in &compiled.bindings {
            let known = match before.remove(&binding.key) {
                Some((old, since)) => {
                    if old != *binding {
                        // Another instance of the waypoint: what the former one still sends was judged there, too.
                        self.gone.insert(old, now);
                        changed = true;
                    }
                    since
                }
                None => {
                    changed |= since.is_some();
                    since
                }
            };
            self.gone.remove(binding);
            self.known.insert(binding.key.clone(), (binding.clone(), known));
        }
        for (binding, _) in before.into_values() {
            self.gone.insert(binding, now);
            changed = true;
        }
        self.first = false;
        changed
    }

    /// When the next binding stops being young or lingering.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let young = self
            .known
            .values()
            .filter_map(|(_, since)| since.map(|since| since + self.settle));
        let gone = self.gone.values().map(|since| *since + self.linger);
        young.chain(gone).filter(|at| *at > now).min()
    }
}
