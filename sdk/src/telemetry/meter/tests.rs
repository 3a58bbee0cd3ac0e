use std::io::Write as _;
use std::process::{Command, Stdio};

use http::HeaderMap;

use super::*;
use crate::telemetry::access::{Entry, Fields};
use crate::telemetry::cel::Expression;
use crate::telemetry::{HttpFacts, Metric, Reporter, Sample};

fn limited(series: usize) -> Meter {
    Meter::with_limits(MetricLimits {
        series,
        ..MetricLimits::default()
    })
}

fn labels(host: &str, caller: &str) -> RequestLabels {
    let mut labels = RequestLabels::new(Reporter::Waypoint);
    labels.service.host = host.into();
    labels.source.principal = caller.into();
    labels
}

fn sample(code: u16) -> Sample {
    Sample {
        response_code: code,
        flags: "-",
        grpc_status: None,
        duration: Duration::from_millis(7),
        request_bytes: 100,
        response_bytes: 2_000,
        trace: None,
        http: None,
    }
}

fn facts(method: &'static str) -> HttpFacts {
    HttpFacts {
        client: false,
        method,
        scheme: "http",
        version: "1.1",
        port: 9080,
    }
}

/// What is known of a request with this path.
fn entry<'a>(path: &'a str, trailers: &'a HeaderMap, labels: &'a RequestLabels) -> Entry<'a> {
    static NONE: Fields = Fields::new();
    Entry {
        start: SystemTime::UNIX_EPOCH,
        duration: Duration::ZERO,
        answered: None,
        method: "GET",
        scheme: "http",
        authority: "reviews",
        path,
        protocol: None,
        request: &NONE,
        response: &NONE,
        trailers,
        code: 200,
        flags: "-",
        details: None,
        grpc_status: None,
        received: 0,
        sent: 0,
        upstream: None,
        cluster: None,
        attempts: 0,
        failure: None,
        local: None,
        remote: None,
        direct: None,
        peer: None,
        sni: None,
        route: None,
        trace: None,
        hostname: None,
        labels: Some(labels),
    }
}

fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let of = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    text.lines().filter(of).collect()
}

fn total(text: &str, name: &str) -> u64 {
    let values = lines(text, name)
        .into_iter()
        .map(|line| line.rsplit(' ').next().unwrap());
    values.map(|value| value.parse::<u64>().unwrap()).sum()
}

fn expression(text: &str) -> Expression {
    Expression::parse(text).unwrap()
}

/// What callers choose has no end: their names, the paths they ask for, the statuses they provoke. What is kept of it has one,
/// and nothing goes uncounted.
#[test]
fn a_million_requests_of_random_paths_and_identities_stay_below_the_limit() {
    const REQUESTS: u64 = 1_000_000;
    const LIMIT: usize = 500;
    let meter = limited(LIMIT);
    let mut plan = MetricPlan::default();
    plan.set(Metric::RequestCount, "path", expression("request.path"));
    let (plan, none) = (Arc::new(plan), HeaderMap::new());
    let mut random = fastrand::Rng::with_seed(7);
    // A connection has one caller and many requests.
    for _ in 0..REQUESTS / 100 {
        let caller = format!("spiffe://cluster.local/ns/x/sa/{:x}", random.u64(..));
        let series = meter.requests_as(&labels("reviews", &caller), &plan);
        for _ in 0..100 {
            let path = format!("/{:x}", random.u64(..));
            let tags = plan.tags(&entry(&path, &none, series.labels()));
            let code = random.u16(200..600);
            let told = Sample {
                http: Some(facts("GET")),
                ..sample(code)
            };
            series.record_tagged(&told, &tags);
        }
    }
    let text = meter.exposition();
    assert_eq!(total(&text, "istio_requests_total"), REQUESTS);
    assert_eq!(
        total(&text, "istio_request_duration_milliseconds_count"),
        REQUESTS
    );
    assert_eq!(
        total(&text, "http_server_request_duration_seconds_count"),
        REQUESTS
    );
    // What stands for all others tells apart a status' hundreds, and no more.
    for metric in [
        "istio_requests_total",
        "istio_request_duration_milliseconds_count",
        "istio_request_bytes_count",
        "http_server_request_duration_seconds_count",
    ] {
        let series = lines(&text, metric).len();
        assert!(series <= LIMIT + 8, "{series} of {metric}");
    }
    let remembered = meter.0.requests.lock().unwrap().known.len();
    assert!(remembered <= LIMIT, "{remembered} label sets are remembered");
}

