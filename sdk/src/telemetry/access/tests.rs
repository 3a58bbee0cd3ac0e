use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use serde_json::json;

use super::*;
use crate::telemetry::Meter;

/// Headers of the request and of the response.
struct Heads {
    request: Fields,
    response: Fields,
    none: Fields,
    trailers: HeaderMap,
}

impl Heads {
    fn new() -> Self {
        let map = |fields: &[(&'static str, &'static str)]| {
            let fields = fields.iter();
            let map: HeaderMap = fields
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect();
            Fields::from(&map)
        };
        Self {
            request: map(&[
                ("user-agent", "curl/8"),
                ("x-request-id", "r-1"),
                ("x-forwarded-for", "10.0.0.9"),
                ("x-tenant", "a\"b"),
            ]),
            response: map(&[("x-envoy-upstream-service-time", "3")]),
            none: Fields::new(),
            trailers: HeaderMap::new(),
        }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            start: UNIX_EPOCH + Duration::from_millis(1_704_164_645_678),
            duration: Duration::from_millis(12),
            answered: Some(Duration::from_millis(9)),
            method: "GET",
            scheme: "http",
            authority: "reviews:9080",
            path: "/reviews/0?a=b",
            protocol: Some("HTTP/1.1"),
            request: &self.request,
            response: &self.response,
            trailers: &self.trailers,
            code: 200,
            flags: "-",
            details: Some("via_upstream"),
            grpc_status: None,
            received: 0,
            sent: 42,
            upstream: Some("10.0.0.1:9080".parse().unwrap()),
            cluster: Some(Name::Said(
                "inbound-vip|9080|http|reviews.default.svc.cluster.local",
            )),
            attempts: 1,
            failure: None,
            local: Some("10.96.0.7:9080".parse().unwrap()),
            remote: Some("10.0.0.5:41234".parse().unwrap()),
            direct: Some("10.0.0.5:41234".parse().unwrap()),
            peer: Some("spiffe://cluster.local/ns/default/sa/curl"),
            sni: None,
            route: Some(Name::Said("default.reviews.0")),
            trace: Some("0af7651916cd43dd8448eb211c80319c"),
            hostname: Some("waypoint-0"),
            labels: None,
        }
    }
}

fn text(format: &str, entry: &Entry<'_>) -> String {
    Format::text(format).unwrap().render(entry)
}

#[test]
fn the_default_line_is_istios_byte_for_byte() {
    let heads = Heads::new();
    assert_eq!(
        Format::istio().render(&heads.entry()),
        "[2024-01-02T03:04:05.678Z] \"GET /reviews/0?a=b HTTP/1.1\" 200 - via_upstream - \"-\" 0 42 12 3 \"10.0.0.9\" \
         \"curl/8\" \"r-1\" \"reviews:9080\" \"10.0.0.1:9080\" inbound-vip|9080|http|reviews.default.svc.cluster.local \
         - 10.96.0.7:9080 10.0.0.5:41234 - default.reviews.0\n"
    );
    // Denied: nobody upstream, nothing of the caller.
    let denied = Entry {
        code: 403,
        details: Some("rbac_access_denied_matched_policy[ns[default]-policy[closed]-rule[0]]"),
        request: &heads.none,
        response: &heads.none,
        upstream: None,
        route: None,
        sent: 19,
        protocol: Some("HTTP/2"),
        ..heads.entry()
    };
    assert_eq!(
        Format::istio().render(&denied),
        "[2024-01-02T03:04:05.678Z] \"GET /reviews/0?a=b HTTP/2\" 403 - \
         rbac_access_denied_matched_policy[ns[default]-policy[closed]-rule[0]] - \"-\" 0 19 12 - \"-\" \"-\" \"-\" \
         \"reviews:9080\" \"-\" inbound-vip|9080|http|reviews.default.svc.cluster.local - 10.96.0.7:9080 \
         10.0.0.5:41234 - -\n"
    );
}

#[test]
fn the_default_json_has_istios_keys_and_types() {
    let heads = Heads::new();
    let line = Format::istio_json().render(&heads.entry());
    assert!(line.ends_with("}\n"), "{line}");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        value,
        json!({
            "start_time": "2024-01-02T03:04:05.678Z", "route_name": "default.reviews.0", "method": "GET",
            "path": "/reviews/0?a=b", "protocol": "HTTP/1.1", "response_code": 200, "response_flags": null,
            "response_code_details": "via_upstream", "connection_termination_details": null, "bytes_received": 0,
            "bytes_sent": 42, "duration": 12, "upstream_service_time": "3", "x_forwarded_for": "10.0.0.9",
            "user_agent": "curl/8", "request_id": "r-1", "authority": "reviews:9080",
            "upstream_host": "10.0.0.1:9080",
            "upstream_cluster": "inbound-vip|9080|http|reviews.default.svc.cluster.local",
            "upstream_local_address": null, "downstream_local_address": "10.96.0.7:9080",
            "downstream_remote_address": "10.0.0.5:41234", "requested_server_name": null,
            "upstream_transport_failure_reason": null,
        })
    );
}

