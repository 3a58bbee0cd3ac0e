//! What every request does besides asking: pin the snapshot.

use std::sync::Arc;

use anyhow::Result;
use inmesh::compile::{Handover, compile};
use inmesh::snapshot::Live;

use super::compile::{node, read, world};
use super::harness::Harness;

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    for size in [10, 100] {
        let store = read(&world(size, size)?)?;
        let snapshot = || compile(&store, &node(), &Handover::default(), None).snapshot;
        let live = Live::new(snapshot());
        harness.operation(("pin", "snapshot", size), |_| live.pin().generation);
        let mut both = [Arc::new(snapshot()), Arc::new(snapshot())];
        harness.operation(("publish", "snapshot", size), |n| {
            // What was replaced is kept, so that the swap alone is timed and not the end of a snapshot.
            let next = both[n % 2].clone();
            both[n % 2] = live.publish(next);
        });
    }
    Ok(())
}
