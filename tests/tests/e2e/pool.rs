//! `connectionPool` of DestinationRules: how much at once, and over which connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::join_all;
use http::{Method, Version};
use inmesh::{Body, Client, Mesh, Refusal};
use inmesh_tests::kit::counted::Counted;
use inmesh_tests::kit::sockets::connections;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, status, text};
use inmesh_tests::kit::{Cluster, Shape, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const URL: &str = "http://reviews-v1:9080";

in_both_shapes!(
    requests_beyond_the_limit_are_refused,
    as_many_wait_for_a_connection_as_may,
    a_limit_is_felt_again_when_it_is_raised,
);

fn rule(host: &str, pool: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: pool, namespace: default}}\n\
         spec: {{host: {host}, trafficPolicy: {{connectionPool: {pool}}}}}\n"
    )
}

/// The answer as a proxy gives it.
fn answer(result: Result<http::Response<Body>, Refusal>) -> http::Response<Body> {
    result.unwrap_or_else(|refusal| refusal.into_response(false))
}

const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";

async fn is_overflow(result: Result<http::Response<Body>, Refusal>) -> Result<()> {
    let answer = answer(result);
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["x-envoy-overloaded"], "true");
    assert_eq!(text(answer).await?, OVERFLOW);
    Ok(())
}

async fn requests_beyond_the_limit_are_refused(shape: Shape) -> Result<()> {
    let rule = rule("reviews-v1", "{http: {http2MaxRequests: 1}}");
    let world = World::start(shape, &[("rule", &rule)]).await?;
    let curl = world.curl.clone();
    let first = tokio::spawn(async move { status(curl.get(format!("{URL}/sleep/1000")).await) });
    until("the first is under way", || async { world.v1.echo.served() == 1 }).await;
    is_overflow(world.curl.get(URL).await).await?;
    // Another destination is not concerned.
    assert_eq!(status(world.curl.get("http://reviews-v2:9080").await), 200);
    assert_eq!(first.await?, 200);
    assert_eq!(status(world.curl.get(URL).await), 200);
    assert_eq!(world.v1.echo.served(), 2);
    Ok(())
}

async fn as_many_wait_for_a_connection_as_may(shape: Shape) -> Result<()> {
    let rule = rule(
        "reviews-v1",
        "{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}",
    );
    let world = World::start(shape, &[("rule", &rule)]).await?;
    let curl = world.curl.clone();
    let first = tokio::spawn(async move { status(curl.get(format!("{URL}/sleep/1500")).await) });
    until("the first is under way", || async { world.v1.echo.served() == 1 }).await;
    // One of two waits for the connection, the other may not.
    let both = join_all([world.curl.get(URL), world.curl.get(URL)]).await;
    let mut statuses: Vec<u16> = both.into_iter().map(status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    assert_eq!(first.await?, 200);
    assert_eq!(world.v1.echo.served(), 2);
    Ok(())
}

async fn a_limit_is_felt_again_when_it_is_raised(shape: Shape) -> Result<()> {
    let none = rule(
        "reviews-v1",
        "{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}",
    );
    let world = World::start(shape, &[("rule", &none)]).await?;
    // A request counts as waiting while its connection is made: here it is there before.
    assert_eq!(seen(world.curl.get(URL).await).await?.pod, "reviews-v1");
    // An answer that nobody reads keeps its connection.
    let one = || async { status(world.curl.get(format!("{URL}/sleep/300")).await) };
    let many = |n: usize| join_all((0..n).map(|_| one()));
    let refused = many(8).await.into_iter().filter(|it| *it == 503);
    assert_eq!(refused.count(), 6, "one is sent, one waits");
    world
        .cluster
        .apply("rule", &rule("reviews-v1", "{tcp: {maxConnections: 8}}"))?;
    until("all are sent at once", || async {
        many(8).await.into_iter().all(|it| it == 200)
    })
    .await;
    Ok(())
}

/// A caller, and `backend:80` outside of the mesh with this policy.
struct Outside {
    cluster: Cluster,
    backend: Counted,
    at: SocketAddr,
    client: Client,
    _mesh: Mesh,
}

async fn outside(pool: &str) -> Result<Outside> {
    let cluster = Cluster::new()?;
    let ip = cluster.address();
    let backend = Counted::start(ip, 8080).await?;
    cluster.apply(
        "entry",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: backend, namespace: default}}\nspec:\n  \
             hosts: [backend.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP, \
             targetPort: 8080}}, {{number: 81, name: tcp, protocol: TCP, targetPort: 8080}}]\n  endpoints: [{{address: {ip}}}]\n"
        ),
    )?;
    cluster.apply("rule", &rule("backend.example", pool))?;
    let (mesh, client) = cluster.client("curl").await?;
    Ok(Outside {
        cluster,
        backend,
        at: (ip, 8080).into(),
        client,
        _mesh: mesh,
    })
}