#[test]
fn every_operator_has_its_value() {
    let heads = Heads::new();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("9"));
    let entry = Entry {
        trailers: &trailers,
        grpc_status: Some(14),
        flags: "UF,URX",
        failure: Some("connection refused"),
        sni: Some("reviews.example"),
        ..heads.entry()
    };
    for (format, expected) in [
        ("%START_TIME(%s)%", "1704164645"),
        ("%EMIT_TIME% %EMIT_TIME(%3f)%", "2024-01-02T03:04:05.690Z 690"),
        (
            "%REQ(:METHOD)% %REQ(:SCHEME)% %REQ(host)%",
            "GET http reviews:9080",
        ),
        ("%REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/reviews/0"),
        ("%REQ(X-NONE?X-TENANT)%", "a\"b"),
        ("%REQ(:PATH):4%", "/rev"),
        ("%REQ(USER-AGENT):0%", ""),
        ("%RESP(x-none)%", "-"),
        ("%TRAILER(x-sum)%", "9"),
        (
            "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
            "UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded",
        ),
        ("%RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "9 3"),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "connection refused"),
        (
            "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%:%UPSTREAM_REMOTE_PORT%",
            "10.0.0.1:9080",
        ),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "1"),
        (
            "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%",
            "10.96.0.7 9080",
        ),
        (
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
            "10.0.0.5 10.0.0.5:41234",
        ),
        (
            "%DOWNSTREAM_PEER_URI_SAN%",
            "spiffe://cluster.local/ns/default/sa/curl",
        ),
        ("%REQUESTED_SERVER_NAME%", "reviews.example"),
        (
            "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%",
            "Unavailable UNAVAILABLE 14",
        ),
        (
            "%TRACE_ID% %HOSTNAME%",
            "0af7651916cd43dd8448eb211c80319c waypoint-0",
        ),
        ("100%% %PROTOCOL%", "100% HTTP/1.1"),
        (
            "%CEL(size(request.method) + 1)% %CEL(request.headers['x-none'])%",
            "4 -",
        ),
        ("%CEL(request.method):1%", "G"),
        ("%FILTER_STATE(upstream_peer:FIELD:workload)%", "-"),
        ("%ENVIRONMENT(THERE_IS_NO_SUCH_VARIABLE)%", "-"),
    ] {
        assert_eq!(text(format, &entry), format!("{expected}\n"), "{format}");
    }
}

#[test]
fn names_are_put_together_as_istio_puts_them() {
    let heads = Heads::new();
    let cluster = |kind, protocol, subset, host| Name::Cluster {
        kind,
        port: 9080,
        protocol,
        subset,
        host,
    };
    for (name, expected) in [
        (cluster("inbound", "", None, ""), "inbound|9080||"),
        (
            cluster("outbound", "", None, "r.default"),
            "outbound|9080||r.default",
        ),
        (
            cluster("outbound", "", Some("v1"), "r.default"),
            "outbound|9080|v1|r.default",
        ),
        (
            cluster("inbound-vip", "http", None, "r.default"),
            "inbound-vip|9080|http|r.default",
        ),
        (
            cluster("inbound-vip", "http", Some("v1"), "r.default"),
            "inbound-vip|9080|http/v1|r.default",
        ),
        (Name::Rule("default/reviews/0"), "default.reviews.0"),
        (Name::Said("BlackHoleCluster"), "BlackHoleCluster"),
        (Name::Said(""), "-"),
    ] {
        let entry = Entry {
            cluster: Some(name),
            route: Some(name),
            ..heads.entry()
        };
        let line = text("%UPSTREAM_CLUSTER% %ROUTE_NAME%", &entry);
        assert_eq!(line, format!("{expected} {expected}\n"));
        let asked = Filter::parse(&format!(
            "xds.cluster_name == '{expected}' && xds.route_name == '{expected}'"
        ));
        assert_eq!(asked.unwrap().admits(&entry), expected != "-", "{expected}");
    }
}

