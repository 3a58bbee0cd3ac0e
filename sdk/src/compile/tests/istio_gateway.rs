//! Gateways of Istio's own API.

use http::{HeaderMap, Method};

use super::kit::*;
use crate::compile::Compiled;
use crate::config::Severity;
use crate::policy::RequestHead;
use crate::policy::route::Action;
use crate::snapshot::Node;

/// The pod of an ingress, with the label that Istio's samples select.
const INGRESS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: ingress-1, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {serviceAccountName: ingress}
status: {phase: Running, podIP: 10.0.0.30, conditions: [{type: Ready, status: 'True'}]}
";

/// The process of that pod; no Gateway of Gateway API has its name.
fn ingress() -> Node {
    Node {
        pod: Some("ingress-1".into()),
        ..gateway("istio-system", "ingress")
    }
}

fn istio_gateway(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    )
}

fn http(name: &str, port: u16, hosts: &str) -> String {
    let server = format!("{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: [{hosts}]}}");
    istio_gateway(
        name,
        &format!("{{selector: {{istio: ingressgateway}}, servers: [{server}]}}"),
    )
}

fn bound(name: &str, gateways: &str, hosts: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{hosts: [{hosts}], gateways: [{gateways}], http: {http}}}\n"
    )
}

/// The rule that decides on a port, as `namespace/name/index`.
fn rule(seen: &Compiled, port: u16, host: &str, path: &str) -> Option<String> {
    let (method, headers) = (Method::GET, HeaderMap::new());
    let head = RequestHead::unsent(&method, host, path, None, &headers);
    let host = host.split(':').next().unwrap();
    let listener = seen.snapshot.gateway.port(port)?.listener(host)?;
    let found = listener.routes.find(&head)?;
    Some(listener.routes.rule(found.rule)?.origin.label.to_string())
}

fn told(seen: &Compiled) -> Vec<String> {
    let ours = seen.problems.iter().filter(|it| it.resource.is_some());
    ours.map(ToString::to_string).collect()
}

const TO_REVIEWS: &str = "[{route: [{destination: {host: reviews, port: {number: 9080}}}]}]";

#[test]
fn a_server_is_served_by_the_pods_that_are_selected() {
    let texts = [
        TOWN,
        INGRESS,
        &http("shop", 8080, "'*'"),
        &bound(
            "v",
            "shop",
            "'*'",
            "[{match: [{uri: {prefix: /shop}}], route: [{destination: {host: reviews}}]}]",
        ),
    ];
    let seen = seen_by(&ingress(), &texts);
    assert_eq!(told(&seen), [""; 0]);
    assert_eq!(
        rule(&seen, 8080, "any.host:80", "/shop/a").as_deref(),
        Some("default/v/0")
    );
    assert_eq!(rule(&seen, 8080, "any.host", "/"), None);
    // Neither a waypoint nor a caller serves it, and to callers it does not apply.
    for node in [gateway("default", "waypoint"), workload("productpage-1")] {
        let seen = seen_by(&node, &texts);
        assert_eq!(seen.snapshot.gateway.ports().count(), 0);
        assert!(seen.port("reviews.default:9080").routes.is_empty());
    }
    let alone = caller(&[TOWN, &http("shop", 8080, "'*'")]);
    assert_eq!(
        alone.problem("no pod carries these labels").severity,
        Severity::Warning
    );
}

#[test]
fn hosts_and_namespaces_decide_who_is_heard() {
    let seen = seen_by(
        &ingress(),
        &[
            TOWN,
            INGRESS,
            &http("a", 80, "'*.example.com', ./own.test, team/theirs.test"),
            &http("b", 80, "exact.example.com"),
            &bound("wide", "a", "'*.example.com'", TO_REVIEWS),
            &bound("narrow", "b", "exact.example.com", TO_REVIEWS),
            &bound(
                "own",
                "default/a",
                "own.test, theirs.test, elsewhere.test",
                TO_REVIEWS,
            ),
            &bound("mesh", "mesh", "reviews", TO_REVIEWS),
        ],
    );
    for (host, expected) in [
        ("x.example.com", Some("default/wide/0")),
        // The most specific host decides alone, whichever Gateway it is of.
        ("exact.example.com", Some("default/narrow/0")),
        ("own.test", Some("default/own/0")),
        ("theirs.test", None),
        ("elsewhere.test", None),
        ("reviews", None),
    ] {
        assert_eq!(rule(&seen, 80, host, "/").as_deref(), expected, "{host}");
    }
}

