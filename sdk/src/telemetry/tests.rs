use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, Version};
use proptest::prelude::*;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn party(workload: &str, principal: &str) -> PartyLabels {
    PartyLabels {
        workload: workload.into(),
        namespace: "default".into(),
        principal: principal.into(),
        app: "shop".into(),
        version: "v1".into(),
        canonical_service: "shop".into(),
        canonical_revision: "v1".into(),
        cluster: "Kubernetes".into(),
        region: "north".into(),
        zone: Arc::default(),
    }
}

fn reviews(reporter: Reporter) -> RequestLabels {
    let mut labels = RequestLabels::new(reporter);
    labels.source = party("curl", "spiffe://cluster.local/ns/default/sa/curl");
    labels.destination = party("reviews-v1", "spiffe://cluster.local/ns/default/sa/reviews");
    labels.service.host = "reviews.default.svc.cluster.local".into();
    labels.service.namespace = "default".into();
    labels.security = Security::MutualTls;
    labels
}

fn sample(response_code: u16) -> Sample {
    Sample {
        response_code,
        flags: "-",
        grpc_status: None,
        duration: Duration::from_micros(7_500),
        request_bytes: 100,
        response_bytes: 2_000,
        trace: None,
        http: None,
    }
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.lines().filter(|line| line.starts_with(name));
    let line = lines.next().unwrap_or_else(|| panic!("{name} in:\n{text}"));
    assert_eq!(lines.next(), None, "{name} once");
    line
}

fn traceparent(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", HeaderValue::from_str(value).unwrap());
    headers
}

// ===== metrics =====

#[test]
fn a_request_is_told_with_istios_labels_in_istios_order_by_every_reporter() {
    for (reporter, word) in [
        (Reporter::Source, "source"),
        (Reporter::Destination, "destination"),
        (Reporter::Waypoint, "waypoint"),
    ] {
        let meter = Meter::new();
        meter.requests(&reviews(reporter)).record(&sample(200));
        let text = meter.exposition();
        let golden = format!(
            "istio_requests_total{{reporter=\"{word}\",source_workload=\"curl\",source_canonical_service=\"shop\",\
             source_canonical_revision=\"v1\",source_workload_namespace=\"default\",\
             source_principal=\"spiffe://cluster.local/ns/default/sa/curl\",source_app=\"shop\",source_version=\"v1\",\
             source_cluster=\"Kubernetes\",destination_workload=\"reviews-v1\",\
             destination_workload_namespace=\"default\",\
             destination_principal=\"spiffe://cluster.local/ns/default/sa/reviews\",destination_app=\"shop\",\
             destination_version=\"v1\",destination_service=\"reviews.default.svc.cluster.local\",\
             destination_canonical_service=\"shop\",destination_canonical_revision=\"v1\",\
             destination_service_name=\"reviews\",destination_service_namespace=\"default\",\
             destination_cluster=\"Kubernetes\",request_protocol=\"http\",response_code=\"200\",\
             grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"mutual_tls\"}} 1"
        );
        assert_eq!(line(&text, "istio_requests_total"), golden);
    }
}

#[test]
fn what_is_missing_is_unknown_but_the_sources_revision_is_latest() {
    let meter = Meter::new();
    let denied = Sample {
        flags: "UH",
        grpc_status: Some(14),
        ..sample(503)
    };
    let labels = RequestLabels::new(Reporter::Waypoint);
    meter.requests(&labels).record(&denied);
    let text = meter.exposition();
    let line = line(&text, "istio_requests_total");
    assert!(line.contains("source_canonical_revision=\"latest\""));
    assert_eq!(line.matches("=\"unknown\"").count(), 19);
    assert!(line.contains("response_code=\"503\",grpc_response_status=\"14\",response_flags=\"UH\""));
}

