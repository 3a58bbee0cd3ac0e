//! Istio's standard metrics of requests: which labels a request is told with, wherever it is told.

use anyhow::{Result, anyhow};
use http::Method;
use inmesh::{Body, Mesh};
use inmesh_tests::kit::metrics::{Sample, samples, value};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, status, text};
use inmesh_tests::kit::{Shape, World};

in_both_shapes!(
    a_request_is_told_with_the_standard_labels_in_their_order,
    what_is_refused_is_told_for_whom_it_was,
    grpc_is_told_with_its_status_and_its_messages,
    a_telemetry_changes_what_is_told,
    exemplars_lead_to_the_trace_of_the_caller,
);

const REQUESTS: &str = "istio_requests_total";

/// Istio's order.
const LABELS: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

const V1: &str = "reviews-v1.default.svc.cluster.local";

/// For which service it is told there. Two services lead to the port of the pod, which does not see whom the caller meant;
/// as with a sidecar it is the first.
fn told_for(shape: Shape) -> (&'static str, &'static str) {
    match shape {
        Shape::Waypoint => (V1, "reviews-v1"),
        Shape::InProcess => ("reviews.default.svc.cluster.local", "reviews"),
    }
}

/// Where what comes in for `reviews-v1` is told, and by which reporter.
fn receiver(world: &World) -> (Mesh, &'static str) {
    match &world.waypoint {
        Some(waypoint) => (waypoint.mesh().clone(), "waypoint"),
        None => (world.v1.mesh.clone(), "destination"),
    }
}

/// The one series of these labels, once it is there.
async fn series(mesh: &Mesh, name: &str, labels: &[(&str, &str)]) -> Sample {
    let found = || {
        let all = samples(&mesh.metrics(), name).into_iter();
        let mut all = all.filter(|it| labels.iter().all(|(name, value)| it.label(name) == *value));
        all.next()
    };
    until(&format!("{name} {labels:?} is told"), || async {
        found().is_some()
    })
    .await;
    found().expect("a series does not go")
}

fn is(sample: &Sample, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(sample.label(name), *value, "{name} of {sample:?}");
    }
}

async fn a_request_is_told_with_the_standard_labels_in_their_order(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    assert_eq!(status(world.curl.get("http://reviews-v1:9080/").await), 200);
    let (mesh, reporter) = receiver(&world);
    let (host, name) = told_for(shape);
    let sample = series(&mesh, REQUESTS, &[("response_code", "200")]).await;
    is(
        &sample,
        &[
            ("reporter", reporter),
            ("source_principal", "spiffe://cluster.local/ns/default/sa/curl"),
            ("source_workload_namespace", "default"),
            ("destination_workload", "reviews-v1"),
            ("destination_workload_namespace", "default"),
            (
                "destination_principal",
                "spiffe://cluster.local/ns/default/sa/reviews",
            ),
            ("destination_app", "reviews"),
            ("destination_version", "v1"),
            ("destination_service", host),
            ("destination_canonical_service", "reviews"),
            ("destination_canonical_revision", "v1"),
            ("destination_service_name", name),
            ("destination_service_namespace", "default"),
            ("destination_cluster", "Kubernetes"),
            ("request_protocol", "http"),
            ("grpc_response_status", ""),
            ("response_flags", "-"),
            ("connection_security_policy", "mutual_tls"),
        ],
    );
    let exposed = mesh.metrics();
    for line in exposed.lines().filter(|line| line.starts_with(REQUESTS)) {
        let labels = line.split_once('{').map_or("", |(_, labels)| labels);
        let names: Vec<&str> = labels
            .split("\",")
            .filter_map(|it| it.split_once("=\"").map(|(name, _)| name))
            .collect();
        assert_eq!(names, LABELS, "{line}");
    }
    // And by whoever called.
    let caller = series(&world.meshes()[0], REQUESTS, &[("response_code", "200")]).await;
    is(
        &caller,
        &[
            ("reporter", "source"),
            ("source_principal", "spiffe://cluster.local/ns/default/sa/curl"),
            ("destination_service", V1),
            ("connection_security_policy", "unknown"),
        ],
    );
    // To a host that the mesh does not know.
    assert_eq!(status(world.curl.get("http://nowhere:9080/").await), 404);
    let lost = series(&world.meshes()[0], REQUESTS, &[("response_code", "404")]).await;
    is(
        &lost,
        &[
            ("destination_service_name", "BlackHoleCluster"),
            ("destination_service", "unknown"),
            ("response_flags", "NR"),
        ],
    );
    // OpenTelemetry's beside it.
    let labels = [("http_response_status_code", "200"), ("server_address", host)];
    let told = series(&mesh, "http_server_request_duration_seconds_count", &labels).await;
    is(
        &told,
        &[
            ("http_request_method", "GET"),
            ("server_port", "9080"),
            ("url_scheme", "http"),
        ],
    );
    let labels = [("http_response_status_code", "200"), ("server_address", V1)];
    series(
        &world.meshes()[0],
        "http_client_request_duration_seconds_count",
        &labels,
    )
    .await;
    Ok(())
}

