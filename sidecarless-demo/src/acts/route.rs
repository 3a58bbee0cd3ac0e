//! Act 3: the guide's HTTPRoute, applied by the caller when there is no waypoint and by the waypoint when there is one.

use anyhow::ensure;

use super::look::eventually;
use super::stage::{REVIEWS, Stage};
use crate::ca::identity;
use crate::caller::Tally;
use crate::manifests;

/// How many requests the shares are counted over.
const REQUESTS: usize = 2_000;
/// How many requests show that a caller knows the route: without it a third of them goes to reviews-v3.
const GLANCE: usize = 40;
/// How far the share of reviews-v2 may be from a tenth: four and a half standard deviations.
const TOLERANCE: f64 = 0.03;

pub(super) async fn play(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    stage.apply("reviews.yaml", manifests::ROUTE)?;
    let in_process = share(stage, &identity("default", "curl")).await?;
    stage.start_waypoint().await?;
    stage.bind_namespace(Some("waypoint"), None)?;
    let by_waypoint = share(stage, &identity("bookinfo", "waypoint")).await?;
    stage.note(format!(
        "of {REQUESTS} requests reviews-v2 got {:.1} % in process and {:.1} % through the waypoint, reviews-v1 the rest",
        in_process * 100.0,
        by_waypoint * 100.0
    ));
    Ok(())
}

/// The share of reviews-v2 once the route is known, all calls under `peer`'s identity.
async fn share(stage: &Stage<'_>, peer: &str) -> anyhow::Result<f64> {
    eventually("the route to be known", async || {
        routed(&stage.curl.volley(REVIEWS, GLANCE).await?, peer, GLANCE).map(drop)
    })
    .await?;
    let share = routed(&stage.curl.volley(REVIEWS, REQUESTS).await?, peer, REQUESTS)?;
    ensure!(
        (share - 0.1).abs() <= TOLERANCE,
        "reviews-v2 got {:.1} % of {REQUESTS} requests",
        share * 100.0
    );
    Ok(share)
}

/// The share of reviews-v2 in a tally that holds nothing but what the route allows.
fn routed(tally: &Tally, peer: &str, sent: usize) -> anyhow::Result<f64> {
    ensure!(
        tally.failures.is_empty(),
        "requests failed: {}",
        tally.failures.join(" | ")
    );
    let mut counts = [0; 2];
    for (service, peers) in &tally.answers {
        let count = match service.as_str() {
            "reviews-v1" => &mut counts[0],
            "reviews-v2" => &mut counts[1],
            other => anyhow::bail!("{other} answered"),
        };
        for (seen, answers) in peers {
            ensure!(seen == peer, "{service} was called by {seen}, not by {peer}");
            *count += answers;
        }
    }
    ensure!(
        counts[0] + counts[1] == sent,
        "{} of {sent} requests were answered",
        counts[0] + counts[1]
    );
    Ok(counts[1] as f64 / sent as f64)
}
