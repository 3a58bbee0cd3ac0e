//! Who calls, and how that is proved; plaintext where it is permitted.

use anyhow::Result;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{seen, status};
use inmesh_tests::kit::{Shape, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

in_both_shapes!(
    the_application_sees_who_called,
    plaintext_follows_peer_authentication
);

const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: default\n  namespace: default\nspec:\n  mtls: {mode: STRICT}\n";

async fn the_application_sees_who_called(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let direct_caller = match shape {
        Shape::InProcess => "curl",
        Shape::Waypoint => "waypoint",
    };
    let seen_by_service = seen(world.curl.get("http://reviews:9080/").await).await?;
    assert_eq!(
        seen_by_service.peer,
        Some(format!("spiffe://cluster.local/ns/default/sa/{direct_caller}"))
    );
    // By its own address a workload is called directly: this waypoint is for services.
    let direct = seen(world.curl.get(format!("http://{}:9080/", world.v1.spec.ip)).await).await?;
    assert_eq!(
        direct.peer.as_deref(),
        Some("spiffe://cluster.local/ns/default/sa/curl")
    );
    Ok(())
}

/// The answer to a plaintext request on the application's own port; `None` if the connection was refused or cut.
async fn plain(world: &World) -> Option<String> {
    let mut stream = TcpStream::connect((world.v1.spec.ip, 9080)).await.ok()?;
    stream
        .write_all(b"GET /plain HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n")
        .await
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    (!answer.is_empty()).then_some(answer)
}

async fn plaintext_follows_peer_authentication(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("mtls", STRICT)]).await?;
    assert_eq!(plain(&world).await, None, "STRICT");
    assert_eq!(status(world.curl.get("http://reviews:9080/").await), 200);
    assert_eq!(world.v1.echo.served() + world.v2.echo.served(), 1);

    world
        .cluster
        .apply("mtls", &STRICT.replace("STRICT", "PERMISSIVE"))?;
    until("plaintext is permitted", || async {
        plain(&world).await.is_some()
    })
    .await;
    let answer = plain(&world).await.unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"peer\":null"), "{answer}");

    world.cluster.apply("mtls", STRICT)?;
    until("plaintext is refused again", || async {
        plain(&world).await.is_none()
    })
    .await;
    Ok(())
}
