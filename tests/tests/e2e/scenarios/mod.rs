//! What goes wrong in a day, at a steady rate of requests, with real processes. Short by default; `INMESH_SCENARIOS=long`
//! takes its time, and says what was seen.

mod memory;
mod paced;
mod restarts;
mod silence;
mod slow;

use std::time::Duration;

use anyhow::Result;
use inmesh_tests::kit::town::{Binaries, Town, URL};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::status;
use inmesh_tests::kit::{Load, Shape, World};
use paced::Paced;
use tokio::task::JoinSet;

const BINARIES: Binaries = Binaries {
    pod: env!("CARGO_BIN_EXE_test-pod"),
    waypoint: env!("CARGO_BIN_EXE_test-waypoint"),
};

in_both_shapes!(
    a_killed_replica_costs_what_it_had_in_hand_and_with_retries_nothing,
    an_upstream_that_always_fails_is_asked_little_more,
    a_thousand_changes_are_not_felt,
    whoever_comes_back_is_found_by_everybody,
);

fn is_long() -> bool {
    std::env::var("INMESH_SCENARIOS").is_ok_and(|it| it == "long")
}

/// Requests a second.
const RATE: u64 = 300;

fn load(town: &Town, path: &str) -> Paced {
    Paced::start(&town.curl, &format!("{URL}{path}"), RATE)
}

async fn seconds(long: u64, short: u64) {
    tokio::time::sleep(Duration::from_secs(if is_long() { long } else { short })).await;
}

/// Retries of whatever became of an attempt.
const RETRIES: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews, namespace: default}\n\
    spec: {hosts: [reviews], http: [{retries: {attempts: 3, retryOn: 'reset,connect-failure,refused-stream,unavailable'}, \
    route: [{destination: {host: reviews}}]}]}\n";

async fn a_killed_replica_costs_what_it_had_in_hand_and_with_retries_nothing(shape: Shape) -> Result<()> {
    for (files, what) in [
        (&[][..], "without retries of resets"),
        (&[("retries", RETRIES)][..], "with them"),
    ] {
        let mut town = Town::start(BINARIES, shape, 3, files).await?;
        let load = load(&town, "/sleep/20");
        seconds(10, 1).await;
        town.pods[0].1.kill()?;
        seconds(10, 2).await;
        let mut seen = load.stop().await?;
        let in_hand = seen.most_under_way;
        seen.say(
            &format!("kill -9 of one of three, {in_hand} under way, {what}"),
            shape,
        );
        let most = if files.is_empty() { in_hand } else { 0 };
        assert!(seen.failures() <= most, "{what}: {:?}", seen.failed);
    }
    Ok(())
}

async fn an_upstream_that_always_fails_is_asked_little_more(shape: Shape) -> Result<()> {
    let route = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews, namespace: default}\n\
        spec: {hosts: [reviews-v1], http: [{retries: {attempts: 5, retryOn: '5xx', backoff: 1ms}, route: [{destination: {host: reviews-v1}}]}]}\n";
    let world = World::start(shape, &[("route", route)]).await?;
    let requests = if is_long() { 20_000 } else { 2_000 };
    let mut under_way = JoinSet::new();
    for _ in 0..requests {
        if under_way.len() >= 32 {
            under_way.join_next().await;
        }
        let curl = world.curl.clone();
        under_way.spawn(async move {
            assert_eq!(status(curl.get("http://reviews-v1:9080/status/503").await), 503)
        });
    }
    while let Some(ended) = under_way.join_next().await {
        ended?;
    }
    let served = world.v1.echo.served();
    println!("always failing ({shape:?}): {requests} requests, {served} attempts");
    // The budget: 20 %, and ten a second over ten seconds in any case.
    assert!(served <= requests + requests / 5 + 100, "{served} attempts");
    assert!(served > requests, "some are repeated");
    Ok(())
}

async fn a_thousand_changes_are_not_felt(shape: Shape) -> Result<()> {
    let changes = if is_long() { 1_000 } else { 200 };
    let town = Town::start(BINARIES, shape, 2, &[]).await?;
    let load = load(&town, "/sleep/5");
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for n in 0..changes {
        ticks.tick().await;
        town.cluster
            .service(&format!("other-{}", n % 50), &format!("other-{n}"), None)?;
    }
    let mut seen = load.stop().await?;
    seen.say(&format!("{changes} changes, one every 10 ms"), shape);
    assert_eq!(seen.failures(), 0, "{:?}", seen.failed);
    Ok(())
}

async fn whoever_comes_back_is_found_by_everybody(shape: Shape) -> Result<()> {
    let mut town = Town::start(BINARIES, shape, 1, &[]).await?;
    let load = Load::start(
        &town.curl,
        &format!("{URL}/sleep/5"),
        if is_long() { 256 } else { 64 },
    );
    load.see(200).await;
    let (spec, mut process) = town.pods.remove(0);
    process.kill()?;
    town.cluster.remove(&format!("pod-{}", spec.name))?;
    until("nobody is there", || async {
        status(town.curl.get(URL).await) == 503
    })
    .await;
    let back = town.replica().await?;
    town.pods.push(back);
    until("requests are answered again", || async {
        status(town.curl.get(URL).await) == 200
    })
    .await;
    let before = load.tally();
    load.see(if is_long() { 5_000 } else { 500 }).await;
    let after = load.stop().await;
    println!(
        "thundering reconnect ({shape:?}): {} answered, then {} without a failure",
        before.ok,
        after.ok - before.ok
    );
    // Those who were under way when it came back may still hear of nobody; then none does.
    assert!(after.failures() - before.failures() <= 256, "{after:?}");
    Ok(())
}
