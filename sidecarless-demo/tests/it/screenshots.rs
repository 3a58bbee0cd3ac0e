//! The README's pictures: `cargo test --release -p sidecarless-demo --test it -- --ignored the_readmes_pictures`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use inmesh_tests::kit::Browser;

use crate::town::Town;

/// The README would load slowly otherwise. A picture that is larger is taken coarser.
const LARGEST: usize = 120 * 1024;

#[ignore = "takes pictures, for four minutes, and writes them into the source tree"]
#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_pictures() -> Result<()> {
    let Some(browser) = Browser::start(1440, 1420).await? else {
        return Ok(());
    };
    let town = Town::start().await?;
    browser
        .open(&format!("{}#act-3", town.told("the guide")?))
        .await?;
    settle(30).await;
    browser.click("[data-step=route] .apply").await?;
    settle(40).await;
    browser
        .run("document.querySelector('[data-step=bind] .apply').click();")
        .await?;
    settle(45).await;
    browser
        .run("document.querySelector('[data-step=policy] .apply').click();")
        .await?;
    town.load("other", "http://productpage.bookinfo:9080/productpage")
        .await?;
    // The plots show three minutes.
    settle(75).await;
    save(&browser, "demo.webp").await?;

    browser
        .open(&format!("http://{}:15000/", town.address("bookinfo/waypoint-1")?))
        .await?;
    settle(20).await;
    save(&browser, "live-view.webp").await
}

/// Lets plots fill.
async fn settle(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn save(browser: &Browser, name: &str) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("screenshots")
        .join(name);
    std::fs::create_dir_all(file.parent().context("no folder")?)?;
    browser.small_picture(&file, LARGEST).await
}