/// What goes to an address and not to a service has names of Istio's instead, at both ends and in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_no_service_is_told_as_passed_through() -> Result<()> {
    const PORT: u16 = 9_999;
    let log = tempfile::NamedTempFile::new()?;
    let mesh = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    accessLogFile: {}\n",
        log.path().display()
    );
    let world = World::start(Shape::InProcess, &[("mesh", &mesh)]).await?;
    world.v1.mesh.attach(PORT, world.v1.echo.clone()).await?;
    let url = format!("http://{}:{PORT}/direct", world.v1.spec.ip);
    assert_eq!(status(world.curl.get(url.as_str()).await), 200);
    for (mesh, reporter, name) in [
        (&world.meshes()[0], "source", "PassthroughCluster"),
        (&world.v1.mesh, "destination", "InboundPassthroughCluster"),
    ] {
        let labels = [("reporter", reporter), ("destination_service_name", name)];
        let told = series(mesh, REQUESTS, &labels).await;
        is(
            &told,
            &[
                ("destination_service", "unknown"),
                ("destination_service_namespace", "unknown"),
                ("destination_workload", "reviews-v1"),
                ("response_code", "200"),
            ],
        );
    }
    until("it is logged", || async {
        let lines = std::fs::read_to_string(log.path()).unwrap_or_default();
        lines.contains("GET /direct ") && lines.contains(" InboundPassthroughCluster ")
    })
    .await;
    Ok(())
}

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews-v1}]
  action: DENY
  rules: [{to: [{operation: {paths: [/denied*]}}]}]
";

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: default}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews, port: 9080}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /moved}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: elsewhere}}]
  - matches: [{path: {type: PathPrefix, value: /other}}]
    backendRefs: [{name: reviews-v2, port: 9080}]
";

async fn what_is_refused_is_told_for_whom_it_was(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", POLICY), ("route", ROUTE)]).await?;
    let (mesh, _) = receiver(&world);
    let (host, name) = told_for(shape);
    assert_eq!(status(world.curl.get("http://reviews-v1:9080/denied").await), 403);
    let denied = series(&mesh, REQUESTS, &[("response_code", "403")]).await;
    is(
        &denied,
        &[
            ("destination_service", host),
            ("destination_service_name", name),
            ("response_flags", "-"),
        ],
    );
    let policy = [("policy", "AuthorizationPolicy default/closed")];
    assert_eq!(value(&mesh.metrics(), "mesh_denials_total", &policy), 1.0);
    // Routes are the waypoint's where there is one, else the caller's.
    let routing = match shape {
        Shape::Waypoint => {
            is(
                &denied,
                &[
                    ("destination_workload", "unknown"),
                    ("destination_principal", "unknown"),
                ],
            );
            mesh
        }
        Shape::InProcess => world.meshes()[0].clone(),
    };
    assert_eq!(status(world.curl.get("http://reviews:9080/none").await), 404);
    assert_eq!(status(world.curl.get("http://reviews:9080/moved").await), 302);
    for (code, flags) in [("404", "NR"), ("302", "-")] {
        let found = series(&routing, REQUESTS, &[("response_code", code)]).await;
        is(
            &found,
            &[
                ("destination_service", "unknown"),
                ("destination_service_name", "unknown"),
                ("destination_workload", "unknown"),
                ("response_flags", flags),
            ],
        );
    }
    // Whose endpoint answered, not who was addressed.
    assert_eq!(status(world.curl.get("http://reviews:9080/other").await), 200);
    let other = series(&routing, REQUESTS, &[("response_code", "200")]).await;
    is(
        &other,
        &[
            ("destination_service_name", "reviews-v2"),
            ("destination_workload", "reviews-v2"),
        ],
    );
    Ok(())
}

