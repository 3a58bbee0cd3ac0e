//! VirtualServices as people write them, and what becomes of requests.

mod scope;

use http::{HeaderMap, HeaderValue, Method};

use super::kit::*;
use crate::compile::Compiled;
use crate::config::Severity;
use crate::policy::RequestHead;
use crate::policy::route::{Action, Found, RouteRule, Target};
use crate::snapshot::Node;

/// A second service beside `reviews`, with two ports.
const RATINGS: &str = "
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: default}
spec: {selector: {app: ratings}, ports: [{name: http, port: 9080}, {name: http-admin, port: 9081}]}
";

fn virtual_service(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"
    )
}

/// One of the host `reviews` with these HTTP routes.
fn reviews(http: &str) -> String {
    virtual_service(
        "default",
        "reviews",
        &format!("{{hosts: [reviews], http: {http}}}"),
    )
}

/// The problems of VirtualServices.
fn about_it(seen: &Compiled) -> Vec<String> {
    let all = seen.problems.iter().map(ToString::to_string);
    all.filter(|it| it.contains("VirtualService")).collect()
}

/// A request as a test writes it.
struct Ask<'a> {
    authority: &'a str,
    target: &'a str,
    headers: &'a [(&'static str, &'a str)],
}

const PLAIN: Ask<'static> = Ask {
    authority: "reviews.default:9080",
    target: "/",
    headers: &[],
};

impl Ask<'_> {
    fn find<'c>(&self, seen: &'c Compiled) -> Option<(Found, &'c RouteRule)> {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let head = RequestHead::unsent(&Method::GET, self.authority, path, query, &headers);
        let routes = &seen.port(self.authority).routes;
        let found = routes.find(&head)?;
        Some((found, routes.rule(found.rule).unwrap()))
    }

    /// `namespace/name/index` of the rule that decides.
    fn rule<'c>(&self, seen: &'c Compiled) -> Option<&'c str> {
        self.find(seen).map(|(_, rule)| &*rule.origin.label)
    }

    /// Where each share goes: `service:port weight`, or why not.
    fn shares(&self, seen: &Compiled) -> Vec<String> {
        let Some((_, rule)) = self.find(seen) else {
            return vec!["no route".into()];
        };
        match &rule.action {
            Action::Forward(backends) => {
                let share = |it: &crate::policy::route::Backend| match &it.cluster {
                    Target::Cluster(id) => {
                        let cluster = seen.snapshot.cluster(*id).unwrap();
                        format!("{}:{} {}", cluster.service.name, cluster.port, it.weight)
                    }
                    other => format!("{other:?} {}", it.weight),
                };
                backends.iter().map(share).collect()
            }
            other => vec![format!("{other:?}")],
        }
    }
}

#[test]
fn the_first_route_that_matches_decides() {
    let text = reviews(
        "[{match: [{headers: {end-user: {exact: jason}}}], route: [{destination: {host: ratings, port: {number: 9081}}}]}, \
          {match: [{uri: {prefix: /api}, port: 9080}, {uri: {exact: /x}}], route: [{destination: {host: ratings}}]}, \
          {match: [{port: 81}], route: [{destination: {host: ratings}}]}, \
          {route: [{destination: {host: reviews}}]}]",
    );
    let seen = caller(&[TOWN, RATINGS, &text]);
    assert_eq!(about_it(&seen), [""; 0]);
    let jason = Ask {
        headers: &[("end-user", "jason")],
        ..PLAIN
    };
    assert_eq!(jason.rule(&seen), Some("default/reviews/0"));
    assert_eq!(jason.shares(&seen), ["ratings:9081 1"]);
    for (target, expected) in [("/apiary", 1), ("/x?q", 1), ("/", 3)] {
        let ask = Ask { target, ..PLAIN };
        assert_eq!(
            ask.rule(&seen),
            Some(&*format!("default/reviews/{expected}")),
            "{target}"
        );
    }
    // Of several ports the one addressed is meant.
    let api = Ask {
        target: "/api",
        ..PLAIN
    };
    assert_eq!(api.shares(&seen), ["ratings:9080 1"]);
    assert_eq!(PLAIN.shares(&seen), ["reviews:9080 1"]);
}

