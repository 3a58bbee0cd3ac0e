//! Connections that are not HTTP are led by TCPRoutes, TLSRoutes and the `tcp` and `tls` routes of VirtualServices.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use inmesh::client::Connection;
use inmesh::identity::dev_ca::{Leaf, Pems};
use inmesh_tests::kit::cluster::spiffe;
use inmesh_tests::kit::secure::Secure;
use inmesh_tests::kit::wait::{PATIENCE, until};
use inmesh_tests::kit::{Shape, Visitor, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

in_both_shapes!(
    connections_are_shared_by_weight,
    a_share_without_a_backend_is_reset,
    the_server_name_decides,
    what_no_route_takes_is_closed_and_said,
    a_policy_is_asked_before_a_route,
    a_virtual_service_leads_connections,
    a_server_that_speaks_first_is_heard,
);

/// A server of bytes that says who it is as soon as it is called, and closes.
async fn teller(who: &'static str) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(who.as_bytes()).await;
                let _ = stream.shutdown().await;
                // Whatever the caller says is not to come back as a reset.
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            });
        }
    });
    Ok(addr)
}

/// Both versions of `reviews` tell who they are on port 7000.
async fn telling(shape: Shape, files: &[(&str, &str)]) -> Result<World> {
    let world = World::start(shape, files).await?;
    world.v1.mesh.relay(7000, teller("v1").await?).await?;
    world.v2.mesh.relay(7000, teller("v2").await?).await?;
    Ok(world)
}

/// Who answers on port 7000 of `reviews`.
async fn who(world: &World) -> Result<String> {
    let mut stream = world
        .curl
        .connect("reviews:7000")
        .await
        .map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    ensure!(!said.is_empty(), "nobody");
    Ok(said)
}

/// A route of Gateway API to port 7000 of `reviews`.
fn route(kind: &str, name: &str, hosts: &str, backends: &str) -> String {
    let hostnames = match hosts {
        "" => String::new(),
        hosts => format!("  hostnames: [{hosts}]\n"),
    };
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: reviews, port: 7000}}]\n{hostnames}  rules: [{{backendRefs: [{backends}]}}]\n"
    )
}

async fn connections_are_shared_by_weight(shape: Shape) -> Result<()> {
    let split = "{name: reviews-v1, port: 7000, weight: 80}, {name: reviews-v2, port: 7000, weight: 20}, {name: reviews, port: 7000, weight: 0}";
    let route_ = route("TCPRoute", "split", "", split);
    let world = telling(shape, &[("route", &route_)]).await?;
    let mut first = 0;
    for _ in 0..500 {
        first += usize::from(who(&world).await? == "v1");
    }
    // Five standard deviations of a fair split around 400.
    ensure!((355..=445).contains(&first), "{first} of 500");

    let all = route("TCPRoute", "split", "", "{name: reviews-v2, port: 7000}");
    world.cluster.apply("route", &all)?;
    until("everything goes to v2", || async {
        for _ in 0..20 {
            if who(&world).await.is_ok_and(|who| who != "v2") {
                return false;
            }
        }
        true
    })
    .await;
    Ok(())
}

async fn a_share_without_a_backend_is_reset(shape: Shape) -> Result<()> {
    let half = "{name: reviews-v1, port: 7000}, {name: gone, port: 7000}";
    let world = telling(shape, &[("route", &route("TCPRoute", "half", "", half))]).await?;
    let (mut served, mut reset) = (0, 0);
    for _ in 0..200 {
        match who(&world).await {
            Ok(who) => {
                ensure!(who == "v1", "{who}");
                served += 1;
            }
            Err(_) => reset += 1,
        }
    }
    ensure!((65..=135).contains(&reset), "{served} served, {reset} reset");
    Ok(())
}

/// A certificate for these names.
fn certificate(world: &World, dns: &[&str]) -> Result<Pems> {
    let mut leaf = Leaf::of(&spiffe("default", "reviews"), Duration::from_secs(3600));
    leaf.dns = dns.iter().map(|name| (*name).to_owned()).collect();
    Ok(world.cluster.ca().issue_leaf(&leaf)?)
}

/// Both versions of `reviews` speak TLS on port 7000, each under names of its own.
async fn secured(shape: Shape, files: &[(&str, &str)]) -> Result<(World, [Secure; 2])> {
    let world = World::start(shape, files).await?;
    let mut servers = Vec::new();
    for (pod, names) in [
        (&world.v1, ["one.example.com", "a.wild.example.com"]),
        (&world.v2, ["two.example.com", "b.wild.example.com"]),
    ] {
        let ip = world.cluster.address();
        servers.push(Secure::start(ip, 7443, &certificate(&world, &names)?).await?);
        pod.mesh.relay(7000, SocketAddr::from((ip, 7443))).await?;
    }
    let servers = servers.try_into().map_err(|_| anyhow::anyhow!("two"))?;
    Ok((world, servers))
}

async fn raw(world: &World) -> Result<Connection> {
    let connection = world.curl.connect("reviews:7000").await;
    connection.map_err(|refusal| anyhow::anyhow!("{refusal}"))
}

/// Asks whoever answers for a server name: the client believes only who proves to have it.
async fn ask(world: &World, name: &str) -> Result<String> {
    let visitor = Visitor::to(Ipv4Addr::LOCALHOST, 1).tls(name, world.cluster.ca().root_pem());
    let mut visit = tokio::time::timeout(PATIENCE, visitor.over(raw(world).await?)).await??;
    Ok(visit.get(name, "/").await?.1)
}

