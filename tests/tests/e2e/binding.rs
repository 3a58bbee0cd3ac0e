//! Which labels bind which traffic to which waypoint.

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use inmesh::snapshot::Role;
use inmesh::{Client, Mesh, Waypoint};
use inmesh_tests::kit::admin::ADMIN;
use inmesh_tests::kit::cluster::{Pod, gateway, namespace};
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{seen, status};
use inmesh_tests::kit::{Admin, Cluster, Door, House};

struct Town {
    cluster: Cluster,
    pod: Pod,
    curl: Client,
    _curl: Mesh,
    _waypoints: Vec<Waypoint>,
}

/// `reviews` with a waypoint `waypoint` beside it and `waypoint-foo` in `foo`, to which nothing is bound yet.
async fn town(serves: &str) -> Result<Town> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    cluster.apply("default", &namespace("default", &[("team", "a")]))?;
    cluster.apply("foo", &namespace("foo", &[]))?;
    cluster.apply("gateway", &gateway("default", "waypoint", serves))?;
    let selector = "    allowedRoutes:\n      namespaces:\n        from: Selector\n        selector:\n          matchLabels: {team: a}\n";
    cluster.apply(
        "gateway-foo",
        &format!("{}{selector}", gateway("foo", "waypoint-foo", serves)),
    )?;
    let near = cluster.waypoint_pod("default", "waypoint");
    let far = cluster.waypoint_pod("foo", "waypoint-foo");
    let pod = cluster
        .pod("reviews-v1")
        .account("reviews")
        .label("app", "reviews");
    for spec in [&near, &far, &pod] {
        cluster.declare(spec)?;
    }
    let waypoints = vec![
        cluster.run_waypoint(&near).await?,
        cluster.run_waypoint(&far).await?,
    ];
    let pod = cluster.run(&pod).await?;
    let (mesh, curl) = cluster.client("curl").await?;
    Ok(Town {
        cluster,
        pod,
        curl,
        _curl: mesh,
        _waypoints: waypoints,
    })
}

impl Town {
    /// The service account of the direct caller that the workload sees, when `url` is asked.
    async fn caller(&self, url: &str) -> Result<String> {
        let peer = seen(self.curl.get(url).await).await?.peer.unwrap_or_default();
        Ok(peer.rsplit('/').next().unwrap_or_default().to_owned())
    }

    async fn until_called_by(&self, account: &str) {
        until(&format!("reviews is called by {account}"), || async {
            self.caller("http://reviews:9080/")
                .await
                .is_ok_and(|caller| caller == account)
        })
        .await;
    }