#[test]
fn a_header_that_comes_twice_is_one_text_to_an_expression_and_its_first_to_a_line() {
    let mut map = HeaderMap::new();
    map.append("x-team", HeaderValue::from_static("red"));
    map.append("x-team", HeaderValue::from_static("blue"));
    let mut twice = Fields::new();
    let team = [http::HeaderName::from_static("x-team")];
    twice.keep(&map, &team);
    twice.keep(&map, &team);
    let heads = Heads::new();
    let entry = Entry {
        request: &twice,
        trailers: &map,
        ..heads.entry()
    };
    let line =
        "%REQ(x-team)% %CEL(request.headers['x-team'])% %TRAILER(x-team)% %CEL(response.trailers['x-team'])%";
    assert_eq!(text(line, &entry), "red red,blue red red,blue\n");
}

#[test]
fn what_is_no_operator_is_refused_and_named() {
    for (format, said) in [
        ("%FOO%", "`FOO` is no operator"),
        ("%PROTOCOL(x)%", "PROTOCOL takes nothing"),
        ("%REQ%", "needs the name of a header"),
        ("%REQ(a b)%", "`a b` is not the name of a header"),
        ("%REQ(:PATH):x%", "`x` is no length"),
        ("%PROTOCOL:3%", "PROTOCOL takes no length; REQ"),
        ("%START_TIME(%s):3%", "START_TIME takes no length"),
        ("%DURATION", "has no `%` at its end"),
        ("%REQ(:PATH", "has no `%` at its end"),
        ("100 % sure", "begins no operator"),
        ("%GRPC_STATUS(WORDS)%", "no form of GRPC_STATUS"),
        ("%START_TIME(%Q)%", "no format of a time"),
        ("%FILTER_STATE(x)%", "fields of downstream_peer and upstream_peer"),
        (
            "%FILTER_STATE(upstream_peer:FIELD:mood)%",
            "`upstream_peer.mood` is no attribute",
        ),
        ("%CEL(request.kode)%", "CEL: `request.kode` is no attribute"),
        ("%ENVIRONMENT()%", "ENVIRONMENT needs the name of a variable"),
    ] {
        let error = Format::text(format).unwrap_err().to_string();
        assert!(error.contains(said), "{format}: {error}");
    }
    let error = Format::json(&json!({"a": {"b": "%FOO%"}}))
        .unwrap_err()
        .to_string();
    assert_eq!(error, "a.b: `FOO` is no operator that is known here");
    assert!(Format::json(&json!({"a": 1})).is_err());
    assert!(Format::json(&json!(["a"])).is_err());
}

#[test]
fn custom_json_keeps_types_escapes_and_omits() {
    let heads = Heads::new();
    let format = json!({
        "tenant": "%REQ(x-tenant)%", "code": "%RESPONSE_CODE%", "both": "%REQ(:METHOD)% %RESPONSE_CODE%",
        "none": "%RESP(x-none)%", "deep": {"trace": "%TRACE_ID%", "list": ["%BYTES_SENT%", "x"]},
    });
    let format = Format::json(&format).unwrap();
    let value = |format: &Format| -> serde_json::Value {
        serde_json::from_str(&format.render(&heads.entry())).unwrap()
    };
    assert_eq!(
        value(&format),
        json!({
            "tenant": "a\"b", "code": 200, "both": "GET 200", "none": null,
            "deep": {"trace": "0af7651916cd43dd8448eb211c80319c", "list": [42, "x"]},
        })
    );
    let omitting = format.omitting(true);
    assert_eq!(value(&omitting).get("none"), None);
    let text = Format::text("[%RESP(x-none)%]").unwrap().omitting(true);
    assert_eq!(text.render(&heads.entry()), "[]\n");
}

#[test]
fn only_headers_that_are_asked_for_are_wanted() {
    let format = Format::text("%REQ(:PATH)% %REQ(X-A?X-B)% %RESP(X-C)% %TRAILER(X-D)% %REQ(X-A)%").unwrap();
    let filter = Filter::parse("has(request.headers['x-e']) || response.headers[\"x-c\"] == 'y'").unwrap();
    let wanted = format.wanted().and(filter.wanted());
    assert_eq!(wanted.request, ["x-a", "x-b", "x-e"]);
    assert_eq!(wanted.response, ["x-c"]);
    assert_eq!(wanted.trailers, ["x-d"]);
}