async fn the_server_name_decides(shape: Shape) -> Result<()> {
    let one = route(
        "TLSRoute",
        "one",
        "one.example.com, '*.wild.example.com'",
        "{name: reviews-v1, port: 7000}",
    );
    let two = route(
        "TLSRoute",
        "two",
        "two.example.com, b.wild.example.com",
        "{name: reviews-v2, port: 7000}",
    );
    let (world, servers) = secured(shape, &[("one", &one), ("two", &two)]).await?;
    for name in [
        "one.example.com",
        "a.wild.example.com",
        "two.example.com",
        "b.wild.example.com",
    ] {
        for _ in 0..5 {
            let answer = ask(&world, name).await.with_context(|| name.to_owned())?;
            ensure!(
                answer.starts_with(&format!("{name} http/1.1 HTTP/1.1")),
                "{answer}"
            );
        }
    }
    ensure!(servers.iter().all(|it| it.clear() == 0 && it.met() == 10));

    // A ClientHello in pieces is one all the same.
    let mut stream = raw(&world).await?;
    for byte in [0x16, 3, 1] {
        stream.write_all(&[byte]).await?;
        stream.flush().await?;
    }
    drop(stream);
    let asked = ask(&world, "two.example.com").await?;
    ensure!(asked.starts_with("two.example.com"), "{asked}");
    Ok(())
}

/// Whether a connection on which this was said is closed without an answer.
async fn closed(world: &World, said: &[u8]) -> Result<bool> {
    let mut stream = raw(world).await?;
    let mut byte = [0];
    if stream.write_all(said).await.is_err() {
        return Ok(true);
    }
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await?;
    Ok(matches!(read, Ok(0) | Err(_)))
}

async fn what_no_route_takes_is_closed_and_said(shape: Shape) -> Result<()> {
    let one = route(
        "TLSRoute",
        "one",
        "one.example.com",
        "{name: reviews-v1, port: 7000}",
    );
    let (world, servers) = secured(shape, &[("one", &one)]).await?;
    ensure!(ask(&world, "two.example.com").await.is_err());
    ensure!(closed(&world, b"\x00hello").await?);
    ensure!(servers.iter().all(|it| it.clear() == 0 && it.met() == 0));
    ask(&world, "one.example.com").await?;
    if shape == Shape::InProcess {
        // The reason is told to whoever uses the connection.
        let mut stream = raw(&world).await?;
        stream.write_all(b"\x00hello").await?;
        let error = stream.read(&mut [0]).await.expect_err("it is closed");
        let told = error.get_ref().map(ToString::to_string).unwrap_or_default();
        ensure!(told.contains("no route takes a connection with no TLS"), "{told}");
    }
    let metrics = match &world.waypoint {
        Some(waypoint) => waypoint.mesh().metrics(),
        None => world.meshes()[0].metrics(),
    };
    let flagged = metrics.lines().any(|line| {
        line.starts_with("istio_tcp_connections_closed_total") && line.contains("response_flags=\"NR\"")
    });
    ensure!(flagged, "{metrics}");
    Ok(())
}

async fn a_policy_is_asked_before_a_route(shape: Shape) -> Result<()> {
    let one = route(
        "TLSRoute",
        "one",
        "one.example.com, two.example.com",
        "{name: reviews-v1, port: 7000}",
    );
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no, namespace: default}\nspec:\n  \
         targetRefs: [{group: '', kind: Service, name: reviews}]\n  action: DENY\n  rules: [{from: [{source: {principals: \
         [cluster.local/ns/default/sa/curl]}}], to: [{operation: {ports: ['7000']}}]}]\n";
    let (world, servers) = secured(shape, &[("one", &one)]).await?;
    ask(&world, "one.example.com").await?;
    world.cluster.apply("policy", policy)?;
    until("curl is denied", || async {
        ask(&world, "one.example.com").await.is_err()
    })
    .await;
    let met = servers[0].met();
    ensure!(ask(&world, "one.example.com").await.is_err());
    ensure!(servers[0].met() == met);
    if shape == Shape::Waypoint {
        // There the server name is known where policies are asked.
        let by_name = policy.replace(
            "to: [{operation: {ports: ['7000']}}]",
            "when: [{key: connection.sni, values: [two.example.com]}]",
        );
        world.cluster.apply("policy", &by_name)?;
        until("only one of the names is denied", || async {
            ask(&world, "one.example.com").await.is_ok()
        })
        .await;
        let met = servers[0].met();
        ensure!(ask(&world, "two.example.com").await.is_err());
        ensure!(servers[0].met() == met);
    }
    Ok(())
}

async fn a_virtual_service_leads_connections(shape: Shape) -> Result<()> {
    let written = |to: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews, namespace: default}}\nspec:\n  \
             hosts: [reviews]\n  tcp:\n  - match: [{{port: 7001}}]\n    route: [{{destination: {{host: gone}}}}]\n  - match: [{{port: \
             7000}}]\n    route: [{{destination: {{host: {to}, port: {{number: 7000}}}}}}]\n"
        )
    };
    let world = telling(shape, &[("route", &written("reviews-v1"))]).await?;
    for _ in 0..20 {
        ensure!(who(&world).await? == "v1");
    }
    world.cluster.apply("route", &written("reviews-v2"))?;
    until("connections go to v2", || async {
        matches!(who(&world).await.as_deref(), Ok("v2"))
    })
    .await;
    for _ in 0..20 {
        ensure!(who(&world).await? == "v2");
    }
    Ok(())
}

async fn a_server_that_speaks_first_is_heard(shape: Shape) -> Result<()> {
    let tls = route("TLSRoute", "tls", "one.example.com", "{name: gone, port: 7000}");
    let rest = route("TCPRoute", "rest", "", "{name: reviews-v2, port: 7000}");
    let world = telling(shape, &[("tls", &tls), ("rest", &rest)]).await?;
    // The client says nothing, and which route takes it depends on what it would say.
    ensure!(who(&world).await? == "v2");
    Ok(())
}
