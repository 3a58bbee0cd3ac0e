//! Gateways of Istio's own API.

use http::{HeaderMap, Method};

use super::kit::*;
use crate::compile::Compiled;
use crate::config::Severity;
use crate::name::Host;
use crate::policy::RequestHead;
use crate::policy::connection::Opening;
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
    for protocol in ["UDP", "''", "Thrift"] {
        assert_eq!(
            one(&format!(
                "{{port: {{number: 1, name: t, protocol: {protocol}}}, hosts: ['*']}}"
            )),
            "spec.servers[0].port.protocol"
        );
    }
    assert_eq!(https(""), "spec.servers[0].tls");
    assert_eq!(
        one("{port: {number: 1, name: t, protocol: TLS}, hosts: ['*']}"),
        "spec.servers[0].tls"
    );
    for (tls, field) in [
        ("{mode: ISTIO_MUTUAL}", "mode"),
        ("{mode: AUTO_PASSTHROUGH}", "mode"),
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

#[test]
fn what_nobody_can_serve_is_told_by_whoever_reads_it() {
    let server = |tls: &str| {
        let spec = format!(
            "{{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 443, name: s, protocol: HTTPS}}, hosts: ['*'], tls: {tls}}}]}}"
        );
        told(&caller(&[TOWN, INGRESS, &istio_gateway("g", &spec)]))
    };
    let refused = server("{mode: AUTO_PASSTHROUGH}");
    assert!(
        refused.len() == 1 && refused[0].contains("spec.servers[0].tls.mode"),
        "{refused:?}"
    );
    // Whether there is such a Secret is for the pod's namespace to say.
    assert_eq!(
        server("{mode: SIMPLE, credentialName: elsewhere}"),
        Vec::<String>::new()
    );
}

/// A Gateway `g` with these servers.
fn servers(all: &str) -> String {
    istio_gateway(
        "g",
        &format!("{{selector: {{istio: ingressgateway}}, servers: [{all}]}}"),
    )
}

/// A VirtualService for `g` with such routes; those of `tls` and `tcp` lead to `reviews`.
fn leading(name: &str, hosts: &str, routes: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{hosts: [{hosts}], gateways: [g], {routes}}}\n"
    )
}

const TO: &str = "route: [{destination: {host: reviews, port: {number: 9080}}}]";

/// The rule that takes a connection to a port, by the server name where it opens with TLS.
fn taken(seen: &Compiled, port: u16, name: Option<&str>) -> Option<String> {
    let port = seen.snapshot.gateway.port(port)?;
    let passed = port.listener(name.unwrap_or_default())?.connections.as_ref()?;
    let name = name.map(|name| Host::parse(name).unwrap());
    let opening = name
        .as_ref()
        .map_or(Opening::Plain, |name| Opening::Tls(Some(name)));
    Some(passed.routes.find(opening)?.origin.label.to_string())
}

#[test]
fn tls_is_passed_on_by_the_names_of_tls_routes() {
    let pass = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: PASSTHROUGH}}, \
                {port: {number: 443, name: https, protocol: HTTPS}, hosts: [other.test], tls: {}}";
    let tls = format!(
        "tls: [{{match: [{{sniHosts: [a.example.com]}}, {{port: 8443, sniHosts: [no.example.com]}}], {TO}}}, {{match: [{{port: 443, \
         sniHosts: ['*.example.com']}}, {{gateways: [mesh], sniHosts: [x.example.com]}}], {TO}}}]"
    );
    let other = format!("tls: [{{match: [{{sniHosts: [other.test]}}], {TO}}}]");
    let seen = seen_by(
        &ingress(),
        &[
            TOWN,
            INGRESS,
            &servers(pass),
            &leading("v", "'*.example.com'", &tls),
            &leading("w", "other.test", &other),
            // Bound, but for no host of the server.
            &leading("x", "elsewhere.test", &other.replace("other", "elsewhere")),
        ],
    );
    assert_eq!(told(&seen), [""; 0]);
    let port = seen.snapshot.gateway.port(443).unwrap();
    assert!(port.secure && port.passes);
    for (name, expected) in [
        ("a.example.com", Some("default/v/0")),
        ("no.example.com", Some("default/v/1")),
        ("other.test", Some("default/w/0")),
        ("elsewhere.test", None),
    ] {
        assert_eq!(taken(&seen, 443, Some(name)).as_deref(), expected, "{name}");
    }
}

