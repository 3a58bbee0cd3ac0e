//! HTTPRoutes as people write them, and what becomes of requests.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

mod filters;
mod grpc;

use super::*;
use crate::config::gateway::HTTPRoute;
use crate::config::{Entry, Resource};
use crate::name::{Host, Kind};
use crate::policy::RequestHead;
use crate::policy::retry::RetryPolicy;
use crate::policy::route::{Action, Backend, Found, RouteRule, Target};

/// Headers of a request.
type Headers<'a> = &'a [(&'static str, &'a str)];

/// Knows the Services `v1`, `v2` and `v3`, as clusters 1 to 3.
struct Known;

impl Backends for Known {
    fn resolve(
        &mut self,
        _: &ResourceRef,
        backend: &BackendObjectReference,
    ) -> Result<ClusterId, Unresolved> {
        match backend.name.as_str() {
            "v1" => Ok(ClusterId(1)),
            "v2" => Ok(ClusterId(2)),
            "v3" => Ok(ClusterId(3)),
            name => Err(Unresolved {
                reason: UnresolvedReason::BackendNotFound,
                text: format!("there is no Service {name}"),
            }),
        }
    }

    fn address(&mut self, cluster: ClusterId) -> Option<(Host, u16)> {
        Some((Host::parse(&format!("v{}.svc", cluster.0)).unwrap(), 80))
    }
}

/// Routes and their sources, from the documents' `spec`s; named `a`, `b`, … in this order.
fn routes(specs: &[&str]) -> Vec<(HTTPRoute, Arc<Entry>)> {
    let read = |(index, spec): (usize, &&str)| {
        let mut route = HTTPRoute {
            spec: serde_saphyr::from_str(spec).unwrap(),
            ..HTTPRoute::default()
        };
        route.metadata.namespace = "ns".into();
        route.metadata.name = char::from(b'a' + index as u8).to_string().into();
        let entry = Entry::from_resource(Resource::HTTPRoute(route.clone()), "a.yaml");
        (route, Arc::new(entry))
    };
    specs.iter().enumerate().map(read).collect()
}

fn mesh(specs: &[&str]) -> (RouteTable, Vec<Problem>) {
    mesh_at(specs, PortRef::from((80, "http")))
}

fn mesh_at(specs: &[&str], port: PortRef<'_>) -> (RouteTable, Vec<Problem>) {
    let routes = routes(specs);
    let inputs: Vec<_> = routes
        .iter()
        .map(|(route, entry)| RouteInput {
            route: Route::Http(route),
            entry,
        })
        .collect();
    let mut problems = Vec::new();
    let service = ServiceName::new("ns", "echo");
    let table = for_service(&inputs, &service, port, &mut Known, &mut problems);
    (table, problems)
}

/// A route of the Service `echo` with these rules.
fn with_rules(rules: &str) -> String {
    format!("parentRefs: [{{group: '', kind: Service, name: echo}}]\nrules:\n{rules}")
}

fn ask<'t>(table: &'t RouteTable, target: &str, headers: Headers<'_>) -> Option<(Found, &'t RouteRule)> {
    ask_host(table, "echo", target, headers)
}

fn ask_host<'t>(
    table: &'t RouteTable,
    host: &str,
    target: &str,
    headers: Headers<'_>,
) -> Option<(Found, &'t RouteRule)> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    let head = RequestHead::unsent(&Method::GET, host, path, query, &map);
    let found = table.find(&head)?;
    Some((found, table.rule(found.rule).unwrap()))
}

fn backend(rule: &RouteRule) -> Option<&Backend> {
    match &rule.action {
        Action::Forward(backends) => Some(backends.pick(0)),
        _ => None,
    }
}

/// The cluster that a request reaches; 0 if none, 500 if the rule or backend fails.
fn cluster(table: &RouteTable, target: &str, headers: Headers<'_>) -> u32 {
    let Some((_, rule)) = ask(table, target, headers) else {
        return 0;
    };
    match backend(rule).map(|backend| &backend.cluster) {
        Some(Target::Cluster(ClusterId(id))) => *id,
        _ => 500,
    }
}

