//! Bad peers on 15008: nobody gets in, nobody gets through, and everybody else is served all the while.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use inmesh::identity::dev_ca::{DevCa, Leaf};
use inmesh_tests::kit::cluster::spiffe;
use inmesh_tests::kit::wait::PATIENCE;
use inmesh_tests::kit::world::status;
use inmesh_tests::kit::{Shape, World};
use inmesh_tests::pki::PemFiles;
use inmesh_tests::tls;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

in_both_shapes!(
    garbage_and_plaintext_are_turned_away,
    only_one_sound_spiffe_identity_of_our_roots_gets_in,
    a_connect_reaches_nothing_but_what_is_served_here,
    a_caller_that_stops_reading_holds_up_no_other,
);

const URL: &str = "http://reviews:9080/";

fn target(world: &World) -> Ipv4Addr {
    match &world.waypoint {
        None => world.v1.spec.ip,
        Some(waypoint) => match waypoint.mesh().snapshot().my_ip {
            Some(std::net::IpAddr::V4(ip)) => ip,
            other => panic!("the waypoint has an address of its own: {other:?}"),
        },
    }
}

async fn garbage_and_plaintext_are_turned_away(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let noise: Vec<u8> = (0..4096_u32)
        .map(|n| (n.wrapping_mul(2654435761) >> 13) as u8)
        .collect();
    let connect = b"CONNECT 127.0.0.1:9080 HTTP/1.1\r\nhost: x\r\n\r\n";
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for bytes in [
        &noise[..],
        b"GET / HTTP/1.1\r\nhost: reviews\r\n\r\n",
        connect,
        preface,
        b"\x16\x03\x01\xff\xff\x01",
    ] {
        let mut stream = TcpStream::connect((target(&world), 15008)).await?;
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        // It ends, and nothing of an application is in it: at most a TLS alert.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await?;
        assert!(answer.len() < 16 && !answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert_eq!(world.v1.echo.served() + world.v2.echo.served(), 0);
    assert_eq!(status(world.curl.get(URL).await), 200);
    Ok(())
}

/// A certificate as files, signed by `ca`.
fn files(world: &World, ca: &DevCa, name: &str, leaf: &Leaf) -> Result<PemFiles> {
    let dir = world.cluster.path().join(name);
    std::fs::create_dir_all(&dir)?;
    let pems = ca.issue_leaf(leaf)?;
    std::fs::write(dir.join("cert-chain.pem"), pems.chain)?;
    std::fs::write(dir.join("key.pem"), pems.key)?;
    std::fs::write(dir.join("root-cert.pem"), world.cluster.ca().root_pem())?;
    Ok(PemFiles::in_dir(&dir))
}

/// The certificate of an account, for tunnels by hand.
pub(crate) fn leaf_of(world: &World, account: &str) -> Result<PemFiles> {
    let leaf = Leaf::of(&spiffe("default", account), PATIENCE * 100);
    files(world, world.cluster.ca(), &format!("{account}-by-hand"), &leaf)
}

pub(crate) type Sender = h2::client::SendRequest<Bytes>;

async fn tls_to(world: &World, files: &PemFiles) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect((target(world), 15008)).await?;
    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    Ok(TlsConnector::from(tls::client(files)?).connect(name, tcp).await?)
}

/// A tunnel by hand. In TLS 1.3 a refusal comes after the handshake, so the server's SETTINGS are waited for.
pub(crate) async fn tunnel(world: &World, files: &PemFiles) -> Result<Sender> {
    let tls = tls_to(world, files).await?;
    let (sender, connection) = h2::client::handshake(tls).await?;
    let mut connection = Box::pin(connection);
    let mut ping = connection.ping_pong().expect("nobody has taken it");
    tokio::select! {
        ended = &mut connection => { ended?; anyhow::bail!("closed") }
        pong = ping.ping(h2::Ping::opaque()) => { pong?; }
    }
    tokio::spawn(connection);
    Ok(sender)
}

async fn only_one_sound_spiffe_identity_of_our_roots_gets_in(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now();
    let good = Leaf::of(&spiffe("default", "curl"), hour);
    let with = |change: &dyn Fn(&mut Leaf)| {
        let mut leaf = good.clone();
        change(&mut leaf);
        leaf
    };
    let bad: [(&str, Leaf); 7] = [
        (
            "expired",
            with(&|leaf| (leaf.not_before, leaf.not_after) = (now - 2 * hour, now - hour)),
        ),
        (
            "not-yet-valid",
            with(&|leaf| (leaf.not_before, leaf.not_after) = (now + hour, now + 2 * hour)),
        ),
        (
            "other-trust-domain",
            with(&|leaf| leaf.uris = vec!["spiffe://other.domain/ns/default/sa/curl".into()]),
        ),
        (
            "no-spiffe",
            with(&|leaf| (leaf.uris, leaf.dns) = (Vec::new(), vec!["curl.default.svc.cluster.local".into()])),
        ),
        (
            "two-sans",
            with(&|leaf| {
                leaf.uris
                    .push("spiffe://cluster.local/ns/default/sa/admin".into())
            }),
        ),
        (
            "not-spiffe",
            with(&|leaf| leaf.uris = vec!["https://cluster.local/ns/default/sa/curl".into()]),
        ),
        (
            "not-a-workload",
            with(&|leaf| leaf.uris = vec!["spiffe://cluster.local/curl".into()]),
        ),
    ];
    for (what, leaf) in bad {
        let files = files(&world, world.cluster.ca(), what, &leaf)?;
        assert!(
            timeout(PATIENCE, tunnel(&world, &files)).await?.is_err(),
            "{what} got in"
        );
    }
    let stranger = files(&world, &DevCa::new_in_memory()?, "stranger", &good)?;
    assert!(
        timeout(PATIENCE, tunnel(&world, &stranger)).await?.is_err(),
        "a stranger's root got in"
    );
    let sound = files(&world, world.cluster.ca(), "sound", &good)?;
    timeout(PATIENCE, tunnel(&world, &sound)).await??;
    Ok(())
}

/// The status of a CONNECT, or `None` if it was reset.
async fn connect(sender: &Sender, authority: &str) -> Option<StatusCode> {
    let uri = http::Uri::builder().authority(authority).build().ok()?;
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(uri)
        .body(())
        .ok()?;
    let (answer, _send) = sender
        .clone()
        .ready()
        .await
        .ok()?
        .send_request(request, false)
        .ok()?;
    Some(answer.await.ok()?.status())
}

async fn a_connect_reaches_nothing_but_what_is_served_here(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    // Something that must not be reached through anybody's 15008.
    let secret = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let secret_addr = secret.local_addr()?;
    let files = leaf_of(&world, "curl")?;
    let sender = tunnel(&world, &files).await?;
    let long = format!("{}:80", "a".repeat(60 << 10));
    let secret_text = secret_addr.to_string();
    let v2 = format!("{}:22", world.v2.spec.ip);
    for authority in [
        secret_text.as_str(),
        &v2,
        "169.254.169.254:80",
        "example.com:80",
        "localhost:9080",
        "reviews.default.svc.cluster.local",
        "reviews.default.svc.cluster.local:0",
        "reviews.default.svc.cluster.local:65536",
        "reviews.default.svc.cluster.local:1",
        "user@reviews.default.svc.cluster.local:9080",
        "[fe80::1%25eth0]:80",
        "[::1]:9080",
        ":80",
        &long,
    ] {
        let answer = timeout(PATIENCE, connect(&sender, authority)).await?;
        let shown = &authority[..authority.len().min(60)];
        assert!(
            answer.is_none_or(|status| status.is_client_error() || status.is_server_error()),
            "{shown}: {answer:?}"
        );
    }
    // Nobody has knocked there.
    assert!(
        timeout(Duration::from_millis(50), secret.accept()).await.is_err(),
        "an open relay"
    );
    // After all that, a proper CONNECT passes, on a tunnel that may have to be made anew.
    let proper = match shape {
        Shape::InProcess => format!("{}:9080", world.v1.spec.ip),
        Shape::Waypoint => "reviews.default.svc.cluster.local:9080".to_owned(),
    };
    let sender = tunnel(&world, &files).await?;
    assert_eq!(connect(&sender, &proper).await, Some(StatusCode::OK));
    Ok(())
}

async fn a_caller_that_stops_reading_holds_up_no_other(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let big = format!("{URL}source/{}", 256 << 20);
    // Sixteen ask for much; those whose answer begins read its head and then nothing more. Their own tunnel fills up.
    let mut stalled = tokio::task::JoinSet::new();
    let begun = Arc::new(AtomicUsize::new(0));
    for _ in 0..16 {
        let (other, big, begun) = (world.other.clone(), big.clone(), Arc::clone(&begun));
        stalled.spawn(async move {
            let _held = other.get(big).await;
            begun.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        });
    }
    inmesh_tests::kit::wait::until("four answers are stalled", || async {
        begun.load(Ordering::SeqCst) >= 4
    })
    .await;
    for n in 0..50 {
        let answer = timeout(PATIENCE, world.curl.get(format!("{URL}{n}"))).await?;
        assert_eq!(status(answer), 200, "request {n} beside stalled ones");
    }
    stalled.shutdown().await;
    assert_eq!(status(world.other.get(URL).await), 200);
    Ok(())
}