#[test]
fn bytes_go_where_tcp_routes_lead() {
    let plain = "{port: {number: 5432, name: db, protocol: TCP}, hosts: ['*']}";
    let tcp = format!("tcp: [{{match: [{{port: 1}}], {TO}}}, {{match: [{{port: 5432}}], {TO}}}]");
    let texts = [TOWN, INGRESS, &servers(plain), &leading("v", "'*'", &tcp)];
    let seen = seen_by(&ingress(), &texts);
    assert_eq!(told(&seen), [""; 0]);
    assert_eq!(taken(&seen, 5432, None).as_deref(), Some("default/v/1"));
    assert!(!seen.snapshot.gateway.port(5432).unwrap().secure);
    // To whoever calls the service itself it says nothing.
    assert!(caller(&texts).port("reviews.default:9080").connections.is_empty());
}

#[test]
fn what_is_inside_tls_that_ends_here_goes_where_tcp_routes_lead() {
    let secret = secret("istio-system", "cert", &["db.example.com"]);
    let open = "{port: {number: 443, name: tls, protocol: TLS}, hosts: [db.example.com], tls: {mode: SIMPLE, credentialName: cert}}";
    let tcp = format!("tcp: [{{{TO}}}]");
    let seen = seen_by(
        &ingress(),
        &[
            TOWN,
            INGRESS,
            &secret,
            &servers(open),
            &leading("v", "db.example.com", &tcp),
        ],
    );
    assert_eq!(told(&seen), [""; 0]);
    assert_eq!(
        taken(&seen, 443, Some("db.example.com")).as_deref(),
        Some("default/v/0")
    );
    let port = seen.snapshot.gateway.port(443).unwrap();
    let terms = port.listener("db.example.com").unwrap().tls.as_ref().unwrap();
    assert!(!terms.http && !port.passes);
}

#[test]
fn servers_that_cannot_be_told_apart_are_not_served() {
    let server = |number: u16, protocol: &str, rest: &str| {
        format!("{{port: {{number: {number}, name: a, protocol: {protocol}}}, hosts: ['*']{rest}}}")
    };
    let pass = ", tls: {mode: PASSTHROUGH}";
    for (second, field) in [
        (server(80, "TCP", ""), "port.number"),
        (server(80, "HTTP", ""), "port.protocol"),
        (server(80, "TLS", pass), "port.protocol"),
    ] {
        let both = format!("{}, {second}", server(80, "TCP", ""));
        let seen = seen_by(&ingress(), &[TOWN, INGRESS, &servers(&both)]);
        let problem = seen.problem("the server is not served");
        assert_eq!(problem.field, format!("spec.servers[1].{field}"));
        assert_eq!((&*problem.place.file, problem.place.line), ("town.yaml", 4));
        assert_eq!(seen.snapshot.gateway.listeners().count(), 1);
    }
    let twice = format!("{}, {}", server(443, "TLS", pass), server(443, "HTTPS", pass));
    let seen = seen_by(&ingress(), &[TOWN, INGRESS, &servers(&twice)]);
    assert_eq!(
        seen.problem("has * already").field,
        "spec.servers[1].hosts",
        "{:?}",
        told(&seen)
    );
}

#[test]
fn routes_that_no_server_asks_are_reported() {
    let http = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}";
    let pass = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}";
    let routes = [
        ("http", format!("http: [{{{TO}}}]")),
        ("tcp", format!("tcp: [{{{TO}}}]")),
        ("tls", format!("tls: [{{match: [{{sniHosts: ['*']}}], {TO}}}]")),
    ];
    for (server, asked) in [(http, "http"), (pass, "tls")] {
        for (field, written) in &routes {
            let texts = [TOWN, INGRESS, &servers(server), &leading("v", "'*'", written)];
            let seen = seen_by(&ingress(), &texts);
            match *field == asked {
                true => assert_eq!(told(&seen), [""; 0]),
                false => {
                    let problem = seen.problem("nothing is routed");
                    assert_eq!(problem.field, format!("spec.{field}"));
                    assert_eq!(problem.severity, Severity::Ignored);
                }
            }
        }
    }
    let subnets = format!("tls: [{{match: [{{sniHosts: ['*'], destinationSubnets: [10.0.0.0/8]}}], {TO}}}]");
    let seen = seen_by(
        &ingress(),
        &[TOWN, INGRESS, &servers(pass), &leading("v", "'*'", &subnets)],
    );
    assert_eq!(
        seen.problem("has no effect on a Gateway").field,
        "spec.tls[0].match[0].destinationSubnets"
    );
}
