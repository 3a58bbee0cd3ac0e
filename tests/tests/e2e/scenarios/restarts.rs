//! Processes are replaced one after another, as a Deployment does, and nobody notices.

use anyhow::Result;
use examples::bookinfo::{hops, productpage};
use http::HeaderMap;
use inmesh_tests::kit::Shape;
use inmesh_tests::kit::town::{KEEPALIVE, Town};
use inmesh_tests::kit::wait::until;

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
        town.replace(&[]).await?;
        seconds(15, 0).await;
    }
    let mut seen = load.stop().await?;
    seen.say("rolling restart of three replicas", shape);
    assert_eq!(seen.failures(), 0, "{:?}", seen.failed);
    assert!(seen.times.len() > 100);
    Ok(())
}

/// The sample's services, and what makes them what they are.
const BOOKINFO: [(&str, &[(&str, &str)]); 4] = [
    ("ratings", &[("BOOKINFO", "ratings")]),
    ("details", &[("BOOKINFO", "details")]),
    // The one that asks for ratings.
    ("reviews", &[("BOOKINFO", "reviews"), ("SERVICE_VERSION", "v2")]),
    ("productpage", &[("BOOKINFO", "productpage")]),
];

/// Four requests: of the page, of the details, and of the reviews, which ask for ratings.
const PAGE: &str = "http://productpage:9080/productpage";

/// The programs of `examples/`, each of which has two replicas, one of which is always there.
async fn every_service_is_restarted_and_no_page_fails(shape: Shape) -> Result<()> {
    let mut town = Town::found(BINARIES, shape, &[], KEEPALIVE).await?;
    for (app, vars) in BOOKINFO {
        town.cluster.service(app, app, None)?;
        for _ in 0..2 {
            let pod = town.replica_of(app, vars).await?;
            town.pods.push(pod);
        }
    }
    let curl = town.curl.clone();
    until("there is a whole page, of all four", || async {
        let page = curl.get(PAGE).await;
        page.is_ok_and(|page| is_whole(page.headers()))
    })
    .await;
    let pages = Paced::start(&town.curl, PAGE, if is_long() { RATE / 4 } else { RATE / 30 });
    for (_, vars) in BOOKINFO {
        for _ in 0..2 {
            town.replace(vars).await?;
            seconds(6, 0).await;
        }
    }
    let mut seen = pages.stop().await?;
    seen.say("rolling restart of bookinfo, pages of four requests", shape);
    assert_eq!(seen.failures(), 0, "{:?}", seen.failed);
    Ok(())
}

/// Whether all have had a part in a page, each called by somebody who has proved who they are.
fn is_whole(headers: &HeaderMap) -> bool {
    let hops = hops::of(headers);
    let mut names: Vec<_> = hops
        .iter()
        .filter_map(|hop| hop.split_once("=spiffe://"))
        .collect();
    names.sort();
    let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
    names == ["details-v1", "productpage-v1", "ratings-v1", "reviews-v2"]
        && !headers.contains_key(productpage::UNAVAILABLE)
}