#[test]
fn filters_decide_as_cel_does() {
    let heads = Heads::new();
    for (expression, expected) in [
        ("response.code >= 200", true),
        ("response.code >= 400 || request.method == 'GET'", true),
        ("response.code >= 400 && request.method == 'GET'", false),
        ("!(response.code == 200)", false),
        ("!!true", true),
        (
            "request.path.startsWith('/reviews') && !request.url_path.endsWith('?a=b')",
            true,
        ),
        ("request.url_path.matches('^/reviews/[0-9]+$')", true),
        ("request.headers['x-tenant'].contains(\"\\\"\")", true),
        (
            "response.code in [200, 201] && request.host in ['reviews:9080']",
            true,
        ),
        ("connection.mtls && source.port > 1024", true),
        ("has(request.headers['x-none'])", false),
        // What cannot be said decides nothing, unless the other side does.
        ("request.headers['x-none'] == 'a'", false),
        ("!(request.headers['x-none'] == 'a')", false),
        ("request.headers['x-none'] == 'a' || response.code == 200", true),
        ("response.code == '200'", false),
        (
            "xds.route_name == 'default.reviews.0' && request.id == 'r-1'",
            true,
        ),
        ("request.size < 1 && response.size == 42", true),
        ("response.code", false),
        (
            "'x-tenant' in request.headers && !('x-none' in request.headers)",
            true,
        ),
        ("(response.code == 200 ? 'a' : 'b') + string(1 + 2) == 'a3'", true),
        ("int('12') > 11 && size(request.method) == 3", true),
        ("int(request.method) > 0 || false", false),
        ("request.query == 'a=b' && request.url_path == '/reviews/0'", true),
        ("filter_state.upstream_peer.workload == 'a' || true", true),
    ] {
        let filter = Filter::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert_eq!(filter.admits(&heads.entry()), expected, "{expression}");
    }
}

#[test]
fn what_is_no_filter_is_refused_with_its_place() {
    for (expression, said) in [
        (
            "response.kode >= 400",
            "`response.kode` is no attribute that is known here at character 1",
        ),
        ("response.code >=", "a value was expected at character 17"),
        ("(response.code == 1", "`)` was expected"),
        ("response.code == 1 x", "nothing was expected at character 20"),
        ("request.path.size('a')", "`size` is no function"),
        ("request.headers == 'a'", "needs a name in brackets"),
        ("request.method['a'] == 'a'", "takes nothing in brackets"),
        ("request.path.matches('(')", "the pattern cannot be read"),
        ("request.path == 'a", "the text has no end"),
        ("", "a value was expected"),
    ] {
        let error = Filter::parse(expression).unwrap_err().to_string();
        assert!(error.contains(said), "{expression}: {error}");
    }
    assert!(Filter::parse(&"(".repeat(100_000)).is_err());
    assert!(Filter::parse(&"1+".repeat(100_000)).is_err());
    // As deep as it may be.
    let sum = format!("1{} > 1", "+1".repeat(1_000));
    assert!(Filter::parse(&sum).unwrap().admits(&Heads::new().entry()));
}

proptest::proptest! {
    #[test]
    fn whatever_is_written_nothing_panics(text in "[%A-Z_():0-9a-z.'\\[\\]|&=! \"\\\\é-]{0,40}") {
        if let Ok(format) = Format::text(&text) {
            format.render(&Heads::new().entry());
        }
        if let Ok(filter) = Filter::parse(&text) {
            filter.admits(&Heads::new().entry());
        }
    }
}

#[test]
fn lines_reach_the_file_and_follow_it_when_it_is_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let path: Arc<str> = file.to_str().unwrap().into();
    let meter = Meter::new();
    let writer = meter.log_to(&path);
    writer.write("one\n".to_owned());
    meter.flush_logs(Duration::from_secs(5));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\n");
    let moved = folder.path().join("access.log.1");
    std::fs::rename(&file, &moved).unwrap();
    meter.reopen_logs();
    meter.log_to(&path).write("two\n".to_owned());
    meter.flush_logs(Duration::from_secs(5));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "two\n");
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\n");
    assert_eq!(meter.log_counts().written(), 2);
    assert_eq!(meter.log_counts().dropped(), 0);
}

#[test]
fn what_cannot_be_written_is_counted() {
    let meter = Meter::new();
    let path: Arc<str> = "/there/is/no/such/folder/access.log".into();
    let writer = meter.log_to(&path);
    (0..3).for_each(|_| writer.write("lost\n".to_owned()));
    meter.flush_logs(Duration::from_secs(5));
    assert_eq!(
        (meter.log_counts().written(), meter.log_counts().dropped()),
        (0, 3)
    );
    let text = meter.exposition();
    assert!(
        text.contains("mesh_access_log_lines_total{result=\"dropped\"} 3"),
        "{text}"
    );
}