async fn grpc_is_told_with_its_status_and_its_messages(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", POLICY)]).await?;
    let (mesh, reporter) = receiver(&world);
    let call = |path: &'static str| {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let asked = request(Method::POST, &format!("http://reviews-v1:9080{path}"), &headers);
        // Two messages, of three bytes and none.
        let body = Body::full(&b"\0\0\0\0\x03abc\0\0\0\0\0"[..]);
        let asked = asked.map(|_| body);
        async { text(world.curl.request(asked).await.map_err(|e| anyhow!("{e}"))?).await }
    };
    call("/sink").await?;
    let told = series(&mesh, REQUESTS, &[("request_protocol", "grpc")]).await;
    // The test's application speaks no gRPC: what an HTTP 200 without a status stands for.
    is(&told, &[("response_code", "200"), ("grpc_response_status", "2")]);
    // Told where they pass on.
    let (at, by) = match shape {
        Shape::Waypoint => (&mesh, reporter),
        Shape::InProcess => (&world.meshes()[0], "source"),
    };
    let labels = [("reporter", by)];
    until("both messages have passed", || async {
        value(&at.metrics(), "istio_request_messages_total", &labels) == 2.0
    })
    .await;
    let messages = series(at, "istio_request_messages_total", &labels).await;
    assert_eq!((messages.value, messages.labels.len()), (2.0, 20), "{messages:?}");
    is(
        &messages,
        &[
            ("destination_service", V1),
            ("destination_workload", "reviews-v1"),
        ],
    );
    // Denied before anybody looked what it is.
    call("/denied/Get").await?;
    let policy = [("policy", "AuthorizationPolicy default/closed")];
    until("the denial is counted", || async {
        value(&mesh.metrics(), "mesh_denials_total", &policy) == 1.0
    })
    .await;
    let denied = [
        ("request_protocol", "http"),
        ("destination_service", told_for(shape).0),
    ];
    let denied = series(&mesh, REQUESTS, &denied).await;
    is(&denied, &[("grpc_response_status", ""), ("response_flags", "-")]);
    Ok(())
}

const TELEMETRY: &str = "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: told, namespace: default}
spec:
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - match: {metric: REQUEST_COUNT, mode: SERVER}
      tagOverrides:
        tenant: {value: \"has(request.headers['x-tenant']) ? request.headers['x-tenant'] : 'nobody'\"}
        verb: {value: request.method}
        kind: {value: \"response.headers['content-type']\"}
        source_version: {operation: REMOVE}
    - match: {metric: RESPONSE_SIZE, mode: CLIENT_AND_SERVER}
      disabled: true
";

async fn a_telemetry_changes_what_is_told(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("told", TELEMETRY)]).await?;
    let (mesh, _) = receiver(&world);
    for headers in [&[("x-tenant", "acme")][..], &[]] {
        let asked = request(Method::GET, "http://reviews-v1:9080/", headers);
        assert_eq!(status(world.curl.request(asked).await), 200);
    }
    for tenant in ["acme", "nobody"] {
        let told = series(&mesh, REQUESTS, &[("tenant", tenant)]).await;
        assert_eq!((told.value, told.labels.len()), (1.0, 27), "{told:?}");
        is(&told, &[("verb", "GET"), ("kind", "application/json")]);
        assert!(!told.labels.contains_key("source_version"));
    }
    let text = mesh.metrics();
    assert!(samples(&text, "istio_response_bytes_count").is_empty(), "{text}");
    let sizes = samples(&text, "istio_request_bytes_count");
    assert!(sizes.iter().all(|it| it.labels.len() == 25), "{sizes:?}");
    // The other side is told as ever.
    let caller = series(&world.meshes()[0], REQUESTS, &[("response_code", "200")]).await;
    assert_eq!(caller.labels.len(), 25);
    Ok(())
}

async fn exemplars_lead_to_the_trace_of_the_caller(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let (mesh, _) = receiver(&world);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let asked = request(
        Method::GET,
        "http://reviews-v1:9080/",
        &[("traceparent", &parent)],
    );
    assert_eq!(status(world.curl.request(asked).await), 200);
    let exemplar = format!("# {{trace_id=\"{trace}\"}} ");
    until("the trace is told", || async {
        let text = mesh.metrics();
        let mut lines = text.lines().filter(|line| line.contains(&exemplar));
        lines.any(|line| line.starts_with("istio_request_duration_milliseconds_bucket{"))
    })
    .await;
    Ok(())
}
