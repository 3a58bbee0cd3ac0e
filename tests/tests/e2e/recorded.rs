//! Spans and records that Telemetries and the mesh configuration ask for, heard by a collector that is part of the mesh's
//! configuration. Nobody here has a subscriber for them, and all participants share one process.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use http::{HeaderValue, Method};
use inmesh::telemetry::export::{MetricsSettings, metrics};
use inmesh_tests::envoy::{EnvoyWaypoint, Upstream, VirtualService, WaypointConfig, find_or_skip};
use inmesh_tests::kit::admin::Admin;
use inmesh_tests::kit::cluster::{gateway, namespace};
use inmesh_tests::kit::collector::{Collector, HeardSpan, Mood};
use inmesh_tests::kit::metrics::value;
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, status};
use inmesh_tests::kit::{Cluster, Load, Shape};
use inmesh_tests::pki::PemFiles;
use tokio::net::TcpStream;

in_both_shapes!(
    a_page_is_one_trace_with_the_tree_that_istio_has,
    what_failed_or_was_denied_is_kept_though_nothing_was_sampled,
    bytes_that_are_no_text_are_shown_as_text,
);

const POD: &str = env!("CARGO_BIN_EXE_test-pod");

/// The collector as a service of a namespace that no waypoint serves, and a mesh configuration that sends everything there.
fn configure(cluster: &Cluster, collector: SocketAddr, provider: &str, telemetry: &str) -> Result<()> {
    let (ip, port) = (collector.ip(), collector.port());
    cluster.apply(
        "collector",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: otel, namespace: istio-system}}\nspec:\n  \
             hosts: [otel.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: 4317, name: grpc, protocol: GRPC, targetPort: {port}}}, {{number: 9411, name: http, protocol: HTTP, targetPort: {port}}}]\n  \
             endpoints: [{{address: {ip}}}]\n"
        ),
    )?;
    cluster.apply(
        "mesh",
        &format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
             extensionProviders:\n    - name: spans\n      {provider}\n    \
             - name: records\n      envoyOtelAls: {{service: otel.example, port: 4317, logFormat: {{text: '%REQ(:METHOD)% %RESPONSE_CODE% %TRACE_ID%', labels: {{path: '%REQ(:PATH)%', agent: '%REQ(X-AGENT)%'}}}}}}\n    \
             defaultProviders: {{tracing: [spans], accessLogging: [records]}}\n"
        ),
    )?;
    cluster.apply(
        "telemetry",
        &format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: all, namespace: istio-system{telemetry}\n"
        ),
    )
}

const GRPC: &str = "opentelemetry: {service: otel.example, port: 4317}";
const ALL: &str = "}\nspec: {tracing: [{randomSamplingPercentage: 100, customTags: {stage: {literal: {value: test}}, agent: {header: {name: x-agent}}}}]}";

/// From a span upwards: who told each.
fn lineage(spans: &[HeardSpan], from: &HeardSpan) -> Vec<String> {
    let mut path = Vec::new();
    let mut next = Some(from);
    while let Some(span) = next {
        let side = if span.server { "server" } else { "client" };
        path.push(format!("{} {side}", span.service));
        next = spans.iter().find(|it| it.id == span.parent);
    }
    path
}