fn failure(table: &RouteTable, target: &str, headers: Headers<'_>) -> Option<String> {
    let (_, rule) = ask(table, target, headers)?;
    assert_eq!(rule.failure(), StatusCode::INTERNAL_SERVER_ERROR);
    match &rule.action {
        Action::Fail { why } => Some(why.to_string()),
        _ => None,
    }
}

fn fields(problems: &[Problem]) -> Vec<(Severity, &str)> {
    problems
        .iter()
        .map(|problem| (problem.severity, problem.field.as_str()))
        .collect()
}

/// Gateway API conformance, HTTPRouteMatchingAcrossRoutes and HTTPRouteHeaderMatching in a mesh.
#[test]
fn matches_compete_across_routes() {
    let one = with_rules(
        "- matches: [{path: {value: /}}, {headers: [{name: version, value: one}]}]\n  backendRefs: [{name: v1, port: 80}]",
    );
    let two = with_rules(
        "- matches: [{path: {value: /v2}}, {headers: [{name: Version, value: two}]}]\n  backendRefs: [{name: v2, port: 80}]",
    );
    let (table, problems) = mesh(&[&one, &two]);
    assert_eq!(problems, []);
    let answers: [(&str, Headers<'_>, u32); 6] = [
        ("/", &[], 1),
        ("/example", &[], 1),
        ("/", &[("version", "one")], 1),
        ("/v2", &[], 2),
        ("/v2example", &[], 1),
        ("/", &[("version", "two")], 2),
    ];
    for (path, headers, expected) in answers {
        assert_eq!(cluster(&table, path, headers), expected, "{path} {headers:?}");
    }
    let (_, rule) = ask(&table, "/v2", &[]).unwrap();
    assert_eq!(&*rule.origin.label, "ns/b/0");
    assert_eq!(*rule.retry, RetryPolicy::istio_default());
}

#[test]
fn routes_attach_by_parent_port_and_section() {
    let attached = |parent: &str| {
        let spec = format!("parentRefs: [{parent}]\nrules: [{{backendRefs: [{{name: v1, port: 80}}]}}]");
        !mesh(&[&spec]).0.is_empty()
    };
    assert!(attached("{group: '', kind: Service, name: echo}"));
    assert!(attached(
        "{group: '', kind: Service, name: echo, namespace: ns, port: 80, sectionName: http}"
    ));
    assert!(attached(
        "{name: gateway}, {group: '', kind: Service, name: echo}"
    ));
    assert!(!attached("{group: '', kind: Service, name: echo, port: 81}"));
    assert!(!attached(
        "{group: '', kind: Service, name: echo, sectionName: other}"
    ));
    assert!(!attached(
        "{group: '', kind: Service, name: echo, port: 80, sectionName: other}"
    ));
    assert!(!attached(
        "{group: '', kind: Service, name: echo, namespace: elsewhere}"
    ));
    assert!(!attached("{group: '', kind: Service, name: other}"));
    assert!(!attached("{name: echo}"));
}

#[test]
fn host_names_do_nothing_in_a_mesh_and_are_told() {
    let spec = format!(
        "hostnames: [other.com]\n{}",
        with_rules("- backendRefs: [{name: v1, port: 80}]")
    );
    let (table, problems) = mesh(&[&spec]);
    assert_eq!(cluster(&table, "/", &[]), 1);
    assert_eq!(fields(&problems), [(Severity::Ignored, "spec.hostnames")]);
}

#[test]
fn a_listener_narrows_host_names() {
    let specs = [
        "parentRefs: [{name: gw}]\nhostnames: [a.example.com, other.org]\nrules: [{backendRefs: [{name: v1, port: 80}]}]",
        "parentRefs: [{name: gw, sectionName: web}]\nrules: [{backendRefs: [{name: v2, port: 80}]}]",
        "parentRefs: [{name: gw, sectionName: else}]\nrules: [{backendRefs: [{name: v3, port: 80}]}]",
        "parentRefs: [{name: gw}]\nhostnames: ['a.*.com']\nrules: [{backendRefs: [{name: v3, port: 80}]}]",
    ];
    let routes = routes(&specs);
    let inputs: Vec<_> = routes
        .iter()
        .map(|(route, entry)| RouteInput {
            route: Route::Http(route),
            entry,
        })
        .collect();
    let gateway = ResourceRef::new(Kind::Gateway, "ns", "gw");
    let listener = Listener {
        name: "web".into(),
        port: 8080,
        hostname: Some("*.example.com".into()),
        ..Listener::default()
    };
    let mut problems = Vec::new();
    let table = for_listener(&inputs, &gateway, &listener, &mut Known, &mut problems);
    let route =
        |host: &str| ask_host(&table, host, "/", &[]).map(|(_, rule)| rule.origin.resource.name.to_string());
    assert_eq!(route("a.example.com").as_deref(), Some("a"));
    assert_eq!(route("b.example.com:8080").as_deref(), Some("b"));
    assert_eq!(route("other.org"), None);
    assert_eq!(route("example.com"), None);
    assert_eq!(fields(&problems), [(Severity::Error, "spec.hostnames[0]")]);
}

#[test]
fn what_cannot_be_read_fails_its_rule_and_nothing_else() {
    let broken = [
        (
            "matches: [{headers: [{name: x, type: RegularExpression, value: '['}]}]",
            "matches[0].headers[0].value",
        ),
        (
            "matches: [{headers: [{name: x, type: Bogus, value: a}]}]",
            "matches[0].headers[0].type",
        ),
        (
            "matches: [{path: {value: /x}}, {path: {type: RegularExpression, value: '('}}]",
            "matches[1].path.value",
        ),
        (
            "matches: [{path: {value: /x}}, {path: {type: Bogus, value: /}}]",
            "matches[1].path.type",
        ),
        (
            "matches: [{path: {value: /x}}, {path: {value: no-slash}}]",
            "matches[1].path.value",
        ),
        (
            "matches: [{path: {value: /x}}, {method: get}]",
            "matches[1].method",
        ),
        (
            "matches: [{path: {value: /x}}, {headers: [{name: ':path', value: a}]}]",
            "matches[1].headers[0].name",
        ),
        (
            "matches: [{path: {value: /x}}]\n  timeouts: {request: 1.5s}",
            "timeouts.request",
        ),
        (
            "matches: [{path: {value: /x}}]\n  timeouts: {backendRequest: '10'}",
            "timeouts.backendRequest",
        ),
        (
            "matches: [{path: {value: /x}}]\n  retry: {codes: [200]}",
            "retry.codes[0]",
        ),
        (
            "matches: [{path: {value: /x}}]\n  retry: {backoff: soon}",
            "retry.backoff",
        ),
        (
            "matches: [{path: {value: /x}}]\n  filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: 'a b', value: c}]}}]",
            "filters[0].requestHeaderModifier.set[0].name",
        ),
        (
            "matches: [{path: {value: /x}}]\n  filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [Content-Length]}}]",
            "filters[0].responseHeaderModifier.remove[0]",
        ),
        (
            "matches: [{path: {value: /x}}]\n  filters: [{type: URLRewrite}]",
            "filters[0]",
        ),
        (
            "matches: [{path: {type: Exact, value: /x}}]\n  filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /y}}}]",
            "filters[0].urlRewrite.path.type",
        ),
        (
            "matches: [{path: {value: /x}}]\n  filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]",
            "filters[0].requestRedirect.statusCode",
        ),
        (
            "matches: [{path: {value: /x}}]\n  filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]",
            "filters",
        ),
    ];
    for (rule, field) in broken {
        let backends = if rule.contains("RequestRedirect") {
            ""
        } else {
            "\n  backendRefs: [{name: v1, port: 80}]"
        };
        let spec = with_rules(&format!(
            "- {rule}{backends}\n- backendRefs: [{{name: v2, port: 80}}]"
        ));
        let (table, problems) = mesh(&[&spec]);
        assert_eq!(
            fields(&problems),
            [(Severity::Error, &*format!("spec.rules[0].{field}"))],
            "{rule}"
        );
        assert!(!problems[0].remedy.is_empty(), "{rule}");
        assert!(failure(&table, "/x", &[("x", "1")]).is_some(), "{rule}");
        assert_eq!(cluster(&table, "/", &[]), 2, "{rule}");
    }
}

#[test]
fn backends_that_do_not_resolve_keep_their_share() {
    let (table, problems) = mesh(&[&with_rules(
        "- backendRefs: [{name: v1, port: 80, weight: 3}, {name: gone, port: 80, weight: 1}]",
    )]);
    let (_, rule) = ask(&table, "/", &[]).unwrap();
    let Action::Forward(backends) = &rule.action else {
        panic!("it forwards")
    };
    assert_eq!(backends.total(), 4);
    assert_eq!(backends.pick(0).cluster, Target::Cluster(ClusterId(1)));
    assert!(matches!(backends.pick(u64::MAX).cluster, Target::Invalid(_)));
    assert_eq!(
        fields(&problems),
        [(Severity::Error, "spec.rules[0].backendRefs[1]")]
    );
    assert!(problems[0].text.contains("BackendNotFound"));

    for rules in [
        "- matches: []",
        "- backendRefs: [{name: v1, port: 80, weight: 0}]",
    ] {
        let (table, problems) = mesh(&[&with_rules(rules)]);
        assert!(failure(&table, "/", &[]).is_some(), "{rules}");
        assert_eq!(
            fields(&problems),
            [(Severity::Warning, "spec.rules[0].backendRefs")]
        );
    }
}

#[test]
fn timeouts_and_retries_are_carried_over() {
    let (table, problems) = mesh(&[&with_rules(
        "- timeouts: {request: 10s, backendRequest: 500ms}\n  retry: {attempts: 3, codes: [503], backoff: 100ms}\n  backendRefs: [{name: v1, port: 80}]\n\
         - matches: [{path: {value: /off}}]\n  timeouts: {request: 0s}\n  retry: {attempts: 0}\n  backendRefs: [{name: v1, port: 80}]",
    )]);
    assert_eq!(problems, []);
    let (_, rule) = ask(&table, "/", &[]).unwrap();
    assert_eq!(rule.timeouts.request, Some(Duration::from_secs(10)));
    assert_eq!(rule.timeouts.per_try, Some(Duration::from_millis(500)));
    assert_eq!(rule.retry.attempts, 3);
    assert_eq!(*rule.retry.codes, [StatusCode::SERVICE_UNAVAILABLE]);
    assert_eq!(rule.retry.backoff.floor, Duration::from_millis(100));
    let (_, off) = ask(&table, "/off", &[]).unwrap();
    assert_eq!(off.timeouts.request, None);
    assert_eq!(off.retry.attempts, 0);
}

/// Gateway API conformance, HTTPRouteRewritePath and HTTPRouteRewriteHost.
#[test]
fn rewrites_change_path_and_host() {
    let rule = |prefix: &str, rewrite: &str| {
        format!(
            "- matches: [{{path: {{value: {prefix}}}}}]\n  filters: [{{type: URLRewrite, urlRewrite: {rewrite}}}]\n  backendRefs: [{{name: v1, port: 80}}]\n"
        )
    };
    let rules = [
        rule(
            "/prefix/one",
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}",
        ),
        rule(
            "/strip-prefix",
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}",
        ),
        rule(
            "/full/one",
            "{hostname: one.example.org, path: {type: ReplaceFullPath, replaceFullPath: /one}}",
        ),
    ];
    let (table, problems) = mesh(&[&with_rules(&rules.concat())]);
    assert_eq!(problems, []);
    let target = |path: &str| {
        let (found, rule) = ask(&table, path, &[]).unwrap();
        let rewrite = rule.rewrite.as_ref().unwrap();
        let target = rewrite.target(path, Some("q"), found.matched).unwrap().unwrap();
        (target.to_string(), rewrite.host.as_ref().map(ToString::to_string))
    };
    assert_eq!(target("/prefix/one/two"), ("/one/two?q".into(), None));
    assert_eq!(target("/strip-prefix/three"), ("/three?q".into(), None));
    assert_eq!(target("/strip-prefix"), ("/?q".into(), None));
    assert_eq!(
        target("/full/one/two"),
        ("/one?q".into(), Some("one.example.org".into()))
    );
}

