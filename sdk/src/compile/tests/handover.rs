//! Bindings come and go without a request falling between two readings of the same change.

use std::collections::BTreeSet;

use super::kit::*;
use crate::compile::{Binding, Compiled, Handover, compile};
use crate::config::ResourceStore;
use crate::snapshot::Node;

fn after(store: &ResourceStore, node: &Node, young: &[&Binding], lingering: &[&Binding]) -> Compiled {
    let handover = Handover {
        young: young.iter().map(|it| it.key.clone()).collect(),
        lingering: lingering.iter().map(|it| (*it).clone()).collect(),
        ..Handover::default()
    };
    compile(store, node, &handover, None)
}

fn reviews(compiled: &Compiled) -> Binding {
    let found = compiled
        .bindings
        .iter()
        .find(|it| it.key.object.to_string() == "Service default/reviews");
    found.unwrap().clone()
}

#[test]
fn a_new_binding_is_trusted_and_served_before_it_is_used() {
    let store = store(&[TOWN, BOUND]);
    let binding = reviews(&caller(&[TOWN, BOUND]));
    assert_eq!(
        after(&store, &workload("x"), &[&binding], &[]).waypoint("reviews:9080"),
        None
    );
    let destination = after(&store, &workload("reviews-v1-1"), &[&binding], &[]);
    assert_eq!(
        destination.inbound().ports[&9080][0].waypoints,
        binding.identities
    );
    assert_eq!(
        after(&store, &gateway("default", "waypoint"), &[&binding], &[])
            .serves()
            .services
            .len(),
        1
    );
}

#[test]
fn a_removed_binding_is_left_at_once_but_still_trusted_and_served() {
    let store = store(&[TOWN]);
    let binding = reviews(&caller(&[TOWN, BOUND]));
    assert_eq!(
        after(&store, &workload("x"), &[], &[&binding]).waypoint("reviews:9080"),
        None
    );
    let destination = after(&store, &workload("reviews-v1-1"), &[], &[&binding]);
    assert_eq!(
        destination.inbound().ports[&9080][0].waypoints,
        binding.identities
    );
    assert_eq!(
        after(&store, &gateway("default", "waypoint"), &[], &[&binding])
            .serves()
            .services
            .len(),
        1
    );
    let forgotten = after(&store, &workload("reviews-v1-1"), &[], &[]);
    assert!(forgotten.inbound().ports[&9080][0].waypoints.is_empty());
}

#[test]
fn a_removed_gateway_is_remembered_by_its_identities() {
    let binding = reviews(&caller(&[TOWN, BOUND]));
    let mut store = store(&[TOWN, BOUND]);
    let gone = binding.key.gateway.clone();
    assert!(store.delete(&gone));
    let destination = after(&store, &workload("reviews-v1-1"), &[], &[&binding]);
    assert_eq!(
        destination.inbound().ports[&9080][0].waypoints,
        binding.identities
    );
    assert_eq!(
        after(&store, &gateway("default", "waypoint"), &[], &[&binding])
            .serves()
            .services
            .len(),
        1
    );
}

#[test]
fn from_one_waypoint_to_another_callers_stay_until_the_new_one_is_old_enough() {
    let second = TOWN
        .split("---")
        .filter(|it| it.contains("waypoint"))
        .collect::<Vec<_>>()
        .join("---");
    let second = second
        .replace("waypoint-1", "other-1")
        .replace("gateway-name: waypoint", "gateway-name: other");
    let second = second
        .replace("name: waypoint,", "name: other,")
        .replace("10.0.0.15", "10.0.0.16");
    let before = reviews(&caller(&[TOWN, BOUND]));
    let label = BOUND.replace("use-waypoint: waypoint", "use-waypoint: other");
    let new = reviews(&caller(&[TOWN, &second, &label]));
    let store = store(&[TOWN, &second, &label]);
    let during = after(&store, &workload("x"), &[&new], &[&before]);
    assert_eq!(
        during.waypoint("reviews:9080").as_deref(),
        Some("default/waypoint")
    );
    let then = after(&store, &workload("x"), &[], &[&before]);
    assert_eq!(then.waypoint("reviews:9080").as_deref(), Some("default/other"));
}

#[test]
fn what_is_bound_and_who_was_ready_is_told_to_the_clock() {
    let seen = caller(&[TOWN, BOUND]);
    let binding = reviews(&seen);
    assert_eq!(binding.identities.len(), 1);
    assert_eq!(&*binding.class, "istio-waypoint");
    assert_eq!(seen.ready, BTreeSet::from([binding.key.gateway]));
}