async fn a_page_is_one_trace_with_the_tree_that_istio_has(shape: Shape) -> Result<()> {
    let cluster = Cluster::new()?;
    let collector = Collector::start(cluster.address(), Mood::Takes).await?;
    configure(&cluster, collector.addr(), GRPC, ALL)?;
    let names = ["front", "reviews", "details"];
    for name in names {
        cluster.service(name, name, None)?;
    }
    let waypoint = cluster.waypoint_pod("default", "waypoint");
    let mut running = None;
    if shape == Shape::Waypoint {
        cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
        cluster.apply(
            "namespace",
            &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
        )?;
        running = Some(cluster.run_waypoint(&waypoint).await?);
    }
    let mut pods = Vec::new();
    for name in names {
        pods.push(cluster.run(&cluster.pod(name).label("app", name)).await?);
    }
    let (mesh, curl) = cluster.client("curl").await?;
    let page = "http://front:9080/fan?to=http://reviews:9080/r&to=http://details:9080/d";
    until("everybody is known", || async {
        status(curl.get("http://front:9080/").await) == 200
    })
    .await;
    until("and everybody knows everybody", || async {
        let answer = curl.get(page).await;
        inmesh_tests::kit::world::text(answer.expect("front answers"))
            .await
            .is_ok_and(|text| text.matches("200 OK").count() == 2)
    })
    .await;
    let asked = curl
        .request(request(
            Method::GET,
            page,
            &[("x-agent", "smith"), ("x-request-id", "not-a-uuid")],
        ))
        .await?;
    let answer = inmesh_tests::kit::world::text(asked).await?;
    assert_eq!(answer.matches("200 OK").count(), 2, "{answer}");
    assert!(mesh.shutdown(Duration::from_secs(5)).await);
    // Who ends sends what is left; who is dropped does not.
    if let Some(waypoint) = running {
        waypoint.shutdown(Duration::from_secs(5)).await;
    }
    for pod in &pods {
        pod.mesh.shutdown(Duration::from_secs(5)).await;
    }
    let marked = |span: &&HeardSpan| {
        span.tags
            .get("guid:x-request-id")
            .is_some_and(|id| id == "not-a-uuid")
    };
    until("the page has been told", || async {
        let spans = collector.spans();
        spans.iter().filter(|span| span.server && marked(span)).count() >= 1
    })
    .await;
    let spans = collector.spans();
    let root = spans
        .iter()
        .find(|span| marked(span) && !span.server)
        .context("curl has told")?;
    assert_eq!(
        (root.parent.as_str(), root.service.as_str()),
        ("", "curl.default")
    );
    let page: Vec<HeardSpan> = spans
        .iter()
        .filter(|span| span.trace == root.trace)
        .cloned()
        .collect();
    assert!(
        page.iter()
            .all(|span| span.id == root.id || page.iter().any(|it| it.id == span.parent)),
        "no orphans: {page:#?}"
    );
    let through: &[&str] = match shape {
        Shape::InProcess => &[],
        Shape::Waypoint => &["waypoint.default server"],
    };
    let front = [&["front.default server"], through, &["curl.default client"]].concat();
    for name in ["reviews", "details"] {
        let own = format!("{name}.default");
        let served = page.iter().find(|span| span.server && span.service == own);
        let served = served.with_context(|| format!("{name} has told: {page:#?}"))?;
        let served_by = format!("{own} server");
        let expected = [&[&*served_by], through, &["front.default client"], &front[..]].concat();
        assert_eq!(lineage(&page, served), expected);
        assert_eq!(served.name, format!("{name}.default.svc.cluster.local:9080/*"));
        assert_eq!(served.tags["http.status_code"], "200");
        assert_eq!(served.tags["component"], "proxy");
        assert_eq!(served.tags["stage"], "test");
        assert_eq!(served.tags["istio.canonical_service"], name);
        assert_eq!(served.tags["istio.mesh_id"], "cluster.local");
    }
    assert_eq!(root.tags["agent"], "smith");
    if shape == Shape::Waypoint {
        let at = |span: &&HeardSpan| span.service == "waypoint.default";
        assert_eq!(
            page.iter().filter(at).count(),
            3,
            "a span for each request that it passed on"
        );
        let one = page.iter().find(at).context("it has told")?;
        assert!(one.tags["node_id"].starts_with("waypoint~"));
        assert!(one.tags["upstream_cluster"].starts_with("inbound-vip|9080|http|"));
    }
    // A record of each request that was received, with the trace it belongs to.
    let records = collector.records();
    let of_page: Vec<_> = records.iter().filter(|it| it.trace == root.trace).collect();
    assert!(of_page.len() >= 3, "{records:?}");
    for record in of_page {
        assert_eq!(record.body, format!("GET 200 {}", root.trace));
        assert!(record.tags["path"].starts_with('/'));
        assert_eq!(record.resource["log_name"], "otel_envoy_accesslog");
    }
    Ok(())
}

