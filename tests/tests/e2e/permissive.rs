//! PeerAuthentication on an application's own port: mutual TLS and plaintext are told apart by what is said first.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use inmesh::SpiffeId;
use inmesh::identity::dev_ca::{DevCa, Leaf, Pems};
use inmesh_tests::kit::cluster::spiffe;
use inmesh_tests::kit::echo::Seen;
use inmesh_tests::kit::wait::{PATIENCE, until};
use inmesh_tests::kit::wire::{self, Answered, exchange};
use inmesh_tests::kit::{Shape, World};
use inmesh_tests::pki::PemFiles;
use inmesh_tests::tls;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const CURL: &str = "spiffe://cluster.local/ns/default/sa/curl";

fn mode(default: &str, of_port: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: reviews, namespace: default}}\nspec:\n  \
         selector: {{matchLabels: {{app: reviews}}}}\n  mtls: {{mode: {default}}}\n  portLevelMtls:\n    9081: {{mode: {of_port}}}\n"
    )
}

fn config(
    files: &PemFiles,
    version: &'static SupportedProtocolVersion,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>> {
    tls::client_speaking(files, &[version], &[alpn])
}

async fn secure(world: &World, port: u16, config: Arc<ClientConfig>) -> Result<Answered> {
    let tcp = TcpStream::connect((world.v1.spec.ip, port)).await?;
    let name = ServerName::IpAddress(world.v1.spec.ip.into());
    let stream = TlsConnector::from(config).connect(name, tcp).await?;
    exchange(stream, wire::head("GET", "/secure", "reviews", &[]).as_bytes()).await
}

async fn plain(world: &World, port: u16) -> Result<Answered> {
    let tcp = TcpStream::connect((world.v1.spec.ip, port)).await?;
    exchange(tcp, wire::head("GET", "/plain", "reviews", &[]).as_bytes()).await
}

fn peer(answered: &Answered) -> Result<Option<String>> {
    ensure!(answered.status == 200, "{answered:?}");
    Ok(serde_json::from_str::<Seen>(&answered.body)?.peer)
}

