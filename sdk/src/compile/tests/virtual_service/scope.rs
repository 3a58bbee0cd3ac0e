//! Which VirtualServices apply where, and in what order with routes.

use super::*;

#[test]
fn who_calls_decides_in_a_client_and_not_in_a_waypoint() {
    let text = reviews(
        "[{match: [{sourceLabels: {app: other}}], route: [{destination: {host: reviews}}]}, \
          {match: [{sourceNamespace: shop}], route: [{destination: {host: reviews}}]}, \
          {match: [{gateways: [some-gateway], sourceLabels: {app: cart}}], route: [{destination: {host: reviews}}]}, \
          {match: [{sourceLabels: {app: cart}, sourceNamespace: default}], route: [{destination: {host: reviews}}]}, \
          {match: [{gateways: [mesh], sourceLabels: {app: other}}], route: [{destination: {host: reviews}}]}, \
          {route: [{destination: {host: reviews}}]}]",
    );
    let mut cart = workload("cart-1");
    cart.labels.insert("app".into(), "cart".into());
    let rule = |node: &Node, texts: &[&str]| PLAIN.rule(&seen_by(node, texts)).map(str::to_owned);
    assert_eq!(rule(&cart, &[TOWN, &text]).as_deref(), Some("default/reviews/3"));
    // A list of Gateways says all there is to say of the caller.
    assert_eq!(
        rule(&workload("productpage-1"), &[TOWN, &text]).as_deref(),
        Some("default/reviews/4")
    );
    let shop = Node {
        namespace: "shop".into(),
        ..workload("cart-1")
    };
    assert_eq!(rule(&shop, &[TOWN, &text]).as_deref(), Some("default/reviews/1"));
    let waypoint = gateway("default", "waypoint");
    assert_eq!(
        rule(&waypoint, &[TOWN, BOUND, &text]).as_deref(),
        Some("default/reviews/5")
    );
    assert!(
        rule(&cart, &[TOWN, BOUND, &text]).is_none(),
        "the waypoint routes"
    );
}

#[test]
fn the_most_specific_host_decides_in_a_client() {
    let wild = virtual_service(
        "default",
        "a-wild",
        "{hosts: ['*.default.svc.cluster.local'], http: [{redirect: {uri: /a}}]}",
    );
    let all = virtual_service(
        "default",
        "b-all",
        "{hosts: ['*.local'], http: [{redirect: {uri: /a}}]}",
    );
    let exact = virtual_service(
        "default",
        "c-exact",
        "{hosts: [reviews], http: [{redirect: {uri: /a}}]}",
    );
    assert_eq!(
        PLAIN.rule(&caller(&[TOWN, &all, &wild, &exact])),
        Some("default/c-exact/0")
    );
    assert_eq!(
        PLAIN.rule(&caller(&[TOWN, &all, &wild])),
        Some("default/a-wild/0")
    );
    assert_eq!(PLAIN.rule(&caller(&[TOWN, &all])), Some("default/b-all/0"));
}

#[test]
fn a_waypoint_concatenates_what_is_of_its_own_and_of_the_services_namespace() {
    let dated = |namespace: &str, name: &str, year: u32, path: &str| {
        let text = virtual_service(
            namespace,
            name,
            &format!(
                "{{hosts: [reviews.default.svc.cluster.local], http: [{{match: [{{uri: {{prefix: {path}}}}}], redirect: {{uri: /}}}}]}}"
            ),
        );
        text.replace(
            "metadata: {",
            &format!("metadata: {{creationTimestamp: '{year}-01-01T00:00:00Z', "),
        )
    };
    let texts = [
        TOWN.to_owned(),
        BOUND.to_owned(),
        dated("default", "young", 2024, "/"),
        dated("default", "old", 2020, "/a"),
        dated("shop", "foreign", 2010, "/"),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let seen = seen_by(&gateway("default", "waypoint"), &texts);
    for (target, expected) in [("/a", "default/old/0"), ("/b", "default/young/0")] {
        assert_eq!(Ask { target, ..PLAIN }.rule(&seen), Some(expected));
    }
    let problem = seen.problem("VirtualService shop/foreign");
    assert_eq!(
        (problem.severity, &*problem.field),
        (Severity::Ignored, "spec.hosts[0]")
    );
    // A client of that namespace applies it in front of the waypoint.
    let shop = Node {
        namespace: "shop".into(),
        ..workload("cart-1")
    };
    assert_eq!(PLAIN.rule(&seen_by(&shop, &texts)), Some("shop/foreign/0"));
}

#[test]
fn export_to_hides() {
    let private = virtual_service(
        "shop",
        "private",
        "{hosts: [reviews.default.svc.cluster.local], exportTo: [.], http: [{redirect: {uri: /}}]}",
    );
    let shop = Node {
        namespace: "shop".into(),
        ..workload("cart-1")
    };
    assert_eq!(
        PLAIN.rule(&seen_by(&shop, &[TOWN, &private])),
        Some("shop/private/0")
    );
    assert_eq!(PLAIN.rule(&caller(&[TOWN, &private])), None);
    let given = private.replace("[.]", "[default]");
    assert_eq!(PLAIN.rule(&caller(&[TOWN, &given])), Some("shop/private/0"));
    assert_eq!(PLAIN.rule(&seen_by(&shop, &[TOWN, &given])), None);
    // What a namespace keeps to itself comes before what all see.
    let public = virtual_service(
        "shop",
        "a-public",
        "{hosts: [reviews.default.svc.cluster.local], http: [{redirect: {uri: /}}]}",
    );
    assert_eq!(
        PLAIN.rule(&seen_by(&shop, &[TOWN, &public, &private])),
        Some("shop/private/0")
    );
}

#[test]
fn the_older_of_a_virtual_service_and_a_route_comes_first() {
    let route = |year: u32| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: default, creationTimestamp: '{year}-01-01T00:00:00Z'}}
spec:
  parentRefs: [{{group: '', kind: Service, name: reviews}}]
  rules: [{{matches: [{{path: {{value: /a}}}}], backendRefs: [{{name: reviews, port: 9080}}]}}]
"
        )
    };
    let list = reviews("[{match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}], redirect: {uri: /}}]");
    let list = list.replace(
        "metadata: {",
        "metadata: {creationTimestamp: '2020-01-01T00:00:00Z', ",
    );
    for (year, a) in [(2019, "default/r/0"), (2021, "default/reviews/0")] {
        for seen in [
            caller(&[TOWN, &route(year), &list]),
            seen_by(
                &gateway("default", "waypoint"),
                &[TOWN, BOUND, &route(year), &list],
            ),
        ] {
            assert_eq!(
                Ask {
                    target: "/a",
                    ..PLAIN
                }
                .rule(&seen),
                Some(a)
            );
            assert_eq!(
                Ask {
                    target: "/b",
                    ..PLAIN
                }
                .rule(&seen),
                Some("default/reviews/0")
            );
            assert_eq!(
                Ask {
                    target: "/c",
                    ..PLAIN
                }
                .rule(&seen),
                None
            );
        }
    }
}