/// Failures are known at the end, when nobody else has recorded anything: what is kept is what was done here.
async fn what_failed_or_was_denied_is_kept_though_nothing_was_sampled(shape: Shape) -> Result<()> {
    let cluster = Cluster::new()?;
    let collector = Collector::start(cluster.address(), Mood::Takes).await?;
    let none = ", annotations: {inmesh.io/keep-traces: 'failed, denied'}}\nspec: {tracing: [{randomSamplingPercentage: 0}]}";
    configure(&cluster, collector.addr(), GRPC, none)?;
    cluster.service("reviews", "reviews", None)?;
    cluster.apply(
        "policy",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no, namespace: default}\nspec:\n  action: DENY\n  \
         targetRefs: [{group: '', kind: Service, name: reviews}]\n  rules: [{to: [{operation: {paths: [/secret]}}]}]\n",
    )?;
    let mut running = None;
    if shape == Shape::Waypoint {
        cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
        cluster.apply(
            "namespace",
            &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
        )?;
        running = Some(
            cluster
                .run_waypoint(&cluster.waypoint_pod("default", "waypoint"))
                .await?,
        );
    }
    let pod = cluster
        .run(&cluster.pod("reviews").label("app", "reviews"))
        .await?;
    let (_mesh, curl) = cluster.client("curl").await?;
    let ask = |path: &'static str| {
        let asked = curl.get(format!("http://reviews:9080{path}"));
        async { status(asked.await) }
    };
    until("it answers", || async {
        ask("/").await == 200 && ask("/secret").await == 403
    })
    .await;
    for _ in 0..20 {
        assert_eq!(ask("/fine").await, 200);
    }
    let failing = curl.get("http://reviews:9080/fail/500/9/x").await;
    assert_eq!(status(failing), 500);
    pod.mesh.shutdown(Duration::from_secs(5)).await;
    if let Some(waypoint) = running {
        waypoint.shutdown(Duration::from_secs(5)).await;
    }
    let judge = match shape {
        Shape::InProcess => "reviews.default",
        Shape::Waypoint => "waypoint.default",
    };
    let kept = |why: &'static str, service: &'static str| {
        move |span: &&HeardSpan| {
            span.service == service && span.tags.get("mesh.kept").is_some_and(|it| it == why)
        }
    };
    until("what was denied is told", || async {
        collector.spans().iter().any(|span| kept("denied", judge)(&span))
    })
    .await;
    let spans = collector.spans();
    // Before it knew who it is it denied everything, by no policy.
    let denied = spans
        .iter()
        .filter(kept("denied", judge))
        .find(|span| {
            span.tags
                .get("mesh.policy")
                .is_some_and(|it| it == "AuthorizationPolicy default/no")
        })
        .with_context(|| format!("it is told: {spans:#?}"))?;
    assert_eq!(denied.tags["mesh.decision"], "deny");
    assert_eq!(denied.tags["http.status_code"], "403");
    let failed = spans.iter().find(kept("failed", "reviews.default"));
    assert_eq!(failed.context("what failed is told")?.tags["error"], "true");
    assert!(
        !spans.iter().any(|span| span.tags["http.status_code"] == "200"),
        "{spans:#?}"
    );
    Ok(())
}

/// What is promised does not depend on how a collector is: every request is answered, and every span, every record and every
/// export of metrics is accounted for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_in_any_mood_costs_what_is_told_and_nothing_else() -> Result<()> {
    for mood in [
        Mood::Takes,
        Mood::Refuses(400),
        Mood::Refuses(503),
        Mood::Silent,
        Mood::Absent,
    ] {
        let cluster = Cluster::new()?;
        let collector = Collector::start(cluster.address(), mood).await?;
        configure(&cluster, collector.addr(), GRPC, ALL)?;
        cluster.service("reviews", "reviews", None)?;
        let pod = cluster
            .run(&cluster.pod("reviews").label("app", "reviews"))
            .await?;
        let every = Duration::from_millis(20);
        let settings = MetricsSettings::new(&format!("http://{}", collector.addr())).interval(every);
        let exporter = metrics(&settings, pod.mesh.metered())?;
        let (mesh, curl) = cluster.client("curl").await?;
        until("it answers", || async {
            status(curl.get("http://reviews:9080/").await) == 200
        })
        .await;
        for n in 0..100 {
            assert_eq!(
                status(curl.get("http://reviews:9080/").await),
                200,
                "{mood:?}: request {n}"
            );
        }
        let ended = pod.mesh.shutdown(Duration::from_secs(10));
        tokio::time::timeout(Duration::from_secs(60), ended)
            .await
            .map_err(|_| anyhow!("{mood:?}: shutdown hangs"))?;
        // Blocks its thread, for as long as it may.
        tokio::task::spawn_blocking(move || exporter.shutdown(Duration::from_secs(1))).await?;
        let counted = |name: &str, result: &str| {
            let labels = [("result", result)];
            let labels = if result.is_empty() { &[] } else { &labels[..] };
            value(&pod.mesh.metrics(), name, labels)
        };
        for (what, told, lost) in [
            (
                "spans",
                counted("mesh_spans_exported_total", ""),
                counted("mesh_spans_dropped_total", ""),
            ),
            (
                "records",
                counted("mesh_access_log_lines_total", "written"),
                counted("mesh_access_log_lines_total", "dropped"),
            ),
        ] {
            assert!(told + lost >= 100.0, "{mood:?}: {told} {what} told, {lost} lost");
            match mood {
                Mood::Takes => assert_eq!(lost, 0.0, "{what}"),
                _ => assert_eq!(told, 0.0, "{what}"),
            }
        }
        let exports = ["sent", "failed"].map(|result| counted("mesh_metric_exports_total", result));
        match mood {
            Mood::Takes => {
                assert!(exports[0] >= 1.0 && exports[1] == 0.0, "{exports:?}");
                let names = collector.metrics();
                assert!(
                    names.contains("istio_requests_total") || names.contains("istio_requests"),
                    "{names:?}"
                );
            }
            // One that never answers is given up with the thread, before it could be counted.
            Mood::Silent => assert_eq!(exports[0], 0.0),
            _ => assert!(exports[0] == 0.0 && exports[1] >= 1.0, "{mood:?}: {exports:?}"),
        }
        drop(mesh);
    }
    Ok(())
}

