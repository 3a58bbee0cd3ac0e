//! CUSTOM: a real external authorizer, asked by the workload itself, by its waypoint, and by Envoy as a peer.
//!
//! ```text
//! providers   how the authorizer is asked: as MeshConfig says it, and as Istio tells Envoy
//! requests    what is asked about, and what the authorizer is to answer
//! town        the three who ask
//! ```

mod providers;
mod requests;
mod town;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use inmesh_tests::envoy::find_or_skip;
use inmesh_tests::kit::Shape;
use inmesh_tests::kit::wait::until;

use providers::PROVIDERS;
use requests::requests;
use town::{Outcome, Town};

/// Every provider with every request, once in each shape and once at Envoy: status, body, headers, what the application
/// got and what the authorizer was told are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorizer_is_asked_and_obeyed_as_by_envoy() -> Result<()> {
    let here = Town::start(Shape::InProcess).await?;
    let there = Town::start(Shape::Waypoint).await?;
    let envoy = match find_or_skip("external authorizers asked by Envoy") {
        Some(binary) => Some(here.envoy(&binary).await?),
        None => None,
    };
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for provider in PROVIDERS {
        for request in requests(provider) {
            let name = format!("{} {}", provider.name, request.name);
            let ours = here
                .ask(&here, provider, &request)
                .await
                .with_context(|| name.clone())?;
            let through = there
                .ask(&there, provider, &request)
                .await
                .with_context(|| name.clone())?;
            if ours != through {
                wrong.push(format!(
                    "{name}: in process, through a waypoint:{}",
                    ours.beside(&through)
                ));
            }
            if !request.allows(&ours) {
                wrong.push(format!("{name}: {} expected, {ours:#?}", request.status));
            }
            let Some(envoy) = &envoy else { continue };
            let peer = here
                .ask(envoy, provider, &request)
                .await
                .with_context(|| name.clone())?;
            compared += 1;
            let is_same = ours == peer;
            if let (Some(why), false) = (request.differs(), is_same) {
                println!("{name}: Envoy does otherwise: {why}:{}", ours.beside(&peer));
            } else if !is_same || request.differs().is_some() {
                wrong.push(format!("{name}: ours, Envoy's:{}", ours.beside(&peer)));
            }
        }
    }
    println!(
        "{compared} requests compared with Envoy, {} differ without a reason",
        wrong.len()
    );
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

in_both_shapes!(an_authorizer_that_is_gone_closes_and_one_that_is_back_opens);

async fn an_authorizer_that_is_gone_closes_and_one_that_is_back_opens(shape: Shape) -> Result<()> {
    let mut town = Town::start(shape).await?;
    for (name, open) in [
        ("grpc", 200),
        ("grpc-open", 200),
        ("http", 200),
        ("http-open", 200),
    ] {
        assert_eq!(status(&town, name).await?, open, "{name}");
    }
    town.kill()?;
    let mut gone = Vec::new();
    for name in [
        "grpc",
        "grpc-closed",
        "grpc-open",
        "http",
        "http-closed",
        "http-open",
    ] {
        gone.push((name, status(&town, name).await?));
    }
    let expected = [
        ("grpc", 403),
        ("grpc-closed", 503),
        ("grpc-open", 200),
        ("http", 403),
        ("http-closed", 503),
        ("http-open", 200),
    ];
    assert_eq!(gone, expected);
    town.revive().await?;
    for name in ["grpc", "http"] {
        until("the authorizer is asked again", || async {
            status(&town, name).await.ok() == Some(200)
        })
        .await;
    }
    // It moves: the next request asks at the new address.
    town.moved().await?;
    town.kill()?;
    for name in ["grpc", "http"] {
        until("the authorizer is asked where it is now", || async {
            status(&town, name).await.ok() == Some(200)
        })
        .await;
    }
    Ok(())
}

/// What a plain request is answered with, in a while.
async fn status(town: &Town, provider: &str) -> Result<u16> {
    let provider = providers::named(provider);
    let request = requests::plain();
    let asked = tokio::time::timeout(Duration::from_secs(20), town.ask(town, provider, &request));
    Ok(asked.await??.status)
}

impl requests::Asked {
    /// Whether an outcome is the one that the request is written for.
    fn allows(&self, outcome: &Outcome) -> bool {
        outcome.status == self.status && (outcome.status == 200) == outcome.app.is_some()
    }
}
