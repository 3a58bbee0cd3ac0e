use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span as OtlpSpan;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::telemetry::{
    Meter, RequestSpan, TraceContext, adopt, attempt_span, client_span, context_of, current, field,
    server_span,
};

type Posts = mpsc::UnboundedReceiver<(HeaderMap, String, Bytes)>;

/// A collector that keeps whatever is posted to it.
async fn collector() -> (SocketAddr, Posts) {
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
                    let _ = posted.send((head.headers, head.uri.to_string(), body));
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), answer));
        }
    });
    (addr, posts)
}

fn request<'a>(method: &'a Method, path: &'a str) -> RequestSpan<'a> {
    RequestSpan {
        method,
        authority: "reviews.default:9080",
        path,
        version: Version::HTTP_2,
        peer: None,
        generation: 7,
    }
}

fn settings(addr: SocketAddr) -> OtlpSettings {
    OtlpSettings::new(&format!("http://{addr}"))
        .service_name("reviews")
        .attribute("k8s.namespace.name", "default")
}

fn spans(body: &Bytes) -> Vec<OtlpSpan> {
    let export = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let scopes = export
        .resource_spans
        .into_iter()
        .flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

async fn shut(guard: Arc<Guard>, deadline: Duration) -> bool {
    tokio::task::spawn_blocking(move || guard.shutdown(deadline))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_collector_receives_one_tree_under_the_callers_span() {
    let (addr, mut posts) = collector().await;
    let (layer, guard) = layer(&settings(addr)).unwrap();
    let mut caller = HeaderMap::new();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    caller.insert("traceparent", parent.parse().unwrap());

    let subscriber = tracing_subscriber::registry().with(layer);
    let sent = tracing::subscriber::with_default(subscriber, || {
        let server = server_span(&request(&Method::GET, "/reviews/1"));
        adopt(&server, &TraceContext::extract(&caller));
        server.record(field::HTTP_STATUS, 200);
        let _in_server = server.enter();
        let client = client_span(&request(&Method::GET, "/ratings/1"));
        let _in_client = client.enter();
        let attempt = attempt_span(1, &"127.1.0.9:15008", None);
        let _in_attempt = attempt.enter();
        assert_eq!(context_of(&attempt).traceparent(), current().traceparent());
        let mut head = HeaderMap::new();
        current().inject(&mut head);
        head
    });
    assert!(shut(Arc::new(guard), Duration::from_secs(10)).await);

    let (headers, path, body) = posts.recv().await.unwrap();
    assert_eq!(path, "/v1/traces");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["host"], addr.to_string());
    let spans = spans(&body);
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (server, client, attempt) = (named("mesh.server"), named("mesh.client"), named("mesh.attempt"));
    assert_eq!(spans.len(), 3);
    assert_eq!(server.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(client.parent_span_id, server.span_id);
    assert_eq!(attempt.parent_span_id, client.span_id);
    let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    assert!(spans.iter().all(|span| span.trace_id == trace));
    assert_eq!((server.kind, client.kind), (2, 3), "kinds server and client");
    let has = |span: &OtlpSpan, key: &str| span.attributes.iter().any(|entry| entry.key == key);
    assert!(has(server, field::HTTP_STATUS) && has(server, field::GENERATION));
    assert!(has(attempt, field::ENDPOINT));

    let id: String = attempt.span_id.iter().map(|b| format!("{b:02x}")).collect();
    let expected = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{id}-01");
    assert_eq!(sent["traceparent"].to_str().unwrap(), expected);
}

#[tokio::test]
async fn the_applications_spans_stand_between_ours() {
    let (addr, mut posts) = collector().await;
    let (layer, guard) = layer(&settings(addr)).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let server = server_span(&request(&Method::GET, "/reviews/1"));
        let _in_server = server.enter();
        let application = tracing::info_span!("render", stars = 5);
        let _in_application = application.enter();
        drop(client_span(&request(&Method::GET, "/ratings/1")));
    });
    assert!(shut(Arc::new(guard), Duration::from_secs(10)).await);
    let (_, _, body) = posts.recv().await.unwrap();
    let spans = spans(&body);
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (server, application, client) = (named("mesh.server"), named("render"), named("mesh.client"));
    assert_eq!(application.parent_span_id, server.span_id);
    assert_eq!(client.parent_span_id, application.span_id);
    assert!(spans.iter().all(|span| span.trace_id == server.trace_id));
}

