//! Act 5: PeerAuthentication in its three modes; the third is ignored, as ambient does, and said to be.

use anyhow::ensure;

use super::look::{self, eventually};
use super::stage::Stage;
use crate::manifests;

const POD: &str = "bookinfo/reviews-v2-1";

pub(super) async fn play(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    stage.apply("mtls.yaml", manifests::STRICT)?;
    let how = look::refuses_plaintext(stage.town, POD).await?;
    stage.calls_are_direct().await?;
    stage.note(format!("STRICT: plaintext refused ({how}), HBONE works"));

    stage.apply("mtls.yaml", manifests::PERMISSIVE)?;
    look::answers_plaintext(stage.town, POD).await?;
    stage.calls_are_direct().await?;
    stage.note("PERMISSIVE: plaintext answered, HBONE works");

    stage.apply("mtls.yaml", manifests::STRICT)?;
    look::refuses_plaintext(stage.town, POD).await?;
    stage.apply("mtls.yaml", manifests::DISABLE)?;
    look::answers_plaintext(stage.town, POD).await?;
    stage.calls_are_direct().await?;
    eventually("the mode to be reported as ignored", async || {
        let complaints = look::complaints(stage.town, POD).await?;
        ensure!(
            complaints.contains("DISABLE is ignored"),
            "nothing says that DISABLE is ignored"
        );
        Ok(())
    })
    .await?;
    stage.note("DISABLE: ignored and reported, calls stay HBONE");
    Ok(())
}
