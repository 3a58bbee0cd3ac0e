//! What is counted of connections that are not HTTP, and what participants tell of themselves.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use inmesh::Mesh;
use inmesh_tests::kit::metrics::{Sample, samples, value};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::seen;
use inmesh_tests::kit::{Cluster, Shape, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

in_both_shapes!(
    a_byte_stream_is_counted_wherever_it_passes,
    a_byte_stream_that_is_denied_is_counted_as_failed,
    what_section_seven_lists_is_told,
);

const OPENED: &str = "istio_tcp_connections_opened_total";
const CLOSED: &str = "istio_tcp_connections_closed_total";
const FAILED: &str = "istio_tcp_connections_failed_total";
const SENT: &str = "istio_tcp_sent_bytes_total";
const RECEIVED: &str = "istio_tcp_received_bytes_total";

/// The labels of `istio_tcp_*` at a waypoint, in no order.
const ENVOY: [&str; 23] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
];

/// A server that answers every byte twice.
async fn double_server() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut byte = [0; 1];
                while let Ok(1) = stream.read(&mut byte).await {
                    if stream.write_all(&[byte[0], byte[0]]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(addr)
}

/// The one series of a metric that somebody has.
fn only(meshes: &[&Mesh], name: &str) -> Sample {
    let found: Vec<_> = meshes
        .iter()
        .flat_map(|mesh| samples(&mesh.metrics(), name))
        .collect();
    let [sample] = &found[..] else {
        panic!("{name}: {found:?}")
    };
    sample.clone()
}

async fn a_byte_stream_is_counted_wherever_it_passes(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let to = double_server().await?;
    world.v1.mesh.relay(7000, to).await?;
    world.v2.mesh.relay(7000, to).await?;
    let mut stream = world
        .curl
        .connect("reviews:7000")
        .await
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    stream.write_all(b"\x00hello").await?;
    let mut back = [0; 12];
    stream.read_exact(&mut back).await?;

    let caller = &world.meshes()[0];
    let callees = [&world.v1.mesh, &world.v2.mesh];
    let waypoint = world.waypoint.as_ref().map(|waypoint| waypoint.mesh());
    let curl = "spiffe://cluster.local/ns/default/sa/curl";
    let reviews = "spiffe://cluster.local/ns/default/sa/reviews";
    let through = "spiffe://cluster.local/ns/default/sa/waypoint";
    let (next, before) = match shape {
        Shape::InProcess => (reviews, curl),
        Shape::Waypoint => (through, through),
    };
    let mut points = vec![
        (vec![caller], "source", curl, next),
        (callees.to_vec(), "destination", before, reviews),
    ];
    points.extend(waypoint.map(|mesh| (vec![mesh], "waypoint", curl, reviews)));
    for (meshes, reporter, from, to) in &points {
        // While it lasts: opened, and its bytes as they pass. Sent is what went to the caller.
        for (name, expected) in [(OPENED, 1.0), (CLOSED, 0.0), (RECEIVED, 6.0), (SENT, 12.0)] {
            // Bytes are counted once they are on their way: whoever has them may be earlier than the count.
            until(&format!("the {reporter} has {expected} of {name}"), || async {
                only(meshes, name).value == expected
            })
            .await;
            let sample = only(meshes, name);
            assert_eq!(sample.label("reporter"), *reporter);
            assert_eq!(sample.label("source_principal"), *from, "{reporter}");
            assert_eq!(sample.label("destination_principal"), *to, "{reporter}");
            assert_eq!(
                sample.label("destination_service"),
                "reviews.default.svc.cluster.local"
            );
            assert_eq!(sample.label("destination_service_name"), "reviews");
            assert_eq!(sample.label("destination_service_namespace"), "default");
            assert_eq!(sample.label("request_protocol"), "tcp");
            assert_eq!(sample.label("response_flags"), "-");
            assert_eq!(
                sample.label("connection_security_policy"),
                "mutual_tls",
                "{reporter}"
            );
            let missing: Vec<_> = ENVOY
                .iter()
                .filter(|name| !sample.labels.contains_key(**name))
                .collect();
            assert!(
                missing.is_empty() && sample.labels.len() == ENVOY.len(),
                "{reporter}: {sample:?}"
            );
        }
    }
    stream.shutdown().await?;
    assert_eq!(stream.read(&mut back).await?, 0);
    drop(stream);
    for (meshes, reporter, ..) in &points {
        until(&format!("the {reporter} has closed it"), || async {
            only(meshes, CLOSED).value == 1.0
        })
        .await;
        assert_eq!(only(meshes, OPENED).value, 1.0);
        assert!(
            meshes
                .iter()
                .all(|mesh| samples(&mesh.metrics(), FAILED).is_empty())
        );
    }
    Ok(())
}

async fn a_byte_stream_that_is_denied_is_counted_as_failed(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let to = double_server().await?;
    let callees = [&world.v1.mesh, &world.v2.mesh];
    for mesh in callees {
        mesh.relay(7000, to).await?;
    }
    let connect = || world.curl.connect("reviews:7000");
    let mut stream = connect().await.map_err(|e| anyhow::anyhow!("{e}"))?;
    stream.write_all(b"\x00").await?;
    stream.read_u16().await?;
    let before = if shape == Shape::Waypoint {
        "waypoint"
    } else {
        "curl"
    };
    let policy = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: no, namespace: default}}\nspec:\n  action: DENY\n  \
         rules:\n  - from: [{{source: {{principals: [cluster.local/ns/default/sa/{before}]}}}}]\n"
    );
    world.cluster.apply("policy", &policy)?;
    let denied = |name| {
        let of = |mesh: &&Mesh| value(&mesh.metrics(), name, &[("response_flags", "DENY")]);
        callees.iter().map(of).sum::<f64>()
    };
    // The one that is up is cut; one that comes later is opened, as ztunnel counts, and closed at once.
    until("the connection is cut and counted", || async {
        denied(CLOSED) == 1.0
    })
    .await;
    until("and counted as failed", || async { denied(FAILED) == 1.0 }).await;
    until("both callees refuse", || async {
        let _ = connect().await.map(drop);
        callees
            .iter()
            .all(|mesh| value(&mesh.metrics(), FAILED, &[("response_flags", "DENY")]) >= 1.0)
    })
    .await;
    for mesh in callees {
        until("what was opened is closed", || async {
            let text = mesh.metrics();
            let plain = [("response_flags", "-")];
            let closed = value(&text, CLOSED, &plain) + value(&text, CLOSED, &[("response_flags", "DENY")]);
            value(&text, OPENED, &plain) == closed
        })
        .await;
    }
    if shape == Shape::InProcess {
        let refused = || {
            value(
                &world.meshes()[0].metrics(),
                FAILED,
                &[("response_flags", "CONNECT")],
            )
        };
        until("the caller has counted a refusal", || async { refused() >= 1.0 }).await;
    }
    Ok(())
}

