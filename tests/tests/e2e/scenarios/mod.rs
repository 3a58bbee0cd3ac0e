//! What goes wrong in a day, at a steady rate of requests, with real processes. Short and slow by default;
//! `INMESH_SCENARIOS=long` takes its time, and says what was seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use http_body_util::BodyExt;
use inmesh::Client;
use inmesh_tests::kit::town::{Binaries, Town, URL};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::status;
use inmesh_tests::kit::{Load, Shape, World};
use tokio::task::JoinSet;

const BINARIES: Binaries = Binaries {
    pod: env!("CARGO_BIN_EXE_test-pod"),
    waypoint: env!("CARGO_BIN_EXE_test-waypoint"),
};

in_both_shapes!(
    every_replica_is_replaced_and_no_request_fails,
    a_killed_replica_costs_what_it_had_in_hand_and_with_retries_nothing,
    a_peer_that_answers_no_more_is_noticed_by_its_silence,
    an_upstream_that_always_fails_is_asked_little_more,
    a_thousand_changes_are_not_felt,
    whoever_comes_back_is_found_by_everybody,
);

fn is_long() -> bool {
    std::env::var("INMESH_SCENARIOS").is_ok_and(|it| it == "long")
}

/// Requests a second, whatever becomes of them; fewer where a test shares its machine with others.
fn rate() -> u64 {
    if is_long() { 300 } else { 100 }
}

/// Requests at a steady rate, each a task of its own: one that is slow holds up no other.
struct Paced {
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    times: Vec<Duration>,
    failed: BTreeMap<String, usize>,
}

impl Seen {
    fn failures(&self) -> usize {
        self.failed.values().sum()
    }

    fn say(&mut self, what: &str, shape: Shape) {
        self.times.sort_unstable();
        let at = |share: f64| {
            self.times
                .get(((self.times.len() as f64) * share) as usize)
                .copied()
                .unwrap_or_default()
        };
        println!(
            "{what} ({shape:?}): {} answered, {} failed {:?}, p50 {:?}, p99 {:?}, longest {:?}",
            self.times.len(),
            self.failures(),
            self.failed,
            at(0.5),
            at(0.99),
            self.times.last(),
        );
    }
}

impl Paced {
    fn start(client: &Client, path: &str) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (client, url) = (client.clone(), format!("{URL}{path}"));
        let task = tokio::spawn(async move {
            let seen = Arc::new(Mutex::new(Seen::default()));
            let mut requests = JoinSet::new();
            let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / rate()));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            while !*stopped.borrow() {
                ticks.tick().await;
                requests.spawn(one(client.clone(), url.clone(), Arc::clone(&seen)));
                while requests.try_join_next().is_some() {}
            }
            while requests.join_next().await.is_some() {}
            Arc::into_inner(seen)
                .map(|it| it.into_inner().unwrap_or_else(PoisonError::into_inner))
                .unwrap_or_default()
        });
        Self { stop, task }
    }

    async fn stop(self) -> Result<Seen> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

async fn one(client: Client, url: String, seen: Arc<Mutex<Seen>>) {
    let began = Instant::now();
    let failure = match client.get(url).await {
        Ok(response) if response.status() == 200 => match response.into_body().collect().await {
            Ok(_) => None,
            Err(error) => Some(format!("body: {error}")),
        },
        Ok(response) => Some(response.status().to_string()),
        Err(refusal) => Some(refusal.reason.as_str().to_owned()),
    };
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match failure {
        None => seen.times.push(began.elapsed()),
        Some(what) => *seen.failed.entry(what).or_default() += 1,
    }
}

/// Retries of whatever became of an attempt.
const RETRIES: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews, namespace: default}\n\
    spec: {hosts: [reviews], http: [{retries: {attempts: 3, retryOn: 'reset,connect-failure,refused-stream,unavailable'}, \
    route: [{destination: {host: reviews}}]}]}\n";

async fn every_replica_is_replaced_and_no_request_fails(shape: Shape) -> Result<()> {
    let mut town = Town::start(BINARIES, shape, 3, &[]).await?;
    let pause = Duration::from_secs(if is_long() { 15 } else { 0 });
    let load = Paced::start(&town.curl, "/sleep/5");
    for _ in 0..3 {
        let next = town.replica().await?;
        town.pods.push(next);
        let (spec, mut old) = town.pods.remove(0);
        old.terminate()?;
        town.going(&spec)?;
        assert_eq!(old.ended(Duration::from_secs(25)).await?, Some(0));
        town.cluster.remove(&format!("pod-{}", spec.name))?;
        tokio::time::sleep(pause).await;
    }
    let mut seen = load.stop().await?;
    seen.say("rolling restart of three replicas", shape);
    assert_eq!(seen.failures(), 0, "{:?}", seen.failed);
    assert!(seen.times.len() > 100);
    Ok(())
}

async fn a_killed_replica_costs_what_it_had_in_hand_and_with_retries_nothing(shape: Shape) -> Result<()> {
    for (files, what) in [
        (&[][..], "without retries of resets"),
        (&[("retries", RETRIES)][..], "with them"),
    ] {
        let mut town = Town::start(BINARIES, shape, 3, files).await?;
        let load = Paced::start(&town.curl, "/sleep/20");
        tokio::time::sleep(Duration::from_secs(if is_long() { 10 } else { 1 })).await;
        town.pods[0].1.kill()?;
        tokio::time::sleep(Duration::from_secs(if is_long() { 10 } else { 2 })).await;
        let mut seen = load.stop().await?;
        seen.say(&format!("kill -9 of one of three, {what}"), shape);
        // At 300 a second for 20 ms each, a third of them there, two are under way at once; ten times as many are too many.
        let most = if files.is_empty() { 20 } else { 0 };
        assert!(seen.failures() <= most, "{what}: {:?}", seen.failed);
    }
    Ok(())
}

async fn a_peer_that_answers_no_more_is_noticed_by_its_silence(shape: Shape) -> Result<()> {
    if shape == Shape::Waypoint {
        // The waypoint process has the default pace, 30 s to notice: with the long scenarios only.
        if !is_long() {
            return Ok(());
        }
    }
    let town = Town::start(BINARIES, shape, 3, &[("retries", RETRIES)]).await?;
    let load = Paced::start(&town.curl, "/");
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Stopped: its kernel acknowledges, nobody answers.
    town.pods[0].1.signal("STOP")?;
    tokio::time::sleep(Duration::from_secs(if shape == Shape::Waypoint { 40 } else { 5 })).await;
    let mut seen = load.stop().await?;
    seen.say("one of three is stopped, and silent", shape);
    assert_eq!(seen.failures(), 0, "{:?}", seen.failed);
    let longest = seen.times.last().copied().unwrap_or_default();
    // A ping each second and one second to answer, or ten and twenty; then the request is sent elsewhere.
    let bound = if shape == Shape::Waypoint { 35 } else { 15 };
    assert!(longest < Duration::from_secs(bound), "{longest:?}");
    town.pods[0].1.signal("CONT")?;
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
    let load = Paced::start(&town.curl, "/sleep/5");
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
