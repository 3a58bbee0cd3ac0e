//! Where routes apply, and what they may refer to.

use super::kit::*;

/// A route in a namespace from `reviews` to the given backends.
fn route(namespace: &str, name: &str, backends: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{group: '', kind: Service, name: reviews, namespace: default, port: 9080}}]
  rules: [{{backendRefs: [{backends}]}}]
"
    )
}

fn origins(seen: &crate::compile::Compiled) -> Vec<String> {
    let rules = seen.port("reviews.default:9080").routes.rules();
    rules.map(|(_, rule)| rule.origin.resource.to_string()).collect()
}

#[test]
fn the_same_route_applies_in_the_client_or_in_the_waypoint_but_not_in_both() {
    let route = route("default", "r", "{name: reviews, port: 9080}");
    assert_eq!(origins(&caller(&[TOWN, &route])), ["HTTPRoute default/r"]);
    assert!(origins(&caller(&[TOWN, BOUND, &route])).is_empty());
    let waypoint = gateway("default", "waypoint");
    assert_eq!(
        origins(&seen_by(&waypoint, &[TOWN, BOUND, &route])),
        ["HTTPRoute default/r"]
    );
    assert!(origins(&seen_by(&waypoint, &[TOWN, &route])).is_empty());
}

#[test]
fn a_consumer_route_overrides_the_producers_for_its_own_namespace_alone() {
    let producer = route("default", "producer", "{name: reviews, port: 9080}");
    let consumer = route(
        "shop",
        "consumer",
        "{name: reviews, namespace: default, port: 9080}",
    );
    let shop = crate::snapshot::Node {
        namespace: "shop".into(),
        ..workload("cart-1")
    };
    assert_eq!(
        origins(&seen_by(&shop, &[TOWN, &producer, &consumer])),
        ["HTTPRoute shop/consumer"]
    );
    assert_eq!(
        origins(&caller(&[TOWN, &producer, &consumer])),
        ["HTTPRoute default/producer"]
    );
    let bound = seen_by(
        &gateway("default", "waypoint"),
        &[TOWN, BOUND, &producer, &consumer],
    );
    assert_eq!(origins(&bound), ["HTTPRoute default/producer"]);
    bound.problem("does not apply routes of namespace shop");
    assert_eq!(
        origins(&seen_by(&shop, &[TOWN, BOUND, &producer, &consumer])),
        ["HTTPRoute shop/consumer"],
        "the client applies what the waypoint does not"
    );
    assert_eq!(
        origins(&caller(&[TOWN, BOUND, &producer, &consumer])),
        Vec::<String>::new(),
        "nobody else applies what the waypoint will"
    );
}

#[test]
fn a_backend_of_another_namespace_needs_a_grant_behind_a_gateway_and_none_in_the_mesh() {
    let far = "
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec: {ports: [{name: http, port: 80}]}
";
    let grant = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: '', kind: Service}]}
";
    let meshed = route("default", "r", "{name: far, namespace: other, port: 80}");
    let reason = |files: &[&str]| {
        caller(files)
            .reason("HTTPRoute default/r", "ResolvedRefs")
            .to_owned()
    };
    assert_eq!(reason(&[TOWN, far, &meshed]), "ResolvedRefs");
    let route = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: default}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: far, namespace: other, port: 80}]}]
";
    let edge = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec: {gatewayClassName: x, listeners: [{name: http, port: 80, protocol: HTTP}]}
";
    assert_eq!(reason(&[TOWN, far, edge, route]), "RefNotPermitted");
    let granted = caller(&[TOWN, far, edge, route, grant]);
    assert_eq!(
        granted.reason("HTTPRoute default/r", "ResolvedRefs"),
        "ResolvedRefs"
    );
}

#[test]
fn backends_and_parents_that_do_not_exist_are_said() {
    let lost = caller(&[TOWN, &route("default", "r", "{name: nobody, port: 80}")]);
    assert_eq!(
        lost.reason("HTTPRoute default/r", "ResolvedRefs"),
        "BackendNotFound"
    );
    assert_eq!(lost.reason("HTTPRoute default/r", "Accepted"), "Accepted");
    let orphan = route("default", "r", "{name: reviews, port: 9080}")
        .replace("port: 9080}]\n  rules", "port: 1}]\n  rules");
    assert_eq!(
        caller(&[TOWN, &orphan]).reason("HTTPRoute default/r", "Accepted"),
        "NoMatchingParent"
    );
}

#[test]
fn an_ingress_serves_the_routes_its_listeners_admit() {
    let front = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: default}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP}, {name: tls, port: 443, protocol: HTTPS}]
";
    let to_front = |namespace: &str| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: {namespace}}}
spec: {{parentRefs: [{{name: front, namespace: default}}], rules: [{{backendRefs: [{{name: reviews, port: 9080}}]}}]}}
"
        )
    };
    let (own, foreign) = (to_front("default"), to_front("other"));
    let seen = seen_by(&gateway("default", "front"), &[TOWN, front, &own, &foreign]);
    let [listener] = seen.snapshot.listeners.as_slice() else {
        panic!("one listener can be served")
    };
    assert_eq!((listener.port, listener.routes.len()), (80, 1));
    assert_eq!(seen.reason("HTTPRoute default/r", "Accepted"), "Accepted");
    assert_eq!(
        seen.reason("HTTPRoute other/r", "Accepted"),
        "NotAllowedByListeners"
    );
    seen.problem("listener tls (HTTPS 443) is not served");
    assert!(seen.serves().services.is_empty(), "no tunnels are served");
}
