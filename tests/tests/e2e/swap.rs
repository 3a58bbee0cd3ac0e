//! Configuration changes under load: not one request fails.

use anyhow::Result;
use inmesh_tests::kit::cluster::namespace;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::seen;
use inmesh_tests::kit::{Load, Shape, World};

const URL: &str = "http://reviews:9080/";

in_both_shapes!(
    routes_and_policies_change_without_a_failed_request,
    credentials_rotate_without_a_failed_request
);

fn to(version: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: reviews\n  namespace: default\nspec:\n  parentRefs:\n  - group: \"\"\n    \
         kind: Service\n    name: reviews\n  rules:\n  - backendRefs: [{{name: reviews-{version}, port: 9080}}]\n"
    )
}

const ALLOW: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: reviews\n  namespace: default\nspec:\n  targetRefs:\n  - {group: \"\", kind: Service, name: reviews}\n  \
                     rules:\n  - from:\n    - source:\n        principals: [cluster.local/ns/default/sa/curl]\n";

async fn routes_and_policies_change_without_a_failed_request(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let load = Load::start(&world.curl, URL, 8);
    load.see(50).await;
    for version in ["v2", "v1", "v2"] {
        world.cluster.apply("route", &to(version))?;
        until(&format!("requests go to {version}"), || async {
            seen(world.curl.get(URL).await)
                .await
                .is_ok_and(|seen| seen.pod.ends_with(version))
        })
        .await;
        load.see(50).await;
    }
    world.cluster.remove("route")?;
    world.cluster.apply("policy", ALLOW)?;
    until("the policy denies others", || async {
        inmesh_tests::kit::world::status(world.other.get(URL).await) == 403
    })
    .await;
    load.see(50).await;
    world.cluster.remove("policy")?;
    load.see(50).await;
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    Ok(())
}

async fn credentials_rotate_without_a_failed_request(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let load = Load::start(&world.curl, URL, 8);
    load.see(50).await;
    for _ in 0..2 {
        // The same folders: written again, they hold new keys and certificates.
        let before: Vec<_> = world
            .meshes()
            .iter()
            .map(inmesh::Mesh::certificate_expiry)
            .collect();
        // Expiry has whole seconds; a new certificate must be seen to be new.
        until("a second has begun", || async {
            let now = std::time::SystemTime::now() + std::time::Duration::from_secs(3599);
            before.iter().all(|expiry| *expiry < now)
        })
        .await;
        for account in ["curl", "reviews", "waypoint"] {
            world.cluster.credentials("default", account)?;
        }
        until("the new certificates are in use", || async {
            let rotated = |at: usize| world.meshes()[at].certificate_expiry() > before[at];
            // `other` (the second) was not rotated.
            rotated(0) && rotated(2) && rotated(3)
        })
        .await;
        load.see(100).await;
    }
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_comes_and_goes_without_a_failed_request() -> Result<()> {
    let world = World::start(Shape::Waypoint, &[("policy", ALLOW)]).await?;
    let load = Load::start(&world.curl, URL, 8);
    load.see(50).await;
    for (value, account) in [
        ("none", "curl"),
        ("waypoint", "waypoint"),
        ("none", "curl"),
        ("waypoint", "waypoint"),
    ] {
        world.cluster.apply(
            "namespace",
            &namespace("default", &[("istio.io/use-waypoint", value)]),
        )?;
        until(&format!("reviews is called by {account}"), || async {
            let peer = seen(world.curl.get(URL).await)
                .await
                .ok()
                .and_then(|seen| seen.peer);
            peer.is_some_and(|peer| peer.ends_with(&format!("/{account}")))
        })
        .await;
        load.see(50).await;
        assert_eq!(inmesh_tests::kit::world::status(world.other.get(URL).await), 403);
    }
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    Ok(())
}