/// A collector that does not answer is waited for by nobody: what waits for it is bounded, and what does not fit is counted
/// as it happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_collector_is_bounded() -> Result<()> {
    // The queue, and the batch that is under way.
    const WAITING: usize = 2_048 + 512;
    const BEYOND: usize = 100;
    let cluster = Cluster::new()?;
    let collector = Collector::start(cluster.address(), Mood::Silent).await?;
    configure(&cluster, collector.addr(), GRPC, ALL)?;
    cluster.service("reviews", "reviews", None)?;
    let pod = cluster
        .run(&cluster.pod("reviews").label("app", "reviews"))
        .await?;
    let (_mesh, curl) = cluster.client("curl").await?;
    until("it answers", || async {
        status(curl.get("http://reviews:9080/").await) == 200
    })
    .await;
    let load = Load::start(&curl, "http://reviews:9080/", 16);
    load.see(WAITING + BEYOND).await;
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    until("what finds no room is counted", || async {
        let told = pod.mesh.metrics();
        let spans = value(&told, "mesh_spans_dropped_total", &[]);
        let lines = value(&told, "mesh_access_log_lines_total", &[("result", "dropped")]);
        spans >= BEYOND as f64 && lines >= BEYOND as f64
    })
    .await;
    Ok(())
}

