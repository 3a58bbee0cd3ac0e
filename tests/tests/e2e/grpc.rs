//! GRPCRoutes, and how a "no" looks to a gRPC caller.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use http::{HeaderMap, Method};
use inmesh_tests::kit::world::{request, text};
use inmesh_tests::kit::{Shape, World};

in_both_shapes!(
    methods_and_headers_choose_the_rule,
    refusals_are_trailers_only,
    a_callers_deadline_is_kept_and_passed_on,
    statuses_in_the_head_are_retried,
);

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: reviews, namespace: default}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews, port: 9080}]
  rules:
  - matches: [{method: {service: shop.Reviews, method: Get}}]
    backendRefs: [{name: reviews-v1, port: 9080}]
  - matches: [{method: {service: shop.Reviews}, headers: [{name: version, value: two}]}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: two}]}}]
    backendRefs: [{name: reviews-v2, port: 9080}]
  - matches: [{method: {method: Lost}}]
    backendRefs: [{name: nobody, port: 9080}]
";

/// What a call's answer says in its head.
async fn call(world: &World, path: &str, headers: &[(&str, &str)]) -> Result<(HeaderMap, String)> {
    let mut all = vec![("content-type", "application/grpc"), ("te", "trailers")];
    all.extend(headers);
    let asked = request(Method::POST, &format!("http://reviews:9080{path}"), &all);
    let answer = world.curl.request(asked).await.map_err(|e| anyhow!("{e}"))?;
    assert_eq!(answer.status(), 200, "a gRPC answer always is");
    Ok((answer.headers().clone(), text(answer).await?))
}

async fn methods_and_headers_choose_the_rule(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("route", ROUTE)]).await?;
    let (head, _) = call(&world, "/shop.Reviews/Get", &[("version", "two")]).await?;
    assert_eq!(head["x-pod"], "reviews-v1");
    let (head, _) = call(&world, "/shop.Reviews/Put", &[("version", "two")]).await?;
    assert_eq!(
        (&head["x-pod"], &head["x-route"]),
        (&"reviews-v2".parse()?, &"two".parse()?)
    );
    Ok(())
}

async fn refusals_are_trailers_only(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("route", ROUTE)]).await?;
    // No match: UNIMPLEMENTED. A backend that does not exist: UNAVAILABLE.
    for (path, expected) in [("/shop.Reviews/Put", "12"), ("/any.Service/Lost", "14")] {
        let (head, body) = call(&world, path, &[]).await?;
        assert_eq!(head["grpc-status"], expected, "{path}");
        assert_eq!(head["content-type"], "application/grpc");
        assert_eq!(body, "");
    }
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: none, namespace: default}\nspec:\n  \
                  targetRefs: [{group: '', kind: Service, name: reviews}, {group: '', kind: Service, name: reviews-v1}]\n";
    world.cluster.apply("policy", policy)?;
    inmesh_tests::kit::wait::until("nothing is allowed", || async {
        let answer = call(&world, "/shop.Reviews/Get", &[]).await;
        answer.is_ok_and(|(head, _)| head.get("grpc-status").is_some_and(|status| status == "7"))
    })
    .await;
    let (head, _) = call(&world, "/shop.Reviews/Get", &[]).await?;
    assert_eq!(head["grpc-message"], "RBAC: access denied");
    Ok(())
}

async fn a_callers_deadline_is_kept_and_passed_on(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let (_, body) = call(&world, "/shop.Reviews/Get", &[("grpc-timeout", "5S")]).await?;
    let seen: inmesh_tests::kit::echo::Seen = serde_json::from_str(&body)?;
    let left = &seen.headers["grpc-timeout"];
    let millis: u64 = left.trim_end_matches('m').parse()?;
    assert!((1..=5_000).contains(&millis), "{left}");

    let began = Instant::now();
    let (head, _) = call(&world, "/sleep/15000", &[("grpc-timeout", "300m")]).await?;
    assert_eq!(head["grpc-status"], "14");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    Ok(())
}

async fn statuses_in_the_head_are_retried(shape: Shape) -> Result<()> {
    let only_v1 = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: reviews, namespace: default}\nspec:\n  \
                   parentRefs: [{group: '', kind: Service, name: reviews}]\n  rules: [{backendRefs: [{name: reviews-v1, port: 9080}]}]\n";
    let world = World::start(shape, &[("route", only_v1)]).await?;
    // Istio's default: UNAVAILABLE is tried again, twice at most, whoever of the two carries the route out.
    let (head, _) = call(&world, "/grpc/14/2/x", &[]).await?;
    assert!(!head.contains_key("grpc-status"), "{head:?}");
    assert_eq!(world.v1.echo.served(), 3);
    let (head, _) = call(&world, "/grpc/14/9/x", &[]).await?;
    assert_eq!(head["grpc-status"], "14");
    assert_eq!(world.v1.echo.served(), 6);
    let (head, _) = call(&world, "/grpc/5/1/x", &[]).await?;
    assert_eq!(head["grpc-status"], "5");
    assert_eq!(world.v1.echo.served(), 7);
    Ok(())
}
