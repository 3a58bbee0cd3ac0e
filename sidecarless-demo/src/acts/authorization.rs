//! Act 4: the guide's AuthorizationPolicy, enforced by productpage itself, and by the waypoint once there is one.

use anyhow::ensure;
use examples::bookinfo::hops;

use super::look::{self, eventually};
use super::stage::Stage;
use crate::ca::identity;
use crate::caller::Caller;
use crate::manifests;

const BY_NAME: &str = "http://productpage.bookinfo:9080";
const PRODUCTPAGE: &str = "bookinfo/productpage-v1-1";
const WAYPOINT: &str = "bookinfo/waypoint-1";
/// How often each verdict must be the same in a row.
const TIMES: usize = 5;

pub(super) async fn play(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let by_address = format!("http://{}:9080", stage.town.address(PRODUCTPAGE)?);
    let curl = identity("default", "curl");

    stage.apply("productpage-waypoint.yaml", manifests::POLICY)?;
    enforced(stage, BY_NAME, &curl).await?;
    enforced(stage, &by_address, &curl).await?;
    stage.note("no waypoint: productpage itself answers GET as curl 200, POST as curl 403, GET as other 403");
    stage.delete("productpage-waypoint.yaml")?;
    lifted(stage).await?;

    stage.start_waypoint().await?;
    stage.bind_namespace(Some("waypoint"), None)?;
    stage
        .calls_pass("all calls through the waypoint", |_| {
            Some(identity("bookinfo", "waypoint"))
        })
        .await?;
    let before = look::refusals(stage.town, WAYPOINT).await?;
    stage.apply("productpage-waypoint.yaml", manifests::POLICY)?;
    enforced(stage, BY_NAME, &identity("bookinfo", "waypoint")).await?;
    let refused = look::refusals(stage.town, WAYPOINT).await? - before;
    ensure!(refused >= 1.0, "the waypoint counted no refusal of its own");
    stage.note(format!(
        "with a waypoint: the same verdicts, {refused} refusals counted by the waypoint"
    ));
    enforced(stage, &by_address, &curl).await?;
    stage.note("called on its pod address, past the waypoint: the same verdicts from productpage");
    stage.delete("productpage-waypoint.yaml")?;
    lifted(stage).await
}

/// Waits until the policy holds: `curl` may GET, and arrives as `peer`; nobody may do anything else.
async fn enforced(stage: &Stage<'_>, base: &str, peer: &str) -> anyhow::Result<()> {
    eventually(&format!("the policy at {base}"), async || {
        for _ in 0..TIMES {
            let page = stage.curl.get(&format!("{base}/productpage")).await?;
            ensure!(
                page.status == Some(200),
                "GET as curl: {:?} {:?}",
                page.status,
                page.error
            );
            let seen = page.header(hops::PEER);
            ensure!(seen == peer, "productpage was called by {seen}");
            status_is(&stage.curl, "POST", &format!("{base}/login"), 403).await?;
            status_is(&stage.other, "GET", &format!("{base}/productpage"), 403).await?;
        }
        Ok(())
    })
    .await
}

/// Waits until anybody may do anything again.
async fn lifted(stage: &Stage<'_>) -> anyhow::Result<()> {
    eventually("the policy to be gone", async || {
        for _ in 0..TIMES {
            status_is(&stage.other, "GET", &format!("{BY_NAME}/productpage"), 200).await?;
        }
        Ok(())
    })
    .await
}

async fn status_is(caller: &Caller, method: &str, url: &str, status: u16) -> anyhow::Result<()> {
    let answer = caller.call(method, url).await?;
    ensure!(
        answer.status == Some(status),
        "{method} {url}: {:?} {:?}, not {status}",
        answer.status,
        answer.error
    );
    Ok(())
}
