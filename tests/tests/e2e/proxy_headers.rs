//! What proxies write into the headers of what they pass on, and what the application's own stack leaves alone.

use anyhow::{Result, anyhow};
use http::{HeaderMap, Method};
use inmesh_tests::kit::world::{request, seen, text};
use inmesh_tests::kit::{Shape, World};

in_both_shapes!(a_proxy_says_that_it_is_one_and_an_application_is_none);

const URL: &str = "http://reviews:9080";

const TIME: &str = "x-envoy-upstream-service-time";

const MESH: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig:
      proxyHeaders:
        server: {value: edge}
        envoyDebugHeaders: {disabled: true}
";

const DENY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: away, namespace: default}
spec:
  action: DENY
  targetRefs: [{kind: Service, group: '', name: reviews}]
  rules: [{to: [{operation: {paths: [/away]}}]}]
";

async fn answer(world: &World, path: &str) -> Result<(u16, HeaderMap)> {
    let asked = request(Method::GET, &format!("{URL}{path}"), &[]);
    let answer = world.curl.request(asked).await.map_err(|e| anyhow!("{e}"))?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    text(answer).await?;
    Ok((status, headers))
}

async fn a_proxy_says_that_it_is_one_and_an_application_is_none(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("deny", DENY)]).await?;
    let proxied = shape == Shape::Waypoint;
    let ask = |headers: &[(&str, &str)]| world.curl.request(request(Method::GET, URL, headers));

    // Nobody outside the mesh is believed more for coming through a waypoint, and nothing that was said is lost.
    let got = seen(ask(&[]).await).await?.headers;
    let header = |name: &str| got.get(name).map(String::as_str);
    assert_eq!(header("x-forwarded-proto"), proxied.then_some("http"));
    assert_eq!(header("x-forwarded-for"), None);
    let said = [("x-forwarded-proto", "https"), ("x-forwarded-for", "203.0.113.7")];
    let got = seen(ask(&said).await).await?.headers;
    for (name, value) in said {
        assert_eq!(got.get(name).map(String::as_str), Some(value), "{name}");
    }

    let (status, headers) = answer(&world, "/sleep/20").await?;
    assert_eq!(status, 200);
    let millis: Option<u64> = headers.get(TIME).and_then(|it| it.to_str().ok()?.parse().ok());
    assert_eq!(millis.map(|it| it >= 20), proxied.then_some(true), "{headers:?}");
    assert!(!headers.contains_key("server"), "{headers:?}");
    let (status, headers) = answer(&world, "/away").await?;
    assert_eq!(status, 403);
    assert!(!headers.contains_key(TIME), "no upstream took any: {headers:?}");

    world.cluster.apply("mesh", MESH)?;
    world.settled().await?;
    for path in ["/", "/away"] {
        let (_, headers) = answer(&world, path).await?;
        let server = headers.get("server").and_then(|it| it.to_str().ok());
        assert_eq!(server, proxied.then_some("edge"), "{path}");
        assert!(!headers.contains_key(TIME), "{path}: {headers:?}");
    }
    Ok(())
}
