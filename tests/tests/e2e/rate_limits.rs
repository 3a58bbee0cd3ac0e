//! Rate limits, as EnvoyFilters write them: kept here, and by a service that is asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::Result;
use http::Method;
use inmesh::{Body, Client, Refusal};
use inmesh_tests::kit::cluster::PodSpec;
use inmesh_tests::kit::metrics::value;
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, status, text};
use inmesh_tests::kit::{Cluster, Shape, Visitor, World};

const URL: &str = "http://reviews-v1:9080";
const LIMITER: &str = env!("CARGO_BIN_EXE_test-limiter");

in_both_shapes!(
    a_bucket_that_is_empty_refuses_in_envoys_words,
    each_caller_has_a_bucket_of_its_own,
    a_descriptor_is_limited_by_itself,
    a_service_that_is_asked_decides_for_all,
    where_the_service_cannot_be_asked_the_failure_mode_decides,
    what_is_not_supported_is_refused_by_name,
);

/// Where a filter applies: to the waypoint, or to the workload itself.
fn whom(shape: Shape) -> &'static str {
    match shape {
        Shape::InProcess => "workloadSelector: {labels: {app: reviews}}",
        Shape::Waypoint => "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]",
    }
}

fn filter(shape: Shape, patches: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: limits, namespace: default}}\nspec:\n  \
         {}\n  configPatches:\n{patches}",
        whom(shape)
    )
}

/// As Istio's documentation writes it.
fn local(more: &str) -> String {
    format!(
        "  - applyTo: HTTP_FILTER
    match: {{context: SIDECAR_INBOUND, listener: {{filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager}}}}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          '@type': type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          value:
            stat_prefix: http_local_rate_limiter
            filter_enabled: {{runtime_key: local_rate_limit_enabled, default_value: {{numerator: 100, denominator: HUNDRED}}}}
            filter_enforced: {{runtime_key: local_rate_limit_enforced, default_value: {{numerator: 100, denominator: HUNDRED}}}}
{more}"
    )
}

fn answer(result: Result<http::Response<Body>, Refusal>) -> http::Response<Body> {
    result.unwrap_or_else(|refusal| refusal.into_response(false))
}

async fn statuses(client: &Client, path: &str, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(status(client.get(format!("{URL}{path}")).await));
    }
    statuses
}

/// What the enforcing participant counts.
fn counted(world: &World, result: &str) -> f64 {
    let exposition = match &world.waypoint {
        Some(waypoint) => waypoint.mesh().metrics(),
        None => world.v1.mesh.metrics(),
    };
    value(
        &exposition,
        "mesh_rate_limited_requests_total",
        &[("result", result)],
    )
}

async fn a_bucket_that_is_empty_refuses_in_envoys_words(shape: Shape) -> Result<()> {
    let limits = filter(
        shape,
        &local(
            "            token_bucket: {max_tokens: 3, tokens_per_fill: 3, fill_interval: 3600s}
            enable_x_ratelimit_headers: DRAFT_VERSION_03
            response_headers_to_add: [{append: false, header: {key: x-local-rate-limit, value: 'true'}}]
",
        ),
    );
    let world = World::start(shape, &[("limits", &limits)]).await?;
    let first = answer(world.curl.get(URL).await);
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["x-ratelimit-limit"], "3");
    assert_eq!(first.headers()["x-ratelimit-remaining"], "2");
    assert!(first.headers().contains_key("x-ratelimit-reset"));
    assert_eq!(statuses(&world.curl, "/", 2).await, [200, 200]);
    let refused = answer(world.curl.get(URL).await);
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["x-local-rate-limit"], "true");
    assert_eq!(refused.headers()["x-ratelimit-remaining"], "0");
    assert_eq!(text(refused).await?, "local_rate_limited");
    // Everybody shares it, and gRPC is told in its own words.
    let grpc = request(Method::POST, URL, &[("content-type", "application/grpc")]);
    let grpc = answer(world.other.request(grpc).await);
    assert_eq!(
        (grpc.status().as_u16(), &grpc.headers()["grpc-status"]),
        (200, &"14".parse()?)
    );
    assert_eq!(world.v1.echo.served(), 3);
    assert!(counted(&world, "local") >= 2.0);
    // What was used up stays used up when something else changes.
    world.cluster.service("another", "another", None)?;
    until("the change has arrived", || async {
        status(world.curl.get("http://another:9080").await) == 503
    })
    .await;
    assert_eq!(statuses(&world.curl, "/", 2).await, [429, 429]);
    Ok(())
}

