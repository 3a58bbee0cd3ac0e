use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::telemetry::{HttpFacts, Reporter, RequestLabels, Sample};

type Posts = mpsc::UnboundedReceiver<(String, Bytes)>;

/// A collector that keeps what is posted to it, and answers so; with nothing, never.
async fn collector(status: Option<StatusCode>) -> (SocketAddr, Posts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (posted, posts) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let posted = posted.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let posted = posted.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let _ = posted.send((head.uri.to_string(), body));
                    let Some(status) = status else {
                        return std::future::pending().await;
                    };
                    let mut response = Response::new(Full::new(Bytes::new()));
                    *response.status_mut() = status;
                    Ok::<_, Infallible>(response)
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), answer));
        }
    });
    (addr, posts)
}

fn settings(addr: SocketAddr) -> MetricsSettings {
    let mut settings = MetricsSettings::new(&format!("http://{addr}")).interval(Duration::from_millis(20));
    settings.collector = settings.collector.service_name("reviews");
    settings.collector.timeout = Duration::from_millis(300);
    settings
}

fn counted() -> Meter {
    let meter = Meter::new();
    let mut labels = RequestLabels::new(Reporter::Waypoint);
    labels.service.host = "reviews.default.svc.cluster.local".into();
    meter.requests(&labels).record(&Sample {
        response_code: 200,
        flags: "-",
        grpc_status: None,
        duration: Duration::from_millis(7),
        request_bytes: 10,
        response_bytes: 20,
        trace: Some([7; 16]),
        http: Some(HttpFacts {
            client: false,
            method: "GET",
            scheme: "http",
            version: "1.1",
            port: 9080,
        }),
    });
    meter
}

fn read(body: &Bytes) -> (ExportMetricsServiceRequest, Vec<Metric>) {
    let export = ExportMetricsServiceRequest::decode(body.clone()).unwrap();
    let scopes = export.resource_metrics.iter().flat_map(|it| &it.scope_metrics);
    let metrics = scopes.flat_map(|scope| scope.metrics.clone()).collect();
    (export, metrics)
}

async fn shut(guard: MetricsGuard, deadline: Duration) -> Duration {
    let began = Instant::now();
    tokio::task::spawn_blocking(move || guard.shutdown(deadline))
        .await
        .unwrap();
    began.elapsed()
}

fn exports(meter: &Meter, result: &str) -> u64 {
    let name = format!("mesh_metric_exports_total{{result=\"{result}\"}} ");
    let text = meter.exposition();
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_collector_receives_the_cells_that_are_scraped() {
    let (addr, mut posts) = collector(Some(StatusCode::OK)).await;
    let meter = counted();
    let guard = metrics(&settings(addr), meter.clone()).unwrap();
    let (path, body) = posts.recv().await.unwrap();
    assert_eq!(path, "/v1/metrics");
    let (export, metrics) = read(&body);
    let resource = export.resource_metrics[0].resource.as_ref().unwrap();
    assert!(format!("{resource:?}").contains("reviews"), "{resource:?}");
    let named = |name: &str| {
        let mut found = metrics.iter().filter(|it| it.name == name);
        found.next().unwrap_or_else(|| panic!("{name} in {metrics:?}"))
    };
    let Some(metric::Data::Sum(sum)) = &named("istio_requests_total").data else {
        panic!("{metrics:?}")
    };
    assert!(sum.is_monotonic);
    assert_eq!(sum.data_points[0].attributes.len(), 25);
    let Some(metric::Data::Histogram(duration)) = &named("istio_request_duration_milliseconds").data else {
        panic!("{metrics:?}")
    };
    let point = &duration.data_points[0];
    assert_eq!((point.count, point.sum), (1, Some(7.0)));
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.exemplars[0].trace_id, [7; 16]);
    let semantic = named("http.server.request.duration");
    assert_eq!(semantic.unit, "s");
    let Some(metric::Data::Histogram(semantic)) = &semantic.data else {
        panic!("{metrics:?}")
    };
    let keys: Vec<_> = semantic.data_points[0]
        .attributes
        .iter()
        .map(|it| &*it.key)
        .collect();
    assert_eq!(
        keys,
        [
            "http.request.method",
            "http.response.status_code",
            "network.protocol.version",
            "server.address",
            "server.port",
            "url.scheme"
        ]
    );
    // Another, which tells that the first was taken.
    posts.recv().await.unwrap();
    assert!(exports(&meter, "sent") >= 1);
    shut(guard, Duration::from_secs(2)).await;
}