#[test]
fn nothing_but_the_written_routes_is_served() {
    let seen = caller(&[
        TOWN,
        &reviews("[{match: [{uri: {exact: /x}}], route: [{destination: {host: reviews}}]}]"),
    ]);
    assert_eq!(PLAIN.rule(&seen), None);
    assert!(!seen.port("reviews.default:9080").routes.is_empty());
    // Unless none of them is for the port.
    let seen = caller(&[
        TOWN,
        &reviews("[{match: [{port: 81}], route: [{destination: {host: reviews}}]}]"),
    ]);
    assert!(seen.port("reviews.default:9080").routes.is_empty());
}

#[test]
fn shares_follow_weights_and_what_is_missing_keeps_its_own() {
    let text = reviews(
        "[{route: [{destination: {host: reviews}, weight: 80}, {destination: {host: ratings.default.svc.cluster.local}, weight: 15}, \
           {destination: {host: nobody}, weight: 5}, {destination: {host: nobody-either}, weight: 0}]}]",
    );
    let seen = caller(&[TOWN, RATINGS, &text]);
    assert_eq!(
        PLAIN.shares(&seen),
        [
            "reviews:9080 80",
            "ratings:9080 15",
            "Invalid(\"`nobody.default.svc.cluster.local` is no service of the mesh\") 5",
            "Invalid(\"no share\") 0",
        ]
    );
    let problem = seen.problem("nobody.default");
    assert_eq!(problem.severity, Severity::Error);
    assert_eq!(problem.field, "spec.http[0].route[2].destination.host");
    assert_eq!(PLAIN.find(&seen).unwrap().1.failure(), 503);
    let subset = caller(&[
        TOWN,
        &reviews("[{route: [{destination: {host: reviews, subset: v9}}]}]"),
    ]);
    assert_eq!(
        subset.problem("subset v9").field,
        "spec.http[0].route[0].destination.subset"
    );
    assert!(PLAIN.shares(&subset)[0].starts_with("Invalid"));
}

#[test]
fn a_delegate_has_the_routes() {
    let root = reviews(
        "[{match: [{uri: {prefix: /a}}], timeout: 5s, delegate: {name: part, namespace: team}}, {redirect: {uri: /}}]",
    );
    let part = virtual_service(
        "team",
        "part",
        "{http: [{match: [{uri: {prefix: /a/b}}], route: [{destination: {host: ratings.default.svc.cluster.local}}]}, \
          {match: [{uri: {prefix: /c}}], redirect: {uri: /}}, {route: [{destination: {host: reviews.default.svc.cluster.local}}]}]}",
    );
    let seen = caller(&[TOWN, RATINGS, &root, &part]);
    for (target, expected) in [
        ("/a/b/c", "team/part/0"),
        ("/a", "team/part/2"),
        ("/c", "default/reviews/1"),
    ] {
        assert_eq!(Ask { target, ..PLAIN }.rule(&seen), Some(expected), "{target}");
    }
    let (_, rule) = Ask {
        target: "/a",
        ..PLAIN
    }
    .find(&seen)
    .unwrap();
    assert_eq!(rule.timeouts.request.map(|it| it.as_secs()), Some(5));
    let problem = seen.problem("is no part of what");
    assert_eq!(problem.field, "spec.http[1].match");
    assert_eq!(
        problem.resource.as_ref().unwrap().to_string(),
        "VirtualService team/part"
    );
    let missing = caller(&[TOWN, &root]);
    assert_eq!(missing.problem("team/part").field, "spec.http[0].delegate");
    assert_eq!(
        Ask {
            target: "/a",
            ..PLAIN
        }
        .rule(&missing),
        Some("default/reviews/1")
    );
    let hidden = caller(&[
        TOWN,
        RATINGS,
        &root,
        &part.replace("{http:", "{exportTo: [.], http:"),
    ]);
    assert!(
        hidden
            .problem("is not exported to default")
            .field
            .ends_with("delegate")
    );
}

