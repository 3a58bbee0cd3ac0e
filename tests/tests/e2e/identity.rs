//! Who calls, and how that is proved; plaintext where it is permitted.

use anyhow::Result;
use http::Method;
use inmesh_tests::kit::cluster::gateway;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, status};
use inmesh_tests::kit::{Shape, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

in_both_shapes!(
    the_application_sees_who_called,
    nobody_else_speaks_for_a_caller,
    plaintext_follows_peer_authentication
);

const CURL: &str = "spiffe://cluster.local/ns/default/sa/curl";
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
    let original = match shape {
        Shape::InProcess => None,
        Shape::Waypoint => Some(CURL),
    };
    assert_eq!(seen_by_service.original.as_deref(), original);
    assert!(!seen_by_service.headers.contains_key("x-inmesh-caller"));
    // By its own address a workload is called directly: this waypoint is for services.
    let direct = seen(world.curl.get(format!("http://{}:9080/", world.v1.spec.ip)).await).await?;
    assert_eq!((direct.peer.as_deref(), direct.original), (Some(CURL), None));
    Ok(())
}

/// CWE-290, hardening row 17: whoever is no waypoint that is bound to the service says nothing about identities.
async fn nobody_else_speaks_for_a_caller(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let admin = "spiffe://cluster.local/ns/default/sa/admin";
    let claims = [
        ("x-forwarded-client-cert", format!("By={CURL};URI={admin}")),
        ("x-inmesh-caller", "v1.e30.ecdsa-p256.AAAA".to_owned()),
    ];
    let claims = claims.each_ref().map(|(name, value)| (*name, value.as_str()));
    let direct = format!("http://{}:9080/", world.v1.spec.ip);
    for url in ["http://reviews:9080/", direct.as_str()] {
        let seen = seen(world.curl.request(request(Method::GET, url, &claims)).await).await?;
        let introduced = shape == Shape::Waypoint && url != direct;
        assert_eq!(seen.original.as_deref(), introduced.then_some(CURL), "{url}");
        for (name, _) in claims {
            assert!(
                !seen.headers.contains_key(name),
                "{url}: {name} reached the application"
            );
        }
    }
    Ok(())
}

/// Istio's own way, on demand: the waypoint replaces whatever the caller wrote.
#[tokio::test]
async fn a_waypoint_forwards_client_certificates_where_its_gateway_says_so() -> Result<()> {
    let world = World::start(Shape::Waypoint, &[]).await?;
    let gateway = gateway("default", "waypoint", "service").replace(
        "  labels:\n",
        "  annotations:\n    ambient.istio.io/xfcc-include-client-identity: \"true\"\n  labels:\n",
    );
    world.cluster.apply("gateway", &gateway)?;
    let forged = [(
        "x-forwarded-client-cert",
        "By=nobody;URI=spiffe://cluster.local/ns/default/sa/admin",
    )];
    let expected = format!("By=spiffe://cluster.local/ns/default/sa/waypoint;URI={CURL}");
    until("the certificate is forwarded", || async {
        let url = "http://reviews:9080/";
        let seen = seen(world.curl.request(request(Method::GET, url, &forged)).await).await;
        seen.is_ok_and(|seen| seen.headers.get("x-forwarded-client-cert") == Some(&expected))
    })
    .await;
    Ok(())
}

/// A waypoint's new key is believed at once, on old connections and on new ones.
#[tokio::test]
async fn introductions_survive_a_rotation_of_the_waypoints_key() -> Result<()> {
    let world = World::start(Shape::Waypoint, &[]).await?;
    for round in 0..4 {
        if round > 0 {
            world.cluster.credentials("default", "waypoint")?;
        }
        for _ in 0..200 {
            let seen = seen(world.curl.get("http://reviews:9080/").await).await?;
            assert_eq!(seen.original.as_deref(), Some(CURL), "round {round}");
        }
    }
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
