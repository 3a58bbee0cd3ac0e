use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::sync::mpsc;

use super::*;
use crate::telemetry::access::{Entry, Fields, Format, Name};
use crate::telemetry::export::Carrier;
use crate::telemetry::{Meter, PartyLabels, Propagation, Reporter, RequestLabels, TraceContext};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

fn target() -> SpanTarget {
    SpanTarget {
        name: "otel".into(),
        protocol: SpanProtocol::Http,
        host: "otel.observability".into(),
        port: 4318,
        path: "/v1/traces".into(),
        headers: Vec::new(),
        timeout: Duration::from_secs(1),
        resource: vec![("service.name".into(), "reviews.default".into())],
    }
}

fn plan(change: impl FnOnce(&mut TracePlan)) -> Arc<TracePlan> {
    let mut plan = TracePlan {
        tracing: Tracing::Recorded,
        outlet: Some(Arc::new(Outlet::new(target()))),
        longest: 256,
        own: Arc::from([("istio.namespace".into(), "default".into())]),
        ..TracePlan::default()
    };
    change(&mut plan);
    Arc::new(plan.ready())
}

/// A meter whose collector gives what it hears to the receiver.
fn meter() -> (Meter, mpsc::UnboundedReceiver<Bytes>) {
    let (heard, hear) = mpsc::unbounded_channel();
    let meter = Meter::new();
    let carrier = Carrier::new(move |request| {
        let _ = heard.send(request.into_body());
        Box::pin(async { Ok(Response::new(Bytes::new())) })
    });
    meter
        .outlets()
        .deliver_by(carrier, tokio::runtime::Handle::current());
    (meter, hear)
}

async fn told(meter: &Meter, mut hear: mpsc::UnboundedReceiver<Bytes>) -> Vec<Span> {
    meter.outlets().close(Duration::from_secs(5)).await;
    let mut spans = Vec::new();
    while let Ok(body) = hear.try_recv() {
        let export = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = export.resource_spans.into_iter().flat_map(|it| it.scope_spans);
        spans.extend(scopes.flat_map(|scope| scope.spans));
    }
    spans
}

static NONE: Fields = Fields::new();
static NO_TRAILERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

fn entry<'a>(request: &'a Fields, code: u16, duration: Duration) -> Entry<'a> {
    Entry {
        start: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        duration,
        answered: Some(duration),
        method: "GET",
        scheme: "https",
        authority: "reviews:9080",
        path: "/reviews/1?q=2",
        protocol: Some("HTTP/2"),
        request,
        response: &NONE,
        trailers: &NO_TRAILERS,
        code,
        flags: "-",
        details: Some("via_upstream"),
        grpc_status: None,
        received: 7,
        sent: 42,
        upstream: Some("10.0.0.9:9080".parse().unwrap()),
        cluster: Some(Name::Said(
            "inbound-vip|9080|http|reviews.default.svc.cluster.local",
        )),
        attempts: 2,
        failure: None,
        local: None,
        remote: None,
        direct: Some("10.0.0.7:40000".parse().unwrap()),
        peer: Some("spiffe://cluster.local/ns/default/sa/front"),
        sni: None,
        route: Some(Name::Said("default.reviews.0")),
        trace: None,
        hostname: None,
        labels: None,
    }
}

fn labels() -> RequestLabels {
    let mut labels = RequestLabels::new(Reporter::Waypoint);
    labels.source = PartyLabels {
        workload: "front-v1".into(),
        namespace: "default".into(),
        ..PartyLabels::default()
    };
    labels.destination = PartyLabels {
        workload: "reviews-v1".into(),
        app: "reviews".into(),
        ..PartyLabels::default()
    };
    labels
}

fn telling(labels: &RequestLabels) -> Told<'_> {
    Told {
        name: "reviews.default.svc.cluster.local:9080/*".into(),
        path: None,
        attempts: Vec::new(),
        labels,
        reason: None,
        denied: false,
        more: vec![("mesh.decision", "allow".into())],
        generation: 7,
    }
}

fn text(span: &Span) -> Vec<String> {
    let shown = span.attributes.iter().map(|it| {
        let value = it.value.clone().and_then(|value| value.value);
        let value = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => format!("#{number}"),
            other => format!("{other:?}"),
        };
        format!("{}={value}", it.key)
    });
    shown.collect()
}

