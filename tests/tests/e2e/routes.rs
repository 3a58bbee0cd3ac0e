//! HTTPRoutes, carried out by the caller or by the waypoint: the same result.

use std::time::{Duration, Instant};

use anyhow::Result;
use http::Method;
use inmesh_tests::kit::world::{request, seen, status, text};
use inmesh_tests::kit::{Shape, World};

const URL: &str = "http://reviews:9080";

in_both_shapes!(
    a_request_reaches_the_service_without_any_route,
    weights_split_traffic_as_written,
    headers_and_paths_choose_the_rule,
    filters_do_what_they_say,
    a_route_answers_for_what_it_cannot_forward,
    deadlines_are_kept,
    a_service_without_endpoints_is_unavailable,
    a_dead_endpoint_costs_no_request,
);

fn route(rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: reviews\n  namespace: default\nspec:\n  \
         parentRefs:\n  - group: \"\"\n    kind: Service\n    name: reviews\n    port: 9080\n  rules:\n{rules}"
    )
}

async fn a_request_reaches_the_service_without_any_route(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let seen = seen(world.curl.get(format!("{URL}/a/b?c=d")).await).await?;
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/a/b?c=d"));
    assert!(seen.pod.starts_with("reviews-v"), "{seen:?}");
    for host in [
        "reviews.default",
        "reviews.default.svc",
        "reviews.default.svc.cluster.local",
        "REVIEWS.default.",
    ] {
        assert_eq!(
            status(world.curl.get(format!("http://{host}:9080/")).await),
            200,
            "{host}"
        );
    }
    let refusal = world.curl.get("http://nobody:9080/").await;
    let refusal = refusal.expect_err("there is no such service");
    assert!(
        refusal.status == 404 && refusal.to_string().contains("nobody"),
        "{refusal}"
    );
    Ok(())
}

async fn weights_split_traffic_as_written(shape: Shape) -> Result<()> {
    let rules = "  - backendRefs:\n    - name: reviews-v1\n      port: 9080\n      weight: 90\n    - name: reviews-v2\n      port: 9080\n      weight: 10\n";
    let world = World::start(shape, &[("route", &route(rules))]).await?;
    let mut second = 0;
    for _ in 0..1000 {
        let response = world
            .curl
            .get(format!("{URL}/"))
            .await
            .map_err(|e| anyhow::anyhow!("{e}"))?;
        second += usize::from(response.headers()["x-pod"] == "reviews-v2");
        text(response).await?;
    }
    // Six standard deviations to either side.
    assert!(
        (43..=157).contains(&second),
        "{second} of 1000 went to reviews-v2"
    );
    Ok(())
}

async fn headers_and_paths_choose_the_rule(shape: Shape) -> Result<()> {
    let rules = "  - matches:\n    - headers:\n      - name: end-user\n        value: jason\n    backendRefs:\n    - name: reviews-v2\n      port: 9080\n  \
                 - matches:\n    - path:\n        type: PathPrefix\n        value: /v1\n    backendRefs:\n    - name: reviews-v1\n      port: 9080\n";
    let world = World::start(shape, &[("route", &route(rules))]).await?;
    let url = format!("{URL}/");
    let jason = request(Method::GET, &url, &[("end-user", "jason")]);
    assert_eq!(seen(world.curl.request(jason).await).await?.pod, "reviews-v2");
    assert_eq!(
        seen(world.curl.get(format!("{URL}/v1/x")).await).await?.pod,
        "reviews-v1"
    );
    let nobody = request(Method::GET, &url, &[("end-user", "somebody")]);
    assert_eq!(
        status(world.curl.request(nobody).await),
        404,
        "a service with routes forwards by them only"
    );
    assert_eq!(
        status(world.curl.get(format!("{URL}/v1x")).await),
        404,
        "a prefix ends at a slash"
    );
    Ok(())
}

