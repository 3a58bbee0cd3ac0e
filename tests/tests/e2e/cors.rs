//! Cross-origin requests, and where they stand to authorization.

use anyhow::{Result, anyhow};
use http::{Method, Response};
use inmesh::Body;
use inmesh_tests::kit::world::{request, seen, text};
use inmesh_tests::kit::{Shape, World};

const URL: &str = "http://reviews:9080";

in_both_shapes!(
    a_preflight_is_answered_on_the_way,
    a_request_is_sent_on_and_its_answer_marked,
    a_page_may_read_why_it_failed,
    a_preflight_is_judged_by_policies_first,
);

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: default}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - matches: [{path: {value: /gone}}]
    filters: [{type: CORS, cors: {allowOrigins: ['https://shop.example']}}]
    backendRefs: [{name: nobody, port: 9080}]
  - filters:
    - type: CORS
      cors: {allowOrigins: ['https://*.example'], allowMethods: [PUT], allowHeaders: [x-a], allowCredentials: true, maxAge: 60}
    backendRefs: [{name: reviews-v1, port: 9080}]
";

const PREFLIGHT: [(&str, &str); 2] = [
    ("origin", "https://shop.example"),
    ("access-control-request-method", "PUT"),
];

async fn ask(world: &World, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<Response<Body>> {
    let asked = request(method, &format!("{URL}{path}"), headers);
    world.curl.request(asked).await.map_err(|e| anyhow!("{e}"))
}

async fn a_preflight_is_answered_on_the_way(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("route", ROUTE)]).await?;
    let answer = ask(&world, Method::OPTIONS, "/", &PREFLIGHT).await?;
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.headers().get(name).and_then(|it| it.to_str().ok());
    assert_eq!(
        header("access-control-allow-origin"),
        Some("https://shop.example")
    );
    assert_eq!(header("access-control-allow-methods"), Some("PUT"));
    assert_eq!(header("access-control-allow-headers"), Some("x-a"));
    assert_eq!(header("access-control-allow-credentials"), Some("true"));
    assert_eq!(header("access-control-max-age"), Some("60"));

    let stranger = [("origin", "https://evil.org"), PREFLIGHT[1]];
    let answer = ask(&world, Method::OPTIONS, "/", &stranger).await?;
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    assert_eq!(world.v1.echo.served(), 0);

    // Without a method that is asked for it is a request like any other.
    assert_eq!(
        seen(
            ask(&world, Method::OPTIONS, "/x", &PREFLIGHT[..1])
                .await
                .map_err(no_refusal)
        )
        .await?
        .method,
        "OPTIONS"
    );
    Ok(())
}

fn no_refusal(error: anyhow::Error) -> inmesh::Refusal {
    inmesh::Refusal::new(inmesh::Reason::Application, error.to_string())
}

async fn a_request_is_sent_on_and_its_answer_marked(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("route", ROUTE)]).await?;
    let answer = ask(&world, Method::GET, "/", &[("origin", "https://a.shop.example")]).await?;
    assert_eq!(
        answer.headers()["access-control-allow-origin"],
        "https://a.shop.example"
    );
    assert_eq!(answer.headers()["vary"], "origin");
    text(answer).await?;
    let answer = ask(&world, Method::GET, "/", &[("origin", "https://evil.org")]).await?;
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    text(answer).await?;
    let answer = ask(&world, Method::GET, "/", &[]).await?;
    assert!(!answer.headers().contains_key("vary"));
    assert_eq!(world.v1.echo.served(), 3);
    Ok(())
}

async fn a_page_may_read_why_it_failed(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("route", ROUTE)]).await?;
    let asked = request(Method::GET, &format!("{URL}/gone"), &PREFLIGHT[..1]);
    match (shape, world.curl.request(asked).await) {
        (Shape::Waypoint, Ok(answer)) => {
            assert_eq!(answer.status(), 500);
            assert_eq!(
                answer.headers()["access-control-allow-origin"],
                "https://shop.example"
            );
        }
        // In process the caller is no page.
        (Shape::InProcess, Err(refusal)) => assert_eq!(refusal.status, 500),
        (_, other) => panic!("{other:?}"),
    }
    Ok(())
}

async fn a_preflight_is_judged_by_policies_first(shape: Shape) -> Result<()> {
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no-options, namespace: default}\nspec:\n  \
                  action: DENY\n  targetRefs: [{group: '', kind: Service, name: reviews}]\n  rules: [{to: [{operation: {methods: [OPTIONS]}}]}]\n";
    let world = World::start(shape, &[("route", ROUTE), ("policy", policy)]).await?;
    let answer = ask(&world, Method::OPTIONS, "/", &PREFLIGHT).await?;
    match shape {
        Shape::Waypoint => assert_eq!(answer.status(), 403),
        // The caller's own process answers it: it asks nobody, and so nobody judges it.
        Shape::InProcess => assert_eq!(answer.status(), 200),
    }
    assert_eq!(world.v1.echo.served(), 0);
    Ok(())
}