const BACKEND: &str = "http://backend.example";

async fn get(outside: &Outside, path: &str) -> Result<String> {
    let response = outside.client.get(format!("{BACKEND}{path}")).await?;
    text(response).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_carries_as_many_requests_as_it_may() -> Result<()> {
    let outside = outside("{http: {maxRequestsPerConnection: 2}}").await?;
    for expected in [1, 1, 2, 2, 3] {
        assert_eq!(get(&outside, "/").await?, format!("HTTP/1.1 on {expected}"));
    }
    // New terms, new connections.
    outside.cluster.apply(
        "rule",
        &rule("backend.example", "{http: {maxRequestsPerConnection: 1}}"),
    )?;
    until("each request has its own", || async {
        let before = outside.backend.made();
        let both = [get(&outside, "/").await, get(&outside, "/").await];
        both.iter().all(Result::is_ok) && outside.backend.made() == before + 2
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_spoken_where_it_is_asked_for_over_as_many_connections_as_it_takes() -> Result<()> {
    let outside = outside("{http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 2}}").await?;
    let all = join_all((0..6).map(|_| get(&outside, "/sleep/300"))).await;
    for answer in all {
        assert!(answer?.starts_with("HTTP/2.0 on "));
    }
    assert_eq!(outside.backend.made(), 3, "two at once on each");
    assert_eq!(outside.backend.open(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_wait_where_connections_are_limited() -> Result<()> {
    let outside =
        outside("{tcp: {maxConnections: 1}, http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 1}}")
            .await?;
    let all = join_all((0..5).map(|_| get(&outside, "/sleep/50"))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!((outside.backend.made(), outside.backend.served()), (1, 5));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_is_spoken_to_as_its_callers_speak() -> Result<()> {
    let outside = outside("{http: {useClientProtocol: true}}").await?;
    assert_eq!(get(&outside, "/").await?, "HTTP/1.1 on 1");
    let mut over_two = request(Method::GET, &format!("{BACKEND}/"), &[]);
    *over_two.version_mut() = Version::HTTP_2;
    assert_eq!(
        text(outside.client.request(over_two).await?).await?,
        "HTTP/2.0 on 2"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_when_they_are_idle_or_old() -> Result<()> {
    let outside = outside("{http: {idleTimeout: 1s}, tcp: {maxConnectionDuration: 60s}}").await?;
    get(&outside, "/").await?;
    let quiet = tokio::time::Instant::now() + Duration::from_millis(1_100);
    tokio::time::sleep_until(quiet).await;
    assert_eq!(
        get(&outside, "/").await?,
        "HTTP/1.1 on 2",
        "the first had idled too long"
    );
    outside.cluster.apply(
        "rule",
        &rule("backend.example", "{tcp: {maxConnectionDuration: 1s}}"),
    )?;
    until("a connection is used no more when it is old", || async {
        let (before, began) = (outside.backend.made(), Instant::now());
        while began.elapsed() < Duration::from_millis(1_200) {
            if get(&outside, "/sleep/20").await.is_err() {
                return false;
            }
        }
        outside.backend.made() > before
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn byte_streams_have_the_same_limits() -> Result<()> {
    let outside = outside("{tcp: {maxConnections: 1, idleTimeout: 1s}}").await?;
    let mut first = outside.client.connect("backend.example:81").await?;
    let refused = outside
        .client
        .connect("backend.example:81")
        .await
        .expect_err("one is allowed");
    assert_eq!(refused.flags(), "UO");
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
    let (mut all, began) = (Vec::new(), Instant::now());
    let ended = first.read_to_end(&mut all).await.expect_err("nothing moves");
    assert_eq!(ended.kind(), std::io::ErrorKind::TimedOut);
    assert!(String::from_utf8_lossy(&all).contains("HTTP/1.1 on 1"));
    assert!(began.elapsed() >= Duration::from_secs(1));
    drop(first);
    assert!(outside.client.connect("backend.example:81").await.is_ok());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_must_come_about_in_time() -> Result<()> {
    let cluster = Cluster::new()?;
    // A listener whose queue is full: the kernel answers no more.
    let ip = cluster.address();
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((ip, 8080).into())?;
    let listener = socket.listen(1)?;
    let mut queued = Vec::new();
    loop {
        let dialled = tokio::net::TcpStream::connect((ip, 8080));
        match tokio::time::timeout(Duration::from_millis(300), dialled).await {
            Ok(connected) => queued.push(connected?),
            Err(_) => break,
        }
        anyhow::ensure!(queued.len() < 100, "the queue has no end");
    }
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: backend, namespace: default}}\nspec:\n  \
         hosts: [backend.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP, \
         targetPort: 8080}}]\n  endpoints: [{{address: {ip}}}]\n"
    );
    cluster.apply("entry", &entry)?;
    let pool = "{tcp: {connectTimeout: 200ms}}";
    cluster.apply("rule", &rule("backend.example", pool))?;
    let none = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: once, namespace: default}\n\
                spec: {hosts: [backend.example], http: [{retries: {attempts: 0}, route: [{destination: {host: backend.example}}]}]}\n";
    cluster.apply("once", none)?;
    let (_mesh, client) = cluster.client("curl").await?;
    let began = Instant::now();
    let refused = client.get(BACKEND).await.expect_err("nobody accepts");
    assert_eq!((refused.status.as_u16(), refused.flags()), (503, "UF"));
    assert!(began.elapsed() >= Duration::from_millis(200) && began.elapsed() < Duration::from_secs(5));
    drop(listener);
    Ok(())
}

/// Plain connections to a workload, as the kernel has them: watched by what is not acknowledged, or by the keep-alive that the
/// destination asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_watched_as_the_destination_wants_them() -> Result<()> {
    for (pool, timeout, keepalive) in [
        ("{}", Some(Duration::from_secs(30)), None),
        (
            "{tcp: {tcpKeepalive: {probes: 4, time: 7s, interval: 3s}}}",
            None,
            Some((4, Duration::from_secs(7), Duration::from_secs(3))),
        ),
    ] {
        let outside = outside(pool).await?;
        get(&outside, "/").await?;
        let Some(sockets) = connections(std::process::id(), None, Some(outside.at))? else {
            return Ok(());
        };
        assert_eq!(sockets.len(), 1, "{pool}");
        let socket = sockets[0].options();
        assert_eq!(socket.tcp_user_timeout()?, timeout, "{pool}");
        assert_eq!(socket.keepalive()?, keepalive.is_some(), "{pool}");
        if let Some(wanted) = keepalive {
            let found = (
                socket.tcp_keepalive_retries()?,
                socket.tcp_keepalive_time()?,
                socket.tcp_keepalive_interval()?,
            );
            assert_eq!(found, wanted);
        }
    }
    Ok(())
}

/// A server that takes a request and then does nothing: its kernel acknowledges, nobody answers, pings neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_on_which_pings_go_unanswered_is_given_up() -> Result<()> {
    let cluster = Cluster::new()?;
    let ip = cluster.address();
    let listener = tokio::net::TcpListener::bind((ip, 8080)).await?;
    let silent = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut connection = h2::server::handshake(stream).await?;
        let request = connection.accept().await;
        anyhow::ensure!(request.is_some_and(|it| it.is_ok()), "a request comes");
        std::future::pending::<()>().await;
        drop(connection);
        anyhow::Ok(())
    });
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: backend, namespace: default}}\nspec:\n  \
         hosts: [backend.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP, \
         targetPort: 8080}}]\n  endpoints: [{{address: {ip}}}]\n"
    );
    cluster.apply("entry", &entry)?;
    let pool = "{http: {h2UpgradePolicy: UPGRADE, http2KeepAlive: {interval: 0.2s, timeout: 0.2s}}}";
    cluster.apply("rule", &rule("backend.example", pool))?;
    let (_mesh, client) = cluster.client("curl").await?;
    let answer = tokio::time::timeout(Duration::from_secs(30), client.get(BACKEND)).await;
    let refused = answer?.expect_err("nobody answers");
    assert_eq!((refused.status.as_u16(), refused.flags()), (503, "UC"));
    silent.abort();
    Ok(())
}