#[test]
fn messages_are_told_with_the_twenty_labels_that_are_known_early() {
    let meter = Meter::new();
    let series = meter.requests(&labels(
        "reviews.default.svc.cluster.local",
        "spiffe://a/ns/b/sa/c",
    ));
    let messages = series.messages(&Tags::default());
    messages.requested(2);
    messages.responded(3);
    let text = meter.exposition();
    assert_eq!(total(&text, "istio_request_messages_total"), 2);
    let [line] = lines(&text, "istio_response_messages_total")[..] else {
        panic!("{text}")
    };
    assert!(line.ends_with("destination_cluster=\"unknown\"} 3"), "{line}");
    assert_eq!(line.matches("=\"").count(), 20);
    assert!(line.contains("destination_service_name=\"reviews\""));
}

#[test]
fn a_plan_says_what_is_told_and_with_which_labels() {
    let meter = Meter::new();
    let mut plan = MetricPlan::default();
    plan.remove(Metric::RequestCount, "source_version");
    plan.set(Metric::RequestCount, "request_host", expression("request.host"));
    plan.set(Metric::RequestCount, "a_method", expression("request.method"));
    plan.set(
        Metric::RequestCount,
        "destination_app",
        expression("upstream_peer.app + '!'"),
    );
    plan.set(
        Metric::RequestCount,
        "tenant",
        expression("request.headers['x-tenant']"),
    );
    plan.disable(Metric::ResponseSize, true);
    let plan = Arc::new(plan);
    let mut labels = labels("reviews", "");
    labels.destination.app = "ratings".into();
    let none = HeaderMap::new();
    let series = meter.requests_as(&labels, &plan);
    let tags = plan.tags(&entry("/", &none, &labels));
    series.record_tagged(&sample(200), &tags);
    let text = meter.exposition();
    let [line] = lines(&text, "istio_requests_total")[..] else {
        panic!("{text}")
    };
    assert!(!line.contains("source_version"), "{line}");
    assert!(
        line.contains("destination_principal=\"unknown\",destination_app=\"ratings!\",destination_version")
    );
    assert!(
        line.ends_with(
            "connection_security_policy=\"unknown\",a_method=\"GET\",request_host=\"reviews\",tenant=\"unknown\"} 1"
        ),
        "{line}"
    );
    assert!(lines(&text, "istio_response_bytes_count").is_empty());
    let [line] = lines(&text, "istio_request_bytes_count")[..] else {
        panic!("{text}")
    };
    assert!(
        line.contains("source_version=\"unknown\"") && !line.contains("request_host"),
        "{line}"
    );
    // Another that says the same counts in the same place.
    let same = Arc::new(MetricPlan::clone(&plan));
    assert!(Arc::ptr_eq(&series, &meter.requests_as(&labels, &same)));
}

#[test]
fn series_that_a_removed_label_told_apart_are_one() {
    let meter = Meter::new();
    let mut plan = MetricPlan::default();
    plan.remove(Metric::RequestCount, "source_principal");
    let plan = Arc::new(plan);
    for caller in ["a", "b", "c"] {
        meter
            .requests_as(&labels("reviews", caller), &plan)
            .record(&sample(200));
    }
    let text = meter.exposition();
    assert_eq!(lines(&text, "istio_requests_total").len(), 1);
    assert_eq!(total(&text, "istio_requests_total"), 3);
    assert_eq!(lines(&text, "istio_request_bytes_count").len(), 3);
}

