//! One of three is slow, and goes on answering: nothing fails, and the slowest hundredth is its alone to spoil.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use inmesh::Client;
use inmesh_tests::kit::Shape;
use inmesh_tests::kit::town::{Town, URL};
use inmesh_tests::kit::wait::until;
use tokio::task::JoinSet;

use super::{BINARIES, is_long, load, seconds};

in_both_shapes!(
    a_slow_replica_is_hardly_asked,
    a_slow_replica_is_ejected_where_attempts_have_a_limit,
);

/// Endpoints are told by how long they took of late.
const TIMED: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews, namespace: default, \
    annotations: {inmesh.io/load-balancer: peak-ewma}}\nspec: {host: reviews}\n";

/// Who has answered, where somebody did.
async fn answered(client: &Client) -> Result<String> {
    let answer = client
        .get(URL)
        .await
        .map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    anyhow::ensure!(answer.status() == 200, "{}", answer.status());
    let by = answer
        .headers()
        .get("x-pod")
        .context("nobody says that it was them")?;
    Ok(by.to_str()?.to_owned())
}

/// Puts a replica that takes so many milliseconds longer in the place of one of the three; gives its name, when whoever
/// chooses has found out.
async fn slow_down(town: &mut Town, millis: &str) -> Result<String> {
    let (gone, _) = town.pods.remove(0);
    town.cluster.remove(&format!("pod-{}", gone.name))?;
    let (slow, process) = town.replica_of("reviews", &[("ECHO_PAUSE", millis)]).await?;
    let name = slow.name.clone();
    town.pods.push((slow, process));
    until("the slow one is asked", || async {
        answered(&town.curl).await.is_ok_and(|by| by == name)
    })
    .await;
    Ok(name)
}

async fn a_slow_replica_is_hardly_asked(shape: Shape) -> Result<()> {
    if is_long() {
        return percentiles(shape).await;
    }
    let mut town = Town::start(BINARIES, shape, 3, &[("timed", TIMED)]).await?;
    // So much slower than the others can be, however busy the machine is, that only the choice decides who is asked.
    let slow = slow_down(&mut town, "5000").await?;
    let (callers, each) = (4, 100);
    let mut load = JoinSet::new();
    for _ in 0..callers {
        let (curl, slow) = (town.curl.clone(), slow.clone());
        load.spawn(async move {
            let mut asked = 0;
            for _ in 0..each {
                asked += usize::from(answered(&curl).await? == slow);
            }
            anyhow::Ok(asked)
        });
    }
    let mut asked = 0;
    while let Some(counted) = load.join_next().await {
        asked += counted??;
    }
    // A third of them, were they chosen blindly; so few cannot be seen in the slowest hundredth.
    assert!(asked * 100 <= callers * each, "{asked} of {}", callers * each);
    Ok(())
}

/// What Istio itself has for it: a limit of each attempt makes of a slow answer none, which is repeated elsewhere and is a row
/// for outlier detection.
const LIMITED: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews, namespace: default}\n\
    spec: {hosts: [reviews], http: [{retries: {attempts: 3, perTryTimeout: 1s, retryOn: 'reset,connect-failure'}, \
    route: [{destination: {host: reviews}}]}]}\n---\n\
    apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews, namespace: default}\n\
    spec: {host: reviews, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 50, baseEjectionTime: 300s}}}\n";

async fn a_slow_replica_is_ejected_where_attempts_have_a_limit(shape: Shape) -> Result<()> {
    let mut town = Town::start(BINARIES, shape, 3, &[("limited", LIMITED)]).await?;
    let (gone, _) = town.pods.remove(0);
    town.cluster.remove(&format!("pod-{}", gone.name))?;
    let (slow, process) = town.replica_of("reviews", &[("ECHO_PAUSE", "5000")]).await?;
    let name = slow.name.clone();
    town.pods.push((slow, process));
    // One after another: without an ejection every third would meet it and take its second.
    until("forty in a row do not meet the slow one", || async {
        for _ in 0..40 {
            let began = Instant::now();
            let by = answered(&town.curl).await;
            assert!(by.as_ref().is_ok_and(|by| *by != name), "{by:?}");
            if began.elapsed() >= Duration::from_secs(1) {
                return false;
            }
        }
        true
    })
    .await;
    Ok(())
}

/// What the slowest hundredth is with three alike, and with one of them slow, by either way of telling who has least to do.
async fn percentiles(shape: Shape) -> Result<()> {
    for (what, files) in [("least request", &[][..]), ("peak EWMA", &[("timed", TIMED)][..])] {
        let mut town = Town::start(BINARIES, shape, 3, files).await?;
        let healthy = load(&town, "/");
        seconds(20, 20).await;
        let mut healthy = healthy.stop().await?;
        healthy.say(&format!("three alike, {what}"), shape);
        let name = slow_down(&mut town, "400").await?;
        let load = load(&town, "/");
        seconds(60, 60).await;
        let mut seen = load.stop().await?;
        seen.say(&format!("one of three is slow by 400 ms, {what}"), shape);
        let asked = seen.by.get(&name).copied().unwrap_or_default();
        let ratio = seen.within(0.99).as_secs_f64() / healthy.within(0.99).as_secs_f64();
        println!(
            "  it was asked {asked} times of {}; p99 is {ratio:.2} times that of three alike",
            seen.times.len()
        );
        assert_eq!(seen.failures(), 0, "{:?}", seen.failed);
    }
    Ok(())
}
