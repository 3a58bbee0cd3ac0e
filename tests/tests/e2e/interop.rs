//! With a real Envoy as the other end. Skipped, and said so, where there is none.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, anyhow};
use inmesh_tests::envoy::{
    ClientConfig, EnvoyClient, EnvoyWaypoint, Upstream, VirtualService, WaypointConfig, find_or_skip,
};
use inmesh_tests::kit::Cluster;
use inmesh_tests::kit::cluster::{gateway, namespace};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{seen, status};
use inmesh_tests::pki::PemFiles;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_and_our_server_meet_through_an_envoy_waypoint() -> Result<()> {
    let Some(binary) = find_or_skip("our client and server through an Envoy waypoint") else {
        return Ok(());
    };
    let cluster = Cluster::new()?;
    let vip = cluster.address();
    let pod = cluster
        .pod("reviews-v1")
        .account("reviews")
        .label("app", "reviews");
    let waypoint = cluster.waypoint_pod("default", "waypoint");
    cluster.service("reviews", "reviews", None)?;
    let yaml = std::fs::read_to_string(cluster.folder().join("service-reviews.yaml"))?;
    cluster.apply(
        "service-reviews",
        &yaml.replace("spec:\n", &format!("spec:\n  clusterIP: {vip}\n")),
    )?;
    cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
    cluster.apply(
        "namespace",
        &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
    )?;
    cluster.declare(&pod)?;
    cluster.declare(&waypoint)?;
    let config = WaypointConfig {
        identity: PemFiles::in_dir(&cluster.credentials("default", "waypoint")?),
        listen: SocketAddr::from((waypoint.ip, 15008)),
        services: vec![VirtualService {
            address: SocketAddr::from((vip, 9080)),
            endpoints: vec![SocketAddr::from((pod.ip, 9080))],
        }],
        upstream: Upstream::Hbone { port: 15008 },
        allow_get: vec!["spiffe://cluster.local/ns/default/sa/curl".to_owned()],
        routes: 3,
    };
    let envoy = tokio::task::spawn_blocking(move || EnvoyWaypoint::start(&binary, &config)).await??;
    let _server = cluster.run(&pod).await?;
    let (_curl_mesh, curl) = cluster.client("curl").await?;
    let (_other_mesh, other) = cluster.client("other").await?;
    let url = "http://reviews:9080/through";
    let seen = seen(curl.get(url).await)
        .await
        .map_err(|error| anyhow!("{error}: {}", envoy.process().log()))?;
    assert_eq!(seen.path, "/through");
    assert_eq!(
        seen.peer.as_deref(),
        Some("spiffe://cluster.local/ns/default/sa/waypoint")
    );
    assert_eq!(status(curl.post(url, "x").await), 403, "Envoy's own policy");
    assert_eq!(status(other.get(url).await), 403, "Envoy sees who called");
    for n in 0..300 {
        assert_eq!(status(curl.get(url).await), 200, "request {n}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_client_reaches_our_server_under_its_identity() -> Result<()> {
    let Some(binary) = find_or_skip("an Envoy client at our server") else {
        return Ok(());
    };
    let cluster = Cluster::new()?;
    let pod = cluster
        .pod("reviews-v1")
        .account("reviews")
        .label("app", "reviews");
    cluster.service("reviews", "reviews", None)?;
    cluster.declare(&pod)?;
    let server = cluster.run(&pod).await?;
    let config = ClientConfig {
        identity: PemFiles::in_dir(&cluster.credentials("default", "curl")?),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        dial: SocketAddr::from((pod.ip, 15008)),
        authority: format!("{}:9080", pod.ip),
        server: "spiffe://cluster.local/ns/default/sa/reviews".to_owned(),
    };
    let envoy = tokio::task::spawn_blocking(move || EnvoyClient::start(&binary, &config)).await??;
    let addr = envoy.addr()?;
    let ask = || async move {
        let mut tcp = TcpStream::connect(addr).await?;
        tcp.write_all(b"GET /from-envoy HTTP/1.1\r\nhost: reviews:9080\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = ask().await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("\"peer\":\"spiffe://cluster.local/ns/default/sa/curl\""),
        "{answer}"
    );
    let deny = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no, namespace: default}\nspec:\n  action: DENY\n  rules:\n  - from:\n    - source:\n        \
                principals: [cluster.local/ns/default/sa/curl]\n";
    cluster.apply("policy", deny)?;
    until("our server denies Envoy's caller", || async {
        ask().await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 403"))
    })
    .await;
    drop(server);
    Ok(())
}
