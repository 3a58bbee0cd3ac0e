//! Peers that are not what they should be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use inmesh::hbone::{Authority, ConnectHead, HBONE_PORT, Settings, TunnelPool, TunnelTarget};
use inmesh::identity::dev_ca::{DevCa, Leaf};
use inmesh::identity::{CredentialProvider, fixed};
use inmesh_tests::cluster::{Cluster, PORT, identity, read, until};
use inmesh_tests::pki::PemFiles;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn garbage_and_plaintext_on_the_tunnel_port_are_closed_and_harm_nobody() -> Result<()> {
    let town = Cluster::new()?;
    let server = town.server("web-1", "web").await?;
    let curl = town.caller("curl").await?;
    for garbage in [
        &b"\0\x01\x02garbage\xff\xff\xff"[..],
        b"GET / HTTP/1.1\r\nhost: web\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect((server.ip, HBONE_PORT)).await?;
        stream.write_all(garbage).await?;
        let mut answer = Vec::new();
        // Closed, with or without a TLS alert; never an HTTP answer.
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await?;
        assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    }
    let url = format!("http://{}:{PORT}/", server.ip);
    until("the pod is known", || async {
        Ok(curl.mesh.client().get(url.as_str()).await.ok())
    })
    .await?;
    assert_eq!(read(curl.mesh.client().get(url.as_str()).await?).await?.0, 200);
    Ok(())
}

/// Opens a CONNECT with a certificate of one's own making.
async fn connect(
    ca: &DevCa,
    leaf: &Leaf,
    to: SocketAddr,
    authority: &str,
) -> Result<(), inmesh::hbone::Error> {
    let credential = ca
        .issue_leaf(leaf)
        .and_then(|pems| pems.credential())
        .expect("the certificate is made");
    let pool = TunnelPool::new(fixed(credential).subscribe(), Settings::default());
    let target = TunnelTarget::new(to, Arc::from([identity("web")]));
    let head = ConnectHead::new(Authority::parse(authority).expect("an authority"));
    pool.open(&target, head).await.map(drop)
}

/// Whether a server greets (with SETTINGS) whoever shows this certificate. In TLS 1.3 a server judges the client's
/// certificate after the client believes to be connected, so the first bytes tell.
async fn is_greeted(ca: &DevCa, leaf: &Leaf, to: SocketAddr) -> Result<bool> {
    let (dir, pems) = (tempfile::tempdir()?, ca.issue_leaf(leaf)?);
    let files = PemFiles::in_dir(dir.path());
    std::fs::write(&files.chain, &pems.chain)?;
    std::fs::write(&files.key, &pems.key)?;
    std::fs::write(&files.roots, &pems.roots)?;
    let connector = tokio_rustls::TlsConnector::from(inmesh_tests::tls::client(&files)?);
    let tcp = TcpStream::connect(to).await?;
    let Ok(mut tls) = connector
        .connect(rustls::pki_types::ServerName::from(to.ip()), tcp)
        .await
    else {
        return Ok(false);
    };
    let mut first = [0; 9];
    let read = tokio::time::timeout(Duration::from_secs(20), tls.read_exact(&mut first)).await?;
    Ok(read.is_ok())
}

#[tokio::test]
async fn only_sound_certificates_are_let_in_and_only_our_own_address_is_served() -> Result<()> {
    let town = Cluster::new()?;
    let server = town.server("web-1", "web").await?;
    let to = SocketAddr::new(server.ip, HBONE_PORT);
    let own = SocketAddr::new(server.ip, PORT).to_string();
    let hour = Duration::from_secs(3600);
    let sound = || Leaf::of(&identity("curl"), hour);
    connect(town.ca(), &sound(), to, &own).await?;

    let now = SystemTime::now();
    let mut expired = sound();
    (expired.not_before, expired.not_after) = (now - 2 * hour, now - hour);
    let mut early = sound();
    (early.not_before, early.not_after) = (now + hour, now + 2 * hour);
    let mut foreign = sound();
    foreign.uris = vec!["spiffe://elsewhere.example/ns/default/sa/curl".into()];
    let mut nameless = sound();
    (nameless.uris, nameless.dns) = (Vec::new(), vec!["curl.default".into()]);
    let mut double = sound();
    double
        .uris
        .push("spiffe://cluster.local/ns/default/sa/admin".into());
    assert!(is_greeted(town.ca(), &sound(), to).await?, "a sound one");
    for (what, leaf) in [
        ("expired", expired),
        ("not yet valid", early),
        ("wrong trust domain", foreign),
        ("no SPIFFE id", nameless),
        ("two names", double),
    ] {
        assert!(!is_greeted(town.ca(), &leaf, to).await?, "{what}");
    }
    let stranger = DevCa::new_in_memory()?;
    assert!(
        connect(&stranger, &sound(), to, &own).await.is_err(),
        "another root"
    );

    // No open relay: whatever is not this workload is refused, whoever asks.
    for authority in [
        "127.0.0.1:22",
        "169.254.169.254:80",
        "example.com:80",
        &format!("{}:22", server.ip),
    ] {
        let error = connect(town.ca(), &sound(), to, authority)
            .await
            .expect_err(authority);
        let status = error.status().map(|status| status.as_u16());
        assert!(matches!(status, Some(400 | 503)), "{authority}: {error}");
    }
    Ok(())
}
