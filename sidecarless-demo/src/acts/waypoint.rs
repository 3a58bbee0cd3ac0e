//! Act 2: a waypoint for a namespace, for one Service, for one Pod, for none, and from another namespace.

use anyhow::ensure;

use super::look::{self, eventually};
use super::stage::{REVIEWS, Stage, USE_WAYPOINT};
use crate::ca::identity;
use crate::manifests;
use crate::town::PATIENCE;

pub(super) async fn play(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    stage.start_waypoint().await?;
    stage.note("Gateway waypoint started a process");
    for_the_namespace(stage).await?;
    none_for_one_service(stage).await?;
    for_one_service(stage).await?;
    for_one_pod(stage).await?;
    from_another_namespace(stage).await
}

fn waypoint() -> String {
    identity("bookinfo", "waypoint")
}

async fn for_the_namespace(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    stage.bind_namespace(Some("waypoint"), None)?;
    stage
        .calls_pass("all calls through the waypoint", |_| Some(waypoint()))
        .await?;
    let path = look::trace(stage.town, &stage.curl, "the waypoint in the trace", |trace| {
        for service in ["productpage-v1", "details-v1"] {
            let path = trace.path_to(service).unwrap_or_default();
            ensure!(
                path.first() == Some(&"waypoint"),
                "the trace shows {service} behind {path:?}"
            );
        }
        Ok(trace.path_to("details-v1").unwrap_or_default().join(" ← "))
    })
    .await?;
    stage.note(format!("label on the namespace: all services see the waypoint's identity, the trace shows details-v1 ← {path}"));
    Ok(())
}

async fn none_for_one_service(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    label_reviews(stage, Some("none"))?;
    let all_but_reviews = |service: &str| (service != "reviews").then(waypoint);
    stage
        .calls_pass("reviews to be called directly", all_but_reviews)
        .await?;
    stage.note("none on Service reviews: only reviews is called directly");
    Ok(())
}

async fn for_one_service(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    label_reviews(stage, Some("waypoint"))?;
    stage.bind_namespace(None, None)?;
    let only_reviews = |service: &str| (service == "reviews").then(waypoint);
    stage
        .calls_pass("only reviews through the waypoint", only_reviews)
        .await?;
    stage.note("label on Service reviews alone: only reviews is called through it");
    label_reviews(stage, None)?;
    stage.calls_are_direct().await
}

async fn for_one_pod(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let pod = "bookinfo/reviews-v1-1";
    let url = format!("http://{}:9080/reviews/0", stage.town.address(pod)?);
    stage.apply("waypoint.yaml", manifests::WAYPOINT_FOR_WORKLOAD)?;
    stage.town.kubelet.label(pod, USE_WAYPOINT, Some("waypoint"))?;
    sees(stage, &url, &waypoint()).await?;
    sees(stage, REVIEWS, &identity("default", "curl")).await?;
    stage.note("label on Pod reviews-v1 with waypoint-for: workload: its address is called through it, the Service is not");
    stage.town.kubelet.label(pod, USE_WAYPOINT, None)?;
    sees(stage, &url, &identity("default", "curl")).await
}

async fn from_another_namespace(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let waypoint_foo = || identity("foo", "waypoint-foo");
    stage
        .town
        .folder
        .apply("foo", "waypoint-foo.yaml", manifests::WAYPOINT_FOO)?;
    stage
        .town
        .kubelet
        .ready(&["foo/waypoint-foo-1"], PATIENCE)
        .await?;
    stage.bind_namespace(Some("waypoint-foo"), Some("foo"))?;
    stage
        .calls_pass("all calls through waypoint-foo", |_| Some(waypoint_foo()))
        .await?;
    stage.note("waypoint-foo in foo takes bookinfo's calls");

    stage
        .town
        .folder
        .apply("foo", "waypoint-foo.yaml", manifests::WAYPOINT_FOO_FOR_OTHERS)?;
    stage.calls_are_direct().await?;
    eventually("the refusal to be reported", async || {
        let complaints = look::complaints(stage.town, "bookinfo/productpage-v1-1").await?;
        ensure!(
            complaints.contains("AttachmentDenied"),
            "nothing says that the attachment was denied"
        );
        Ok(())
    })
    .await?;
    stage.note(
        "with a selector that does not match it refuses: AttachmentDenied is reported, calls go directly",
    );
    Ok(())
}

/// Waits until whoever answers `url` sees this peer, several times in a row.
async fn sees(stage: &Stage<'_>, url: &str, peer: &str) -> anyhow::Result<()> {
    eventually(&format!("{url} to be called by {peer}"), async || {
        for _ in 0..6 {
            let answer = stage.curl.get(url).await?;
            ensure!(answer.fault().is_none(), "{:?}", answer.fault());
            let seen = answer.header(examples::bookinfo::hops::PEER);
            ensure!(seen == peer, "it was called by {seen}");
        }
        Ok(())
    })
    .await
}

fn label_reviews(stage: &Stage<'_>, waypoint: Option<&str>) -> anyhow::Result<()> {
    let labels = [(USE_WAYPOINT, waypoint)];
    stage
        .town
        .folder
        .label("bookinfo", "bookinfo.yaml", "Service", "reviews", &labels)
}
