//! Which policy guards what, here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, Method};

use super::kit::*;
use crate::compile::{Handover, compile};
use crate::config::ResourceStore;
use crate::config::yaml;
use crate::name::SpiffeId;
use crate::policy::RequestHead;
use crate::policy::authz::Decision;
use crate::snapshot::{Gate, InboundPolicy};

fn allows(gate: &Gate, method: &Method, caller: &str) -> bool {
    let headers = HeaderMap::new();
    let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{caller}")).unwrap();
    let mut head = RequestHead::unsent(method, "reviews", "/", None, &headers);
    head.caller.identity = Some(&id);
    head.destination = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080);
    matches!(gate.authz.decide(&head), Decision::Allow { .. })
}

fn policy(spec: &str) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: viewer, namespace: default}}
spec: {{{spec}, action: ALLOW, rules: [{{from: [{{source: {{principals: [cluster.local/ns/default/sa/curl]}}}}], to: [{{operation: {{methods: [GET]}}}}]}}]}}
"
    )
}

const ON_SERVICE: &str = "targetRefs: [{kind: Service, group: '', name: reviews}]";
const ON_GATEWAY: &str = "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]";

/// Of a policy that is no YAML not even the namespace may be known: then it is everybody's.
#[test]
fn a_policy_without_a_namespace_that_can_be_read_closes_everything() {
    let mut all = store(&[TOWN, BOUND]);
    let text = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: x}, spec: [";
    for entry in yaml::read("wreck.yaml", text, None).entries {
        all.apply(entry);
    }
    for node in [workload("reviews-v1-1"), gateway("default", "waypoint")] {
        let compiled = compile(&all, &node, &Handover::default(), None);
        let open = match &compiled.snapshot.inbound {
            InboundPolicy::Workload(it) => allows(&it.http, &Method::GET, "curl"),
            InboundPolicy::Waypoint(it) => it
                .services
                .values()
                .flatten()
                .any(|guard| allows(&guard.http, &Method::GET, "curl")),
            InboundPolicy::DenyAll => false,
        };
        assert!(!open, "{:?}", node.role);
    }
}

#[test]
fn a_policy_on_a_service_guards_at_the_workload_and_at_the_waypoint() {
    let policy = policy(ON_SERVICE);
    for texts in [vec![TOWN, &policy], vec![TOWN, BOUND, &policy]] {
        let seen = seen_by(&workload("reviews-v1-1"), &texts);
        let guard = &seen.inbound().ports[&9080][0];
        assert!(allows(&guard.http, &Method::GET, "curl"));
        assert!(!allows(&guard.http, &Method::POST, "curl") && !allows(&guard.http, &Method::GET, "other"));
        assert!(
            allows(&seen.inbound().http, &Method::POST, "other"),
            "only the service is targeted"
        );
    }
    let seen = seen_by(&gateway("default", "waypoint"), &[TOWN, BOUND, &policy]);
    let guard = &seen.serves().services.values().next().unwrap()[0];
    assert!(allows(&guard.http, &Method::GET, "curl") && !allows(&guard.http, &Method::POST, "curl"));
    assert_eq!(
        seen.reason("AuthorizationPolicy default/viewer", "WaypointAccepted"),
        "Accepted"
    );
    let unbound = caller(&[TOWN, &policy]);
    assert_eq!(
        unbound.reason("AuthorizationPolicy default/viewer", "WaypointAccepted"),
        "AncestorNotBound"
    );
}

#[test]
fn a_direct_call_cannot_go_around_the_policies_of_the_waypoint() {
    let policy = policy(ON_GATEWAY);
    let bound = seen_by(&workload("reviews-v1-1"), &[TOWN, BOUND, &policy]);
    let guard = &bound.inbound().ports[&9080][0];
    assert!(!allows(&guard.http, &Method::GET, "other"));
    assert_eq!(
        guard.waypoints[0].principal(),
        "cluster.local/ns/default/sa/waypoint"
    );
    let free = seen_by(&workload("reviews-v1-1"), &[TOWN, &policy]);
    assert!(allows(
        &free.inbound().ports[&9080][0].http,
        &Method::GET,
        "other"
    ));
}

#[test]
fn a_policy_by_selector_guards_the_workload_and_no_waypoint() {
    let policy = policy("selector: {matchLabels: {app: reviews}}");
    let seen = seen_by(&workload("reviews-v1-1"), &[TOWN, BOUND, &policy]);
    assert!(!allows(&seen.inbound().http, &Method::GET, "other"));
    let other = seen_by(&workload("waypoint-1"), &[TOWN, BOUND, &policy]);
    assert!(allows(&other.inbound().http, &Method::GET, "other"));
    let waypoint = seen_by(&gateway("default", "waypoint"), &[TOWN, BOUND, &policy]);
    assert!(allows(
        &waypoint.serves().services.values().next().unwrap()[0].http,
        &Method::GET,
        "other"
    ));
}

#[test]
fn a_workload_that_is_not_ready_or_not_listed_yet_is_guarded_already() {
    let policy = policy(ON_SERVICE);
    let town = TOWN.replace(
        "podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]",
        "podIP: 10.0.0.1",
    );
    let seen = seen_by(&workload("reviews-v1-1"), &[&town, &policy]);
    assert!(!allows(
        &seen.inbound().ports[&9080][0].http,
        &Method::GET,
        "other"
    ));
    let mut unlisted = workload("reviews-v9-1");
    unlisted.labels.insert("app".into(), "reviews".into());
    let seen = seen_by(&unlisted, &[TOWN, &policy]);
    assert!(!allows(
        &seen.inbound().ports[&9080][0].http,
        &Method::GET,
        "other"
    ));
}

#[test]
fn a_policy_that_cannot_be_read_makes_its_target_deny() {
    let text = policy(ON_SERVICE).replace("principals:", "principles:");
    let mut store: ResourceStore = store(&[TOWN]);
    yaml::read("bad.yaml", &text, None)
        .entries
        .into_iter()
        .for_each(|it| store.apply(it));
    let seen = compile(&store, &workload("reviews-v1-1"), &Handover::default(), None);
    assert!(!allows(
        &seen.inbound().ports[&9080][0].http,
        &Method::GET,
        "curl"
    ));
    assert!(allows(&seen.inbound().http, &Method::GET, "curl"));
    assert_eq!(
        seen.reason("AuthorizationPolicy default/viewer", "WaypointAccepted"),
        "Invalid"
    );
}

#[test]
fn strict_is_strict() {
    let strict = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";
    assert!(
        seen_by(&workload("reviews-v1-1"), &[TOWN, strict])
            .inbound()
            .strict
            .is_strict(9080)
    );
    assert!(
        !seen_by(&workload("reviews-v1-1"), &[TOWN])
            .inbound()
            .strict
            .is_strict(9080)
    );
}

#[test]
fn a_target_that_does_not_exist_is_said() {
    let seen = caller(&[
        TOWN,
        &policy("targetRefs: [{kind: Service, group: '', name: nobody}]"),
    ]);
    assert_eq!(
        seen.reason("AuthorizationPolicy default/viewer", "WaypointAccepted"),
        "TargetNotFound"
    );
}