async fn each_caller_has_a_bucket_of_its_own(shape: Shape) -> Result<()> {
    let caller = "            token_bucket: {max_tokens: 1000, tokens_per_fill: 1000, fill_interval: 60s}
            descriptors:
            - entries: [{key: caller}]
              token_bucket: {max_tokens: 2, tokens_per_fill: 2, fill_interval: 3600s}
            rate_limits:
            - actions:
              - extension:
                  name: envoy.rate_limit_descriptors.expr
                  typed_config:
                    '@type': type.googleapis.com/envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor
                    descriptor_key: caller
                    text: connection.uri_san_peer_certificate
";
    let world = World::start(shape, &[("limits", &filter(shape, &local(caller)))]).await?;
    for client in [&world.curl, &world.other] {
        assert_eq!(statuses(client, "/", 3).await, [200, 200, 429]);
    }
    Ok(())
}

async fn a_descriptor_is_limited_by_itself(shape: Shape) -> Result<()> {
    let patches = local(
        "            token_bucket: {max_tokens: 1000, tokens_per_fill: 1000, fill_interval: 60s}
            descriptors:
            - entries: [{key: PATH, value: /narrow}]
              token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 3600s}
",
    ) + "  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_INBOUND, routeConfiguration: {vhost: {name: 'inbound|http|9080', route: {action: ANY}}}}
    patch:
      operation: MERGE
      value:
        rate_limits:
        - actions: [{request_headers: {header_name: ':path', descriptor_key: PATH}}]
";
    let world = World::start(shape, &[("limits", &filter(shape, &patches))]).await?;
    assert_eq!(statuses(&world.curl, "/narrow", 3).await, [200, 429, 429]);
    assert_eq!(statuses(&world.curl, "/wide", 3).await, [200, 200, 200]);
    Ok(())
}

/// Routes by their names, which only whoever routes knows: a Gateway API rule's own name, and Istio's for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_limited_by_its_name() -> Result<()> {
    let routes = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: default}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews-v1}]
  rules:
  - name: checkout
    matches: [{path: {type: Exact, value: /checkout}}]
    backendRefs: [{name: reviews-v1, port: 9080}]
  - matches: [{path: {type: Exact, value: /cart}}]
    backendRefs: [{name: reviews-v1, port: 9080}]
  - backendRefs: [{name: reviews-v1, port: 9080}]
";
    let one = |name: &str| {
        format!(
            "  - applyTo: HTTP_ROUTE
    match: {{context: SIDECAR_INBOUND, routeConfiguration: {{vhost: {{name: 'inbound|http|9080', route: {{name: {name}}}}}}}}}
    patch:
      operation: MERGE
      value:
        typed_per_filter_config:
          envoy.filters.http.local_ratelimit:
            '@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
            stat_prefix: route
            filter_enabled: {{default_value: {{numerator: 100}}}}
            filter_enforced: {{default_value: {{numerator: 100}}}}
            token_bucket: {{max_tokens: 1, tokens_per_fill: 1, fill_interval: 3600s}}
"
        )
    };
    let patches = local("") + &one("checkout") + &one("default.shop.1");
    let files = [("routes", routes), ("limits", &filter(Shape::Waypoint, &patches))];
    let world = World::start(Shape::Waypoint, &files).await?;
    assert_eq!(statuses(&world.curl, "/checkout", 3).await, [200, 429, 429]);
    assert_eq!(statuses(&world.curl, "/cart", 3).await, [200, 429, 429]);
    assert_eq!(statuses(&world.curl, "/wide", 3).await, [200, 200, 200]);
    Ok(())
}

/// The filter that asks `ratelimit:8081`, and its domain.
fn global(mode: &str) -> String {
    format!(
        "  - applyTo: HTTP_FILTER
    match: {{context: SIDECAR_INBOUND}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.ratelimit
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
          domain: reviews
          timeout: 10s
          {mode}
          rate_limit_service:
            grpc_service: {{envoy_grpc: {{cluster_name: 'outbound|8081||ratelimit.default.svc.cluster.local'}}}}
            transport_api_version: V3
  - applyTo: VIRTUAL_HOST
    match: {{context: SIDECAR_INBOUND}}
    patch:
      operation: MERGE
      value:
        rate_limits:
        - actions: [{{request_headers: {{header_name: ':path', descriptor_key: PATH}}}}]
"
    )
}

/// Runs the service as a process of its own, and declares it.
async fn limiter(cluster: &Cluster, domain: &str, limits: &str) -> Result<Process> {
    let ip = cluster.address();
    declare_limiter(cluster, ip)?;
    let at = SocketAddr::new(IpAddr::V4(ip), 8081);
    let mut command = Command::new(LIMITER);
    command.args([&at.to_string(), domain, limits]);
    let process = Process::spawn(&mut command, &cluster.path().join("limiter.log"))?;
    until("the limiter listens", || async {
        tokio::net::TcpStream::connect(at).await.is_ok()
    })
    .await;
    Ok(process)
}

fn declare_limiter(cluster: &Cluster, ip: Ipv4Addr) -> Result<()> {
    cluster.apply(
        "ratelimit",
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: ratelimit, namespace: default}}\nspec: {{selector: {{app: ratelimit}}, \
             ports: [{{name: grpc, port: 8081}}]}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: ratelimit-1, namespace: default, \
             labels: {{app: ratelimit}}}}\nspec: {{serviceAccountName: ratelimit}}\nstatus: {{phase: Running, podIP: {ip}, \
             conditions: [{{type: Ready, status: 'True'}}]}}\n"
        ),
    )
}

