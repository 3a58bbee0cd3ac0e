//! The live snapshot: one atomic pointer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Snapshot, Tap};

/// The snapshot in force. Reading it costs one pointer load and one reference count; nothing ever waits.
#[derive(Debug)]
pub struct Live {
    now: ArcSwap<Snapshot>,
    generations: watch::Sender<u64>,
    tap: Tap,
}

impl Live {
    /// Starts with the given snapshot.
    pub fn new(first: Snapshot) -> Self {
        let generations = watch::Sender::new(first.generation);
        Self {
            now: ArcSwap::from_pointee(first),
            generations,
            tap: Tap::default(),
        }
    }

    /// The snapshot in force, kept for as long as the caller holds it.
    pub fn pin(&self) -> Arc<Snapshot> {
        self.now.load_full()
    }

    /// Puts a new snapshot in force and returns the one it replaces.
    pub fn publish(&self, next: Arc<Snapshot>) -> Arc<Snapshot> {
        let generation = next.generation;
        let old = self.now.swap(next);
        self.generations.send_replace(generation);
        old
    }

    /// Where requests that it judged are left for whoever looks.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Tells of every new generation: for whatever outlives requests and must be judged again.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generations.subscribe()
    }
}
