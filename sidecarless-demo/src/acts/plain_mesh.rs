//! Act 1: every call is HBONE and mutual TLS between the right identities, and under STRICT nothing else is.

use anyhow::ensure;
use examples::bookinfo::hops;

use super::look;
use super::stage::Stage;
use crate::ca::identity;
use crate::manifests;
use crate::plain;

const WORKLOADS: [&str; 6] = [
    "bookinfo/productpage-v1-1",
    "bookinfo/details-v1-1",
    "bookinfo/reviews-v1-1",
    "bookinfo/reviews-v2-1",
    "bookinfo/reviews-v3-1",
    "bookinfo/ratings-v1-1",
];

pub(super) async fn play(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    // The load has begun, so every call has been seen to be direct already; a refusal means nothing where nobody listens.
    for pod in WORKLOADS {
        look::answers_plaintext(stage.town, pod).await?;
    }
    stage.apply("mtls.yaml", manifests::STRICT)?;
    let mut how = String::new();
    for pod in WORKLOADS {
        how = look::refuses_plaintext(stage.town, pod).await?;
    }
    stage.calls_are_direct().await?;
    stage.note("curl → productpage → details and reviews → ratings, each seen under its own SPIFFE identity");
    stage.note(format!(
        "STRICT: all {} workloads, which answered plaintext before, refuse it ({how})",
        WORKLOADS.len()
    ));

    entrance(stage).await?;
    let spans = look::trace(stage.town, &stage.curl, "the trace of a page", |trace| {
        for service in ["productpage-v1", "details-v1"] {
            ensure!(trace.path_to(service).is_some(), "no server span of {service}");
        }
        ensure!(
            trace.path_to("productpage-v1") == Some(vec!["curl"]),
            "productpage was not called by curl"
        );
        Ok(trace.spans().len())
    })
    .await?;
    stage.note(format!("a page is one trace of {spans} spans without orphans"));
    Ok(())
}

/// A browser comes in through the sample's gateway, which has an identity as everybody has.
async fn entrance(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let entrance = stage.town.entrance()?;
    let gateway = identity("bookinfo", "bookinfo-gateway-istio");
    look::eventually("the page through the gateway", async || {
        let page = plain::get(&entrance, "/productpage").await?;
        ensure!(page.status.is_success(), "it answered {}", page.status);
        ensure!(page.body.contains("Book reviews"), "it is not the page");
        let peer = page
            .headers
            .get(hops::PEER)
            .and_then(|peer| peer.to_str().ok())
            .unwrap_or_default();
        ensure!(peer == gateway, "productpage saw {peer}");
        Ok(())
    })
    .await?;
    stage.note("a browser's request enters by bookinfo-gateway and arrives under its identity");
    Ok(())
}