#[test]
fn histograms_have_envoys_buckets_and_milliseconds() {
    let meter = Meter::new();
    let series = meter.requests(&reviews(Reporter::Waypoint));
    series.record(&sample(200));
    let text = meter.exposition();
    let duration = |name: &str| -> Vec<&str> {
        let name = format!("istio_request_duration_milliseconds_{name}");
        text.lines().filter(|line| line.starts_with(&name)).collect()
    };
    assert_eq!(duration("bucket").len(), 20);
    let in_bucket = |le: &str, count: &str| {
        let le = format!("le=\"{le}\"");
        let found = duration("bucket").into_iter().find(|line| line.contains(&le));
        assert!(found.unwrap().ends_with(count), "{le}");
    };
    in_bucket("5.0", " 0");
    in_bucket("10.0", " 1");
    in_bucket("3600000.0", " 1");
    assert!(duration("sum")[0].ends_with("} 7.5"));
    assert!(line(&text, "istio_request_bytes_sum").ends_with("} 100.0"));
    assert!(line(&text, "istio_response_bytes_sum").ends_with("} 2000.0"));
}

#[test]
fn connections_at_the_ends_are_told_as_ztunnel_tells_them() {
    let meter = Meter::new();
    let mut labels = reviews(Reporter::Destination);
    labels.source.canonical_revision = "".into();
    labels.security = Security::None;
    let series = meter.tcp(&labels);
    let mut account = series.open();
    account.sent(10);
    account.received(3);
    account.ends_with("CONNECT");
    drop(account);
    let text = meter.exposition();
    let opened = line(&text, "istio_tcp_connections_opened_total");
    assert!(opened.contains("source_canonical_revision=\"unknown\""));
    assert!(opened.contains(
        "source_cluster=\"Kubernetes\",destination_service=\"reviews.default.svc.cluster.local\",\
         destination_service_namespace=\"default\",destination_service_name=\"reviews\",\
         destination_workload=\"reviews-v1\""
    ));
    assert!(opened.ends_with(
        "request_protocol=\"tcp\",response_flags=\"-\",connection_security_policy=\"unknown\",\
         source_region=\"north\",destination_region=\"north\"} 1"
    ));
    assert!(line(&text, "istio_tcp_sent_bytes_total").ends_with(" 10"));
    assert!(line(&text, "istio_tcp_received_bytes_total").ends_with(" 3"));
    let failed = line(&text, "istio_tcp_connections_failed_total");
    assert!(failed.contains("response_flags=\"CONNECT\"") && failed.ends_with(" 1"));
}

#[test]
fn connections_at_a_waypoint_are_told_as_envoy_tells_them() {
    let meter = Meter::new();
    let mut labels = reviews(Reporter::Waypoint);
    labels.source.canonical_revision = "".into();
    labels.security = Security::None;
    let series = meter.tcp(&labels);
    let mut account = series.clone().open();
    account.sent(10);
    // What it ends with comes too late for labels that are settled already.
    account.ends_with("CONNECT");
    drop(account);
    series.failed("UF");
    let text = meter.exposition();
    let of = |name: &str, flags: &str| {
        let flags = format!("request_protocol=\"tcp\",response_flags=\"{flags}\"");
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .filter(|line| line.contains(&flags))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for flags in ["-", "UF"] {
        for name in [
            "istio_tcp_connections_opened_total",
            "istio_tcp_connections_closed_total",
        ] {
            let [line] = &of(name, flags)[..] else {
                panic!("{name} {flags}: {text}")
            };
            assert!(line.ends_with("connection_security_policy=\"none\"} 1"), "{line}");
            assert!(line.contains("source_canonical_revision=\"latest\""), "{line}");
        }
    }
    assert!(
        of("istio_tcp_connections_failed_total", "UF").is_empty(),
        "Envoy has no such series"
    );
}

#[test]
fn equal_labels_share_one_series() {
    let meter = Meter::new();
    let labels = reviews(Reporter::Waypoint);
    assert!(Arc::ptr_eq(
        &meter.requests(&labels),
        &meter.clone().requests(&labels.clone())
    ));
    assert!(Arc::ptr_eq(&meter.tcp(&labels), &meter.tcp(&labels)));
    let others = reviews(Reporter::Source);
    assert!(!Arc::ptr_eq(&meter.requests(&labels), &meter.requests(&others)));
}

#[test]
fn many_threads_lose_no_count() {
    let meter = Meter::new();
    let series = meter.requests(&reviews(Reporter::Waypoint));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|n| series.record(&sample(200 + n % 10))));
        }
    });
    assert_eq!(total(&meter.exposition()), 4_000);
}

