//! Gateway API's precedence as a table, and as a linear loop that the index must agree with.

use std::cmp::Ordering;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::expressions::tests::{any_middle, any_path_with_middles};
use super::*;
use crate::matcher::{FullRegex, HeaderPattern, HostPattern, PathPattern, QueryPattern, ValuePattern};
use crate::name::{Kind, ResourceRef};
use crate::policy::RequestHead;
use crate::policy::cases::cases;

/// A match as a test writes it, with the route it belongs to.
#[derive(Clone, Debug)]
struct Written {
    route: &'static str,
    created: Option<u64>,
    host: HostPattern,
    predicates: Predicates,
}

fn written(host: &str, predicates: Predicates) -> Written {
    Written {
        route: "r",
        created: None,
        host: HostPattern::parse(host).unwrap(),
        predicates,
    }
}

fn exact(path: &str) -> Predicates {
    Predicates {
        path: PathPattern::Exact(path.into()),
        ..Predicates::default()
    }
}

fn prefix(path: &str) -> Predicates {
    Predicates {
        path: PathPattern::prefix(path),
        ..Predicates::default()
    }
}

fn regex(path: &str) -> Predicates {
    Predicates {
        path: PathPattern::Regex(FullRegex::parse(path).unwrap()),
        ..Predicates::default()
    }
}

fn header(name: &'static str, value: &str) -> HeaderPattern {
    HeaderPattern {
        name: HeaderName::from_static(name),
        value: ValuePattern::Exact(value.into()),
    }
}

fn query(name: &str, value: &str) -> QueryPattern {
    QueryPattern {
        name: name.into(),
        value: ValuePattern::Exact(value.into()),
    }
}

/// Every match is a rule of its own: the index of the answer tells which.
fn table(list: &[Written]) -> RouteTable {
    let mut builder = RouteTableBuilder::default();
    for (index, written) in list.iter().enumerate() {
        let resource = ResourceRef::new(Kind::HTTPRoute, "ns", written.route);
        let origin = RuleOrigin::new(resource, index as u32, None);
        let rule = RouteRule::new(origin, Action::fail("not asked"));
        let id = builder.rule(rule, written.created);
        builder.matching(
            id,
            0,
            std::slice::from_ref(&written.host),
            written.predicates.clone(),
        );
    }
    builder.build()
}

/// The specification, as a loop: of all that match, the one that no other beats.
fn naive(list: &[Written], head: &RequestHead<'_>) -> Option<Found> {
    let host = head
        .authority
        .split(':')
        .next()
        .unwrap_or("")
        .to_ascii_lowercase();
    let mut best: Option<(usize, usize)> = None;
    for (index, written) in list.iter().enumerate() {
        let predicates = &written.predicates;
        let Some(matched) = predicates.path.matches(head.path) else {
            continue;
        };
        let holds = written.host.matches(&host)
            && predicates
                .method
                .as_ref()
                .is_none_or(|method| method == head.method)
            && predicates
                .headers
                .iter()
                .all(|header| header.matches(head.headers))
            && predicates.query.iter().all(|query| query.matches(head.query));
        if holds && best.is_none_or(|(best, _)| beats(written, index, &list[best], best)) {
            best = Some((index, matched));
        }
    }
    best.map(|(index, matched)| Found {
        rule: RuleId(index as u32),
        matched,
    })
}

/// Criterion after criterion, as the documentation of HTTPRouteRule.matches lists them.
fn beats(a: &Written, a_index: usize, b: &Written, b_index: usize) -> bool {
    let host = |w: &Written| match &w.host {
        HostPattern::Exact(host) => (2, host.as_str().len()),
        HostPattern::Suffix(suffix) => (1, suffix.len()),
        HostPattern::Any => (0, 0),
    };
    let path = |w: &Written| match &w.predicates.path {
        PathPattern::Exact(path) => (5, path.len()),
        PathPattern::Prefix(path) if path.is_empty() => {
            let rest = &w.predicates;
            let plain = rest.method.is_none() && rest.headers.is_empty() && rest.query.is_empty();
            (if plain { 0 } else { 2 }, 0)
        }
        PathPattern::Prefix(path) => (4, path.len()),
        PathPattern::Method(method) => (3, method.len()),
        PathPattern::Regex(regex) => (1, regex.as_str().len()),
    };
    let more = host(a)
        .cmp(&host(b))
        .then(path(a).cmp(&path(b)))
        .then(a.predicates.method.is_some().cmp(&b.predicates.method.is_some()))
        .then(a.predicates.headers.len().cmp(&b.predicates.headers.len()))
        .then(a.predicates.query.len().cmp(&b.predicates.query.len()));
    let age = |w: &Written| w.created.unwrap_or(u64::MAX);
    let earlier = age(a)
        .cmp(&age(b))
        .then(a.route.cmp(b.route))
        .then(a_index.cmp(&b_index));
    more == Ordering::Greater || (more == Ordering::Equal && earlier == Ordering::Less)
}

