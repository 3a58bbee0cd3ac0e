//! The acts: the guide from its first step to its last, each step a change to a file, and what is seen then.
//!
//! While an act runs, `curl` asks for the product page without pause, and not one page may fail or lack a section.

mod authorization;
mod clean_up;
pub(crate) mod look;
mod peer_authentication;
mod plain_mesh;
mod route;
pub(crate) mod stage;
mod waypoint;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::timeout;

use self::stage::Stage;
use crate::caller::Counts;
use crate::town::Town;

/// No act takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// Titles of the acts, by number.
pub(crate) const TITLES: [&str; 6] = [
    "plain mesh",
    "waypoints",
    "HTTPRoute reviews 90/10",
    "AuthorizationPolicy productpage-waypoint",
    "PeerAuthentication",
    "clean-up",
];

/// Plays the acts with these numbers, all if there are none, and says whether they all went as they should.
pub(crate) async fn run(town: &Town, wanted: &[u8]) -> anyhow::Result<bool> {
    let acts = (1..)
        .zip(TITLES)
        .filter(|(number, _)| wanted.is_empty() || wanted.contains(number));
    let mut acts = acts.peekable();
    let mut all_good = true;
    while let Some((number, title)) = acts.next() {
        let mut stage = Stage::set(town)?;
        if perform(number, title, &mut stage).await {
            continue;
        }
        all_good = false;
        keep_logs(town);
        if acts.peek().is_some() {
            // The next act needs the town as it was.
            let order = timeout(PATIENCE, stage.reset()).await;
            order
                .unwrap_or_else(|elapsed| Err(elapsed.into()))
                .context("the town could not be put in order again")?;
        }
    }
    Ok(all_good)
}

/// Plays one act under load, prints its line, and says whether it went as it should.
async fn perform(number: u8, title: &str, stage: &mut Stage<'_>) -> bool {
    let began = Instant::now();
    let played = timeout(PATIENCE, play(number, stage)).await;
    let played = played.unwrap_or_else(|_| Err(anyhow::anyhow!("not done after {PATIENCE:?}")));
    let counts = stage.end_load().await;
    let time = began.elapsed().as_secs_f32();
    let saw = stage.saw().join("; ");
    match played.and_then(|()| judged(counts)) {
        Ok(counts) => {
            println!(
                "act {number} ok      {title} ({time:.1} s, {} pages, 0 failed): {saw}",
                counts.good
            );
            true
        }
        Err(error) => {
            println!("act {number} FAILED  {title} ({time:.1} s): {error:#}; seen before: {saw}");
            false
        }
    }
}

async fn play(number: u8, stage: &mut Stage<'_>) -> anyhow::Result<()> {
    stage.start_load().await?;
    match number {
        1 => plain_mesh::play(stage).await?,
        2 => waypoint::play(stage).await?,
        3 => route::play(stage).await?,
        4 => authorization::play(stage).await?,
        5 => peer_authentication::play(stage).await?,
        _ => return clean_up::play(stage).await,
    }
    stage.reset().await.context("putting the town in order again")
}

/// An act is good only if no request failed while it changed things.
fn judged(counts: anyhow::Result<Counts>) -> anyhow::Result<Counts> {
    let counts = counts.context("ending the load")?;
    if counts.failed > 0 {
        let all = counts.good + counts.failed;
        bail!(
            "{} of {all} pages failed: {}",
            counts.failed,
            counts.failures.join(" | ")
        );
    }
    if counts.good == 0 {
        bail!("the load made no requests");
    }
    Ok(counts)
}

/// A failed check leaves the logs where somebody can read them after the town is gone.
fn keep_logs(town: &Town) {
    let kept = std::env::temp_dir().join(format!("sidecarless-logs-{}", std::process::id()));
    let copied = std::fs::create_dir_all(&kept).and_then(|()| {
        for entry in std::fs::read_dir(town.logs())?.flatten() {
            std::fs::copy(entry.path(), kept.join(entry.file_name()))?;
        }
        Ok(())
    });
    match copied {
        Ok(()) => println!("             logs: {}", kept.display()),
        Err(error) => println!("             the logs could not be kept: {error}"),
    }
}
