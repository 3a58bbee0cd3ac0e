//! One page, one trace: the spans of several processes, received as real OTLP.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inmesh_tests::kit::admin::Admin;
use inmesh_tests::kit::cluster::{gateway, namespace};
use inmesh_tests::kit::metrics::value;
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::wire;
use inmesh_tests::kit::{Cluster, Shape};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

in_both_shapes!(
    a_page_that_asks_two_services_is_one_trace_with_the_right_parents,
    what_policies_without_effect_say_is_in_logs_metrics_and_spans,
);

const POD: &str = env!("CARGO_BIN_EXE_test-pod");
const WAYPOINT: &str = env!("CARGO_BIN_EXE_test-waypoint");
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ROOT: &str = "b7ad6b7169203331";

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/nobody]}}]
  - from: [{source: {principals: [cluster.local/ns/default/sa/front]}}]
";

/// A span, with the name of the service that sent it.
#[derive(Clone, Debug)]
struct Span {
    name: String,
    service: String,
    trace: String,
    parent: String,
    server: bool,
    links: Vec<String>,
    fields: BTreeMap<String, String>,
}

impl Span {
    /// Whether it is part of a page; the others are traces of their own.
    fn is_of_requests(&self) -> bool {
        !["mesh.tunnel", "mesh.compile"].contains(&self.name.as_str())
    }
}

#[derive(Clone, Debug, Default)]
struct Collector(Arc<Mutex<HashMap<String, Span>>>);

impl Collector {
    async fn listen() -> Result<(SocketAddr, Self)> {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let heard = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let heard = heard.clone();
                let answer = service_fn(move |request: Request<Incoming>| {
                    let heard = heard.clone();
                    async move {
                        if let Ok(body) = request.into_body().collect().await {
                            heard.hear(body.to_bytes());
                        }
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
                );
            }
        });
        Ok((addr, collector))
    }

    fn hear(&self, body: Bytes) {
        let export = ExportTraceServiceRequest::decode(body).expect("what is posted is OTLP");
        for resource in export.resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = fields(attributes).remove("service.name").unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let told = Span {
                    name: span.name,
                    service: service.clone(),
                    trace: hex(&span.trace_id),
                    parent: hex(&span.parent_span_id),
                    server: span.kind == SpanKind::Server as i32,
                    links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
                    fields: fields(span.attributes),
                };
                self.0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(hex(&span.span_id), told);
            }
        }
    }

    fn spans(&self) -> HashMap<String, Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server span of a service, once it has come.
    fn served_by(&self, service: &str) -> Option<Span> {
        self.spans()
            .into_values()
            .find(|span| span.server && span.service == service)
    }
}