#[test]
fn header_filters_edit_and_setting_the_host_rewrites_it() {
    let (table, problems) = mesh(&[&with_rules(
        "- filters:\n  - type: RequestHeaderModifier\n    requestHeaderModifier:\n      set: [{name: X-Set, value: a}, {name: Host, value: 'b:81'}]\n      add: [{name: x-add, value: c}, {name: host, value: late}]\n      remove: [x-gone, host]\n  \
         - type: ResponseHeaderModifier\n    responseHeaderModifier: {remove: [server]}\n  backendRefs: [{name: v1, port: 80}]",
    )]);
    let (_, rule) = ask(&table, "/", &[]).unwrap();
    assert_eq!(
        rule.request.set,
        [(HeaderName::from_static("x-set"), HeaderValue::from_static("a"))]
    );
    assert_eq!(
        rule.request.add,
        [(HeaderName::from_static("x-add"), HeaderValue::from_static("c"))]
    );
    assert_eq!(rule.request.remove, [HeaderName::from_static("x-gone")]);
    assert_eq!(rule.response.remove, [HeaderName::from_static("server")]);
    let host = rule.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_ref());
    assert_eq!(host.map(|host| host.as_str()), Some("b:81"));
    assert_eq!(
        fields(&problems),
        [(
            Severity::Ignored,
            "spec.rules[0].filters[0].requestHeaderModifier.remove[1]"
        )]
    );
}