/// `architecture.md` section 7, the metrics of the mesh about itself.
async fn what_section_seven_lists_is_told(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let caller = &world.meshes()[0];
    let callee = match &world.waypoint {
        Some(waypoint) => waypoint.mesh(),
        None => &world.v1.mesh,
    };
    for (mesh, direction) in [(caller, "outbound"), (callee, "inbound")] {
        until(
            &format!("a tunnel and a stream are told, {direction}"),
            || async {
                // Whoever reads an answer to its end keeps the stream for the next request.
                let seen = seen(world.curl.get("http://reviews:9080/").await).await;
                let text = mesh.metrics();
                let told = [
                    "mesh_tunnels",
                    "mesh_tunnel_streams",
                    "mesh_handshake_seconds_count",
                ];
                let told = told.map(|name| value(&text, name, &[("direction", direction)]));
                let took = value(&text, "mesh_handshake_seconds_sum", &[("direction", direction)]);
                seen.is_ok() && told.iter().all(|told| *told >= 1.0) && took > 0.0
            },
        )
        .await;
    }

    let text = caller.metrics();
    let expiry = Duration::from_secs_f64(value(&text, "mesh_certificate_expiry_seconds", &[]));
    let left = (SystemTime::UNIX_EPOCH + expiry).duration_since(SystemTime::now())?;
    assert!(
        left > Duration::from_secs(3000) && left <= Duration::from_secs(3600),
        "{left:?}"
    );
    assert!(value(&text, "mesh_compile_seconds", &[]) > 0.0);
    assert_eq!(value(&text, "mesh_config_problems", &[]), 0.0);
    world
        .cluster
        .apply("broken", "apiVersion: v1\nkind: Service\nmetadata: {name: [}\n")?;
    until("the problem is told", || async {
        let status = caller.status().borrow().clone();
        let text = caller.metrics();
        value(&text, "mesh_config_problems", &[]) == 1.0
            && value(&text, "mesh_config_generation", &[]) == status.generation as f64
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_of_a_configuration_that_is_refused_are_counted_too() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    let mesh = cluster
        .participant("default", "curl")?
        .strict(true)
        .start()
        .await?;
    let generation = mesh.status().borrow().generation as f64;
    cluster.apply(
        "odd",
        "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: default}\nspec: {trafficDistrobution: x, ports: [{port: 80}]}\n",
    )?;
    until("the problem is told", || async {
        value(&mesh.metrics(), "mesh_config_problems", &[]) >= 1.0
    })
    .await;
    assert_eq!(value(&mesh.metrics(), "mesh_config_generation", &[]), generation);
    Ok(())
}
