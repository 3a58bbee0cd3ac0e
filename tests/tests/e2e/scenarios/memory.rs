//! What a process keeps for an endpoint that it has called and does not call now.

use anyhow::{Context, Result, ensure};
use inmesh_tests::kit::Cluster;
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::status;

use super::{BINARIES, is_long};

const ENDPOINTS: usize = 50;

/// A tunnel, TLS, an inner connection, its Pod in the configuration: all that there is. Says a number, in the long run only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_endpoint_takes_little_memory() -> Result<()> {
    if !is_long() {
        return Ok(());
    }
    let cluster = Cluster::new()?;
    cluster.service("front", "front", None)?;
    cluster.service("reviews", "reviews", None)?;
    let front = cluster.pod("front").label("app", "front");
    cluster.declare(&front)?;
    let process = Process::pod(BINARIES.pod, &cluster, &front, &[])?;
    let run = async |n: usize| {
        let spec = cluster.pod(&format!("reviews-{n}"));
        cluster
            .run(&spec.account("reviews").label("app", "reviews"))
            .await
    };
    let mut pods = vec![run(0).await?];
    let (_mesh, client) = cluster.client("curl").await?;
    let call = || async { status(client.get("http://front:9080/fan?to=http://reviews:9080/").await) == 200 };
    until("the first is called", call).await;
    for _ in 0..200 {
        ensure!(call().await, "a call failed");
    }
    let before = process.resident_kib().context("resident memory is told")?;
    for n in 1..=ENDPOINTS {
        pods.push(run(n).await?);
    }
    until("all of them were called", || async {
        call().await;
        pods.iter().all(|pod| pod.echo.served() > 0)
    })
    .await;
    let after = process.resident_kib().context("resident memory is told")?;
    let each = after.saturating_sub(before) / ENDPOINTS as u64;
    println!("an idle endpoint takes {each} KiB ({before} KiB before, {after} KiB with {ENDPOINTS} more)");
    ensure!(each < 512, "{each} KiB");
    Ok(())
}
