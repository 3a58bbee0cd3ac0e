//! Processes are replaced one after another, as a Deployment does, and nobody notices.

use anyhow::Result;
use inmesh_tests::kit::Shape;
use inmesh_tests::kit::town::Town;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::status;

use super::paced::Paced;
use super::{BINARIES, RATE, is_long, load, seconds};

in_both_shapes!(
    every_replica_is_replaced_and_no_request_fails,
    every_service_is_restarted_and_no_page_fails,
);

async fn every_replica_is_replaced_and_no_request_fails(shape: Shape) -> Result<()> {
    let mut town = Town::start(BINARIES, shape, 3, &[]).await?;
    let load = load(&town, "/sleep/5");
    for _ in 0..3 {
        town.replace().await?;
        seconds(15, 0).await;
    }
    let mut seen = load.stop().await?;
    seen.say("rolling restart of three replicas", shape);
    assert_eq!(seen.failures(), 0, "{:?}", seen.failed);
    assert!(seen.times.len() > 100);
    Ok(())
}

/// A page as bookinfo's: of the details, and of the reviews, which ask for ratings.
const PAGE: &str = "http://productpage:9080/fan?to=http://details:9080/sleep/2\
    &to=http://reviews:9080/fan?to=http://ratings:9080/sleep/2";

async fn every_service_is_restarted_and_no_page_fails(shape: Shape) -> Result<()> {
    let mut town = Town::start(BINARIES, shape, 2, &[]).await?;
    for app in ["ratings", "details", "productpage"] {
        town.cluster.service(app, app, None)?;
        for _ in 0..2 {
            let pod = town.replica_of(app, &[]).await?;
            town.pods.push(pod);
        }
    }
    until("there are pages", || async {
        status(town.curl.get(PAGE).await) == 200
    })
    .await;
    // A page is four requests.
    let rate = if is_long() { RATE / 4 } else { RATE / 30 };
    let pages = Paced::start(&town.curl, PAGE, rate);
    for _ in 0..town.pods.len() {
        town.replace().await?;
        seconds(6, 0).await;
    }
    let mut seen = pages.stop().await?;
    seen.say(
        "rolling restart of productpage, details, reviews and ratings",
        shape,
    );
    assert_eq!(seen.failures(), 0, "{:?}", seen.failed);
    Ok(())
}
