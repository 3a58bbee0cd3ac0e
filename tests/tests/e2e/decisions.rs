//! What was decided, and by what: told to whom the configuration trusts with it, and to nobody else.

use anyhow::{Context, Result};
use http::{HeaderMap, Method};
use inmesh::Client;
use inmesh_tests::kit::cluster::gateway;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, status};
use inmesh_tests::kit::{Shape, World};

in_both_shapes!(
    a_trusted_caller_is_told_what_decided_and_nobody_else_is,
    what_was_refused_elsewhere_is_told_too,
    an_answer_that_pretends_to_be_a_decision_is_none,
    what_is_amiss_with_the_annotation_is_reported_and_trusts_nobody,
    a_grpc_denial_is_told_in_the_head_of_the_answer,
);

const HEADER: &str = "x-inmesh-decision";
const URL: &str = "http://reviews:9080/";
const CURL: &str = "cluster.local/ns/default/sa/curl";

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - to: [{operation: {paths: [/nowhere]}}]
  - from:
    - source: {principals: [cluster.local/ns/default/sa/nobody]}
    - source: {namespaces: [default]}
    to: [{operation: {methods: [GET]}}]
    when: [{key: 'request.headers[x-tenant]', notValues: [evil]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  action: DENY
  rules: [{to: [{operation: {paths: [/admin*]}}]}]
";

/// The namespace, which tells `to`; and in one shape the waypoint.
fn namespace(shape: Shape, to: &str) -> String {
    let labels = match shape {
        Shape::InProcess => "{}",
        Shape::Waypoint => "{istio.io/use-waypoint: waypoint}",
    };
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: default\n  labels: {labels}\n  annotations: {{inmesh.io/explain-to: '{to}'}}\n"
    )
}

async fn ask(client: &Client, method: Method, path: &str) -> Result<(u16, HeaderMap)> {
    let asked = request(method, &format!("http://reviews:9080{path}"), &[]);
    let response = client
        .request(asked)
        .await
        .map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    Ok((response.status().as_u16(), response.headers().clone()))
}

/// The decision without what differs from time to time.
fn decision(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let stable = text
        .split(';')
        .filter(|part| !part.starts_with("cost_ns=") && !part.starts_with("generation="));
    Some(stable.collect::<Vec<_>>().join(";"))
}

/// Waits until `curl` is told.
async fn told(world: &World) {
    until("the caller is told", || async {
        ask(&world.curl, Method::GET, "/")
            .await
            .is_ok_and(|(_, headers)| headers.contains_key(HEADER))
    })
    .await;
}

async fn a_trusted_caller_is_told_what_decided_and_nobody_else_is(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", POLICY)]).await?;
    let (code, headers) = ask(&world.curl, Method::GET, "/").await?;
    assert_eq!((code, headers.get(HEADER)), (200, None), "nobody is trusted yet");
    world.cluster.apply("namespace", &namespace(shape, CURL))?;
    told(&world).await;

    let (code, headers) = ask(&world.curl, Method::GET, "/").await?;
    assert_eq!(code, 200);
    assert_eq!(
        decision(&headers).as_deref(),
        Some(
            "allow;policy=\"AuthorizationPolicy default/readers\";rule=1;clause=\"from[1] to[0] when[0]\";\
             inputs=\"namespace method request.headers[x-tenant]\""
        )
    );
    let text = headers[HEADER].to_str()?;
    let number = |name: &str| -> Option<u64> {
        let mut parts = text.split(';');
        parts.find_map(|part| part.strip_prefix(name)?.parse().ok())
    };
    assert!(number("generation=").is_some_and(|it| it > 1), "{text}");
    assert!(number("cost_ns=").is_some_and(|it| it > 0), "{text}");

    let (code, headers) = ask(&world.curl, Method::GET, "/admin/x").await?;
    assert_eq!(code, 403);
    assert_eq!(
        decision(&headers).as_deref(),
        Some(
            "deny;policy=\"AuthorizationPolicy default/closed\";rule=0;clause=\"to[0]\";inputs=\"path\";refused=denied"
        )
    );
    let (code, headers) = ask(&world.curl, Method::POST, "/").await?;
    assert_eq!(
        (code, decision(&headers).as_deref()),
        (403, Some("deny;refused=denied"))
    );

    // Another caller of the same namespace: allowed or denied, it learns nothing.
    for (method, path, expected) in [
        (Method::GET, "/", 200),
        (Method::GET, "/admin/x", 403),
        (Method::POST, "/", 403),
    ] {
        let (code, headers) = ask(&world.other, method, path).await?;
        assert_eq!((code, headers.get(HEADER)), (expected, None), "{path}");
    }

    // Who is no longer trusted is no longer told.
    world
        .cluster
        .apply("namespace", &namespace(shape, "cluster.local/ns/ops/*"))?;
    until("the caller is told no more", || async {
        ask(&world.curl, Method::GET, "/")
            .await
            .is_ok_and(|(_, headers)| !headers.contains_key(HEADER))
    })
    .await;
    Ok(())
}

async fn what_was_refused_elsewhere_is_told_too(shape: Shape) -> Result<()> {
    let tokens = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  jwtRules: [{issuer: https://idp, jwks: '{\"keys\": []}'}]
";
    let world = World::start(shape, &[("tokens", tokens)]).await?;
    world.cluster.apply("namespace", &namespace(shape, CURL))?;
    told(&world).await;
    let bad = request(Method::GET, URL, &[("authorization", "Bearer this.is.none")]);
    let response = world
        .curl
        .request(bad)
        .await
        .map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    assert_eq!(response.status(), 401);
    assert_eq!(
        decision(response.headers()).as_deref(),
        Some("deny;refused=unauthenticated")
    );
    let (_, headers) = ask(&world.curl, Method::GET, "/").await?;
    assert_eq!(decision(&headers).as_deref(), Some("allow"));
    Ok(())
}

async fn an_answer_that_pretends_to_be_a_decision_is_none(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", POLICY)]).await?;
    // The workloads tell the waypoint, which must not pass that on.
    let to = format!("{CURL}, cluster.local/ns/default/sa/waypoint");
    world.cluster.apply("namespace", &namespace(shape, &to))?;
    told(&world).await;
    let path = format!("/header/{HEADER}/forged");
    let (code, headers) = ask(&world.other, Method::GET, &path).await?;
    assert_eq!((code, headers.get(HEADER)), (200, None));
    let (_, headers) = ask(&world.other, Method::GET, "/").await?;
    assert_eq!(headers.get(HEADER), None);
    let (_, headers) = ask(&world.curl, Method::GET, &path).await?;
    let told: Vec<_> = headers.get_all(HEADER).iter().collect();
    let [told] = &told[..] else {
        anyhow::bail!("one decision: {told:?}")
    };
    assert!(told.to_str()?.starts_with("allow;policy="), "{told:?}");
    Ok(())
}

async fn what_is_amiss_with_the_annotation_is_reported_and_trusts_nobody(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", POLICY)]).await?;
    let mesh = match &world.waypoint {
        None => world.v1.mesh.clone(),
        Some(waypoint) => waypoint.mesh().clone(),
    };
    let reported = |words: &'static str| {
        let mesh = mesh.clone();
        async move {
            let status = mesh.status().borrow().clone();
            let problems = status.problems.iter().map(ToString::to_string);
            let found: Vec<_> = problems
                .filter(|problem| problem.contains("inmesh.io/"))
                .collect();
            found.iter().any(|problem| problem.contains(words))
        }
    };
    world.cluster.apply(
        "namespace",
        &namespace(shape, "*, spiffe://cluster.local/ns/default/sa/curl"),
    )?;
    until("the star is reported", || reported("`*` names nobody")).await;
    until("so is the scheme", || reported("leave out spiffe://")).await;
    let (code, headers) = ask(&world.curl, Method::GET, "/").await?;
    assert_eq!((code, headers.get(HEADER)), (200, None));
    let typo = namespace(shape, CURL).replace("explain-to", "explain-too");
    world.cluster.apply("namespace", &typo)?;
    until("a misspelt annotation is reported", || {
        reported("no annotation is called so")
    })
    .await;
    let mut service = std::fs::read_to_string(world.cluster.folder().join("service-reviews.yaml"))?;
    service = service.replace(
        "  name: reviews\n",
        "  name: reviews\n  annotations: {inmesh.io/explain-to: cluster.local/ns/default/sa/curl}\n",
    );
    world.cluster.apply("service-reviews", &service)?;
    until("one in vain is reported", || {
        reported("it has no effect on a Service")
    })
    .await;
    assert_eq!(status(world.curl.get(URL).await), 200);

    // A Gateway speaks for its waypoint before the namespace does.
    if shape == Shape::Waypoint {
        world.cluster.apply(
            "namespace",
            &namespace(shape, "cluster.local/ns/default/sa/other"),
        )?;
        let of_gateway = gateway("default", "waypoint", "service").replace(
            "metadata:\n",
            "metadata:\n  annotations: {inmesh.io/explain-to: cluster.local/ns/default/sa/curl}\n",
        );
        world.cluster.apply("gateway", &of_gateway)?;
        told(&world).await;
        let (_, headers) = ask(&world.other, Method::GET, "/").await?;
        assert_eq!(headers.get(HEADER), None);
    }
    Ok(())
}

async fn a_grpc_denial_is_told_in_the_head_of_the_answer(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", POLICY)]).await?;
    world.cluster.apply("namespace", &namespace(shape, CURL))?;
    told(&world).await;
    let call = |client: &Client| {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let asked = request(Method::POST, "http://reviews:9080/admin.Service/Do", &headers);
        let client = client.clone();
        async move { client.request(asked).await.map_err(|it| anyhow::anyhow!("{it}")) }
    };
    let answer = call(&world.curl).await?;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["grpc-status"]),
        (200, &"7".parse()?)
    );
    let told = decision(answer.headers()).context("it is told")?;
    assert!(
        told.starts_with("deny;policy=\"AuthorizationPolicy default/closed\""),
        "{told}"
    );
    let answer = call(&world.other).await?;
    assert_eq!(answer.headers().get(HEADER), None);
    Ok(())
}