#[test]
fn matches_by_gateway_tell_an_ingress_from_the_mesh() {
    let http_routes = "[{match: [{gateways: [shop]}], route: [{destination: {host: reviews}}]}, \
                       {match: [{gateways: [mesh]}], redirect: {uri: /}}]";
    let texts = [
        TOWN,
        INGRESS,
        &http("shop", 80, "'*'"),
        &bound(
            "v",
            "shop, mesh",
            "reviews.default.svc.cluster.local",
            http_routes,
        ),
    ];
    let seen = seen_by(&ingress(), &texts);
    let host = "reviews.default.svc.cluster.local";
    assert_eq!(rule(&seen, 80, host, "/").as_deref(), Some("default/v/0"));
    let client = caller(&texts);
    let (_, of_mesh) = client.port("reviews.default:9080").routes.rules().next().unwrap();
    assert!(matches!(of_mesh.action, Action::Redirect(_)));
}

#[test]
fn callers_in_the_clear_may_be_sent_to_https() {
    let spec = "{selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.test], \
                tls: {httpsRedirect: true}}]}";
    let seen = seen_by(&ingress(), &[TOWN, INGRESS, &istio_gateway("g", spec)]);
    let routes = &seen
        .snapshot
        .gateway
        .port(80)
        .unwrap()
        .listener("a.test")
        .unwrap()
        .routes;
    let (method, headers) = (Method::GET, HeaderMap::new());
    let head = RequestHead::unsent(&method, "a.test", "/x", Some("q"), &headers);
    let found = routes.find(&head).unwrap();
    let Action::Redirect(redirect) = &routes.rule(found.rule).unwrap().action else {
        panic!()
    };
    assert_eq!(redirect.location(&head, found.matched).1, "https://a.test/x?q");
}

#[test]
fn what_cannot_be_served_is_told_with_its_place() {
    let one = |server: &str| {
        let spec = format!("{{selector: {{istio: ingressgateway}}, servers: [{server}]}}");
        let seen = seen_by(&ingress(), &[TOWN, INGRESS, &istio_gateway("g", &spec)]);
        assert_eq!(seen.snapshot.gateway.ports().count(), 0, "{server}");
        let problem = seen.problem("the server is not served");
        assert_eq!(problem.severity, Severity::Error);
        problem.field.clone()
    };
    let https = |tls: &str| {
        let server = format!("{{port: {{number: 443, name: s, protocol: HTTPS}}, hosts: ['*']{tls}}}");
        one(&server)
    };
    assert_eq!(
        one("{port: {number: 1, name: t, protocol: TCP}, hosts: ['*']}"),
        "spec.servers[0].port.protocol"
    );
    assert_eq!(https(""), "spec.servers[0].tls");
    for (tls, field) in [
        ("{mode: PASSTHROUGH}", "mode"),
        ("{mode: SIMPLE}", "credentialName"),
        ("{mode: SIMPLE, credentialName: none}", "credentialName"),
        (
            "{mode: SIMPLE, credentialName: none, minProtocolVersion: TLSV1_3}",
            "minProtocolVersion",
        ),
        (
            "{mode: MUTUAL, credentialName: none, subjectAltNames: [a]}",
            "subjectAltNames",
        ),
    ] {
        assert_eq!(
            https(&format!(", tls: {tls}")),
            format!("spec.servers[0].tls.{field}")
        );
    }
}