    fn service(&self, labels: &str) -> Result<()> {
        let yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: reviews\n  namespace: default\n  labels: {{{labels}}}\nspec:\n  \
             selector: {{app: reviews}}\n  ports:\n  - {{name: http, port: 9080}}\n"
        );
        self.cluster.apply("service-reviews", &yaml)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_bind_namespaces_and_services_and_none_opts_out() -> Result<()> {
    let town = town("service").await?;
    assert_eq!(town.caller("http://reviews:9080/").await?, "curl");
    town.cluster.apply(
        "default",
        &namespace("default", &[("istio.io/use-waypoint", "waypoint"), ("team", "a")]),
    )?;
    town.until_called_by("waypoint").await;
    // Traffic to a workload's own address is not this waypoint's.
    assert_eq!(
        town.caller(&format!("http://{}:9080/", town.pod.spec.ip)).await?,
        "curl"
    );
    town.service("istio.io/use-waypoint: none")?;
    town.until_called_by("curl").await;
    town.cluster
        .apply("default", &namespace("default", &[("team", "a")]))?;
    town.service("istio.io/use-waypoint: waypoint")?;
    town.until_called_by("waypoint").await;
    town.service("")?;
    town.until_called_by("curl").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_of_another_namespace_serves_whom_its_selector_admits() -> Result<()> {
    let town = town("service").await?;
    town.service("istio.io/use-waypoint: waypoint-foo, istio.io/use-waypoint-namespace: foo")?;
    town.until_called_by("waypoint-foo").await;
    // The selector matches no more: the binding is refused, said so, and calls go straight to the workloads.
    town.cluster
        .apply("default", &namespace("default", &[("team", "b")]))?;
    town.until_called_by("curl").await;
    let told = |mesh: &Mesh| {
        let status = mesh.status();
        let status = status.borrow();
        let mut conditions = status.statuses.iter().flat_map(|it| &it.conditions);
        conditions.any(|it| it.kind.contains("WaypointBound") && !it.status)
    };
    until("the refusal is reported", || async { told(&town.pod.mesh) }).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_bound_to_a_waypoint_for_workloads() -> Result<()> {
    let town = town("workload").await?;
    let bound = town.pod.spec.clone().label("istio.io/use-waypoint", "waypoint");
    town.cluster.declare(&bound)?;
    let direct = format!("http://{}:9080/", town.pod.spec.ip);
    until("the pod is called by its waypoint", || async {
        town.caller(&direct)
            .await
            .is_ok_and(|caller| caller == "waypoint")
    })
    .await;
    // A service is not bound by the labels of its pods.
    assert_eq!(town.caller("http://reviews:9080/").await?, "curl");
    assert_eq!(status(town.curl.get(direct.as_str()).await), 200);
    Ok(())
}

/// A tunnel outlives the service that it was made for. Nobody is let through, and nobody is told that a policy says so:
/// whoever may try again does, elsewhere or later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_that_has_lost_a_service_is_unavailable_not_closed() -> Result<()> {
    let house = House::build(Door::Waypoint, &[]).await?;
    let io = TokioIo::new(house.knock().await?);
    let (sender, connection) = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(io).await?;
    tokio::spawn(connection);
    let sender = tokio::sync::Mutex::new(sender);
    let ask = async || {
        let asked = http::Request::get("/").header("host", "reviews:9080");
        let asked = asked.body(Empty::new()).expect("it is a request");
        let mut sender = sender.lock().await;
        sender.ready().await.expect("the tunnel is there");
        let answer = sender.send_request(asked).await.expect("it is answered");
        let status = answer.status().as_u16();
        answer.into_body().collect().await.expect("it has an end");
        status
    };
    ensure!(ask().await == 200);
    house.world.cluster.remove("service-reviews")?;
    until("the service is gone", async || match ask().await {
        200 => false,
        status => {
            assert_eq!(status, 503);
            true
        }
    })
    .await;
    let served = house.served();
    ensure!(ask().await == 503 && house.served() == served);
    // As soon as it is known again the same tunnel is good again.
    house.world.cluster.service("reviews", "reviews", None)?;
    until("the service is back", async || ask().await == 200).await;
    Ok(())
}

/// Everybody reads a change at a time of their own. A waypoint that is the last keeps its callers waiting, and fails nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_that_hears_of_a_binding_late_fails_nobody() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
    let (spec, pod) = (
        cluster.waypoint_pod("default", "waypoint"),
        cluster
            .pod("reviews-v1")
            .account("reviews")
            .label("app", "reviews"),
    );
    cluster.declare(&spec)?;
    cluster.declare(&pod)?;
    // What the waypoint reads is behind what all others do.
    let late = tempfile::tempdir()?;
    let catch_up = || -> Result<()> {
        for file in std::fs::read_dir(cluster.folder())? {
            let file = file?;
            let draft = cluster.path().join("late.draft");
            std::fs::copy(file.path(), &draft)?;
            std::fs::rename(&draft, late.path().join(file.file_name()))?;
        }
        Ok(())
    };
    catch_up()?;
    let mesh = Mesh::builder()
        .credentials_dir(cluster.credentials("default", "waypoint")?)
        .source(inmesh::source::dir(late.path()).namespace("default"))
        .pod(&spec.name)
        .address(spec.ip.into())
        .admin((spec.ip, ADMIN).into())
        .role(Role::Gateway {
            namespace: "default".into(),
            name: "waypoint".into(),
        })
        .start()
        .await?;
    let _waypoint = Waypoint::start(mesh, std::collections::HashMap::new()).await?;
    let _pod = cluster.run(&pod).await?;
    let (_curl, curl) = cluster.client("curl").await?;

    cluster.apply(
        "default",
        &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
    )?;
    let asking = tokio::spawn(async move {
        loop {
            let seen = seen(curl.get("http://reviews:9080/").await).await?;
            if seen.peer.unwrap_or_default().ends_with("/sa/waypoint") {
                return anyhow::Ok(());
            }
        }
    });
    until("somebody has come to the waypoint", || async {
        let told = Admin::of(spec.ip).get("/metrics").await;
        told.is_ok_and(|told| told.text.contains("mesh_tunnels{direction=\"inbound\"} 1"))
    })
    .await;
    catch_up()?;
    asking.await?
}