#[test]
fn a_series_goes_when_it_is_idle_and_nobody_keeps_it() {
    let meter = Meter::new();
    let kept = meter.requests(&labels("kept", ""));
    kept.record(&sample(200));
    kept.record(&sample(503));
    meter.requests(&labels("gone", "")).record(&sample(200));
    drop(meter.tcp(&labels("gone", "")).open());
    let lasting = meter.tcp(&labels("lasting", "")).open();
    meter.sweep();
    kept.record(&sample(200));
    assert_eq!(
        total(&meter.exposition(), "istio_requests_total"),
        4,
        "an interval is not over yet"
    );
    meter.sweep();
    let text = meter.exposition();
    assert!(!text.contains("destination_service=\"gone\""), "{text}");
    let [line] = lines(&text, "istio_requests_total")[..] else {
        panic!("{text}")
    };
    assert!(line.contains("\"200\"") && line.ends_with(" 2"), "{line}");
    assert_eq!(total(&text, "istio_tcp_connections_opened_total"), 1, "{text}");
    drop(lasting);
    // What comes back begins anew, in a series that is shown.
    kept.record(&sample(503));
    meter.requests(&labels("gone", "")).record(&sample(200));
    let text = meter.exposition();
    assert_eq!(total(&text, "istio_requests_total"), 4);
    assert!(text.contains("destination_service=\"gone\""));
    for _ in 0..3 {
        meter.sweep();
    }
    drop(kept);
    meter.sweep();
    assert_eq!(meter.series(), 0, "{}", meter.exposition());
}

#[test]
fn room_that_is_free_again_is_used() {
    let meter = limited(2);
    for host in ["a", "b", "c"] {
        meter.requests(&labels(host, "")).record(&sample(200));
    }
    let refused = "mesh_metric_series_refused_total{metric=\"istio_requests\"} ";
    assert!(meter.exposition().contains("destination_service=\"_overflow\""));
    meter.sweep();
    meter.sweep();
    meter.requests(&labels("c", "")).record(&sample(200));
    let text = meter.exposition();
    assert!(text.contains("destination_service=\"c\""), "{text}");
    assert!(text.contains(refused), "{text}");
}

/// The million, or as many as CI bears: `INMESH_REQUESTS=1000000 cargo test --release -- series_stay`.
#[test]
fn series_stay_below_the_cap_whatever_requests_say() {
    let requests: u32 = std::env::var("INMESH_REQUESTS").map_or(20_000, |it| it.parse().unwrap());
    let meter = limited(200);
    let mut plan = MetricPlan::default();
    for metric in Metric::ALL {
        plan.set(metric, "path", expression("request.path"));
        plan.set(metric, "host", expression("request.host"));
    }
    let plan = Arc::new(plan);
    let headers = HeaderMap::new();
    let methods = ["GET", "POST", "_OTHER"];
    let mut random = fastrand::Rng::with_seed(7);
    let long = "x".repeat(5_000);
    for n in 0..requests {
        let caller = format!(
            "spiffe://cluster.local/ns/{}/sa/{}",
            random.u16(..),
            random.u64(..)
        );
        let labels = labels(&format!("h{}.example", random.u32(..)), &caller);
        let path = format!("/{:x}/{long}", random.u128(..));
        let mut sample = sample(random.u16(..1_000));
        sample.http = Some(facts(methods[random.usize(..methods.len())]));
        let tags = plan.tags(&entry(&path, &headers, &labels));
        meter.requests_as(&labels, &plan).record_tagged(&sample, &tags);
        // And the plain ones, and connections.
        if n % 4 == 0 {
            meter.requests(&labels).record(&sample);
            drop(meter.tcp(&labels).open());
        }
    }
    let text = meter.exposition();
    let plain = u64::from(requests.div_ceil(4));
    assert_eq!(total(&text, "istio_requests_total"), u64::from(requests) + plain);
    for name in [
        "istio_requests_total",
        "istio_response_bytes_count",
        "istio_tcp_connections_opened_total",
    ] {
        let series = lines(&text, name).len();
        // The overflow tells apart eleven kinds of status, and whether a Telemetry applies.
        assert!(series <= 200 + 2 * 11, "{name}: {series}");
    }
    assert!(lines(&text, "http_server_request_duration_seconds_count").len() <= 201);
    assert!(text.len() < 32 << 20, "{} bytes", text.len());
    println!(
        "{requests} requests: {} series, {} bytes of text",
        meter.series(),
        text.len()
    );
}

