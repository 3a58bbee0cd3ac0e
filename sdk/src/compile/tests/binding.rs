//! Which waypoint applies (ambient.md §3, §4, §10).

use super::kit::*;
use crate::compile::{Handover, compile};

const BOUND_KIND: &str = "istio.io/WaypointBound";

fn labelled(label: &str) -> String {
    TOWN.replacen(
        "{name: reviews, namespace: default}",
        &format!("{{name: reviews, namespace: default, labels: {{{label}}}}}"),
        1,
    )
}

#[test]
fn the_label_on_the_namespace_binds_its_services() {
    let seen = caller(&[TOWN, BOUND]);
    assert_eq!(seen.waypoint("reviews:9080").as_deref(), Some("default/waypoint"));
    assert_eq!(
        seen.endpoints("reviews:9080"),
        ["10.0.0.15:15008 reviews.default.svc.cluster.local:9080 cluster.local/ns/default/sa/waypoint"]
    );
    assert_eq!(
        seen.reason("Service default/reviews", BOUND_KIND),
        "WaypointAccepted"
    );
}

#[test]
fn the_waypoint_is_asked_for_the_virtual_address_where_there_is_one() {
    let town = TOWN.replace(
        "spec: {selector: {app: reviews},",
        "spec: {clusterIP: 10.96.0.1, selector: {app: reviews},",
    );
    let seen = caller(&[&town, BOUND]);
    assert!(seen.endpoints("reviews:9080")[0].starts_with("10.0.0.15:15008 10.96.0.1:9080 "));
}

#[test]
fn the_label_on_a_service_binds_it_alone_and_none_opts_out() {
    let seen = caller(&[&labelled("istio.io/use-waypoint: waypoint")]);
    assert_eq!(seen.waypoint("reviews:9080").as_deref(), Some("default/waypoint"));
    let seen = caller(&[&labelled("istio.io/use-waypoint: none"), BOUND]);
    assert_eq!(seen.waypoint("reviews:9080"), None);
    assert!(seen.condition("Service default/reviews", BOUND_KIND).is_none());
}

#[test]
fn a_waypoint_that_does_not_exist_is_no_reason_to_use_the_namespaces() {
    let seen = caller(&[&labelled("istio.io/use-waypoint: missing"), BOUND]);
    assert_eq!(seen.waypoint("reviews:9080"), None);
    assert_eq!(
        seen.endpoints("reviews:9080").len(),
        2,
        "straight to the workloads"
    );
    assert_eq!(
        seen.reason("Service default/reviews", BOUND_KIND),
        "WaypointIsNotReady"
    );
    seen.problem("waypoint default/missing does not exist");
}

#[test]
fn a_waypoint_never_ready_is_passed_by_and_one_once_ready_is_waited_for() {
    let down = TOWN.replace(
        "podIP: 10.0.0.15, conditions: [{type: Ready, status: 'True'}]",
        "podIP: 10.0.0.15",
    );
    let before = caller(&[&down, BOUND]);
    assert_eq!(before.waypoint("reviews:9080"), None);
    assert_eq!(
        before.reason("Service default/reviews", BOUND_KIND),
        "WaypointIsNotReady"
    );

    let up = caller(&[TOWN, BOUND]);
    let handover = Handover {
        ready: up.ready.clone(),
        ..Handover::default()
    };
    let after = compile(
        &store(&[&down, BOUND]),
        &workload("x"),
        &handover,
        Some(&up.snapshot),
    );
    assert_eq!(
        after.waypoint("reviews:9080").as_deref(),
        Some("default/waypoint")
    );
    assert!(
        after.endpoints("reviews:9080").is_empty(),
        "closed, not around it"
    );
}

#[test]
fn status_addresses_say_that_a_waypoint_was_ready_and_where_it_is() {
    let gateway = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: default}
spec: {gatewayClassName: anybodys, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: IPAddress, value: 10.96.7.7}]}
";
    let service = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {ports: [{port: 9080}]}
";
    let seen = caller(&[gateway, service, BOUND]);
    assert_eq!(
        seen.endpoints("reviews:9080"),
        ["10.96.7.7:15008 reviews.default.svc.cluster.local:9080 cluster.local/ns/default/sa/waypoint"]
    );
}

/// A waypoint in `foo` that admits namespaces by the given rule.
fn foreign(allowed: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: waypoint-foo, namespace: foo}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {{namespaces: {allowed}}}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: waypoint-foo-1, namespace: foo, labels: {{gateway.networking.k8s.io/gateway-name: waypoint-foo}}}}
spec: {{serviceAccountName: waypoint-foo}}
status: {{podIP: 10.0.1.15, conditions: [{{type: Ready, status: 'True'}}]}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: default, labels: {{istio.io/use-waypoint: waypoint-foo, istio.io/use-waypoint-namespace: foo}}}}
"
    )
}

