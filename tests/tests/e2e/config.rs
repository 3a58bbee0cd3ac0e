//! Bad configuration: what is wrong is said, with its place, and what was good stays.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::Result;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{seen, status};
use inmesh_tests::kit::{Cluster, Shape, World};

const URL: &str = "http://reviews:9080/";

in_both_shapes!(what_is_broken_is_reported_and_what_was_good_stays);

async fn what_is_broken_is_reported_and_what_was_good_stays(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let reported = |file: &str| {
        let status = world.v1.mesh.status();
        let status = status.borrow();
        status
            .problems
            .iter()
            .any(|problem| problem.place.file.contains(file))
    };
    let huge = format!("# {}\n", "x".repeat(10 << 20));
    let pod = world.v1.spec.yaml();
    let cases = [
        ("not-yaml", "kind: [Service\n  name: : :\n"),
        (
            "unknown-kind",
            "apiVersion: example.com/v1\nkind: Mystery\nmetadata: {name: x}\n",
        ),
        (
            "wrong-types",
            "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: default}\nspec: {ports: [{port: many}]}\n",
        ),
        ("no-kind", "metadata: {name: x}\n"),
        ("huge", huge.as_str()),
        ("z-duplicate", pod.as_str()),
    ];
    for (name, yaml) in cases {
        world.cluster.apply(name, yaml)?;
        until(&format!("{name} is reported"), || async { reported(name) }).await;
        assert_eq!(status(world.curl.get(URL).await), 200, "{name}");
        world.cluster.remove(name)?;
        until(&format!("{name} is forgotten"), || async { !reported(name) }).await;
    }
    // A service whose file breaks is the service it was.
    world.cluster.apply(
        "service-reviews",
        "apiVersion: v1\nkind: Service\nmetadata: {name: reviews",
    )?;
    until("the broken service is reported", || async {
        reported("service-reviews")
    })
    .await;
    assert_eq!(status(world.curl.get(URL).await), 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_vanish_while_they_are_read_do_no_harm() -> Result<()> {
    let world = World::start(Shape::InProcess, &[]).await?;
    for round in 0..40 {
        for n in 0..5 {
            world.cluster.apply(
                &format!("brief-{n}"),
                &inmesh_tests::kit::cluster::namespace(&format!("n{round}-{n}"), &[]),
            )?;
        }
        tokio::task::yield_now().await;
        for n in 0..5 {
            world.cluster.remove(&format!("brief-{n}"))?;
        }
        assert_eq!(status(world.curl.get(URL).await), 200);
    }
    until("nothing is left to report", || async {
        world
            .v1
            .mesh
            .status()
            .borrow()
            .problems
            .iter()
            .all(|problem| !problem.place.file.contains("brief"))
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mounted_config_map_is_seen_to_change() -> Result<()> {
    let world = World::start(Shape::InProcess, &[]).await?;
    let mount = world.cluster.folder().join("mounted");
    let route = |version: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: default}}\nspec:\n  parentRefs:\n  - {{group: \"\", kind: Service, name: reviews}}\n  \
             rules:\n  - backendRefs: [{{name: reviews-{version}, port: 9080}}]\n"
        )
    };
    // As the kubelet does it: files in a dated folder, `..data` leads there, the names lead through `..data`.
    let write = |date: &str, version: &str| -> Result<()> {
        fs::create_dir_all(mount.join(date))?;
        fs::write(mount.join(date).join("route.yaml"), route(version))?;
        symlink(date, mount.join("..data_tmp"))?;
        fs::rename(mount.join("..data_tmp"), mount.join("..data"))?;
        Ok(())
    };
    write("..2026_01", "v1")?;
    symlink("..data/route.yaml", mount.join("route.yaml"))?;
    let goes_to = |version: &'static str| {
        let curl = world.curl.clone();
        async move {
            until(&format!("requests go to {version}"), || async {
                seen(curl.get(URL).await)
                    .await
                    .is_ok_and(|seen| seen.pod.ends_with(version))
            })
            .await;
        }
    };
    goes_to("v1").await;
    write("..2026_02", "v2")?;
    fs::remove_dir_all(mount.join("..2026_01"))?;
    goes_to("v2").await;
    Ok(())
}

#[tokio::test]
async fn strict_mode_refuses_what_is_not_enforced() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    cluster
        .participant("default", "curl")?
        .strict(true)
        .start()
        .await?;
    let odd = "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: default}\nspec: {sessionAffinity: ClientIP, selector: {app: x}, ports: [{name: http, port: 80}]}\n";
    cluster.apply("odd", odd)?;
    let refused = cluster.participant("default", "curl")?.strict(true).start().await;
    let error = refused.map(|_| ()).expect_err("sessionAffinity is not enforced");
    assert_eq!(error.kind(), inmesh::ErrorKind::Strict);
    assert!(error.to_string().contains("sessionAffinity"), "{error}");
    cluster.participant("default", "curl")?.start().await?;
    Ok(())
}
