//! GRPCRoutes as people write them.

use super::*;
use crate::config::gateway::GRPCRoute;

fn grpc(rules: &str) -> (RouteTable, Vec<Problem>) {
    let mut route = GRPCRoute {
        spec: serde_saphyr::from_str(&with_rules(rules)).unwrap(),
        ..GRPCRoute::default()
    };
    route.metadata.namespace = "ns".into();
    route.metadata.name = "calls".into();
    let entry = Arc::new(Entry::from_resource(Resource::GRPCRoute(route.clone()), "a.yaml"));
    let inputs = [RouteInput {
        route: Route::Grpc(&route),
        entry: &entry,
    }];
    let mut problems = Vec::new();
    let service = ServiceName::new("ns", "echo");
    let table = for_service(&inputs, &service, 80, &mut Known, &mut problems);
    (table, problems)
}

/// Gateway API conformance, GRPCExactMethodMatching and GRPCRouteHeaderMatching.
#[test]
fn methods_and_headers_match() {
    let (table, problems) = grpc(
        "- matches: [{method: {service: pkg.Echo, method: Echo}}]\n  backendRefs: [{name: v1, port: 80}]\n\
         - matches: [{method: {service: pkg.Echo, method: EchoTwo}}, {headers: [{name: version, value: two}]}]\n  backendRefs: [{name: v2, port: 80}]\n\
         - matches: [{method: {method: EchoThree}}]\n  backendRefs: [{name: v3, port: 80}]",
    );
    assert_eq!(problems, []);
    let table = [
        ("/pkg.Echo/Echo", &[][..], 1),
        ("/pkg.Echo/EchoTwo", &[], 2),
        ("/pkg.Echo/EchoThree", &[], 3),
        ("/other.Echo/EchoThree", &[("version", "two")], 3),
        ("/other.Echo/Echo", &[("version", "two")], 2),
        ("/other.Echo/Echo", &[], 0),
        ("/pkg.Echo/echo", &[], 0),
    ]
    .map(|(path, headers, expected)| ((path, cluster(&table, path, headers)), (path, expected)));
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
}

#[test]
fn no_match_is_every_call_and_no_rule_is_none() {
    let (table, problems) = grpc("- name: all\n  backendRefs: [{name: v1, port: 80}]");
    assert_eq!(problems, []);
    assert_eq!(cluster(&table, "/any.Service/Method", &[]), 1);
    let (_, rule) = ask(&table, "/any.Service/Method", &[]).unwrap();
    assert_eq!(rule.origin.name.as_deref(), Some("all"));
    assert_eq!(rule.failure(), StatusCode::SERVICE_UNAVAILABLE);

    let (table, problems) = grpc("  []");
    assert!(!table.is_empty());
    assert_eq!(cluster(&table, "/any.Service/Method", &[]), 0);
    assert_eq!(fields(&problems), [(Severity::Warning, "spec.rules")]);
}

#[test]
fn expressions_match_the_whole_of_service_and_method() {
    let (table, problems) = grpc(
        "- matches: [{method: {type: RegularExpression, service: 'pkg\\.(A|B)', method: 'Get.*'}}]\n  backendRefs: [{name: v1, port: 80}]\n\
         - matches: [{method: {type: RegularExpression, method: 'List|Watch'}}]\n  backendRefs: [{name: v2, port: 80}]",
    );
    assert_eq!(problems, []);
    assert_eq!(cluster(&table, "/pkg.A/GetAll", &[]), 1);
    assert_eq!(cluster(&table, "/pkg.AB/GetAll", &[]), 0);
    assert_eq!(cluster(&table, "/pkg.C/Watch", &[]), 2);
    assert_eq!(cluster(&table, "/a/pkg.C/Watch", &[]), 0);
}

#[test]
fn what_cannot_be_read_is_told() {
    for (rule, field) in [
        ("matches: [{method: {}}]", "matches[0].method"),
        ("matches: [{method: {service: ''}}]", "matches[0].method"),
        (
            "matches: [{method: {service: 'a/b'}}]",
            "matches[0].method.service",
        ),
        (
            "matches: [{method: {service: 'a..b'}}]",
            "matches[0].method.service",
        ),
        (
            "matches: [{method: {service: a, method: 'b c'}}]",
            "matches[0].method.method",
        ),
        (
            "matches: [{method: {type: Bogus, service: a}}]",
            "matches[0].method.type",
        ),
        (
            "matches: [{method: {type: RegularExpression, service: '('}}]",
            "matches[0].method",
        ),
        (
            "filters: [{type: URLRewrite, urlRewrite: {hostname: a}}]",
            "filters[0].type",
        ),
        (
            "filters: [{type: RequestRedirect, requestRedirect: {}}]",
            "filters[0].type",
        ),
        ("filters: [{type: CORS, cors: {}}]", "filters[0].type"),
    ] {
        let (table, problems) = grpc(&format!("- {rule}\n  backendRefs: [{{name: v1, port: 80}}]"));
        let at = format!("spec.rules[0].{field}");
        assert_eq!(fields(&problems), [(Severity::Error, &*at)], "{rule}");
        assert_ne!(cluster(&table, "/a/b", &[]), 1, "{rule}");
    }
}

#[test]
fn filters_weights_and_sessions_are_those_of_http() {
    let (table, problems) = grpc(
        "- filters:\n  - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}\n  \
         - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 10}}\n  \
         sessionPersistence: {type: Header, sessionName: x-session}\n  backendRefs: [{name: v1, port: 80, weight: 1}, {name: gone, port: 80, weight: 3}]",
    );
    assert_eq!(
        fields(&problems),
        [(Severity::Error, "spec.rules[0].backendRefs[1]")]
    );
    let (_, rule) = ask(&table, "/a/b", &[]).unwrap();
    assert_eq!((rule.request.set.len(), rule.mirrors.len()), (1, 1));
    assert!(rule.session.is_some());
    let Action::Forward(backends) = &rule.action else {
        panic!("it forwards")
    };
    assert_eq!(backends.total(), 4);
}
