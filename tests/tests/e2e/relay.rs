//! What is not HTTP passes too, judged by L4 policy.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::{Shape, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

in_both_shapes!(a_byte_stream_is_relayed_until_a_policy_denies_it);

/// A server of a protocol of its own: every byte comes back.
async fn echo_server() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    Ok(addr)
}

async fn a_byte_stream_is_relayed_until_a_policy_denies_it(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let to = echo_server().await?;
    world.v1.mesh.relay(7000, to).await?;
    world.v2.mesh.relay(7000, to).await?;
    let connect = || world.curl.connect("reviews:7000");
    let mut stream = connect().await.map_err(|e| anyhow::anyhow!("{e}"))?;
    stream.write_all(b"\x00hello").await?;
    let mut back = [0; 6];
    stream.read_exact(&mut back).await?;
    assert_eq!(&back, b"\x00hello");

    let direct_caller = if shape == Shape::Waypoint {
        "waypoint"
    } else {
        "curl"
    };
    let policy = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: no\n  namespace: default\nspec:\n  action: DENY\n  rules:\n  \
         - from:\n    - source:\n        principals: [cluster.local/ns/default/sa/{direct_caller}]\n"
    );
    world.cluster.apply("policy", &policy)?;
    // The connection that is up is cut, and a new one is not made.
    let cut = tokio::time::timeout(inmesh_tests::kit::wait::PATIENCE, stream.read(&mut back)).await?;
    assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");
    until("new connections are refused", || async {
        match connect().await {
            Err(_) => true,
            Ok(mut stream) => {
                let mut byte = [0; 1];
                stream.write_all(b"\x00").await.is_err()
                    || matches!(stream.read(&mut byte).await, Ok(0) | Err(_))
            }
        }
    })
    .await;
    Ok(())
}