#[tokio::test]
async fn the_service_is_described_and_its_spans_are_counted() {
    let (addr, mut posts) = collector().await;
    let (layer, guard) = layer(&settings(addr)).unwrap();
    let meter = Meter::new();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        // As a mesh does that starts here; and being told of it twice is no harm.
        let found = counts_in_force().expect("an exporter listens");
        meter.watch_spans(found);
        meter.watch_spans(guard.counts());
        drop(server_span(&request(&Method::GET, "/")));
    });
    assert!(shut(Arc::new(guard), Duration::from_secs(10)).await);
    let (_, _, body) = posts.recv().await.unwrap();
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    let resource = export.resource_spans[0].resource.clone().unwrap();
    let text = format!("{resource:?}");
    for expected in ["service.name", "reviews", "k8s.namespace.name", "default"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let exposition = meter.exposition();
    assert!(exposition.contains("mesh_spans_exported_total 1\n"));
    assert!(exposition.contains("mesh_spans_dropped_total 0\n"));
}

#[tokio::test]
async fn a_batch_is_sent_without_waiting_for_shutdown() {
    let (addr, mut posts) = collector().await;
    let mut settings = settings(addr);
    settings.batch = 4;
    settings.interval = Duration::from_secs(3_600);
    let (layer, _guard) = layer(&settings).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    let _default = tracing::subscriber::set_default(subscriber);
    for _ in 0..2 {
        for _ in 0..4 {
            drop(server_span(&request(&Method::GET, "/")));
        }
        let (_, _, body) = posts.recv().await.unwrap();
        assert_eq!(spans(&body).len(), 4);
    }
}

#[tokio::test]
async fn a_caller_that_does_not_record_is_followed() {
    let (addr, mut posts) = collector().await;
    let (layer, guard) = layer(&settings(addr)).unwrap();
    let mut caller = HeaderMap::new();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    caller.insert("traceparent", parent.parse().unwrap());
    let subscriber = tracing_subscriber::registry().with(layer);
    let context = tracing::subscriber::with_default(subscriber, || {
        let server = server_span(&request(&Method::GET, "/"));
        adopt(&server, &TraceContext::extract(&caller));
        context_of(&server)
    });
    assert!(!context.is_sampled());
    assert_eq!(
        context.trace_id().as_deref(),
        Some("4bf92f3577b34da6a3ce929d0e0e4736")
    );
    assert!(shut(Arc::new(guard), Duration::from_secs(10)).await);
    assert!(posts.try_recv().is_err());
}

#[tokio::test]
async fn a_collector_that_is_down_costs_spans_and_never_the_exit() {
    // Bound, so that nobody else gets the port; not listening, so that it refuses.
    let gone = tokio::net::TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut settings = settings(gone.local_addr().unwrap());
    // Nothing is sent before the exit, which then is what loses the spans.
    settings.interval = Duration::from_secs(3_600);
    let (layer, guard) = layer(&settings).unwrap();
    let guard = Arc::new(guard);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..10 {
            drop(server_span(&request(&Method::GET, "/")));
        }
    });
    let before = Instant::now();
    assert!(!shut(Arc::clone(&guard), Duration::from_secs(2)).await);
    assert!(before.elapsed() < Duration::from_secs(2));
    assert_eq!(guard.counts().dropped(), 10);
    assert_eq!(guard.counts().exported(), 0);
}