async fn filters_do_what_they_say(shape: Shape) -> Result<()> {
    let rules = "  - matches:\n    - path: {type: PathPrefix, value: /old}\n    filters:\n    - type: URLRewrite\n      urlRewrite:\n        hostname: new.example\n        \
                 path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}\n    - type: RequestHeaderModifier\n      requestHeaderModifier:\n        set: [{name: x-set, value: mesh}]\n        \
                 remove: [x-gone]\n    - type: ResponseHeaderModifier\n      responseHeaderModifier:\n        add: [{name: x-answer, value: \"42\"}]\n    backendRefs: [{name: reviews-v1, port: 9080}]\n  \
                 - matches:\n    - path: {type: Exact, value: /away}\n    filters:\n    - type: RequestRedirect\n      requestRedirect: {hostname: elsewhere.example, statusCode: 301}\n";
    let world = World::start(shape, &[("route", &route(rules))]).await?;
    let asked = request(
        Method::GET,
        &format!("{URL}/old/page?q=1"),
        &[("x-gone", "1"), ("x-set", "me")],
    );
    let response = world
        .curl
        .request(asked)
        .await
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    assert_eq!(response.headers()["x-answer"], "42");
    let seen = seen(Ok(response)).await?;
    assert_eq!(
        (seen.path.as_str(), seen.host.as_str()),
        ("/new/page?q=1", "new.example")
    );
    assert_eq!(seen.headers["x-envoy-original-path"], "/old/page?q=1");
    assert_eq!(seen.headers["x-set"], "mesh");
    assert!(!seen.headers.contains_key("x-gone"));

    let away = world
        .curl
        .get(format!("{URL}/away"))
        .await
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    assert_eq!(away.status(), 301);
    let location = away.headers()["location"].to_str()?;
    assert!(location.starts_with("http://elsewhere.example"), "{location}");
    Ok(())
}

async fn a_route_answers_for_what_it_cannot_forward(shape: Shape) -> Result<()> {
    let rules = "  - matches:\n    - path: {type: PathPrefix, value: /missing}\n    backendRefs: [{name: nobody, port: 9080}]\n  \
                 - matches:\n    - path: {type: PathPrefix, value: /none}\n";
    let world = World::start(shape, &[("route", &route(rules))]).await?;
    assert_eq!(
        status(world.curl.get(format!("{URL}/missing")).await),
        500,
        "the backend does not exist"
    );
    assert_eq!(
        status(world.curl.get(format!("{URL}/none")).await),
        500,
        "the rule has no backend"
    );
    assert_eq!(
        status(world.curl.get(format!("{URL}/else")).await),
        404,
        "no rule matches"
    );
    assert_eq!(world.v1.echo.served() + world.v2.echo.served(), 0);
    Ok(())
}

async fn deadlines_are_kept(shape: Shape) -> Result<()> {
    let rules = "  - timeouts: {request: 300ms}\n    backendRefs: [{name: reviews-v1, port: 9080}]\n";
    let world = World::start(shape, &[("route", &route(rules))]).await?;
    assert_eq!(status(world.curl.get(format!("{URL}/sleep/1")).await), 200);
    let began = Instant::now();
    assert_eq!(status(world.curl.get(format!("{URL}/sleep/15000")).await), 504);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "took {:?}",
        began.elapsed()
    );
    Ok(())
}

async fn a_service_without_endpoints_is_unavailable(shape: Shape) -> Result<()> {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata:\n  name: empty\n  namespace: default\nspec:\n  selector: {app: nobody}\n  ports:\n  - {name: http, port: 80}\n";
    let world = World::start(shape, &[("empty", yaml)]).await?;
    assert_eq!(status(world.curl.get("http://empty/").await), 503);
    Ok(())
}

async fn a_dead_endpoint_costs_no_request(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    // It is said to be ready, and nobody is there.
    let dead = world
        .cluster
        .pod("reviews-v9")
        .account("reviews")
        .label("app", "reviews");
    world.cluster.declare(&dead)?;
    let knows = |mesh: &inmesh::Mesh| mesh.snapshot().pods.contains_key(&dead.ip.into());
    let meshes: Vec<_> = world
        .meshes()
        .iter()
        .chain(world.waypoint.iter().map(inmesh::Waypoint::mesh))
        .collect();
    inmesh_tests::kit::wait::until("everybody knows the dead endpoint", || async {
        meshes.iter().all(|mesh| knows(mesh))
    })
    .await;
    for n in 0..60 {
        assert_eq!(
            status(world.curl.get(format!("{URL}/{n}")).await),
            200,
            "request {n}"
        );
    }
    Ok(())
}
