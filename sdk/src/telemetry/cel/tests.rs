use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;

use super::*;
use crate::telemetry::access::Fields;

/// What `expression` comes to for one request, as text.
fn value(expression: &str) -> Option<String> {
    let expression =
        Expression::parse_by(expression, &node()).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let headers = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-tenant"),
        http::HeaderValue::from_static("shop"),
    )]);
    let mut labels = crate::telemetry::RequestLabels::new(crate::telemetry::Reporter::Waypoint);
    labels.source.app = "curl".into();
    let mut entry = Entry::of_connection([None, None], None, None, &labels);
    let fields = Fields::from(&headers);
    entry.request = &fields;
    // 2024-01-02T03:04:05.5Z, a Tuesday.
    entry.start = UNIX_EPOCH + Duration::from_millis(1_704_164_645_500);
    entry.duration = Duration::from_millis(1_250);
    entry.answered = Some(Duration::from_millis(800));
    entry.upstream = Some(SocketAddr::from(([10, 0, 0, 1], 8080)));
    entry.method = "GET";
    entry.path = "/a/b?c=d";
    entry.code = 503;
    entry.flags = "UF,URX";
    entry.attempts = 3;
    let text = expression.text(&entry);
    text.map(Cow::into_owned)
}

fn node() -> NodeFacts {
    let metadata = [("NAMESPACE", "shop"), ("LABELS/app", "cart")];
    NodeFacts {
        id: "sidecar~10.0.0.1~cart.shop~shop.svc.cluster.local".into(),
        cluster: "cart.shop".into(),
        metadata: metadata
            .map(|(key, value)| (Arc::from(key), Arc::from(value)))
            .into(),
    }
}

#[test]
fn what_is_known_can_be_reckoned_with() {
    for (expression, expected) in [
        ("request.time", "2024-01-02T03:04:05.5Z"),
        ("request.time + duration('1h')", "2024-01-02T04:04:05.5Z"),
        ("request.time - timestamp('2024-01-02T03:04:00Z')", "5.5s"),
        ("request.duration", "1.25s"),
        ("request.duration > duration('1s')", "true"),
        ("request.duration - response.backend_latency", "0.45s"),
        ("request.time.getHours()", "3"),
        ("request.time.getHours('+09:00') in [11, 12]", "true"),
        ("request.time.getDayOfWeek() == 2", "true"),
        ("int(request.time)", "1704164645"),
        ("response.flags", "32800"),
        ("response.code / 100 * 100", "500"),
        ("response.code % 100 == 3 && -response.code < 0", "true"),
        ("1 + 2 * 3 - 4", "3"),
        ("(1 + 2) * 3", "9"),
        ("1.5 * 2.0 > 2.9", "true"),
        ("response.code > 502.5 && response.code < 504u", "true"),
        ("uint(response.code) + 1u", "504"),
        ("double('0.5') + 0.5 == 1.0", "true"),
        ("-9223372036854775808 < 0", "true"),
        ("upstream.request_attempt_count > 2", "true"),
        ("filter_state['downstream_peer'].app", "curl"),
        ("request.headers['x-tenant'] + '/' + request.method", "shop/GET"),
    ] {
        assert_eq!(value(expression).as_deref(), Some(expected), "{expression}");
    }
}

#[test]
fn lists_and_maps_are_looked_into() {
    for (expression, expected) in [
        ("request.method in ['GET', 'HEAD']", "true"),
        ("['a', 'b'][1]", "b"),
        ("size(['a', 'b'] + ['c']) == 3", "true"),
        ("{'GET': 'read', 'PUT': 'write'}[request.method]", "read"),
        ("request.method in {'GET': 1}", "true"),
        ("{'a': {'b': 7}}.a.b", "7"),
        ("has({'a': 1}.b)", "false"),
        ("[1, 2] == [1, 2] && {'a': 1} != {'a': 2}", "true"),
        ("null == null && !(null == 1)", "true"),
        (
            "'x-tenant' in request.headers && !('x-none' in request.headers)",
            "true",
        ),
        ("has(request.headers.x_none) ? 'some' : 'none'", "none"),
        ("request.path.startsWith('/' + 'a')", "true"),
        ("'/a/b?c=d, and more'.contains(request.path)", "true"),
        ("matches(request.path, r'^/\\w/') // as people read it", "true"),
        ("'abc'.size() == 3", "true"),
    ] {
        assert_eq!(value(expression).as_deref(), Some(expected), "{expression}");
    }
}

#[test]
fn what_cannot_be_said_is_nothing() {
    for expression in [
        "1 / 0",
        "9223372036854775807 + 1",
        "1 + 1.0",
        "1 == '1'",
        "['a'][1]",
        "{'a': 1}['b']",
        "timestamp('9999-12-31T23:59:59Z') + duration('1s')",
        "request.headers['x-none'] + 'a'",
        "node.metadata.LABELS['none']",
        "[1, 2]",
        "null",
        "upstream.transport_failure_reason",
        "1 < [2]",
        "[1] < [2]",
    ] {
        assert_eq!(value(expression), None, "{expression}");
    }
}

#[test]
fn who_evaluates_is_known_when_it_is_read() {
    for (expression, expected) in [
        ("xds.node.cluster", "cart.shop"),
        ("node.id.startsWith('sidecar~')", "true"),
        ("xds.node.metadata['NAMESPACE'] == 'shop'", "true"),
        ("node.metadata.LABELS['app']", "cart"),
        ("has(node.metadata.LABELS.none)", "false"),
    ] {
        assert_eq!(value(expression).as_deref(), Some(expected), "{expression}");
    }
}

#[test]
fn what_is_not_known_is_refused_when_it_is_read() {
    for (expression, said) in [
        (
            "node.metadata['OWNER']",
            "`node.metadata.OWNER` is not known here at character 1",
        ),
        (
            "xds.cluster_metadata.filter_metadata",
            "is no attribute that is known here",
        ),
        ("request.total_size > 1", "`request.total_size` is no attribute"),
        ("[1].exists(x, x > 0)", "`exists` is a loop"),
        ("['a'].map(x, x + 'b')[0] == 'ab'", "`map` is a loop"),
        ("request.path.all(c, c != 'x')", "`all` is a loop"),
        ("{'a': 1}.filter(k, true) == []", "write its cases out"),
        (
            "duration('1 day')",
            "`duration` of this comes to nothing at character 1",
        ),
        ("timestamp('yesterday')", "`timestamp` of this comes to nothing"),
        (
            "request.time.getHours('Europe/Berlin')",
            "a time zone is written as an offset",
        ),
        (
            "request.path.matches(request.method)",
            "takes a pattern between quotes",
        ),
        ("request.method.int()", "`int` is no function"),
        ("startsWith('a', 'b')", "`startsWith` is no function"),
        ("request.headers[request.method]", "needs a name in brackets"),
        ("request.method in request.headers", "only a text between quotes"),
        (
            "'a' in request.method",
            "headers, a list or a map was expected at character 8",
        ),
        ("has(1 + 1)", "`has` takes an attribute"),
        ("request.path == '\\d'", "means nothing between quotes"),
        ("request.path[0]", "takes nothing in brackets"),
        (
            "request.time.year",
            "takes nothing in brackets, and has no fields",
        ),
        ("b'a' == 'a'", "`b` is no attribute"),
    ] {
        let error = Expression::parse_by(expression, &node()).unwrap_err().to_string();
        assert!(error.contains(said), "{expression}: {error}");
    }
}