#[tokio::test]
async fn a_span_says_what_istio_envoy_and_the_conventions_say() {
    let (meter, hear) = meter();
    let plan = plan(|plan| {
        plan.tags = vec![
            Tag::literal("stage", "canary"),
            Tag::header("team", HeaderName::from_static("x-team"), Some("nobody")),
            Tag::header("absent", HeaderName::from_static("x-absent"), None),
            Tag::format("asked", Format::text("%REQ(:METHOD)% %RESPONSE_CODE%").unwrap()),
            // A user's tag takes the place of ours.
            Tag::literal("component", "shop"),
        ];
    });
    let request = headers(&[
        ("user-agent", "curl/8"),
        ("x-request-id", "r-1"),
        ("x-team", "red"),
    ]);
    let request = Fields::from(&request);
    let caller = TraceContext::extract(&headers(&[("traceparent", PARENT), ("tracestate", "a=b")]));
    let (context, recording) = Recording::begin(&plan, &caller, true, Side::Server, &meter);
    let labels = labels();
    let one = entry(&request, 200, Duration::from_millis(5));
    recording.unwrap().finish(&one, &telling(&labels), &meter);
    let mut onward = HeaderMap::new();
    context.inject(&mut onward);

    let spans = told(&meter, hear).await;
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(span.name, "reviews.default.svc.cluster.local:9080/*");
    assert_eq!(span.kind, 2, "server");
    assert_eq!(
        span.trace_id,
        0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()
    );
    assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 5_000_000);
    let id: String = span.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        onward["traceparent"],
        format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{id}-01")
    );
    assert_eq!(onward["tracestate"], "a=b");
    assert_eq!(
        text(span),
        [
            "asked=GET 200",
            "component=shop",
            "downstream_cluster=-",
            "guid:x-request-id=r-1",
            "http.method=GET",
            "http.protocol=HTTP/2",
            "http.request.body.size=#7",
            "http.request.method=GET",
            "http.request.resend_count=#1",
            "http.response.body.size=#42",
            "http.response.status_code=#200",
            "http.status_code=200",
            "http.url=https://reviews:9080/reviews/1?q=2",
            "istio.destination_app=reviews",
            "istio.destination_workload=reviews-v1",
            "istio.destination_workload_type=pod",
            "istio.namespace=default",
            "istio.source_namespace=default",
            "istio.source_workload=front-v1",
            "istio.source_workload_type=pod",
            "mesh.decision=allow",
            "mesh.generation=#7",
            "mesh.peer=spiffe://cluster.local/ns/default/sa/front",
            "mesh.rule=default.reviews.0",
            "network.peer.address=10.0.0.7",
            "network.protocol.version=2",
            "peer.address=10.0.0.7",
            "request_size=7",
            "response_flags=-",
            "response_size=42",
            "retry.count=1",
            "server.address=reviews",
            "server.port=#9080",
            "stage=canary",
            "team=red",
            "upstream_address=10.0.0.9:9080",
            "upstream_cluster=inbound-vip|9080|http|reviews.default.svc.cluster.local",
            "upstream_cluster.name=inbound-vip|9080|http|reviews.default.svc.cluster.local",
            "url.path=/reviews/1",
            "url.scheme=https",
            "user_agent=curl/8",
        ]
    );
    assert_eq!(
        (
            meter.outlets().counts().exported(),
            meter.outlets().counts().dropped()
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn several_attempts_are_told_one_by_one() {
    let (meter, hear) = meter();
    let plan = plan(|_| {});
    let caller = TraceContext::default().or_fresh().settled(true);
    let (_, recording) = Recording::begin(&plan, &caller, true, Side::Client, &meter);
    let (request, labels) = (Fields::new(), labels());
    let millis = Duration::from_millis;
    let tried = |began, took: Option<u64>, status, failed| Tried {
        began: millis(began),
        took: took.map(millis),
        endpoint: "10.0.0.9:15008".parse().unwrap(),
        peer: Some("spiffe://cluster.local/ns/default/sa/reviews"),
        status,
        failed,
    };
    let told_of = Told {
        path: Some("/reviews*"),
        attempts: vec![
            tried(0, Some(1), 0, Some("connecting failed")),
            tried(2, Some(1), 503, None),
            tried(4, None, 0, None),
        ],
        ..telling(&labels)
    };
    let one = entry(&request, 503, millis(5));
    recording.unwrap().finish(&one, &told_of, &meter);
    let spans = told(&meter, hear).await;
    let (whole, attempts) = spans.split_last().unwrap();
    assert!(text(whole).contains(&"http.route=/reviews*".to_owned()));
    assert_eq!(attempts.len(), 3);
    for (attempt, (began, took, said)) in attempts.iter().zip([
        (0, 1, "mesh.reason=connecting failed"),
        (2, 1, "http.response.status_code=#503"),
        (4, 1, "http.request.resend_count=#2"),
    ]) {
        assert_eq!((&*attempt.name, attempt.kind), ("mesh.attempt", 1));
        assert_eq!(attempt.parent_span_id, whole.span_id);
        assert_eq!(attempt.trace_id, whole.trace_id);
        let ns = |span: &Span| (span.start_time_unix_nano, span.end_time_unix_nano);
        let begins = whole.start_time_unix_nano + began * 1_000_000;
        assert_eq!(ns(attempt), (begins, begins + took * 1_000_000));
        assert!(text(attempt).contains(&said.to_owned()), "{attempt:?}");
        assert_eq!(attempt.status.as_ref().map(|it| it.code), Some(2));
    }
}

#[tokio::test]
async fn what_is_not_sampled_is_handed_on_as_it_came_and_leaves_nothing() {
    let (meter, hear) = meter();
    let plan = plan(|_| {});
    let unsampled = PARENT.replace("-01", "-00");
    let caller = TraceContext::extract(&headers(&[("traceparent", &unsampled)]));
    let (context, recording) = Recording::begin(&plan, &caller, false, Side::Server, &meter);
    assert!(recording.is_none());
    assert_eq!(context.traceparent().unwrap(), unsampled);
    // A trace that begins here is one all the same, so that everybody further on decides alike.
    let begun = TraceContext::default().or_fresh().settled(false);
    let (context, recording) = Recording::begin(&plan, &begun, false, Side::Server, &meter);
    assert!(recording.is_none() && !context.is_sampled());
    assert_eq!(context.trace_id(), begun.trace_id());
    assert!(told(&meter, hear).await.is_empty());
}

#[tokio::test]
async fn slow_failed_and_denied_ones_are_kept_with_what_was_asked_for_them() {
    let (meter, hear) = meter();
    let plan = plan(|plan| {
        plan.keep = Some(Keep {
            slow: Some(Duration::from_millis(100)),
            failed: true,
            denied: true,
        });
    });
    let request = Fields::new();
    let (fast, slow) = (Duration::from_millis(99), Duration::from_millis(100));
    for (code, duration, denied) in [
        (200, fast, false),
        (200, slow, false),
        (503, fast, false),
        (404, fast, false),
        (403, fast, true),
    ] {
        let caller = TraceContext::default().or_fresh().settled(false);
        let (context, root) = Recording::begin(&plan, &caller, false, Side::Server, &meter);
        assert!(!context.is_sampled(), "nobody further on records it");
        // A call made for it, and one made for that.
        let (below, call) = Recording::begin(&plan, &context, false, Side::Client, &meter);
        assert!(!below.is_sampled());
        let labels = labels();
        call.unwrap()
            .finish(&entry(&request, 200, fast), &telling(&labels), &meter);
        let mut telling = telling(&labels);
        telling.denied = denied;
        telling.reason = denied.then_some("denied");
        root.unwrap()
            .finish(&entry(&request, code, duration), &telling, &meter);
    }
    let spans = told(&meter, hear).await;
    let kept: Vec<String> = spans
        .iter()
        .flat_map(|span| text(span).into_iter().filter(|it| it.starts_with("mesh.kept=")))
        .collect();
    assert_eq!(kept, ["mesh.kept=slow", "mesh.kept=failed", "mesh.kept=denied"]);
    assert_eq!(spans.len(), 6, "each with the call made for it");
    for pair in spans.chunks(2) {
        assert_eq!(pair[0].parent_span_id, pair[1].span_id);
        assert_eq!(pair[0].trace_id, pair[1].trace_id);
    }
    assert_eq!(meter.outlets().counts().dropped(), 0);
}

#[test]
fn without_a_way_out_spans_are_counted_as_lost() {
    let meter = Meter::new();
    let plan = plan(|_| {});
    let caller = TraceContext::default().or_fresh().settled(true);
    let (_, recording) = Recording::begin(&plan, &caller, true, Side::Client, &meter);
    let request = Fields::new();
    let labels = labels();
    recording
        .unwrap()
        .finish(&entry(&request, 200, Duration::ZERO), &telling(&labels), &meter);
    assert_eq!(meter.outlets().counts().dropped(), 1);
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

#[test]
fn b3_is_read_in_both_forms_and_written_in_several_headers() {
    let b3 = Propagation::zipkin(false);
    let both = Propagation::zipkin(true);
    let single = |state: &str| headers(&[("b3", &format!("{TRACE}-{SPAN}{state}"))]);
    for (state, decided) in [
        ("-1", Some(true)),
        ("-d", Some(true)),
        ("-0", Some(false)),
        ("", None),
        ("-1-05e3ac9a4f6e3b90", Some(true)),
    ] {
        let context = TraceContext::extract_by(&single(state), &b3);
        assert_eq!(context.trace_id().as_deref(), Some(TRACE), "{state}");
        assert_eq!(context.decided(), decided, "{state}");
    }
    let multi = |more: &[(&'static str, &str)]| {
        let ids = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
        headers(&[&ids[..], more].concat())
    };
    for (more, decided) in [
        (&[][..], None),
        (&[("x-b3-sampled", "1")], Some(true)),
        (&[("x-b3-sampled", "0")], Some(false)),
        (&[("x-b3-flags", "1")], Some(true)),
    ] {
        let context = TraceContext::extract_by(&multi(more), &b3);
        assert_eq!(context.trace_id().as_deref(), Some(TRACE), "{more:?}");
        assert_eq!(context.decided(), decided, "{more:?}");
    }
    let short = headers(&[("x-b3-traceid", "a3ce929d0e0e4736"), ("x-b3-spanid", SPAN)]);
    let context = TraceContext::extract_by(&short, &b3);
    assert_eq!(context.trace_id().unwrap(), "0000000000000000a3ce929d0e0e4736");

    // What is written takes the place of all that was said before.
    let mut onward = single("-1-05e3ac9a4f6e3b90");
    onward.insert("x-b3-parentspanid", HeaderValue::from_static("05e3ac9a4f6e3b90"));
    let context = TraceContext::extract_by(&onward, &b3);
    context.inject_by(&mut onward, &b3);
    assert_eq!(onward["x-b3-traceid"], TRACE);
    assert_eq!(onward["x-b3-spanid"], SPAN);
    assert_eq!(onward["x-b3-sampled"], "1");
    assert!(!onward.contains_key("b3") && !onward.contains_key("x-b3-parentspanid"));
    assert!(!onward.contains_key("traceparent"));
    context.inject_by(&mut onward, &both);
    assert_eq!(onward["traceparent"], PARENT);
    // B3 first, W3C where there is none of it.
    let w3c = headers(&[("traceparent", PARENT)]);
    assert_eq!(TraceContext::extract_by(&w3c, &both).decided(), Some(true));
    assert!(TraceContext::extract_by(&w3c, &b3).is_none());
    // Muted, nobody is told.
    let mut untouched = single("-1");
    context.inject_by(&mut untouched, &b3.mute());
    assert_eq!(untouched, single("-1"));
}

#[test]
fn sampling_may_be_said_without_a_trace() {
    let b3 = Propagation::zipkin(false);
    for (name, value, said) in [
        ("b3", "0", Some(false)),
        ("b3", "1", Some(true)),
        ("b3", "d", Some(true)),
        ("x-b3-sampled", "0", Some(false)),
        ("x-b3-sampled", "true", Some(true)),
        ("x-b3-sampled", "maybe", None),
    ] {
        assert_eq!(
            TraceContext::hint(&headers(&[(name, value)]), &b3),
            said,
            "{name}: {value}"
        );
    }
    let w3c = Propagation::default();
    assert_eq!(TraceContext::hint(&headers(&[("b3", "0")]), &w3c), None);
}

#[test]
fn hostile_headers_are_no_context_and_no_panic() {
    let long = "0".repeat(70_000);
    let odd = [
        "",
        "-",
        "--",
        "---",
        "0",
        "1-2",
        "é-é-é",
        "+",
        &long,
        "4bf92f3577b34da6a3ce929d0e0e4736-",
        "-00f067aa0ba902b7-1",
        "4bf92f3577b34da6a3ce929d0e0e473\u{e9}-00f067aa0ba902b7-1",
        "+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "4bf92f3577b34da6a3ce929d0e0e4736-+0f067aa0ba902b7-1",
        "4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-1",
        "00000000000000000000000000000000-00f067aa0ba902b7-1",
        "4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-1",
        "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-x",
        "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1-05e3ac9a4f6e3b90-5",
    ];
    let both = Propagation::zipkin(true);
    for value in odd {
        for name in ["b3", "traceparent", "x-b3-traceid", "x-b3-spanid"] {
            let context = TraceContext::extract_by(&headers(&[(name, value)]), &both);
            assert!(context.is_none(), "{name}: {value}");
        }
        let ids = headers(&[
            ("x-b3-traceid", value),
            ("x-b3-spanid", value),
            ("x-b3-flags", value),
        ]);
        assert!(TraceContext::extract_by(&ids, &both).is_none(), "{value}");
    }
    // Two of a kind: nobody can say which was meant.
    let single = format!("{TRACE}-{SPAN}-1");
    assert!(TraceContext::extract_by(&headers(&[("b3", &single), ("b3", &single)]), &both).is_none());
}