/// A certificate as files.
fn files(world: &World, name: &str, pems: &Pems) -> Result<PemFiles> {
    let dir = world.cluster.path().join(name);
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("cert-chain.pem"), &pems.chain)?;
    std::fs::write(dir.join("key.pem"), &pems.key)?;
    std::fs::write(dir.join("root-cert.pem"), world.cluster.ca().root_pem())?;
    Ok(PemFiles::in_dir(&dir))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissive_takes_mutual_tls_and_plaintext_on_the_same_port() -> Result<()> {
    let world = World::start(Shape::InProcess, &[("mtls", &mode("PERMISSIVE", "STRICT"))]).await?;
    world.v1.mesh.attach(9081, world.v1.echo.clone()).await?;
    let curl = PemFiles::in_dir(&world.cluster.credentials("default", "curl")?);
    assert_eq!(peer(&plain(&world, 9080).await?)?, None);
    for version in [&version::TLS13, &version::TLS12] {
        for alpn in [&b"http/1.1"[..], b"istio-http/1.1", b"istio"] {
            let answered = secure(&world, 9080, config(&curl, version, alpn)?).await?;
            assert_eq!(peer(&answered)?.as_deref(), Some(CURL), "{version:?}");
        }
    }
    // The port whose policy is its own takes no plaintext.
    let served = world.v1.echo.served();
    ensure!(plain(&world, 9081).await.is_err());
    assert_eq!(world.v1.echo.served(), served);
    let answered = secure(&world, 9081, config(&curl, &version::TLS13, b"http/1.1")?).await?;
    assert_eq!(peer(&answered)?.as_deref(), Some(CURL));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_takes_mutual_tls_and_a_port_of_its_own_may_be_permissive() -> Result<()> {
    let world = World::start(Shape::InProcess, &[("mtls", &mode("STRICT", "PERMISSIVE"))]).await?;
    world.v1.mesh.attach(9081, world.v1.echo.clone()).await?;
    let curl = PemFiles::in_dir(&world.cluster.credentials("default", "curl")?);
    let speaks = || config(&curl, &version::TLS13, b"http/1.1");
    ensure!(plain(&world, 9080).await.is_err());
    assert_eq!(
        peer(&secure(&world, 9080, speaks()?).await?)?.as_deref(),
        Some(CURL)
    );
    assert_eq!(peer(&plain(&world, 9081).await?)?, None);
    // What is demanded when the first byte comes counts, not what was when the connection was made.
    let mut waiting = TcpStream::connect((world.v1.spec.ip, 9081)).await?;
    world.cluster.apply("mtls", &mode("PERMISSIVE", "STRICT"))?;
    until("9080 is permissive", || async {
        plain(&world, 9080).await.is_ok()
    })
    .await;
    waiting
        .write_all(wire::head("GET", "/", "reviews", &[]).as_bytes())
        .await?;
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, waiting.read_to_end(&mut rest)).await?;
    ensure!(
        ended.is_err() || rest.is_empty(),
        "{ended:?} {}",
        String::from_utf8_lossy(&rest)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_sound_identity_comes_in_over_tls_and_policies_judge_it() -> Result<()> {
    let allow = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: curl, namespace: default}\nspec:\n  \
                 selector: {matchLabels: {app: reviews}}\n  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}]}]\n";
    let world = World::start(Shape::InProcess, &[("policy", allow)]).await?;
    let of = |account: &str| {
        Ok::<_, anyhow::Error>(PemFiles::in_dir(&world.cluster.credentials("default", account)?))
    };
    let speaks = |files: &PemFiles| config(files, &version::TLS13, b"http/1.1");
    assert_eq!(secure(&world, 9080, speaks(&of("curl")?)?).await?.status, 200);
    assert_eq!(secure(&world, 9080, speaks(&of("other")?)?).await?.status, 403);
    assert_eq!(plain(&world, 9080).await?.status, 403);
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now();
    let ca = world.cluster.ca();
    let mut expired = Leaf::of(&spiffe("default", "curl"), hour);
    (expired.not_before, expired.not_after) = (now - 2 * hour, now - hour);
    let foreign = Leaf::of(&SpiffeId::parse("spiffe://elsewhere/ns/default/sa/curl")?, hour);
    let stranger = DevCa::open_or_create(world.cluster.path().join("other-ca"))?;
    let forged = stranger.issue_leaf(&Leaf::of(&spiffe("default", "curl"), hour))?;
    let served = world.v1.echo.served();
    for (name, pems) in [
        ("expired", ca.issue_leaf(&expired)?),
        ("foreign", ca.issue_leaf(&foreign)?),
        ("forged", forged),
    ] {
        let answered = secure(&world, 9080, speaks(&files(&world, name, &pems)?)?).await;
        ensure!(answered.is_err(), "{name}: {answered:?}");
    }
    // Nobody at all.
    let name = ServerName::IpAddress(world.v1.spec.ip.into());
    let nobody = tls::client_of_nobody(&of("curl")?)?;
    let tcp = TcpStream::connect((world.v1.spec.ip, 9080)).await?;
    let answered = match TlsConnector::from(nobody).connect(name, tcp).await {
        Ok(stream) => exchange(stream, wire::head("GET", "/", "reviews", &[]).as_bytes()).await,
        Err(error) => Err(error.into()),
    };
    ensure!(answered.is_err(), "{answered:?}");
    // What begins like TLS and is none.
    let mut noise = TcpStream::connect((world.v1.spec.ip, 9080)).await?;
    noise
        .write_all(b"\x16GET / HTTP/1.1\r\nhost: reviews\r\n\r\n")
        .await?;
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, noise.read_to_end(&mut rest)).await?;
    ensure!(!rest.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(world.v1.echo.served(), served);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disable_is_ignored_and_said_so() -> Result<()> {
    let world = World::start(Shape::InProcess, &[("mtls", &mode("DISABLE", "DISABLE"))]).await?;
    let curl = PemFiles::in_dir(&world.cluster.credentials("default", "curl")?);
    assert_eq!(peer(&plain(&world, 9080).await?)?, None);
    let answered = secure(&world, 9080, config(&curl, &version::TLS13, b"http/1.1")?).await?;
    assert_eq!(peer(&answered)?.as_deref(), Some(CURL));
    assert_eq!(
        inmesh_tests::kit::world::status(world.curl.get("http://reviews:9080/").await),
        200
    );
    let status = world.v1.mesh.status();
    let problems = Arc::clone(&status.borrow().problems);
    let told: Vec<String> = problems
        .iter()
        .map(ToString::to_string)
        .filter(|it| it.contains("DISABLE"))
        .collect();
    assert_eq!(
        told.len(),
        2,
        "the mode of the workload and of the port: {told:?}"
    );
    told.iter().find(|it| it.contains("mtls.yaml")).context("where")?;
    Ok(())
}

/// MeshConfig `trustDomainAliases`: whoever has an identity of one is let in, and policies mean it too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_of_the_mesh_is_accepted_while_the_mesh_says_so() -> Result<()> {
    let config_map = |aliases: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
             trustDomain: cluster.local\n    trustDomainAliases: [{aliases}]\n"
        )
    };
    let allow = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: curl, namespace: default}\nspec:\n  \
                 selector: {matchLabels: {app: reviews}}\n  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}]}]\n";
    let world = World::start(Shape::InProcess, &[("mesh", &config_map("")), ("policy", allow)]).await?;
    let id = SpiffeId::parse("spiffe://old.example/ns/default/sa/curl")?;
    let dir = world.cluster.path().join("old");
    world
        .cluster
        .ca()
        .write_workload(&dir, &id, Duration::from_secs(3600))?;
    let caller = inmesh::Mesh::builder()
        .credentials_dir(dir)
        .source(inmesh::source::dir(world.cluster.folder()).namespace("default"))
        .start()
        .await?;
    let ask =
        || async { inmesh_tests::kit::world::status(caller.client().get("http://reviews:9080/").await) };
    assert_ne!(ask().await, 200);
    world.cluster.apply("mesh", &config_map("old.example"))?;
    until("the alias is accepted", || async { ask().await == 200 }).await;
    Ok(())
}