async fn a_service_that_is_asked_decides_for_all(shape: Shape) -> Result<()> {
    let limits = filter(shape, &global("failure_mode_deny: true"));
    let world = World::start(shape, &[("limits", &limits)]).await?;
    let _limiter = limiter(&world.cluster, "reviews", "PATH=/two:2").await?;
    world.until(&format!("{URL}/any"), 200).await;
    let first = answer(world.curl.get(format!("{URL}/two")).await);
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["x-limited-by"], "reviews");
    assert!(text(first).await?.contains("\"x-counted\":\"yes\""));
    assert_eq!(statuses(&world.curl, "/two", 1).await, [200]);
    let refused = answer(world.other.get(format!("{URL}/two")).await);
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["x-envoy-ratelimited"], "true");
    assert_eq!(refused.headers()["x-limited-by"], "reviews");
    assert_eq!(text(refused).await?, "");
    assert!(counted(&world, "global") >= 1.0);
    Ok(())
}

async fn where_the_service_cannot_be_asked_the_failure_mode_decides(shape: Shape) -> Result<()> {
    let world = World::start(
        shape,
        &[("limits", &filter(shape, &global("failure_mode_deny: true")))],
    )
    .await?;
    declare_limiter(&world.cluster, world.cluster.address())?;
    let refused = answer(world.curl.get(URL).await);
    assert_eq!(refused.status(), 500);
    assert_eq!(world.v1.echo.served(), 0);
    assert!(counted(&world, "error_denied") >= 1.0);
    let limits = filter(shape, &global("failure_mode_deny: false"));
    world.apply_until("limits", &limits, URL, 200).await?;
    assert!(counted(&world, "error_allowed") >= 1.0);
    Ok(())
}

async fn what_is_not_supported_is_refused_by_name(shape: Shape) -> Result<()> {
    let patches = "  - applyTo: HTTP_FILTER
    patch:
      operation: INSERT_BEFORE
      value: {name: lua, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, inline_code: ''}}
  - applyTo: LISTENER
    patch: {operation: MERGE, value: {}}
";
    let world = World::start(shape, &[("limits", &filter(shape, patches))]).await?;
    let problems: Vec<String> = world
        .v1
        .mesh
        .status()
        .borrow()
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    for part in [
        "envoy.extensions.filters.http.lua.v3.Lua is not supported",
        "`LISTENER` is not supported",
    ] {
        assert!(
            problems
                .iter()
                .any(|it| it.contains(part) && it.contains("limits.yaml:")),
            "{part}: {problems:?}"
        );
    }
    assert_eq!(status(world.curl.get(URL).await), 200);
    Ok(())
}

/// The sample of bookinfo, as it is: an ingress gateway asks `ratelimit.default.svc.cluster.local:8081`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_filter_limits_the_product_page_at_the_gateway() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.service("productpage", "productpage", None)?;
    let page = cluster
        .run(&cluster.pod("productpage").label("app", "productpage"))
        .await?;
    cluster.apply(
        "front",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: front, namespace: default}\nspec:\n  \
         gatewayClassName: istio\n  listeners: [{name: http, port: 8080, protocol: HTTP}]\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: bookinfo, namespace: default}\nspec:\n  \
         parentRefs: [{name: front}]\n  rules: [{backendRefs: [{name: productpage, port: 9080}]}]\n",
    )?;
    cluster.apply(
        "filter",
        include_str!("../../yaml/productpage_envoy_ratelimit.yaml"),
    )?;
    let _limiter = limiter(&cluster, "productpage-ratelimit", "PATH=/productpage:1").await?;
    let spec: PodSpec = cluster
        .waypoint_pod("default", "front")
        .label("istio", "ingressgateway");
    // The filter is for a label, which the gateway has by its Pod.
    cluster.declare(&spec)?;
    let gateway = cluster.run_waypoint(&spec).await?;
    let visitor = Visitor::to(spec.ip, 8080);
    until("the listener is served", || async {
        visitor
            .get("bookinfo", "/api")
            .await
            .is_ok_and(|(status, _)| status == 200)
    })
    .await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(visitor.get("bookinfo", "/productpage").await?.0);
    }
    assert_eq!(statuses, [200, 429, 429]);
    assert!(page.echo.served() >= 2);
    let problems = gateway.mesh().status().borrow().problems.clone();
    assert!(
        !problems.iter().any(|it| it.to_string().contains("EnvoyFilter")),
        "{problems:?}"
    );
    Ok(())
}