/// What a caller writes is shown as text whatever its bytes are: in spans, in records of logs, and to those who look on.
async fn bytes_that_are_no_text_are_shown_as_text(shape: Shape) -> Result<()> {
    let cluster = Cluster::new()?;
    let collector = Collector::start(cluster.address(), Mood::Takes).await?;
    configure(&cluster, collector.addr(), GRPC, ALL)?;
    cluster.service("reviews", "reviews", None)?;
    let waypoint = cluster.waypoint_pod("default", "waypoint");
    let mut running = None;
    if shape == Shape::Waypoint {
        cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
        let bound = namespace("default", &[("istio.io/use-waypoint", "waypoint")]);
        cluster.apply("namespace", &bound)?;
        running = Some(cluster.run_waypoint(&waypoint).await?);
    }
    let spec = cluster.pod("reviews").label("app", "reviews");
    let pod = cluster.run(&spec).await?;
    let admin = Admin::of(match shape {
        Shape::InProcess => spec.ip,
        Shape::Waypoint => waypoint.ip,
    });
    let (mesh, curl) = cluster.client("curl").await?;
    until("it answers", || async {
        status(curl.get("http://reviews:9080/").await) == 200
    })
    .await;
    let mut events = admin.events("path=/hostile").await?;
    let mut asked = request(Method::GET, "http://reviews:9080/hostile/caf%C3%A9?q='&lt;", &[]);
    let hostile = HeaderValue::from_bytes(b"caf\xe9 \xff\x80 <script>\"'")?;
    asked.headers_mut().insert("x-agent", hostile.clone());
    asked.headers_mut().insert("user-agent", hostile);
    assert_eq!(status(curl.request(asked).await), 200);
    const SHOWN: &str = "caf\u{fffd} \u{fffd}\u{fffd} <script>\"'";
    let told = events.next().await?;
    let whole = admin.json(&format!("/live/requests/{}", told["id"])).await?;
    assert!(
        whole.to_string().contains("/hostile/caf%C3%A9?q='&lt;"),
        "{whole:#}"
    );
    mesh.shutdown(Duration::from_secs(5)).await;
    if let Some(waypoint) = running {
        waypoint.shutdown(Duration::from_secs(5)).await;
    }
    pod.mesh.shutdown(Duration::from_secs(5)).await;
    let is_asked = |path: &str| path.contains("/hostile/");
    until("everybody has told", || async {
        let is_of_it = |span: &HeardSpan| span.tags.get("http.url").is_some_and(|it| is_asked(it));
        let own = collector.spans().into_iter().filter(is_of_it).count();
        own >= 2 && collector.records().iter().any(|it| is_asked(&it.tags["path"]))
    })
    .await;
    let spans = collector.spans();
    for span in spans
        .iter()
        .filter(|it| it.tags.get("http.url").is_some_and(|it| is_asked(it)))
    {
        assert_eq!(span.tags["agent"], SHOWN, "{span:?}");
        assert_eq!(span.tags["user_agent"], SHOWN, "{span:?}");
    }
    let records = collector.records();
    let of_it = records.iter().find(|it| is_asked(&it.tags["path"]));
    assert_eq!(of_it.context("a record")?.tags["agent"], SHOWN);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_ends_though_its_collector_never_answers() -> Result<()> {
    let cluster = Cluster::new()?;
    let collector = Collector::start(cluster.address(), Mood::Silent).await?;
    configure(&cluster, collector.addr(), GRPC, ALL)?;
    cluster.service("reviews", "reviews", None)?;
    let pod = cluster.pod("reviews").label("app", "reviews");
    cluster.declare(&pod)?;
    // And another that the environment names, with an exporter of its own.
    let endpoint = format!("http://{}", collector.addr());
    let mut process = Process::pod(POD, &cluster, &pod, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)])?;
    until("it listens", || async {
        TcpStream::connect((pod.ip, 15008)).await.is_ok()
    })
    .await;
    let (_mesh, curl) = cluster.client("curl").await?;
    until("it answers", || async {
        status(curl.get("http://reviews:9080/").await) == 200
    })
    .await;
    until("the collector has been asked", || async { collector.asked() > 0 }).await;
    process.terminate()?;
    assert_eq!(process.ended(Duration::from_secs(30)).await?, Some(0));
    Ok(())
}