#[test]
fn headers_of_route_and_destination_are_edited_in_turn() {
    let seen = caller(&[
        TOWN,
        &reviews(
            "[{headers: {request: {set: {x: '1', ':authority': from-route}, remove: [z]}, response: {add: {a: route}}}, \
              route: [{destination: {host: reviews}, weight: 1, headers: {request: {add: {y: '100%%'}}, response: {set: {a: own}, remove: [b]}}}, \
                {destination: {host: reviews}, weight: 1, headers: {request: {set: {host: own}}}}]}]",
        ),
    ]);
    assert_eq!(about_it(&seen), [""; 0]);
    let (_, rule) = PLAIN.find(&seen).unwrap();
    let Action::Forward(backends) = &rule.action else {
        panic!("{rule:?}")
    };
    assert_eq!(rule.request.set.len(), 1);
    assert_eq!(
        rule.rewrite.as_ref().unwrap().host.as_ref().unwrap(),
        "from-route"
    );
    assert!(rule.response.is_empty(), "each destination has the route's edits");
    let first = backends.get(0).unwrap();
    assert_eq!(first.request.add[0].1, "100%");
    assert_eq!(first.response.set[0].1, "own");
    assert!(first.response.add.is_empty() && first.response.remove.len() == 1);
    let second = backends.get(1).unwrap();
    assert!(
        second.rewrite.is_none(),
        "the route's authority counts before the destination's"
    );
    assert_eq!(second.response.add[0].1, "route");
    let filled = caller(&[
        TOWN,
        &reviews("[{headers: {request: {set: {x: '%REQ(a)%'}}}, route: [{destination: {host: reviews}}]}]"),
    ]);
    assert_eq!(filled.problem("%…%").field, "spec.http[0].headers.request.set.x");
    assert!(PLAIN.shares(&filled)[0].starts_with("Fail"));
}

/// traffic-060.
#[test]
fn rewrites_redirects_and_answers() {
    let location = |route: &str, target: &str| {
        let seen = caller(&[TOWN, &reviews(&format!("[{route}]"))]);
        let (found, rule) = Ask { target, ..PLAIN }.find(&seen)?;
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        let (method, headers) = (Method::GET, HeaderMap::new());
        let head = RequestHead::unsent(&method, "h", path, query, &headers);
        match &rule.action {
            Action::Redirect(redirect) => {
                let (status, location) = redirect.location(&head, found.matched);
                Some(format!("{} {}", status.as_u16(), location.to_str().unwrap()))
            }
            Action::Respond { status, body } => Some(format!("{} {body:?}", status.as_u16())),
            Action::Forward(_) => {
                let rewrite = rule.rewrite.as_ref().unwrap();
                let target = rewrite.target(path, query, found.matched).unwrap();
                Some(target.map_or_else(|| "same".into(), |it| it.to_string()))
            }
            Action::Fail { why } => Some(format!("fail: {why}")),
        }
    };
    for (route, target, expected) in [
        (
            "{redirect: {uri: /new}}",
            "/old?q=1",
            Some("301 http://h/new?q=1"),
        ),
        (
            "{redirect: {authority: n, redirectCode: 307}}",
            "/old",
            Some("307 http://n/old"),
        ),
        ("{redirect: {uri: /, redirectCode: 304}}", "/", None),
        (
            "{redirect: {scheme: https, port: 443}}",
            "/x",
            Some("301 https://h/x"),
        ),
        (
            "{redirect: {derivePort: FROM_REQUEST_PORT}}",
            "/x",
            Some("301 http://h:9080/x"),
        ),
        (
            "{redirect: {scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}}",
            "/x",
            Some("301 https://h/x"),
        ),
        (
            "{match: [{uri: {prefix: /a}}], redirect: {prefixRewrite: /b}}",
            "/a/c",
            Some("301 http://h/b/c"),
        ),
        (
            "{match: [{uri: {prefix: /v1}}], rewrite: {uri: /v2}, route: [{destination: {host: reviews}}]}",
            "/v1/a?b",
            Some("/v2/a?b"),
        ),
        (
            "{match: [{uri: {exact: /v1}}], rewrite: {uri: /v2}, route: [{destination: {host: reviews}}]}",
            "/v1",
            Some("/v2"),
        ),
        (
            "{match: [{uri: {regex: '/v[0-9]/.*'}}], rewrite: {uri: /v2}, route: [{destination: {host: reviews}}]}",
            "/v1/a",
            Some("/v2"),
        ),
        (
            "{rewrite: {uri: /v2/}, route: [{destination: {host: reviews}}]}",
            "/a",
            Some("/v2/a"),
        ),
        (
            "{rewrite: {uriRegexRewrite: {match: '^/a/([^/]+)', rewrite: '/\\1'}}, route: [{destination: {host: reviews}}]}",
            "/a/b/c?q",
            Some("/b/c?q"),
        ),
        (
            "{rewrite: {authority: other}, route: [{destination: {host: reviews}}]}",
            "/",
            Some("same"),
        ),
        (
            "{directResponse: {status: 503, body: {string: unknown error}}}",
            "/",
            Some("503 b\"unknown error\""),
        ),
        (
            "{directResponse: {status: 200, body: {bytes: AAE=}}}",
            "/",
            Some("200 b\"\\0\\x01\""),
        ),
        ("{directResponse: {status: 204}}", "/", Some("204 b\"\"")),
    ] {
        assert_eq!(location(route, target).as_deref(), expected, "{route}");
    }
}

