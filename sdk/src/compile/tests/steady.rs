//! Compile is a function, keeps what did not change, and grows with what there is.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::kit::*;
use crate::compile::{Handover, compile};

#[test]
fn the_same_inputs_give_the_same_result() {
    let store = store(&[TOWN, BOUND]);
    let once = || {
        let it = compile(&store, &workload("reviews-v1-1"), &Handover::default(), None);
        let clusters = format!("{:?}", it.snapshot.clusters);
        (
            clusters,
            it.problems,
            it.statuses,
            it.bindings,
            it.snapshot.generation,
        )
    };
    assert_eq!(once(), once());
}

#[test]
fn what_did_not_change_is_carried_into_the_next_snapshot() {
    let first = caller(&[TOWN]);
    let busy = first.cluster("reviews:9080").endpoints.endpoints()[0]
        .cell
        .enter();
    let less = TOWN.replace("podIP: 10.0.0.2,", "podIP: 10.0.0.9,");
    let next = compile(
        &store(&[&less]),
        &workload("x"),
        &Handover::default(),
        Some(&first.snapshot),
    );
    assert_eq!(next.snapshot.generation, 2);
    let in_flight: Vec<u32> = next
        .cluster("reviews:9080")
        .endpoints
        .endpoints()
        .iter()
        .map(|it| it.cell.in_flight())
        .collect();
    assert_eq!(in_flight, [1, 0]);
    drop(busy);
    let same = compile(
        &store(&[&less]),
        &workload("x"),
        &Handover::default(),
        Some(&next.snapshot),
    );
    assert!(Arc::ptr_eq(
        &next.snapshot.clusters[0],
        &same.snapshot.clusters[0]
    ));
}

#[test]
fn an_endpoint_that_must_prove_another_identity_starts_afresh() {
    let first = caller(&[TOWN]);
    let _busy = first.cluster("reviews:9080").endpoints.endpoints()[0]
        .cell
        .enter();
    let other = TOWN.replace("bookinfo-reviews", "renamed");
    let next = compile(
        &store(&[&other]),
        &workload("x"),
        &Handover::default(),
        Some(&first.snapshot),
    );
    assert_eq!(
        next.cluster("reviews:9080").endpoints.endpoints()[0]
            .cell
            .in_flight(),
        0
    );
}

/// What this thread has had of a processor, whoever else wanted one meanwhile; where the kernel tells.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

#[test]
fn many_services_are_not_a_square() {
    let compile_of = |count: u32| {
        let mut text = String::new();
        for n in 0..count {
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: default}}\nspec: {{selector: {{app: a{n}}}, \
                 ports: [{{name: http, port: 80}}]}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}, namespace: default, \
                 labels: {{app: a{n}}}}}\nstatus: {{podIP: 10.{}.{}.{}, conditions: [{{type: Ready, status: 'True'}}]}}\n",
                n / 65_536,
                n / 256 % 256,
                n % 256
            );
        }
        let store = store(&[&text]);
        let once = || {
            let before = processor_time()?;
            let seen = compile(&store, &workload("p1"), &Handover::default(), None);
            assert_eq!(seen.snapshot.clusters.len(), count as usize);
            processor_time().map(|after| after - before)
        };
        // The least of three: pages that are touched for the first time are nobody's square.
        (0..3).filter_map(|_| once()).min()
    };
    let (Some(small), Some(large)) = (compile_of(500), compile_of(5_000)) else {
        eprintln!("SKIPPED: this kernel does not tell what a thread has had of a processor");
        return;
    };
    // Ten times as much; a square would be a hundred.
    assert!(large < small * 40, "{small:?} {large:?}");
}