fn total(text: &str) -> u64 {
    let counts = text
        .lines()
        .filter(|line| line.starts_with("istio_requests_total"));
    counts
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
fn label_sets_beyond_the_limit_share_an_overflow_series() {
    let meter = Meter::with_limits(MetricLimits {
        series: 3,
        ..MetricLimits::default()
    });
    for n in 0..100 {
        let mut labels = reviews(Reporter::Waypoint);
        labels.source.workload = format!("w{n}").into();
        meter.requests(&labels).record(&sample(200));
        meter.denied(&format!("default/p{n}"));
    }
    let text = meter.exposition();
    let series = text
        .lines()
        .filter(|line| line.starts_with("istio_requests_total"));
    assert_eq!(series.count(), 4);
    assert_eq!(total(&text), 100);
    assert!(text.contains("destination_service=\"_overflow\""));
    assert!(text.contains("mesh_denials_total{policy=\"default/p2\"} 1\n"));
    assert!(text.contains("mesh_denials_total{policy=\"_overflow\"} 97\n"));
}

#[test]
fn outcomes_beyond_the_limit_go_to_the_overflow_series_too() {
    let meter = Meter::with_limits(MetricLimits {
        series: 3,
        ..MetricLimits::default()
    });
    let series = meter.requests(&reviews(Reporter::Waypoint));
    for code in [200, 201, 202, 404, 403, 503, 503] {
        series.record(&sample(code));
    }
    let text = meter.exposition();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("istio_requests_total"))
        .collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(total(&text), 7);
    let overflow = lines.iter().filter(|line| line.contains("_overflow"));
    assert!(overflow.clone().any(|line| line.contains("code=\"400\"")));
    assert!(overflow.clone().any(|line| line.contains("code=\"500\"")));
}

#[test]
fn invented_status_codes_turn_coarse_and_are_still_counted() {
    let meter = Meter::new();
    let series = meter.requests(&reviews(Reporter::Waypoint));
    for code in 0..=u16::MAX {
        series.record(&sample(code));
    }
    let text = meter.exposition();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("istio_requests_total"));
    assert!(lines.count() <= 64 + 11);
    assert_eq!(total(&text), 65_536);
}