#[test]
fn exemplars_lead_to_traces_in_openmetrics_alone() {
    let meter = Meter::new();
    let mut traced = sample(200);
    traced.trace = Some(*b"\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36");
    meter.requests(&labels("reviews", "")).record(&traced);
    let open = meter.exposition_as(Exposition::OpenMetrics);
    let with: Vec<_> = open.lines().filter(|line| line.contains(" # ")).collect();
    let [line] = with[..] else { panic!("{with:?}") };
    assert!(
        line.starts_with("istio_request_duration_milliseconds_bucket{")
            && line.contains("_bucket{le=\"10.0\",")
            && line.contains("} 1 # ")
    );
    assert!(
        line.contains(" # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 7.0 "),
        "{line}"
    );
    assert!(open.ends_with("# EOF\n"));
    let classic = meter.exposition_as(Exposition::Classic);
    assert!(!classic.contains("trace_id") && !classic.contains("# EOF"));
    assert!(classic.contains("# TYPE istio_requests_total counter\n"));
    let bucket = classic
        .lines()
        .find(|line| line.contains("milliseconds_bucket{le=\"10.0\","));
    assert!(bucket.unwrap().ends_with("\"} 1"));
}

#[test]
fn opentelemetrys_durations_say_what_its_conventions_ask_for() {
    let meter = Meter::new();
    let series = meter.requests(&labels("reviews.default.svc.cluster.local", ""));
    for (code, client) in [(200, false), (404, false), (404, true), (503, false), (0, false)] {
        let mut sample = sample(code);
        sample.http = Some(HttpFacts {
            client,
            ..facts("GET")
        });
        series.record(&sample);
    }
    let text = meter.exposition();
    let mut server = lines(&text, "http_server_request_duration_seconds_count");
    server.sort_unstable();
    let rest = "network_protocol_version=\"1.1\",server_address=\"reviews.default.svc.cluster.local\",server_port=\"9080\",\
                url_scheme=\"http\"} 1";
    let told = |name: &str, labels: &str| format!("{name}{{{labels}{rest}");
    let name = "http_server_request_duration_seconds_count";
    assert_eq!(
        server,
        [
            told(
                name,
                "error_type=\"503\",http_request_method=\"GET\",http_response_status_code=\"503\","
            ),
            told(name, "error_type=\"cancelled\",http_request_method=\"GET\","),
            told(
                name,
                "http_request_method=\"GET\",http_response_status_code=\"200\","
            ),
            told(
                name,
                "http_request_method=\"GET\",http_response_status_code=\"404\","
            ),
        ]
    );
    let name = "http_client_request_duration_seconds_count";
    let labels = "error_type=\"404\",http_request_method=\"GET\",http_response_status_code=\"404\",";
    assert_eq!(lines(&text, name), [told(name, labels)]);
}

/// Names that promtool would like otherwise, and which are not ours to choose.
const ISTIOS: &str = "istio_";

#[test]
fn promtool_accepts_what_is_exposed() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("SKIPPED: there is no promtool (Debian package prometheus)");
        return;
    };
    let meter = Meter::new();
    let mut odd = labels("a\"b\\c\nd", "ü");
    odd.source.app = "}# {".into();
    let mut traced = sample(200);
    traced.trace = Some([1; 16]);
    traced.http = Some(facts("GET"));
    meter.requests(&odd).record(&traced);
    drop(meter.tcp(&odd).open());
    meter.tcp(&odd).failed("UF");
    meter.requests(&odd).messages(&Tags::default()).responded(1);
    meter.config().published(3, 2, Duration::from_millis(250));
    meter.tunnels(Direction::Inbound).opened(Duration::from_millis(3));
    meter.denied("default/closed");
    meter.retry_skipped("body");
    meter.decision(Duration::from_nanos(300));
    let text = meter.exposition_as(Exposition::Classic);
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let ours: Vec<_> = said.lines().filter(|line| !line.starts_with(ISTIOS)).collect();
    assert!(ours.is_empty(), "{ours:#?}\n{text}");
    assert!(!said.contains("error while linting"), "{said}");
}
