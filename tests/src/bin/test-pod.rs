//! A pod as a process of the tests: the echo application on port 9080, spans to `OTEL_EXPORTER_OTLP_ENDPOINT` if set.
//! `ECHO_PAUSE` makes it slow, by so many milliseconds. With `BOOKINFO` it is that service of the examples instead, as their
//! own binaries run it.

use std::time::Duration;

use anyhow::bail;
use examples::bookinfo::{details, productpage, ratings, reviews};
use inmesh::Mesh;
use inmesh::telemetry::export;
use inmesh_tests::kit::cluster::PORT;
use inmesh_tests::kit::echo::Echo;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    if let Ok(service) = std::env::var("BOOKINFO") {
        return bookinfo(&service).await;
    }
    let exporter = export::OtlpSettings::from_env()?
        .map(|to| export::install(&to))
        .transpose()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mesh = Mesh::from_env().await?;
    let name = std::env::var("POD_NAME")?;
    let pause = std::env::var("ECHO_PAUSE").map_or(Ok(0), |it| it.parse())?;
    let echo = Echo::new(&name, Some(mesh.client())).pausing(Duration::from_millis(pause));
    mesh.attach(PORT, echo).await?;
    terminate.recv().await;
    let finished = mesh.shutdown(Duration::from_secs(20)).await;
    if let Some(exporter) = exporter {
        exporter.shutdown(Duration::from_secs(2));
    }
    std::process::exit(if finished { 0 } else { 1 });
}

async fn bookinfo(service: &str) -> anyhow::Result<()> {
    let _telemetry = examples::telemetry()?;
    let mesh = Mesh::from_env().await?;
    match service {
        "productpage" => productpage::run(mesh).await,
        "details" => details::run(mesh).await,
        "reviews" => reviews::run(mesh).await,
        "ratings" => ratings::run(mesh).await,
        _ => bail!("bookinfo has no service `{service}`"),
    }
}
