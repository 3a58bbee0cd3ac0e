//! What every request does besides asking: pin the snapshot, choose an endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use inmesh::compile::{Handover, compile};
use inmesh::policy::balance::{Endpoint, EndpointCell, EndpointKey, EndpointSet, Workload};
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
    for size in [2, 10, 100] {
        let set = endpoints(size);
        harness.operation(("balance", "least request", size), |n| {
            let random = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            set.pick(random, &[]).map(|endpoint| endpoint.cell.enter())
        });
    }
    Ok(())
}

fn endpoints(count: usize) -> EndpointSet {
    let endpoint = |n: usize| {
        let addr = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 15008));
        Arc::new(Endpoint {
            key: EndpointKey {
                dial: addr,
                authority: Some(addr.to_string().into()),
            },
            addr,
            identities: Arc::new([]),
            weight: 1,
            workload: Arc::new(Workload::default()),
            cell: Arc::new(EndpointCell::default()),
        })
    };
    EndpointSet::new((0..count).map(endpoint).collect())
}