#[tokio::test]
async fn a_collector_that_never_answers_fills_the_queue_and_is_cut_off_at_the_deadline() {
    // The kernel accepts; nobody reads.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(silent.local_addr().unwrap());
    settings.queue = 8;
    settings.batch = 4;
    let (layer, guard) = layer(&settings).unwrap();
    let guard = Arc::new(guard);
    let subscriber = tracing_subscriber::registry().with(layer);
    let before = Instant::now();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..1_000 {
            drop(server_span(&request(&Method::GET, "/")));
        }
    });
    assert!(before.elapsed() < Duration::from_secs(5), "requests did not wait");
    assert!(guard.counts().dropped() >= 900, "the queue holds eight spans");
    let before = Instant::now();
    let deadline = Duration::from_millis(500);
    assert!(!shut(Arc::clone(&guard), deadline).await);
    assert!(before.elapsed() < deadline + Duration::from_millis(100));
    assert_eq!(guard.counts().dropped(), 1_000);
}

/// A collector of gRPC that gives one answer after the other, and the last of them from then on.
async fn grpc_collector(answers: Vec<(&'static str, Bytes)>) -> (SocketAddr, Posts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (posted, posts) = mpsc::unbounded_channel();
    let asked = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (posted, asked, answers) = (posted.clone(), Arc::clone(&asked), answers.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let (posted, answers) = (posted.clone(), answers.clone());
                let turn = asked.fetch_add(1, Ordering::SeqCst);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let _ = posted.send((head.headers, head.uri.path().to_owned(), body.slice(5..)));
                    let (status, message) = answers[turn.min(answers.len() - 1)].clone();
                    let mut framed = vec![0; 4];
                    framed.push(message.len() as u8);
                    framed.extend_from_slice(&message);
                    let trailers = HeaderMap::from_iter([(
                        HeaderName::from_static("grpc-status"),
                        HeaderValue::from_static(status),
                    )]);
                    let body = Full::new(Bytes::from(framed)).with_trailers(async { Some(Ok(trailers)) });
                    Ok::<_, Infallible>(Response::new(body))
                }
            });
            let http = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            tokio::spawn(http.serve_connection(TokioIo::new(stream), answer));
        }
    });
    (addr, posts)
}

/// `many` spans of servers.
fn told(settings: &OtlpSettings, many: usize) -> Arc<Guard> {
    let (layer, guard) = layer(settings).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..many {
            drop(server_span(&request(&Method::GET, "/")));
        }
    });
    Arc::new(guard)
}

#[tokio::test]
async fn grpc_is_spoken_where_it_is_asked_for() {
    let (addr, mut posts) = grpc_collector(vec![("0", Bytes::new())]).await;
    let mut settings = settings(addr);
    settings.protocol = OtlpProtocol::Grpc;
    settings.headers = vec![("x-api-key".to_owned(), "secret".to_owned())];
    let guard = told(&settings, 3);
    assert!(shut(Arc::clone(&guard), Duration::from_secs(10)).await);
    let (headers, path, body) = posts.recv().await.unwrap();
    assert_eq!(
        path,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    );
    assert_eq!(headers["content-type"], "application/grpc");
    assert_eq!(headers["x-api-key"], "secret");
    assert_eq!(spans(&body).len(), 3);
    assert_eq!((guard.counts().exported(), guard.counts().dropped()), (3, 0));
}

#[tokio::test]
async fn what_a_collector_may_take_later_is_sent_again_and_what_it_rejects_is_lost() {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    let partial = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: 2,
            error_message: "too many".into(),
        }),
    };
    let answers = vec![("14", Bytes::new()), ("0", partial.encode_to_vec().into())];
    let (addr, mut posts) = grpc_collector(answers).await;
    let mut settings = settings(addr);
    settings.protocol = OtlpProtocol::Grpc;
    settings.interval = Duration::from_millis(1);
    let guard = told(&settings, 5);
    let (_, _, first) = posts.recv().await.unwrap();
    let (_, _, again) = posts.recv().await.unwrap();
    assert_eq!(first, again);
    shut(Arc::clone(&guard), Duration::from_secs(10)).await;
    let sent = spans(&first).len() as u64;
    assert!(
        guard.counts().dropped() >= 2 && guard.counts().exported() <= 3,
        "{sent}"
    );
    assert_eq!(guard.counts().exported() + guard.counts().dropped(), 5);
}