fn fields(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: AnyValue| match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let field = |attribute: KeyValue| Some((attribute.key, text(attribute.value?)));
    attributes.into_iter().filter_map(field).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn a_page_that_asks_two_services_is_one_trace_with_the_right_parents(shape: Shape) -> Result<()> {
    let cluster = Cluster::new()?;
    let (collector, heard) = Collector::listen().await?;
    let endpoint = format!("http://{collector}");
    let names = ["front", "reviews", "details"];
    let specs: Vec<_> = names
        .iter()
        .map(|name| cluster.pod(name).label("app", name))
        .collect();
    for (name, spec) in names.iter().zip(&specs) {
        cluster.service(name, name, None)?;
        cluster.declare(spec)?;
    }
    let waypoint = cluster.waypoint_pod("default", "waypoint");
    if shape == Shape::Waypoint {
        cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
        cluster.apply(
            "namespace",
            &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
        )?;
        cluster.declare(&waypoint)?;
    }
    cluster.apply("policy", POLICY)?;
    let vars = |name| {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_SERVICE_NAME", name),
            // What nobody asked for is recorded too: tunnels and compilations are traces of their own.
            ("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
        ]
    };
    let metrics = |ip| Admin::at(SocketAddr::from((ip, 15020)));
    let mut processes = Vec::new();
    for (name, spec) in names.iter().zip(&specs) {
        let admin = metrics(spec.ip).addr().to_string();
        let vars = [&vars(name)[..], &[("INMESH_ADMIN", &*admin)]].concat();
        processes.push(Process::pod(POD, &cluster, spec, &vars)?);
    }
    let mut listening: Vec<_> = specs.iter().map(|spec| spec.ip).collect();
    if shape == Shape::Waypoint {
        processes.push(Process::waypoint(
            WAYPOINT,
            &cluster,
            &waypoint,
            &vars("waypoint"),
        )?);
        listening.push(waypoint.ip);
    }
    for ip in &listening {
        until("everybody listens", || async {
            TcpStream::connect((*ip, 15008)).await.is_ok()
        })
        .await;
    }

    let mut page = TcpStream::connect((specs[0].ip, 9080)).await?;
    let request = format!(
        "GET /fan?to=http://reviews:9080/r&to=http://details:9080/d HTTP/1.1\r\nhost: front:9080\r\n\
         traceparent: 00-{TRACE}-{ROOT}-01\r\nconnection: close\r\n\r\n"
    );
    page.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    page.read_to_string(&mut answer).await?;
    assert_eq!(answer.matches("200 OK").count(), 3, "{answer}");

    until("all three services have told", || async {
        names.iter().all(|name| heard.served_by(name).is_some())
    })
    .await;
    for ip in listening {
        until("everybody says among its metrics what it has told", || async {
            let told = metrics(ip).get("/metrics").await;
            told.is_ok_and(|told| value(&told.text, "mesh_spans_exported_total", &[]) > 0.0)
        })
        .await;
    }
    // Whoever ends flushes what is left.
    for process in &processes {
        process.terminate()?;
    }
    for process in &mut processes {
        process.ended(std::time::Duration::from_secs(25)).await?;
    }

    let spans = heard.spans();
    for (id, span) in spans.iter().filter(|(_, span)| span.is_of_requests()) {
        assert_eq!(span.trace, TRACE, "{id}: {span:?} is in another trace");
        assert!(
            span.parent == ROOT || spans.contains_key(&span.parent),
            "{id}: {span:?} is an orphan"
        );
    }
    for (id, span) in spans.iter().filter(|(_, span)| !span.is_of_requests()) {
        assert_ne!(span.trace, TRACE, "{id}: {span:?} outlives the page");
        assert_eq!(span.parent, "", "{id}: {span:?} is nobody's child");
    }
    let front = heard.served_by("front").context("front has told")?;
    assert_eq!(front.parent, ROOT);
    assert_eq!(spans.values().filter(|span| span.parent == ROOT).count(), 1);
    for name in ["reviews", "details"] {
        // From the server's span upwards: through whose hands the request went.
        let mut path = vec![format!("{name} mesh.server")];
        let mut span = heard.served_by(name).context("it has told")?;
        while span.parent != ROOT {
            span = spans.get(&span.parent).context("its parent is there")?.clone();
            path.push(format!("{} {}", span.service, span.name));
        }
        let through: &[&str] = match shape {
            Shape::InProcess => &[],
            Shape::Waypoint => &["waypoint mesh.attempt", "waypoint mesh.server"],
        };
        let front = ["front mesh.attempt", "front mesh.client", "front mesh.server"];
        assert_eq!(path[1..], [through, &front].concat(), "{name}");
    }

    // Every request in a tunnel is linked to it, at both of its ends.
    let direct = |span: &&Span| span.name == "mesh.server" && span.service == "front";
    let carried = spans
        .values()
        .filter(|span| ["mesh.server", "mesh.attempt"].contains(&span.name.as_str()));
    for span in carried.filter(|span| !direct(span)) {
        let direction = if span.server { "inbound" } else { "outbound" };
        let tunnels: Vec<_> = span.links.iter().filter_map(|link| spans.get(link)).collect();
        let [tunnel] = &tunnels[..] else {
            panic!("{span:?} is linked to {tunnels:?}")
        };
        assert_eq!((&*tunnel.name, &tunnel.service), ("mesh.tunnel", &span.service));
        assert_eq!(tunnel.fields["mesh.direction"], direction);
        assert!(tunnel.fields["mesh.peer"].starts_with("spiffe://cluster.local/ns/default/sa/"));
    }
    let attempts = spans.values().filter(|span| span.name == "mesh.attempt");
    for attempt in attempts {
        assert_eq!(attempt.fields["http.response.status_code"], "200", "{attempt:?}");
        assert_eq!(attempt.fields["http.request.resend_count"], "0", "{attempt:?}");
    }
    // Who judged says what it decided, because of what, and what that cost.
    let judge = match shape {
        Shape::InProcess => "reviews",
        Shape::Waypoint => "waypoint",
    };
    let judged = |span: &&Span| span.service == judge && span.fields.contains_key("mesh.policy.rule");
    let judged = spans.values().find(judged).context("somebody judged")?;
    assert_eq!(judged.name, "mesh.server");
    assert_eq!(judged.fields["mesh.decision"], "allow");
    assert_eq!(
        judged.fields["mesh.policy"],
        "AuthorizationPolicy default/readers"
    );
    assert_eq!(judged.fields["mesh.policy.rule"], "1");
    assert!(judged.fields["mesh.decision.cost_ns"].parse::<u64>()? > 0);
    for name in names {
        let compiled = |span: &&Span| span.name == "mesh.compile" && span.service == name;
        let compiled = spans.values().find(compiled).context("everybody has compiled")?;
        assert_eq!(compiled.fields["mesh.problems"], "0", "{compiled:?}");
        assert!(compiled.fields["mesh.generation"].parse::<u64>()? > 0);
        assert!(compiled.fields["mesh.resources"].parse::<u64>()? > 0);
    }
    Ok(())
}

/// A dry run and an AUDIT policy decide nothing; whoever wrote them finds out all the same.
async fn what_policies_without_effect_say_is_in_logs_metrics_and_spans(shape: Shape) -> Result<()> {
    let policies = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: planned, namespace: default, annotations: {istio.io/dry-run: 'true'}}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  action: DENY
  rules: [{to: [{operation: {paths: [/admin*]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: watched, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  action: AUDIT
  rules: [{to: [{operation: {paths: [/audit*]}}]}]
";
    let cluster = Cluster::new()?;
    let (collector, heard) = Collector::listen().await?;
    let endpoint = format!("http://{collector}");
    cluster.service("reviews", "reviews", None)?;
    cluster.apply("policies", policies)?;
    let pod = cluster.pod("reviews").label("app", "reviews");
    cluster.declare(&pod)?;
    let waypoint = cluster.waypoint_pod("default", "waypoint");
    let (judge, name) = match shape {
        Shape::InProcess => (&pod, "reviews"),
        Shape::Waypoint => {
            cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
            cluster.apply(
                "namespace",
                &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
            )?;
            cluster.declare(&waypoint)?;
            (&waypoint, "waypoint")
        }
    };
    let metrics = format!("{}:15020", judge.ip);
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_SERVICE_NAME", name),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
        ("INMESH_ADMIN", metrics.as_str()),
    ];
    let _served = match shape {
        Shape::InProcess => None,
        Shape::Waypoint => Some(cluster.run(&pod).await?),
    };
    let mut process = match shape {
        Shape::InProcess => Process::pod(POD, &cluster, judge, &vars)?,
        Shape::Waypoint => Process::waypoint(WAYPOINT, &cluster, judge, &vars[..3])?,
    };
    until("it listens", || async {
        TcpStream::connect((judge.ip, 15008)).await.is_ok()
    })
    .await;
    let (_mesh, curl) = cluster.client("curl").await?;
    let ask = |path: &'static str| {
        let asked = curl.get(format!("http://reviews:9080{path}"));
        async { inmesh_tests::kit::world::status(asked.await) }
    };
    until("callers know the way", || async { ask("/").await == 200 }).await;
    for path in ["/admin/x", "/audit/y", "/other"] {
        assert_eq!(ask(path).await, 200, "{path}: nothing is decided");
    }
    let exposed = wire::exchange(
        TcpStream::connect(&metrics).await?,
        wire::head("GET", "/metrics", "admin", &[]).as_bytes(),
    )
    .await?
    .body;
    let count = |name: &str, label: (&str, &str)| value(&exposed, name, &[label]);
    assert_eq!(
        count("mesh_dry_run_total", ("decision", "deny")),
        1.0,
        "{exposed}"
    );
    assert!(
        count("mesh_dry_run_total", ("decision", "allow")) >= 2.0,
        "{exposed}"
    );
    assert_eq!(
        count(
            "mesh_audited_total",
            ("policy", "AuthorizationPolicy default/watched")
        ),
        1.0,
        "{exposed}"
    );
    process.terminate()?;
    process.ended(std::time::Duration::from_secs(25)).await?;
    let spans = heard.spans();
    let of = |path: &str| {
        let found = spans.values().find(|span| {
            span.server && span.service == name && span.fields.get("url.path").is_some_and(|it| it == path)
        });
        found.with_context(|| format!("{path}: {spans:?}"))
    };
    let denied = "rbac_access_denied_matched_policy[ns[default]-policy[planned]-rule[0]]";
    assert_eq!(of("/admin/x")?.fields["mesh.dry_run"], denied);
    assert_eq!(of("/other")?.fields["mesh.dry_run"], "allow");
    assert_eq!(
        of("/audit/y")?.fields["mesh.audit"],
        "AuthorizationPolicy default/watched"
    );
    if shape == Shape::InProcess {
        // The events are there, and where they go is the application's choice: this one writes none down.
        return Ok(());
    }
    let log = std::fs::read_to_string(cluster.path().join(format!("{}.log", judge.name)))?;
    for words in [denied, "dry-run policies would have decided so", "audited"] {
        anyhow::ensure!(log.contains(words), "{words} is not in the log: {log}");
    }
    Ok(())
}