/// Gateway API conformance, HTTPRouteRedirectPort, -Path, -HostAndStatus and -Scheme.
#[test]
fn redirects_end_the_exchange() {
    let redirect = |port: u16, redirect: &str, path: &str| {
        let spec = with_rules(&format!(
            "- matches: [{{path: {{value: /original-prefix}}}}]\n  filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]"
        ));
        let (table, problems) = mesh_at(&[&spec], PortRef::from(port));
        assert_eq!(problems, []);
        let (found, rule) = ask(&table, path, &[]).unwrap();
        let Action::Redirect(redirect) = &rule.action else {
            panic!("it redirects")
        };
        let headers = HeaderMap::new();
        let head = RequestHead::unsent(&Method::GET, "echo:1234", path, None, &headers);
        let (status, location) = redirect.location(&head, found.matched);
        format!("{} {}", status.as_u16(), location.to_str().unwrap())
    };
    let prefix = "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}}";
    assert_eq!(
        redirect(80, prefix, "/original-prefix/lemon"),
        "302 http://echo/replacement-prefix/lemon"
    );
    assert_eq!(
        redirect(80, "{hostname: example.org, statusCode: 301}", "/original-prefix"),
        "301 http://example.org/original-prefix"
    );
    assert_eq!(
        redirect(80, "{port: 8083, hostname: example.org}", "/original-prefix"),
        "302 http://example.org:8083/original-prefix"
    );
    assert_eq!(
        redirect(8080, "{scheme: https}", "/original-prefix"),
        "302 https://echo/original-prefix"
    );
    assert_eq!(
        redirect(8080, "{}", "/original-prefix"),
        "302 http://echo:8080/original-prefix"
    );
}

#[test]
fn a_repeated_header_match_counts_once() {
    let (table, problems) = mesh(&[&with_rules(
        "- matches: [{headers: [{name: x, value: a}, {name: X, value: b}]}]\n  backendRefs: [{name: v1, port: 80}]",
    )]);
    assert_eq!(cluster(&table, "/", &[("x", "a")]), 1);
    assert_eq!(cluster(&table, "/", &[("x", "b")]), 0);
    assert_eq!(
        fields(&problems),
        [(Severity::Ignored, "spec.rules[0].matches[0].headers[1]")]
    );
}

#[test]
fn a_route_without_rules_answers_for_everything() {
    let (table, problems) = mesh(&["parentRefs: [{group: '', kind: Service, name: echo}]"]);
    assert!(!table.is_empty());
    assert!(failure(&table, "/any", &[]).is_some());
    assert_eq!(
        fields(&problems),
        [(Severity::Warning, "spec.rules[0].backendRefs")]
    );
}
