//! Adaptive concurrency: what is more than latency allows is turned away, the less important first, and visibly so.

use anyhow::Result;
use inmesh::{Body, Client, Refusal};
use inmesh_tests::kit::metrics::value;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, status, text};
use inmesh_tests::kit::{Shape, World};

in_both_shapes!(what_is_less_important_is_shed_first_and_it_shows);

const URL: &str = "http://reviews-v1:9080";

/// Four at once until fifty have been answered, which is as long as the test takes.
fn filter(shape: Shape) -> String {
    let whom = match shape {
        Shape::InProcess => "workloadSelector: {labels: {app: reviews}}",
        Shape::Waypoint => "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]",
    };
    format!(
        "apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: shedding
  namespace: default
  annotations: {{inmesh.io/criticality-header: x-criticality, inmesh.io/criticality: sheddable}}
spec:
  {whom}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {{context: SIDECAR_INBOUND}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.adaptive_concurrency
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency
          gradient_controller_config:
            concurrency_limit_params: {{concurrency_update_interval: 0.1s}}
            min_rtt_calc_params: {{interval: 60s, request_count: 50, min_concurrency: 4}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    accessLogFile: LOG
"
    )
}

async fn sleep(client: Client) -> Result<http::Response<Body>, Refusal> {
    client.get(format!("{URL}/sleep/3000")).await
}

async fn what_is_less_important_is_shed_first_and_it_shows(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let log = world.cluster.path().join("access.log");
    let filter = filter(shape).replace("LOG", &log.display().to_string());
    world.cluster.apply("shedding", &filter)?;
    let enforcing = match &world.waypoint {
        Some(waypoint) => waypoint.mesh().clone(),
        None => world.v1.mesh.clone(),
    };
    let two = async || {
        let mut under_way = tokio::task::JoinSet::new();
        let before = world.v1.echo.served();
        under_way.spawn(sleep(world.curl.clone()));
        under_way.spawn(sleep(world.other.clone()));
        until("two are under way", || async {
            world.v1.echo.served() >= before + 2
        })
        .await;
        under_way
    };
    // As soon as the filter is known two fill half of what there is room for, which is all for what is sheddable.
    let (mut under_way, refused) = loop {
        let under_way = two().await;
        let third = world
            .curl
            .get(URL)
            .await
            .unwrap_or_else(|it| it.into_response(false));
        if third.status() == 503 {
            break (under_way, third);
        }
        under_way.join_all().await;
    };
    assert_eq!(text(refused).await?, "reached concurrency limit");
    let as_critical = || request(http::Method::GET, URL, &[("x-criticality", "critical")]);
    assert_eq!(
        status(world.curl.request(as_critical()).await),
        200,
        "there is room for it"
    );
    let shed = value(
        &enforcing.metrics(),
        "mesh_shed_requests_total",
        &[("criticality", "sheddable")],
    );
    assert!(shed >= 1.0);
    let line = |flag: &str| {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.lines().any(|line| line.contains(flag))
    };
    until("it is written down", || async {
        line("503 OM reached_concurrency_limit")
    })
    .await;
    // Two have nothing to do with a third that comes when they are gone.
    while let Some(ended) = under_way.join_next().await {
        assert_eq!(status(ended?), 200);
    }
    until("there is room again", || async {
        status(world.curl.get(URL).await) == 200
    })
    .await;
    Ok(())
}