#[tokio::test]
async fn records_of_logs_and_metrics_go_the_same_way() {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use opentelemetry_proto::tonic::metrics::v1::Metric;
    let (addr, mut posts) = collector().await;
    let (to, carrier) = destination(&OtlpSettings {
        endpoint: format!("http://{addr}"),
        ..settings(addr)
    })
    .unwrap();
    let to = Destination {
        path: String::new(),
        ..to
    };
    let (logs, worker) = queue::<LogRecord>(
        to.clone(),
        carrier.clone(),
        Told::default(),
        Pace::default(),
        SpanCounts::default(),
    );
    let working = tokio::spawn(worker.run());
    logs.push(LogRecord {
        severity_text: "INFO".into(),
        ..LogRecord::default()
    });
    logs.end(Duration::from_secs(5));
    working.await.unwrap();
    let (_, path, body) = posts.recv().await.unwrap();
    assert_eq!(path, "/v1/logs");
    let told = ExportLogsServiceRequest::decode(body).unwrap();
    assert_eq!(
        told.resource_logs[0].scope_logs[0].log_records[0].severity_text,
        "INFO"
    );
    let (metrics, worker) = queue::<Metric>(
        to,
        carrier,
        Told::default(),
        Pace::default(),
        SpanCounts::default(),
    );
    let working = tokio::spawn(worker.run());
    metrics.push(Metric {
        name: "istio.requests".into(),
        ..Metric::default()
    });
    metrics.end(Duration::from_secs(5));
    working.await.unwrap();
    let (_, path, body) = posts.recv().await.unwrap();
    assert_eq!(path, "/v1/metrics");
    let told = ExportMetricsServiceRequest::decode(body).unwrap();
    assert_eq!(
        told.resource_metrics[0].scope_metrics[0].metrics[0].name,
        "istio.requests"
    );
}

#[test]
fn unusable_endpoints_are_refused_with_a_reason() {
    for (endpoint, reason) in [
        ("collector:4318", "a URL with scheme http or https"),
        ("grpc://collector:4317", "a URL with scheme http or https"),
        ("http://user@collector:4318", "no user name"),
        ("http://", "a URL with scheme http or https"),
        ("http://a b", "not a URL"),
        ("", "a URL with scheme http or https"),
    ] {
        let error = Collector::new(&OtlpSettings::new(endpoint)).unwrap_err();
        assert!(error.to_string().contains(reason), "{endpoint}: {error}");
    }
}

#[cfg(feature = "dev-ca")]
#[tokio::test]
async fn a_collector_at_https_is_believed_if_the_file_vouches_for_it() {
    let (plain, mut posts) = collector().await;
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, own.cert.pem()).unwrap();
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not believe us hangs up.
                let Ok(mut inside) = acceptor.accept(stream).await else {
                    return;
                };
                let mut behind = tokio::net::TcpStream::connect(plain).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut behind).await;
            });
        }
    });
    let mut settings = OtlpSettings::new(&format!("https://{secure}"));
    settings.certificate = Some(file);
    let (subscriber, guard) = subscriber(&settings).unwrap();
    tracing::subscriber::with_default(subscriber, || drop(server_span(&request(&Method::GET, "/"))));
    assert!(shut(Arc::new(guard), Duration::from_secs(10)).await);
    let (_, path, body) = posts.recv().await.unwrap();
    assert_eq!((&*path, spans(&body).len()), ("/v1/traces", 1));
    // Somebody else's certificate vouches for nobody here.
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = folder.path().join("other.pem");
    std::fs::write(&file, other.cert.pem()).unwrap();
    settings.certificate = Some(file);
    let (to, carrier) = destination(&settings).unwrap();
    let batch = to.request(parcel::Signal::Traces, Bytes::new()).unwrap();
    let refused = carrier.carry(batch).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    // And a file that holds none is said when settings are read.
    settings.certificate = Some(folder.path().join("none.pem"));
    let error = destination(&settings).unwrap_err().to_string();
    assert!(error.contains("none.pem"), "{error}");
}