#[test]
fn a_waypoint_of_another_namespace_decides_whom_it_admits() {
    for (allowed, admitted) in [
        ("{from: All}", true),
        ("{from: Same}", false),
        (
            "{from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: default}}}",
            true,
        ),
        (
            "{from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: other}}}",
            false,
        ),
        (
            "{from: Selector, selector: {matchLabels: {istio.io/use-waypoint-namespace: foo}}}",
            true,
        ),
    ] {
        let seen = caller(&[TOWN, &foreign(allowed)]);
        assert_eq!(seen.waypoint("reviews:9080").is_some(), admitted, "{allowed}");
        let reason = if admitted {
            "WaypointAccepted"
        } else {
            "AttachmentDenied"
        };
        assert_eq!(
            seen.reason("Service default/reviews", BOUND_KIND),
            reason,
            "{allowed}"
        );
    }
}

#[test]
fn waypoint_for_decides_which_traffic_is_meant() {
    for (traffic, service, pod) in [
        ("service", true, false),
        ("workload", false, true),
        ("all", true, true),
        ("none", false, false),
    ] {
        let town = TOWN.replace(
            "{name: waypoint, namespace: default}",
            &format!("{{name: waypoint, namespace: default, labels: {{istio.io/waypoint-for: {traffic}}}}}"),
        );
        let seen = caller(&[&town, BOUND]);
        assert_eq!(seen.waypoint("reviews:9080").is_some(), service, "{traffic}");
        let view = &seen.snapshot.pods[&"10.0.0.1".parse().unwrap()];
        assert_eq!(view.waypoint.is_some(), pod, "{traffic}");
        let own = &seen.snapshot.pods[&"10.0.0.15".parse().unwrap()];
        assert!(own.waypoint.is_none(), "a waypoint never gets one");
        if !service {
            assert_eq!(
                seen.reason("Service default/reviews", BOUND_KIND),
                "UnsupportedTrafficType"
            );
        }
    }
}

#[test]
fn the_class_says_the_traffic_where_the_gateway_does_not() {
    let class = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio-waypoint, labels: {istio.io/waypoint-for: all}}
spec: {controllerName: istio.io/mesh-controller}
";
    let seen = caller(&[TOWN, BOUND, class]);
    assert!(
        seen.snapshot.pods[&"10.0.0.1".parse().unwrap()]
            .waypoint
            .is_some()
    );
}

#[test]
fn an_entry_that_is_not_exported_cannot_use_a_waypoint_elsewhere() {
    let entry = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: own, namespace: default}
spec: {hosts: [own.example], exportTo: ['.'], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{address: 192.0.2.9}]}
";
    let seen = caller(&[entry, &foreign("{from: All}")]);
    assert_eq!(
        seen.reason("ServiceEntry default/own", BOUND_KIND),
        "CrossNamespaceWaypointForbidden"
    );
    assert_eq!(seen.waypoint("own.example:80"), None);
}

#[test]
fn a_canary_is_said_to_be_ignored() {
    let seen = caller(&[&labelled(
        "istio.io/use-waypoint: waypoint, istio.io/use-waypoint-canary: next",
    )]);
    seen.problem("a canary waypoint is not enforced");
}

#[test]
fn a_waypoint_serves_what_is_bound_to_it_and_goes_straight_to_the_workloads() {
    let node = gateway("default", "waypoint");
    let seen = seen_by(&node, &[TOWN, BOUND]);
    assert_eq!(seen.waypoint("reviews:9080"), None, "waypoints never chain");
    assert_eq!(seen.endpoints("reviews:9080").len(), 2);
    assert_eq!(seen.serves().services.len(), 1);
    assert!(seen_by(&node, &[TOWN]).serves().services.is_empty());
}

#[test]
fn an_ingress_passes_the_waypoint_only_where_it_is_told_to() {
    let ingress = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: default}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
";
    let node = gateway("default", "front");
    assert_eq!(
        seen_by(&node, &[TOWN, BOUND, ingress]).waypoint("reviews:9080"),
        None
    );
    let told = labelled("istio.io/ingress-use-waypoint: 'true'");
    assert_eq!(
        seen_by(&node, &[&told, BOUND, ingress])
            .waypoint("reviews:9080")
            .as_deref(),
        Some("default/waypoint")
    );
}