#[tokio::test]
async fn the_last_export_is_made_when_it_stops() {
    let (addr, mut posts) = collector(Some(StatusCode::OK)).await;
    let meter = counted();
    let guard = metrics(&settings(addr).interval(Duration::from_secs(3600)), meter.clone()).unwrap();
    shut(guard, Duration::from_secs(2)).await;
    let (_, body) = posts.recv().await.unwrap();
    assert!(!read(&body).1.is_empty());
    assert_eq!(exports(&meter, "sent"), 1);
}

#[tokio::test]
async fn a_collector_that_fails_is_counted_and_tried_again() {
    let (addr, mut posts) = collector(Some(StatusCode::SERVICE_UNAVAILABLE)).await;
    let meter = counted();
    let guard = metrics(&settings(addr), meter.clone()).unwrap();
    for _ in 0..3 {
        posts.recv().await.unwrap();
    }
    assert!(exports(&meter, "failed") >= 2);
    assert_eq!(exports(&meter, "sent"), 0);
    shut(guard, Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_collector_that_is_down_or_silent_holds_nobody_up() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let (silent, _posts) = collector(None).await;
    for addr in [nobody, silent] {
        let meter = counted();
        let guard = metrics(&settings(addr), meter.clone()).unwrap();
        let failed = async {
            while exports(&meter, "failed") == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), failed).await.unwrap();
        let took = shut(guard, Duration::from_millis(50)).await;
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn the_environment_says_whether_and_where_to() {
    let read = |vars: &[(&str, &str)]| {
        let found = |name: &str| {
            let found = vars.iter().find(|(it, _)| *it == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        MetricsSettings::from_vars(found)
    };
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
    assert_eq!(read(&[base]).unwrap(), None);
    let both = read(&[base, ("OTEL_METRICS_EXPORTER", "otlp,prometheus")])
        .unwrap()
        .unwrap();
    assert_eq!(both.collector.endpoint, "http://c:4318/v1/metrics");
    assert_eq!(both.interval, Duration::from_secs(60));
    let exact = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://d/m");
    let interval = ("OTEL_METRIC_EXPORT_INTERVAL", "1500");
    let found = read(&[base, exact, interval]).unwrap().unwrap();
    assert_eq!(
        (&*found.collector.endpoint, found.interval),
        ("http://d/m", Duration::from_millis(1_500))
    );
    assert_eq!(read(&[exact, ("OTEL_METRICS_EXPORTER", "none")]).unwrap(), None);
    assert_eq!(read(&[exact, ("OTEL_SDK_DISABLED", "true")]).unwrap(), None);
    let grpc = read(&[exact, ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc")])
        .unwrap()
        .unwrap();
    assert_eq!(grpc.collector.protocol, super::super::OtlpProtocol::Grpc);
    let zipped = read(&[exact, ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "gzip")]);
    assert!(zipped.unwrap().unwrap().collector.gzip);
    let error = read(&[exact, ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "smoke")]).unwrap_err();
    assert!(error.to_string().contains("OTLP_METRICS_PROTOCOL"), "{error}");
    for wrong in ["0", "soon", "-1"] {
        assert!(
            read(&[exact, ("OTEL_METRIC_EXPORT_INTERVAL", wrong)]).is_err(),
            "{wrong}"
        );
    }
}