#[test]
fn batches_are_made_up_as_the_environment_says() {
    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel:4318");
    let settings = from_vars(&[
        BASE,
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "250"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/own.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/key.pem"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ]);
    let settings = settings.unwrap().unwrap();
    assert_eq!((settings.queue, settings.batch), (100, 100));
    assert_eq!(settings.interval, Duration::from_millis(250));
    assert_eq!(settings.timeout, Duration::from_secs(3));
    assert!(settings.gzip);
    assert_eq!(settings.certificate.unwrap().to_str(), Some("/ca.pem"));
    let (own, key) = settings.client.unwrap();
    assert_eq!((own.to_str(), key.to_str()), (Some("/own.pem"), Some("/key.pem")));
    assert_eq!(
        from_vars(&[BASE, ("OTEL_TRACES_EXPORTER", "none")]).unwrap(),
        None
    );
    for odd in [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"),
    ] {
        assert!(from_vars(&[BASE, odd]).is_err(), "{odd:?}");
    }
}

fn from_vars(vars: &[(&str, &str)]) -> Result<Option<OtlpSettings>, Error> {
    OtlpSettings::from_vars(|name| {
        let found = vars.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn the_environment_is_read_as_opentelemetry_says() {
    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318/");
    assert_eq!(from_vars(&[]).unwrap(), None);
    assert_eq!(from_vars(&[BASE, ("OTEL_SDK_DISABLED", "true")]).unwrap(), None);
    let based = from_vars(&[BASE, ("OTEL_SERVICE_NAME", "shop")])
        .unwrap()
        .unwrap();
    assert_eq!(based.endpoint, "http://otel:4318/v1/traces");
    assert_eq!(based.service_name.as_deref(), Some("shop"));
    assert_eq!(based.sampling, Sampling::default());
    let exact = (
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "http://other:4318/in/traces",
    );
    assert_eq!(from_vars(&[BASE, exact]).unwrap().unwrap().endpoint, exact.1);

    let sampler = |name, arg| {
        let vars = [
            BASE,
            ("OTEL_TRACES_SAMPLER", name),
            ("OTEL_TRACES_SAMPLER_ARG", arg),
        ];
        from_vars(&vars).map(|settings| settings.unwrap().sampling)
    };
    let quarter = Sampling {
        ratio: 0.25,
        parent_based: true,
    };
    assert_eq!(sampler("parentbased_traceidratio", "0.25").unwrap(), quarter);
    assert!(!sampler("always_on", "").unwrap().parent_based);
    assert_eq!(sampler("parentbased_always_off", "").unwrap().ratio, 0.0);
    for (name, arg) in [("sometimes", ""), ("traceidratio", "2"), ("traceidratio", "NaN")] {
        assert!(sampler(name, arg).is_err(), "{name} {arg}");
    }
}

#[test]
fn the_protocol_its_headers_and_its_patience_are_read_too() {
    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4317");
    let with = |name: &'static str, value: &'static str| {
        from_vars(&[BASE, (name, value)]).map(|settings| settings.unwrap())
    };
    assert_eq!(
        with("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").unwrap().protocol,
        OtlpProtocol::Grpc
    );
    assert!(with("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json").is_err());
    let headers = with("OTEL_EXPORTER_OTLP_HEADERS", "x-a=1, x-b = two%20words,")
        .unwrap()
        .headers;
    assert_eq!(
        headers,
        [
            ("x-a".to_owned(), "1".to_owned()),
            ("x-b".to_owned(), "two words".to_owned())
        ]
    );
    for odd in ["x-a", "a b=1", "x-a=%4", "x-a=%zz", "x-a=%0a", "x-a=%+1"] {
        let error = with("OTEL_EXPORTER_OTLP_HEADERS", odd).unwrap_err();
        assert!(!error.to_string().contains(odd), "{error}: it may be a secret");
    }
    let patience = with("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2500").unwrap().timeout;
    assert_eq!(patience, Duration::from_millis(2_500));
    assert!(with("OTEL_EXPORTER_OTLP_TIMEOUT", "soon").is_err());
}