#[test]
fn further_parts_of_a_route_arrive_in_the_rule() {
    let seen = caller(&[
        TOWN,
        RATINGS,
        &reviews(
            "[{name: main, route: [{destination: {host: reviews}}], timeout: 2s, \
              retries: {attempts: 3, perTryTimeout: 500ms, retryOn: '5xx,429', backoff: 1s}, \
              mirrors: [{destination: {host: ratings}, percentage: {value: 0.1}}, {destination: {host: ratings, port: {number: 9081}}}, \
                {destination: {host: ratings}, percentage: {value: 0}}, {destination: {host: nobody}}], \
              corsPolicy: {allowOrigins: [{exact: 'https://a'}, {regex: '.*'}], allowMethods: [GET, POST], maxAge: 24h}}]",
        ),
    ]);
    let (_, rule) = PLAIN.find(&seen).unwrap();
    assert_eq!(rule.origin.name.as_deref(), Some("main"));
    assert_eq!(rule.timeouts.request.map(|it| it.as_millis()), Some(2000));
    assert_eq!(rule.timeouts.per_try.map(|it| it.as_millis()), Some(500));
    assert_eq!((rule.retry.attempts, rule.retry.codes.len()), (3, 1));
    assert_eq!(rule.fault, None);
    assert_eq!(rule.mirrors.len(), 2);
    assert!(rule.mirrors.iter().all(|it| it.shadow_host));
    let cors = rule.cors.as_ref().unwrap();
    assert_eq!((cors.origins.len(), cors.max_age), (2, Some(86_400)));
    assert_eq!(
        seen.problem("nobody.default").field,
        "spec.http[0].mirrors[3].destination.host"
    );
}

#[test]
fn faults_arrive_in_the_rule() {
    let of = |fault: &str, annotation: &str| {
        let text = reviews(&format!(
            "[{{{fault}route: [{{destination: {{host: reviews}}}}]}}]"
        ))
        .replace("metadata: {", &format!("metadata: {{{annotation}"));
        let seen = caller(&[TOWN, &text]);
        assert_eq!(about_it(&seen), [""; 0]);
        PLAIN.find(&seen).unwrap().1.fault
    };
    let both = of(
        "fault: {delay: {fixedDelay: 7s, percentage: {value: 100}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 0.1}}}, ",
        "",
    )
    .unwrap();
    assert_eq!(both.delay.unwrap().time.as_secs(), 7);
    let abort = both.abort.unwrap();
    assert_eq!((abort.share.get(), abort.grpc_status), (1_000, Some(14)));
    assert!(!both.by_header);
    // Unset is nobody.
    assert_eq!(of("fault: {abort: {httpStatus: 500}}, ", ""), None);
    let open = of("", "annotations: {inmesh/fault-headers: 'true'}, ").unwrap();
    assert!(open.by_header && open.delay.is_none() && open.abort.is_none());
}

#[test]
fn what_reaches_nobody_is_told() {
    let lost = virtual_service(
        "default",
        "lost",
        "{hosts: [nowhere], gateways: [mesh, gw], http: [{redirect: {uri: /}}, {redirect: {uri: /}}]}",
    );
    let seen = caller(&[TOWN, &lost]);
    for (field, part) in [
        ("spec.hosts[0]", "no service is called nowhere.default"),
        ("spec.gateways[1]", "no Gateway default/gw"),
        ("spec.http[1]", "never reached"),
    ] {
        let problem = seen.problem(part);
        assert_eq!((problem.severity, &*problem.field), (Severity::Warning, field));
    }
}
