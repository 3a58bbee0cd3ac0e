//! Act 6: clean-up in the guide's order; what is left keeps working at each step.

use anyhow::ensure;

use super::look::{self, eventually};
use super::stage::{PAGE, REVIEWS, Stage};
use crate::ca::identity;
use crate::folder::CLUSTER;
use crate::manifests;
use crate::town::PATIENCE;

/// The pods of `bookinfo.yaml`.
const PODS: [&str; 6] = [
    "bookinfo/productpage-v1-1",
    "bookinfo/details-v1-1",
    "bookinfo/reviews-v1-1",
    "bookinfo/reviews-v2-1",
    "bookinfo/reviews-v3-1",
    "bookinfo/ratings-v1-1",
];

pub(super) async fn play(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    as_the_guide_left_it(stage).await?;

    stage.delete("productpage-waypoint.yaml")?;
    eventually("the policy to be gone", async || {
        let page = stage.other.get(PAGE).await?;
        ensure!(page.status == Some(200), "GET as other: {:?}", page.status);
        Ok(())
    })
    .await?;
    stage.note("policy deleted");

    stage.delete("reviews.yaml")?;
    eventually("reviews-v3 to answer again", async || {
        let tally = stage.curl.volley(REVIEWS, 30).await?;
        ensure!(tally.answers.contains_key("reviews-v3"), "it does not");
        Ok(())
    })
    .await?;
    stage.note("route deleted");

    stage.delete("waypoint.yaml")?;
    stage.calls_are_direct().await?;
    stage.waypoint_leaves("bookinfo/waypoint-1").await?;
    stage.note("Gateway deleted: the waypoint drained and left, calls go directly");

    stage
        .town
        .folder
        .label_namespace("bookinfo", &[("istio.io/dataplane-mode", None)])?;
    stage.calls_are_direct().await?;
    stage.note("dataplane-mode taken away");

    // From here on there is nothing left to ask for.
    stage.end_load().await?;
    the_sample(stage).await
}

/// Waypoint, binding, route and policy, as they stand at the end of the guide.
async fn as_the_guide_left_it(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.start_waypoint().await?;
    stage.bind_namespace(Some("waypoint"), None)?;
    stage
        .calls_pass("all calls through the waypoint", |_| {
            Some(identity("bookinfo", "waypoint"))
        })
        .await?;
    stage.apply("reviews.yaml", manifests::ROUTE)?;
    stage.apply("productpage-waypoint.yaml", manifests::POLICY)?;
    eventually("the policy", async || {
        let page = stage.other.get(PAGE).await?;
        ensure!(page.status == Some(403), "GET as other: {:?}", page.status);
        Ok(())
    })
    .await
}

/// Deletes the sample itself.
async fn the_sample(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    stage.delete("bookinfo.yaml")?;
    for pod in PODS {
        stage.town.kubelet.gone(pod, PATIENCE).await?;
        let how = stage.town.kubelet.exit_of(pod).unwrap_or_default();
        ensure!(how == "clean", "{pod} ended with {how}");
    }
    stage.delete("bookinfo-versions.yaml")?;
    stage.delete("bookinfo-gateway.yaml")?;
    stage.waypoint_leaves("bookinfo/bookinfo-gateway-istio-1").await?;
    stage.town.folder.delete(CLUSTER, "gateway-classes.yaml")?;
    eventually("the page to be gone", async || {
        let page = look::page(&stage.curl).await;
        ensure!(page.is_err(), "it is still there");
        Ok(())
    })
    .await?;
    stage.note("sample deleted: all services and the gateway drained and ended by themselves");
    Ok(())
}
