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

/// GEP-1294: a mesh needs no ReferenceGrant; a Gateway does, for the kind of route that refers.
#[test]
fn a_backend_of_another_namespace_needs_a_grant_behind_a_gateway_only() {
    let far = "
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec: {ports: [{name: http, port: 80}]}
";
    let grant = |kind: &str| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: g, namespace: other}}
spec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: default}}], to: [{{group: '', kind: Service}}]}}
"
        )
    };
    let front = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: default}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
";
    let mesh = route("default", "r", "{name: far, namespace: other, port: 80}");
    let north = mesh.replace(
        "{group: '', kind: Service, name: reviews, namespace: default, port: 9080}",
        "{name: front}",
    );
    let resolved = |texts: &[&str]| {
        let seen = seen_by(&gateway("default", "front"), texts);
        seen.reason("HTTPRoute default/r", "ResolvedRefs").to_owned()
    };
    assert_eq!(resolved(&[TOWN, far, front, &mesh]), "ResolvedRefs");
    assert_eq!(resolved(&[TOWN, far, front, &north]), "RefNotPermitted");
    let other = grant("GRPCRoute");
    assert_eq!(resolved(&[TOWN, far, front, &north, &other]), "RefNotPermitted");
    let own = grant("HTTPRoute");
    assert_eq!(resolved(&[TOWN, far, front, &north, &own]), "ResolvedRefs");
    let refused = seen_by(&gateway("default", "front"), &[TOWN, far, front, &north]);
    assert_eq!(
        refused.snapshot.gateway.listener("http").unwrap().routes.len(),
        1,
        "the rule stands"
    );
}

/// A GRPCRoute of `reviews` or of a Gateway.
fn grpc(name: &str, parent: &str, created: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: {name}, namespace: default, creationTimestamp: '{created}'}}
spec:
  parentRefs: [{parent}]
  rules: [{{backendRefs: [{{name: reviews, port: 9080}}]}}]
"
    )
}

const REVIEWS: &str = "{group: '', kind: Service, name: reviews}";

#[test]
fn of_two_kinds_of_route_for_the_same_requests_the_older_is_accepted() {
    let http = route("default", "r", "{name: reviews, port: 9080}");
    let reasons = |texts: &[&str]| {
        let seen = caller(texts);
        (
            origins(&seen),
            seen.reason("HTTPRoute default/r", "Accepted").to_owned(),
            seen.reason("GRPCRoute default/g", "Accepted").to_owned(),
        )
    };
    let (accepted, lost) = ("Accepted".to_owned(), "HostnameConflict".to_owned());
    let old = grpc("g", REVIEWS, "2020-01-01T00:00:00Z");
    let expected = (
        vec!["GRPCRoute default/g".to_owned()],
        lost.clone(),
        accepted.clone(),
    );
    assert_eq!(reasons(&[TOWN, &http, &old]), expected);
    let dated = http.replace(
        "{name: r, namespace: default}",
        "{name: r, namespace: default, creationTimestamp: '2019-01-01T00:00:00Z'}",
    );
    let expected = (
        vec!["HTTPRoute default/r".to_owned()],
        accepted.clone(),
        lost.clone(),
    );
    assert_eq!(reasons(&[TOWN, &dated, &old]), expected);
    // As old as each other: by name, `g` before `r`.
    let undated = grpc("g", REVIEWS, "");
    assert_eq!(reasons(&[TOWN, &http, &undated]).0, ["GRPCRoute default/g"]);
}

#[test]
fn a_route_that_loses_one_port_keeps_the_others() {
    let two_ports = TOWN.replace(
        "ports: [{name: http, port: 9080}]",
        "ports: [{name: http, port: 9080}, {name: grpc, port: 9090}]",
    );
    let http = route("default", "r", "{name: reviews, port: 9080}");
    let everywhere = grpc("z", REVIEWS, "");
    let seen = caller(&[&two_ports, &http, &everywhere]);
    assert_eq!(origins(&seen), ["HTTPRoute default/r"]);
    let rules = seen.port("reviews.default:9090").routes.rules();
    assert_eq!(rules.count(), 1);
    assert_eq!(seen.reason("GRPCRoute default/z", "Accepted"), "Accepted");
    let one = grpc("z", "{group: '', kind: Service, name: reviews, port: 9080}", "");
    let seen = caller(&[&two_ports, &http, &one]);
    assert_eq!(seen.reason("GRPCRoute default/z", "Accepted"), "HostnameConflict");
}

#[test]
fn a_section_of_a_service_is_a_port_by_name() {
    let section = |name: &str| {
        let route = route("default", "r", "{name: reviews, port: 9080}").replace(
            "port: 9080}]\n  rules",
            &format!("sectionName: {name}}}]\n  rules"),
        );
        let seen = caller(&[TOWN, &route]);
        (
            origins(&seen).len(),
            seen.reason("HTTPRoute default/r", "Accepted").to_owned(),
        )
    };
    assert_eq!(section("http"), (1, "Accepted".to_owned()));
    assert_eq!(section("other"), (0, "NoMatchingParent".to_owned()));
}

#[test]
fn kinds_of_route_share_a_listener_by_host() {
    let front = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: default}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
";
    let with_hosts =
        |text: String, hosts: &str| text.replace("  rules:", &format!("  hostnames: {hosts}\n  rules:"));
    let http = route("default", "r", "{name: reviews, port: 9080}").replace(
        "{group: '', kind: Service, name: reviews, namespace: default, port: 9080}",
        "{name: front}",
    );
    let accepted = |http_hosts: &str, grpc_hosts: &str| {
        let http = with_hosts(http.clone(), http_hosts);
        let grpc = with_hosts(grpc("z", "{name: front}", ""), grpc_hosts);
        let seen = seen_by(&gateway("default", "front"), &[TOWN, front, &http, &grpc]);
        let reason = seen.reason("GRPCRoute default/z", "Accepted").to_owned();
        (
            seen.snapshot.gateway.listener("http").unwrap().routes.len(),
            reason,
        )
    };
    let (yes, no) = ("Accepted".to_owned(), "HostnameConflict".to_owned());
    assert_eq!(accepted("[a.com]", "[b.com]"), (2, yes));
    assert_eq!(accepted("[a.com]", "['*.com']"), (1, no.clone()));
    assert_eq!(accepted("[]", "[b.com]"), (1, no));
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

/// Hardening row 33.
#[test]
fn row_33_an_expression_that_cannot_be_bounded_is_refused_where_it_stands() {
    for bomb in ["((a{100}){100}){100}", "(a*)*\\1", "(?=a)b"] {
        let route = format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: default}}
spec:
  parentRefs: [{{group: '', kind: Service, name: reviews, port: 9080}}]
  rules:
  - matches: [{{path: {{type: RegularExpression, value: '{bomb}'}}}}]
    backendRefs: [{{name: reviews, port: 9080}}]
  - backendRefs: [{{name: reviews, port: 9080}}]
"
        );
        let seen = caller(&[TOWN, &route]);
        let told = seen
            .problems
            .iter()
            .find(|it| it.to_string().contains("matches[0].path.value"));
        assert!(told.is_some(), "{bomb}: {:?}", seen.problems);
        let headers = http::HeaderMap::new();
        let head = crate::policy::RequestHead::unsent(&http::Method::GET, "reviews", "/zzz", None, &headers);
        let routes = &seen.port("reviews.default:9080").routes;
        let found = routes.find(&head).and_then(|found| routes.rule(found.rule));
        assert_eq!(found.map(|rule| rule.origin.rule), Some(1), "{bomb}");
    }
}