#[test]
fn the_exposition_is_openmetrics_whatever_a_label_says() {
    let meter = Meter::new();
    let mut labels = reviews(Reporter::Waypoint);
    labels.source.app = "a\"b\\c\nd".into();
    meter.requests(&labels).record(&sample(200));
    meter.config().published(3, 2, Duration::from_millis(250));
    meter.tunnels(Direction::Inbound).opened(Duration::from_millis(3));
    meter.tunnels(Direction::Inbound).stream_opened();
    meter.tunnels(Direction::Outbound).handshake_failed();
    meter.retry();
    meter.certificate_expiry(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
    let text = meter.exposition();
    assert!(text.contains(r#"source_app="a\"b\\c\nd""#));
    for expected in [
        "mesh_config_generation 3\n",
        "mesh_config_problems 2\n",
        "mesh_compile_seconds 0.25\n",
        "mesh_tunnels{direction=\"inbound\"} 1\n",
        "mesh_tunnels{direction=\"outbound\"} 0\n",
        "mesh_tunnel_streams{direction=\"inbound\"} 1\n",
        "mesh_handshake_seconds_count{direction=\"inbound\"} 1\n",
        "mesh_handshake_failures_total{direction=\"outbound\"} 1\n",
        "mesh_retries_total 1\n",
        "mesh_retry_budget_exhausted_total 0\n",
        "mesh_endpoint_ejections_total 0\n",
        "mesh_certificate_expiry_seconds 1000\n",
        "mesh_spans_dropped_total 0\n",
        "mesh_access_log_lines_total{result=\"dropped\"} 0\n",
        "mesh_metric_series_refused_total{metric=\"istio_requests\"} 0\n",
        "mesh_metric_series{metric=\"istio_requests\"} 1\n",
        "istio_build{component=\"proxy\",tag=\"0.1.0\"} 1\n",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = name.split('{').next().unwrap();
        let allowed = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.chars().all(allowed), "{line}");
    }
}

// ===== trace context =====

#[test]
fn a_context_survives_the_way_from_headers_to_headers() {
    let mut headers = traceparent(PARENT);
    headers.append("tracestate", HeaderValue::from_static("a=1"));
    headers.append("tracestate", HeaderValue::from_static("b=2"));
    let context = TraceContext::extract(&headers);
    assert!(context.is_sampled());
    assert_eq!(
        context.trace_id().as_deref(),
        Some("4bf92f3577b34da6a3ce929d0e0e4736")
    );
    assert_eq!(context.traceparent().unwrap(), PARENT);
    let mut out = traceparent("00-11111111111111111111111111111111-2222222222222222-00");
    out.append("tracestate", HeaderValue::from_static("stale=1"));
    context.inject(&mut out);
    assert_eq!(out["traceparent"], PARENT);
    let states: Vec<_> = out.get_all("tracestate").iter().collect();
    assert_eq!(states, ["a=1,b=2"]);
}

#[test]
fn a_new_parent_takes_the_old_state_away() {
    let mut out = traceparent(PARENT);
    out.insert("tracestate", HeaderValue::from_static("stale=1"));
    TraceContext::extract(&traceparent(PARENT)).inject(&mut out);
    assert!(!out.contains_key("tracestate"));
}

#[test]
fn no_context_leaves_the_headers_alone() {
    let mut headers = traceparent("whatever the application means by it");
    let before = headers.clone();
    TraceContext::extract(&headers).inject(&mut headers);
    assert_eq!(headers, before);
}

#[test]
fn malformed_parents_are_no_parents() {
    for value in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0-1-1-1",
        "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        let context = TraceContext::extract(&traceparent(value));
        assert!(context.is_none(), "{value}");
    }
    let mut two = traceparent(PARENT);
    two.append("traceparent", HeaderValue::from_static(PARENT));
    assert!(TraceContext::extract(&two).is_none(), "two parents");
}

#[test]
fn a_version_to_come_is_understood_as_far_as_we_can() {
    let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-will-be";
    assert!(TraceContext::extract(&traceparent(later)).is_sampled());
}

#[tokio::test]
async fn a_call_within_a_scope_continues_its_trace_though_nobody_collects_spans() {
    assert!(current().is_none());
    let context = TraceContext::extract(&traceparent(PARENT));
    let found = context.scope(async { current().traceparent() }).await;
    assert_eq!(found.unwrap(), PARENT);
    assert!(current().is_none());
}

#[test]
fn spans_nobody_wants_cost_no_context() {
    let span = server_span(&RequestSpan {
        method: &Method::GET,
        authority: "[::1]:80",
        path: "/",
        version: Version::HTTP_11,
        peer: None,
        generation: 1,
    });
    assert!(span.is_disabled());
    adopt(&span, &TraceContext::extract(&traceparent(PARENT)));
    follow(&span, &TraceContext::extract(&traceparent(PARENT)));
    assert!(context_of(&span).is_none());
}

proptest! {
    #[test]
    fn hostile_headers_never_panic(parent in prop::collection::vec(any::<u8>(), 0..80),
                                   state in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut headers = HeaderMap::new();
        for (name, bytes) in [("traceparent", parent), ("tracestate", state)] {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.insert(name, value);
            }
        }
        let context = TraceContext::extract(&headers);
        context.inject(&mut headers);
        let _ = (context.trace_id(), context.traceparent(), context.is_sampled());
    }

    #[test]
    fn nearly_good_parents_never_panic_and_good_ones_come_back(
        version in "[0-9a-f]{2}", trace in "[0-9a-f]{31,33}", span in "[0-9a-f]{15,17}", flags in "[0-9a-f]{2}",
        state in "[a-z=,@ *]{0,40}",
    ) {
        let mut headers = traceparent(&format!("{version}-{trace}-{span}-{flags}"));
        headers.insert("tracestate", HeaderValue::from_str(&state).unwrap());
        let context = TraceContext::extract(&headers);
        if let Some(parent) = context.traceparent() {
            prop_assert_eq!(context.trace_id().unwrap(), trace);
            prop_assert!(parent.to_str().unwrap().contains(&span));
        }
    }
}