/// Callers that speak B3 are understood, and are spoken to so; spans go to Zipkin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zipkin_is_spoken_in_headers_and_to_the_collector() -> Result<()> {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let cluster = Cluster::new()?;
    let collector = Collector::start(cluster.address(), Mood::Takes).await?;
    let provider =
        "zipkin: {service: otel.example, port: 9411, traceContextOption: USE_B3_WITH_W3C_PROPAGATION}";
    let none = "}\nspec: {tracing: [{randomSamplingPercentage: 0}]}";
    configure(&cluster, collector.addr(), provider, none)?;
    cluster.service("reviews", "reviews", None)?;
    let pod = cluster
        .run(&cluster.pod("reviews").label("app", "reviews"))
        .await?;
    let (mesh, curl) = cluster.client("curl").await?;
    until("it answers", || async {
        status(curl.get("http://reviews:9080/").await) == 200
    })
    .await;
    let mut asked = request(Method::GET, "http://reviews:9080/", &[]);
    let b3 = format!("{TRACE}-00f067aa0ba902b7-1");
    asked.headers_mut().insert("b3", HeaderValue::try_from(b3)?);
    let heard = seen(curl.request(asked).await).await?;
    assert_eq!(heard.headers["x-b3-traceid"], TRACE);
    assert_eq!(heard.headers["x-b3-sampled"], "1");
    assert!(
        heard.headers["traceparent"].starts_with(&format!("00-{TRACE}-")),
        "{heard:?}"
    );
    assert!(!heard.headers.contains_key("b3"), "{heard:?}");
    mesh.shutdown(Duration::from_secs(5)).await;
    pod.mesh.shutdown(Duration::from_secs(5)).await;
    let spans = collector.zipkin();
    let [client, server] = ["CLIENT", "SERVER"].map(|kind| {
        let found = spans
            .iter()
            .find(|span| span["kind"] == kind && span["traceId"] == TRACE);
        found.unwrap_or_else(|| panic!("{kind} in {spans:#?}"))
    });
    assert_eq!(client["parentId"], "00f067aa0ba902b7");
    assert_eq!(server["parentId"], client["id"]);
    assert_eq!(
        heard.headers["x-b3-spanid"],
        client["id"].as_str().unwrap_or_default()
    );
    assert_eq!(server["localEndpoint"]["serviceName"], "reviews.default");
    assert_eq!(server["name"], "reviews.default.svc.cluster.local:9080/*");
    assert!(server["timestamp"].is_u64() && server["duration"].is_u64());
    assert_eq!(server["tags"]["http.status_code"], "200");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_waypoint_on_the_way_is_part_of_the_same_trace() -> Result<()> {
    let Some(binary) = find_or_skip("one trace through an Envoy waypoint") else {
        return Ok(());
    };
    let cluster = Cluster::new()?;
    let collector = Collector::start(cluster.address(), Mood::Takes).await?;
    configure(&cluster, collector.addr(), GRPC, ALL)?;
    let vip = cluster.address();
    let pod = cluster
        .pod("reviews-v1")
        .account("reviews")
        .label("app", "reviews");
    let waypoint = cluster.waypoint_pod("default", "waypoint");
    cluster.service("reviews", "reviews", None)?;
    let yaml = std::fs::read_to_string(cluster.folder().join("service-reviews.yaml"))?;
    let yaml = yaml.replace("spec:\n", &format!("spec:\n  clusterIP: {vip}\n"));
    cluster.apply("service-reviews", &yaml)?;
    cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
    let bound = namespace("default", &[("istio.io/use-waypoint", "waypoint")]);
    cluster.apply("namespace", &bound)?;
    cluster.declare(&waypoint)?;
    let config = WaypointConfig {
        identity: PemFiles::in_dir(&cluster.credentials("default", "waypoint")?),
        listen: SocketAddr::from((waypoint.ip, 15008)),
        services: vec![VirtualService {
            address: SocketAddr::from((vip, 9080)),
            endpoints: vec![SocketAddr::from((pod.ip, 9080))],
        }],
        upstream: Upstream::Hbone { port: 15008 },
        allow_get: Vec::new(),
        routes: 1,
    };
    let to = collector.addr();
    let envoy =
        tokio::task::spawn_blocking(move || EnvoyWaypoint::start_traced(&binary, &config, to)).await??;
    let server = cluster.run(&pod).await?;
    let (mesh, curl) = cluster.client("curl").await?;
    until("it answers", || async {
        status(curl.get("http://reviews:9080/").await) == 200
    })
    .await;
    let asked = seen(curl.get("http://reviews:9080/through").await).await;
    asked.map_err(|error| anyhow!("{error}: {}", envoy.process().log()))?;
    mesh.shutdown(Duration::from_secs(5)).await;
    server.mesh.shutdown(Duration::from_secs(5)).await;
    let is_asked = |span: &HeardSpan| {
        span.tags
            .get("http.url")
            .is_some_and(|url| url.ends_with("/through"))
    };
    until("all three have told", || async {
        collector.spans().iter().filter(|span| is_asked(span)).count() == 3
    })
    .await;
    let spans: Vec<HeardSpan> = collector
        .spans()
        .into_iter()
        .filter(|span| is_asked(span))
        .collect();
    let served = spans.iter().find(|span| span.service == "reviews.default");
    assert_eq!(
        lineage(&spans, served.context("the server has told")?),
        ["reviews.default server", "envoy server", "curl.default client"]
    );
    assert!(spans.iter().all(|span| span.trace == spans[0].trace));
    // Envoy's own names of what it tells are ours.
    let [envoys, ours] = ["envoy", "reviews.default"].map(|service| {
        spans
            .iter()
            .find(|span| span.service == service)
            .map(|span| &span.tags)
    });
    let (envoys, ours) = (envoys.context("envoy")?, ours.context("ours")?);
    // What has no value it tells too, and we do not.
    let told = envoys
        .iter()
        .filter(|(_, value)| !["", "-"].contains(&value.as_str()));
    let missing: Vec<_> = told.filter(|(name, _)| !ours.contains_key(*name)).collect();
    assert!(missing.is_empty(), "Envoy tells {missing:?} too: {envoys:#?}");
    Ok(())
}