fn find(list: &[Written], authority: &str, target: &str, headers: &[(&'static str, &str)]) -> Option<u32> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    let head = RequestHead::unsent(&Method::GET, authority, path, query, &map);
    let table = table(list);
    let found = table.find(&head);
    assert_eq!(found, naive(list, &head));
    let winners: Vec<_> = table
        .explain(&head)
        .into_iter()
        .filter(|candidate| candidate.verdict == Verdict::Won)
        .map(|candidate| candidate.rule)
        .collect();
    assert_eq!(winners, Vec::from_iter(found.map(|found| found.rule)));
    found.map(|found| found.rule.0)
}

#[test]
fn exact_beats_prefix_and_the_longest_prefix_wins() {
    let list = [
        written("", prefix("/")),
        written("", prefix("/match")),
        written("", exact("/match/exact")),
        written("", prefix("/match/prefix/")),
        written("", prefix("/match/prefix/one")),
        written("", exact("/match/prefix/one")),
    ];
    let answers = [
        ("/match/exact", 2),
        ("/match/exact/", 1),
        ("/match/prefix", 3),
        ("/match/prefix/", 3),
        ("/match/prefix/one", 5),
        ("/match/prefix/one/", 4),
        ("/match/prefix/one/any", 4),
        ("/match/prefixone", 1),
        ("/matched", 0),
        ("/", 0),
        ("/MATCH", 0),
    ];
    for (path, expected) in answers {
        assert_eq!(find(&list, "h", path, &[]), Some(expected), "{path}");
    }
}

#[test]
fn a_method_outranks_headers_and_headers_outrank_query() {
    let list = [
        written(
            "",
            Predicates {
                query: [query("a", "1"), query("b", "2")].into(),
                ..prefix("/")
            },
        ),
        written(
            "",
            Predicates {
                headers: [header("x", "1")].into(),
                ..prefix("/")
            },
        ),
        written(
            "",
            Predicates {
                headers: [header("x", "1"), header("y", "2")].into(),
                ..prefix("/")
            },
        ),
        written(
            "",
            Predicates {
                method: Some(Method::GET),
                ..prefix("/")
            },
        ),
        written("", prefix("/longer")),
    ];
    let both = [("x", "1"), ("y", "2")];
    assert_eq!(find(&list, "h", "/longer?a=1&b=2", &both), Some(4));
    assert_eq!(find(&list, "h", "/?a=1&b=2", &both), Some(3));
    let no_method = &list[..3];
    assert_eq!(find(no_method, "h", "/?a=1&b=2", &both), Some(2));
    assert_eq!(find(no_method, "h", "/?a=1&b=2", &both[..1]), Some(1));
    assert_eq!(find(no_method, "h", "/?a=1&b=2", &[]), Some(0));
    assert_eq!(find(no_method, "h", "/?a=1", &[]), None);
}

#[test]
fn hosts_decide_before_paths() {
    let list = [
        written("", exact("/a")),
        written("*.com", exact("/a")),
        written("*.example.com", prefix("/a")),
        written("www.example.com", prefix("/")),
    ];
    let answers = [
        ("www.example.com", "/a", Some(3)),
        ("WWW.Example.COM:8080", "/a", Some(3)),
        ("www.example.com.", "/a", Some(3)),
        ("a.example.com", "/a", Some(2)),
        ("a.b.example.com", "/a/b", Some(2)),
        ("example.com", "/a", Some(1)),
        ("com", "/a", Some(0)),
        ("other.org", "/a", Some(0)),
        ("other.org", "/b", None),
        ("", "/a", Some(0)),
    ];
    for (authority, path, expected) in answers {
        // The loop knows nothing of root dots and ports beyond the simple ones.
        if authority.ends_with('.') {
            let (method, headers) = (Method::GET, HeaderMap::new());
            let head = RequestHead::unsent(&method, authority, path, None, &headers);
            let found = table(&list).find(&head).map(|found| found.rule.0);
            assert_eq!(found, expected, "{authority} {path}");
        } else {
            assert_eq!(find(&list, authority, path, &[]), expected, "{authority} {path}");
        }
    }
}

#[test]
fn ties_go_to_the_oldest_then_the_alphabet_then_the_order() {
    let of = |route, created| Written {
        route,
        created,
        ..written("", prefix("/"))
    };
    assert_eq!(find(&[of("b", None), of("a", None)], "h", "/", &[]), Some(1));
    assert_eq!(
        find(&[of("b", Some(1)), of("a", Some(2))], "h", "/", &[]),
        Some(0)
    );
    assert_eq!(find(&[of("a", None), of("b", Some(9))], "h", "/", &[]), Some(1));
    assert_eq!(find(&[of("a", None), of("a", None)], "h", "/", &[]), Some(0));
}

#[test]
fn an_expression_comes_after_prefixes_but_before_the_catch_all() {
    let list = [
        written("", prefix("/")),
        written("", regex("/v[0-9]+/.*")),
        written("", prefix("/v1")),
    ];
    assert_eq!(find(&list, "h", "/v1/x", &[]), Some(2));
    assert_eq!(find(&list, "h", "/v2/x", &[]), Some(1));
    assert_eq!(find(&list, "h", "/w", &[]), Some(0));
}

/// Gateway API, GRPCRouteRule.matches: characters of the service, characters of the method, headers.
#[test]
fn grpc_services_come_before_methods_and_methods_before_headers() {
    let method = |name: &str| Predicates {
        path: PathPattern::Method(name.into()),
        ..Predicates::default()
    };
    let with_header = |predicates| Predicates {
        headers: [header("x", "1")].into(),
        ..predicates
    };
    let list = [
        written("", prefix("/")),
        written("", with_header(prefix("/"))),
        written("", method("Get")),
        written("", with_header(method("Get"))),
        written("", prefix("/a.B")),
        written("", exact("/a.B/Get")),
    ];
    let sent = [("x", "1")];
    assert_eq!(find(&list, "h", "/a.B/Get", &sent), Some(5));
    assert_eq!(find(&list, "h", "/a.B/Put", &sent), Some(4));
    assert_eq!(find(&list, "h", "/a.C/Get", &sent), Some(3));
    assert_eq!(find(&list, "h", "/a.C/Get", &[]), Some(2));
    assert_eq!(find(&list, "h", "/a.C/Put", &sent), Some(1));
    assert_eq!(find(&list, "h", "/a.C/Put", &[]), Some(0));
    assert_eq!(find(&list, "h", "/a.BB/Put", &[]), Some(0));
    // Without a service, whatever is asked of headers decides only among methods.
    assert_eq!(find(&list[..3], "h", "/a.C/Get", &sent), Some(2));
}

#[test]
fn the_matched_part_is_that_of_the_match_that_won() {
    let list = [written("", prefix("/a/b/")), written("", prefix("/"))];
    let (method, headers) = (Method::GET, HeaderMap::new());
    let matched = |path| {
        let head = RequestHead::unsent(&method, "h", path, None, &headers);
        table(&list).find(&head).map(|found| found.matched)
    };
    assert_eq!(matched("/a/b/c"), Some(4));
    assert_eq!(matched("/x"), Some(0));
    assert_eq!(matched("*"), None);
}

#[test]
fn an_explanation_says_why_not() {
    let list = [
        written("a.com", prefix("/")),
        written("", exact("/x")),
        written(
            "",
            Predicates {
                method: Some(Method::POST),
                ..prefix("/")
            },
        ),
        written(
            "",
            Predicates {
                headers: [header("x", "1")].into(),
                ..prefix("/")
            },
        ),
        written(
            "",
            Predicates {
                query: [query("q", "1")].into(),
                ..prefix("/")
            },
        ),
        written("", prefix("/")),
        written("", prefix("/")),
    ];
    let (method, headers) = (Method::GET, HeaderMap::new());
    let head = RequestHead::unsent(&method, "b.com", "/", None, &headers);
    let table = table(&list);
    let verdicts: Vec<_> = table
        .explain(&head)
        .into_iter()
        .map(|candidate| candidate.verdict)
        .collect();
    assert_eq!(
        verdicts,
        [
            Verdict::Host,
            Verdict::Path,
            Verdict::Method,
            Verdict::Header(HeaderName::from_static("x")),
            Verdict::Query("q".into()),
            Verdict::Won,
            Verdict::Outranked,
        ]
    );
}

#[test]
fn many_rules_that_differ_by_a_header_are_all_found() {
    let list: Vec<Written> = (0..200)
        .map(|n| {
            let headers = [header("x-user", &n.to_string())].into();
            written(
                "",
                Predicates {
                    headers,
                    ..prefix("/same")
                },
            )
        })
        .collect();
    assert_eq!(find(&list, "h", "/same/path", &[("x-user", "137")]), Some(137));
    assert_eq!(find(&list, "h", "/same/path", &[("x-user", "200")]), None);
    assert_eq!(
        find(&list, "h", "/same", &[("x-user", "1"), ("x-user", "2")]),
        None
    );
}

#[test]
fn an_empty_table_is_told_from_one_that_matches_nothing() {
    assert!(RouteTable::default().is_empty());
    assert!(!table(&[written("", exact("/x"))]).is_empty());
}

fn any_path() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(vec!["a", "b", "ab", ""]), 0..4)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

/// Compiled once: that is what takes time.
static EXPRESSIONS: LazyLock<Vec<FullRegex>> = LazyLock::new(|| {
    [
        "/a.*",
        "/[ab]+",
        "/.*",
        "/[ab]*/b",
        "/a/[ab]*/b",
        "/.*/ab/.*",
        "^/a/[^/]*$",
        "/[ab]+/a/b*",
        "/ab?|/b.*",
        ".*\\bb",
    ]
    .map(|text| FullRegex::parse(text).unwrap())
    .into()
});

fn any_predicates() -> impl Strategy<Value = Predicates> {
    let path = prop_oneof![
        3 => any_path().prop_map(|path| PathPattern::Exact(path.into())),
        5 => any_path().prop_map(|path| PathPattern::prefix(&path)),
        1 => proptest::sample::select(vec!["a", "b", "ab"]).prop_map(|name| PathPattern::Method(name.into())),
        3 => (0..EXPRESSIONS.len()).prop_map(|at| PathPattern::Regex(EXPRESSIONS[at].clone())),
        3 => any_middle().prop_map(PathPattern::Regex),
    ];
    let method = proptest::option::weighted(0.2, prop_oneof![Just(Method::GET), Just(Method::PUT)]);
    let headers = proptest::sample::subsequence(vec![("x", "1"), ("y", "1"), ("z", "2")], 0..3);
    let queries = proptest::sample::subsequence(vec![("p", "1"), ("q", "2")], 0..2);
    (path, method, headers, queries).prop_map(|(path, method, headers, queries)| Predicates {
        path,
        method,
        headers: headers
            .into_iter()
            .map(|(name, value)| header(name, value))
            .collect(),
        query: queries
            .into_iter()
            .map(|(name, value)| query(name, value))
            .collect(),
    })
}

const HOSTS: [&str; 6] = ["*", "a.com", "b.a.com", "*.com", "*.a.com", "*.b.a.com"];

prop_compose! {
    fn any_written()(
        route in proptest::sample::select(vec!["r", "s", "t"]),
        created in proptest::option::of(0_u64..3),
        host in proptest::sample::select(HOSTS.to_vec()),
        predicates in any_predicates(),
    ) -> Written {
        Written { route, created, ..written(host, predicates) }
    }
}

prop_compose! {
    fn any_request()(
        authority in proptest::sample::select(vec!["a.com", "B.a.com", "c.b.a.com:80", "com", "x.com", "", "y"]),
        path in prop_oneof![any_path(), any_path_with_middles()],
        query in proptest::option::of(proptest::sample::select(vec!["p=1", "q=2&p=1", "p=2&p=1", "q=2"])),
        put in any::<bool>(),
        sent in proptest::collection::vec(
            (proptest::sample::select(vec!["x", "y", "z"]), proptest::sample::select(vec!["1", "2"])), 0..4),
    ) -> (&'static str, String, Option<&'static str>, bool, Vec<(&'static str, &'static str)>) {
        (authority, path, query, put, sent)
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// 64 requests on each table.
    #[test]
    fn the_index_agrees_with_the_loop(
        list in proptest::collection::vec(any_written(), 0..40),
        requests in proptest::collection::vec(any_request(), 64),
    ) {
        let table = table(&list);
        for (authority, path, query, put, sent) in requests {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(name, HeaderValue::from_static(value));
            }
            let method = if put { Method::PUT } else { Method::GET };
            let head = RequestHead::unsent(&method, authority, &path, query, &headers);
            prop_assert_eq!(table.find(&head), naive(&list, &head));
        }
    }

    #[test]
    fn every_candidate_is_told_its_reason(
        list in proptest::collection::vec(any_written(), 0..20),
        (authority, path, query, put, sent) in any_request(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(name, HeaderValue::from_static(value));
        }
        let method = if put { Method::PUT } else { Method::GET };
        let head = RequestHead::unsent(&method, authority, &path, query, &headers);
        explain::check(&table(&list), &head);
    }

    #[test]
    fn finding_never_panics(authority in "\\PC{0,20}", path in "\\PC{0,20}", query in "\\PC{0,20}") {
        let list = [written("*.a.com", prefix("/a")), written("", regex("/.*")), written("", prefix("/"))];
        let (method, headers) = (Method::GET, HeaderMap::new());
        let head = RequestHead::unsent(&method, &authority, &path, Some(&query), &headers);
        let table = table(&list);
        let _ = (table.find(&head), table.explain(&head));
    }
}
