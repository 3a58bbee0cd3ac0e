//! AuthorizationPolicies: enforced by the service itself, and by its waypoint where it has one.

use anyhow::Result;
use http::Method;
use http_body_util::BodyExt;
use inmesh::Body;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, status};
use inmesh_tests::kit::{Shape, World};

const URL: &str = "http://reviews:9080/";

in_both_shapes!(
    a_service_policy_allows_get_of_one_caller_only,
    a_denied_request_never_reaches_the_app,
    a_workload_policy_is_enforced_by_the_workload,
    a_policy_that_never_was_good_denies,
    a_policy_that_breaks_later_stays_as_it_was,
    a_grpc_denial_is_trailers_only,
    headers_that_claim_an_identity_grant_nothing,
);

/// Policies on a Service bind where HTTP is judged: the waypoint or the workload.
fn on_service(action: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: reviews\n  namespace: default\nspec:\n  \
         targetRefs:\n  - {{group: \"\", kind: Service, name: reviews}}\n  action: {action}\n  rules:\n{rules}"
    )
}

const CURL_GETS: &str = "  - from:\n    - source:\n        principals: [cluster.local/ns/default/sa/curl]\n    to:\n    - operation:\n        methods: [GET]\n";

async fn a_service_policy_allows_get_of_one_caller_only(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", &on_service("ALLOW", CURL_GETS))]).await?;
    assert_eq!(status(world.curl.get(URL).await), 200);
    assert_eq!(status(world.curl.post(URL, "x").await), 403);
    assert_eq!(status(world.other.get(URL).await), 403);
    // Nobody gets around it by the pod's own address: the workload asks the same policy.
    let direct = format!("http://{}:9080/", world.v1.spec.ip);
    assert_eq!(status(world.curl.get(direct.as_str()).await), 200);
    assert_eq!(status(world.curl.post(direct.as_str(), "x").await), 403);
    assert_eq!(status(world.other.get(direct.as_str()).await), 403);
    Ok(())
}

async fn a_denied_request_never_reaches_the_app(shape: Shape) -> Result<()> {
    let rules = "  - to:\n    - operation:\n        paths: [/admin*]\n";
    let world = World::start(shape, &[("policy", &on_service("DENY", rules))]).await?;
    for path in ["admin", "admin/x", "./admin", "x/../admin", "%61dmin"] {
        assert_eq!(
            status(world.other.get(format!("{URL}{path}")).await),
            403,
            "{path}"
        );
    }
    assert_eq!(world.v1.echo.served() + world.v2.echo.served(), 0);
    let denied = world
        .other
        .get(format!("{URL}admin"))
        .await
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    assert_eq!(
        &denied
            .into_body()
            .collect()
            .await
            .map_err(|e| anyhow::anyhow!("{e}"))?
            .to_bytes()[..],
        b"RBAC: access denied"
    );
    assert_eq!(status(world.other.get(URL).await), 200);
    Ok(())
}

async fn a_workload_policy_is_enforced_by_the_workload(shape: Shape) -> Result<()> {
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: v1\n  namespace: default\nspec:\n  selector:\n    matchLabels: {version: v1}\n  \
                  action: DENY\n  rules:\n  - from:\n    - source:\n        principals: [cluster.local/ns/default/sa/other, cluster.local/ns/default/sa/waypoint]\n";
    let world = World::start(shape, &[("policy", policy)]).await?;
    let (v1, v2) = ("http://reviews-v1:9080/", "http://reviews-v2:9080/");
    // A workload sees its direct caller: behind a waypoint, that is the waypoint.
    let curl_at_v1 = if shape == Shape::Waypoint { 403 } else { 200 };
    assert_eq!(status(world.curl.get(v1).await), curl_at_v1);
    assert_eq!(status(world.other.get(v1).await), 403);
    assert_eq!(status(world.other.get(v2).await), 200);
    Ok(())
}

async fn a_policy_that_never_was_good_denies(shape: Shape) -> Result<()> {
    let broken = on_service("ALLOW", CURL_GETS).replace("methods:", "methodz:");
    let world = World::start(shape, &[("policy", &broken)]).await?;
    assert_eq!(status(world.curl.get(URL).await), 403);
    let told = world.v1.mesh.status().borrow().problems.iter().any(|problem| {
        let text = format!("{problem}");
        text.contains("methodz") && text.contains("policy.yaml") && problem.place.line > 10
    });
    assert!(told, "{:?}", world.v1.mesh.status().borrow().problems);
    // Mended, it takes effect.
    world
        .apply_until("policy", &on_service("ALLOW", CURL_GETS), URL, 200)
        .await?;
    assert_eq!(status(world.other.get(URL).await), 403);
    Ok(())
}

async fn a_policy_that_breaks_later_stays_as_it_was(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", &on_service("ALLOW", CURL_GETS))]).await?;
    assert_eq!(status(world.other.get(URL).await), 403);
    world.cluster.apply(
        "policy",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: [broken\n",
    )?;
    let meshes: Vec<_> = world
        .meshes()
        .iter()
        .chain(world.waypoint.iter().map(inmesh::Waypoint::mesh))
        .cloned()
        .collect();
    until("everybody has read the broken file", || async {
        meshes.iter().all(|mesh| {
            mesh.status()
                .borrow()
                .problems
                .iter()
                .any(|p| p.place.file.contains("policy.yaml"))
        })
    })
    .await;
    assert_eq!(status(world.curl.get(URL).await), 200);
    assert_eq!(status(world.other.get(URL).await), 403);
    // Deleted, it is gone.
    world.cluster.remove("policy")?;
    until("the deleted policy is gone", || async {
        status(world.other.get(URL).await) == 200
    })
    .await;
    Ok(())
}

async fn a_grpc_denial_is_trailers_only(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", &on_service("DENY", "  - {}\n"))]).await?;
    let mut call = request(
        Method::POST,
        "http://reviews:9090/x.Y/Z",
        &[("content-type", "application/grpc"), ("te", "trailers")],
    );
    *call.body_mut() = Body::from("\0\0\0\0\0");
    let answer = world
        .curl
        .request(call)
        .await
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "7");
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    Ok(())
}

async fn headers_that_claim_an_identity_grant_nothing(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", &on_service("ALLOW", CURL_GETS))]).await?;
    let curl = "spiffe://cluster.local/ns/default/sa/curl";
    let xfcc = format!("By={curl};URI={curl}");
    for (name, value) in [
        ("x-forwarded-client-cert", xfcc.as_str()),
        ("baggage", "k8s.namespace.name=default,service.name=curl"),
        ("forwarded", "for=127.0.0.1;by=curl"),
        ("x-istio-source", "waypoint"),
        ("x-forwarded-for", "10.0.0.1"),
    ] {
        let spoofed = request(Method::GET, URL, &[(name, value)]);
        assert_eq!(status(world.other.request(spoofed).await), 403, "{name}");
    }
    Ok(())
}
