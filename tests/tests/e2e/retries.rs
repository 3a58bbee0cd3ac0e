//! Retries that an HTTPRoute asks for (GEP-1731).

use std::time::{Duration, Instant};

use anyhow::Result;
use http::Method;
use inmesh_tests::kit::cluster::PORT;
use inmesh_tests::kit::echo::Echo;
use inmesh_tests::kit::metrics::value;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, status};
use inmesh_tests::kit::{Cluster, Load, Shape, World};

const URL: &str = "http://reviews:9080";

in_both_shapes!(
    listed_codes_are_retried_and_others_are_not,
    the_last_answer_is_given_when_attempts_are_used_up,
    an_attempt_that_takes_too_long_is_retried,
);

fn route(rule: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: default}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  - backendRefs: [{{name: reviews-v1, port: 9080}}]\n{rule}"
    )
}

async fn listed_codes_are_retried_and_others_are_not(shape: Shape) -> Result<()> {
    let rule = "    retry: {codes: [500, 502], attempts: 2, backoff: 10ms}\n";
    let world = World::start(shape, &[("route", &route(rule))]).await?;
    for code in [500, 502] {
        let url = format!("{URL}/fail/{code}/2/x");
        assert_eq!(seen(world.curl.get(&*url).await).await?.pod, "reviews-v1");
    }
    assert_eq!(world.v1.echo.served(), 6);
    assert_eq!(status(world.curl.get(format!("{URL}/fail/503/1/x")).await), 503);
    assert_eq!(world.v1.echo.served(), 7);
    Ok(())
}

async fn the_last_answer_is_given_when_attempts_are_used_up(shape: Shape) -> Result<()> {
    let rule = "    retry: {codes: [503], attempts: 1, backoff: 200ms}\n";
    let world = World::start(shape, &[("route", &route(rule))]).await?;
    let began = Instant::now();
    assert_eq!(status(world.curl.get(format!("{URL}/fail/503/9/x")).await), 503);
    assert_eq!(world.v1.echo.served(), 2);
    assert!(
        began.elapsed() >= Duration::from_millis(200),
        "the back-off is a minimum"
    );
    Ok(())
}

async fn an_attempt_that_takes_too_long_is_retried(shape: Shape) -> Result<()> {
    let rule =
        "    timeouts: {request: 10s, backendRequest: 300ms}\n    retry: {attempts: 2, backoff: 1ms}\n";
    let world = World::start(shape, &[("route", &route(rule))]).await?;
    assert_eq!(status(world.curl.get(format!("{URL}/sleep/15000")).await), 504);
    assert_eq!(world.v1.echo.served(), 3);
    Ok(())
}

const DEADLINE: &str = "x-deadline-ms";

/// The deadline that a caller gives shrinks on its way, and is over before anybody is asked where nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_shrinks_from_hop_to_hop() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    let spec = cluster.pod("reviews").label("app", "reviews");
    // A server that does not know itself lets nobody in.
    cluster.declare(&spec)?;
    let pod = cluster.run(&spec).await?;
    let mesh = cluster.participant("default", "curl")?;
    let mesh = mesh.deadline_header(DEADLINE.parse()?).start().await?;
    let client = mesh.client();
    let asked = |left: &str, path: &str| {
        let url = format!("{URL}{path}");
        let request = request(Method::GET, &url, &[(DEADLINE, left)]);
        client.request(request)
    };
    let told = seen(asked("5000", "/").await).await?.headers[DEADLINE].parse::<u64>()?;
    assert!(told <= 5_000 && told > 1_000, "{told}");
    assert_eq!(status(asked("100", "/sleep/5000").await), 504);
    let before = pod.echo.served();
    assert_eq!(status(asked("0", "/").await), 504);
    assert_eq!(pod.echo.served(), before, "nobody is asked");
    // What nobody limits is told to nobody.
    assert!(!seen(client.get(URL).await).await?.headers.contains_key(DEADLINE));
    Ok(())
}

/// Tunnels that are old are replaced, and no request is lost by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_that_are_old_are_made_anew_and_no_request_fails() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    let spec = cluster.pod("reviews").label("app", "reviews");
    cluster.declare(&spec)?;
    let mut settings = inmesh::hbone::Settings::default();
    settings.max_age = Some(Duration::from_millis(300));
    let server = cluster
        .participant("default", "reviews")?
        .pod("reviews")
        .address(spec.ip.into());
    let server = server.hbone(settings).start().await?;
    server.attach(PORT, Echo::new("reviews", None)).await?;
    let (_mesh, curl) = cluster.client("curl").await?;
    let load = Load::start(&curl, &format!("{URL}/sleep/2"), 8);
    let handshakes = || {
        let made = [("direction", "inbound")];
        value(&server.metrics(), "mesh_handshake_seconds_count", &made)
    };
    until("five tunnels have been made", || async { handshakes() >= 5.0 }).await;
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    Ok(())
}
