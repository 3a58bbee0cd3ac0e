//! Real processes end, by SIGTERM and by SIGKILL, while they are needed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use inmesh_tests::kit::cluster::{Pod, PodSpec, gateway, namespace};
use inmesh_tests::kit::metrics::{samples, value};
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{status, text};
use inmesh_tests::kit::{Cluster, Load};

const POD: &str = env!("CARGO_BIN_EXE_test-pod");
const WAYPOINT: &str = env!("CARGO_BIN_EXE_test-waypoint");
const URL: &str = "http://reviews:9080/";

struct Town {
    cluster: Cluster,
    pods: Vec<(PodSpec, Process)>,
    waypoints: Vec<(PodSpec, Process)>,
    _mesh: inmesh::Mesh,
    curl: inmesh::Client,
}

/// Two processes of `reviews`, and as many waypoints before them as asked for.
async fn town(waypoints: usize) -> Result<Town> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    let pods: Vec<_> = (0..2)
        .map(|n| {
            cluster
                .pod(&format!("reviews-{n}"))
                .account("reviews")
                .label("app", "reviews")
        })
        .collect();
    let instances: Vec<_> = (0..waypoints)
        .map(|n| {
            let mut spec = cluster.waypoint_pod("default", "waypoint");
            spec.name = format!("waypoint-{n}");
            spec
        })
        .collect();
    if waypoints > 0 {
        cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
        cluster.apply(
            "namespace",
            &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
        )?;
    }
    for spec in pods.iter().chain(&instances) {
        cluster.declare(spec)?;
    }
    let start = |spec: &PodSpec, waypoint: bool| {
        let process = match waypoint {
            false => Process::pod(POD, &cluster, spec, &[])?,
            true => Process::waypoint(WAYPOINT, &cluster, spec, &[])?,
        };
        anyhow::Ok((spec.clone(), process))
    };
    let pods = pods
        .iter()
        .map(|spec| start(spec, false))
        .collect::<Result<Vec<_>>>()?;
    let waypoints = instances
        .iter()
        .map(|spec| start(spec, true))
        .collect::<Result<Vec<_>>>()?;
    for (spec, _) in pods.iter().chain(&waypoints) {
        until(&format!("{} listens", spec.name), || async {
            tokio::net::TcpStream::connect((spec.ip, 15008)).await.is_ok()
        })
        .await;
    }
    let (mesh, curl) = cluster.client("curl").await?;
    until("requests are answered", || async {
        status(curl.get(URL).await) == 200
    })
    .await;
    Ok(Town {
        cluster,
        pods,
        waypoints,
        _mesh: mesh,
        curl,
    })
}

/// As the kubelet and the API server would say: the pod is going, then gone.
fn going(cluster: &Cluster, spec: &PodSpec) -> Result<()> {
    cluster.apply(
        &format!("pod-{}", spec.name),
        &spec.yaml().replace("status: \"True\"", "status: \"False\""),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_to_stop_loses_no_request() -> Result<()> {
    let mut town = town(0).await?;
    let load = Load::start(&town.curl, &format!("{URL}sleep/5"), 8);
    load.see(50).await;
    let (spec, mut process) = town.pods.remove(0);
    process.terminate()?;
    going(&town.cluster, &spec)?;
    assert_eq!(process.ended(Duration::from_secs(25)).await?, Some(0));
    load.see(50).await;
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_that_is_told_to_stop_loses_no_request() -> Result<()> {
    let mut town = town(2).await?;
    let load = Load::start(&town.curl, &format!("{URL}sleep/5"), 8);
    load.see(50).await;
    let (spec, mut process) = town.waypoints.remove(0);
    process.terminate()?;
    going(&town.cluster, &spec)?;
    assert_eq!(process.ended(Duration::from_secs(25)).await?, Some(0));
    load.see(50).await;
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_cost_only_what_they_had_in_hand() -> Result<()> {
    let mut town = town(2).await?;
    let load = Load::start(&town.curl, URL, 8);
    load.see(50).await;
    // A backend: nobody tells anyone.
    let killed = Instant::now();
    town.pods[0].1.kill()?;
    load.see(200).await;
    let after_backend = load.tally();
    // At most one request per worker was in its hands; whoever asks afterwards is sent on.
    assert!(
        after_backend.failures() <= 8,
        "{after_backend:?} in {:?}",
        killed.elapsed()
    );
    town.waypoints[0].1.kill()?;
    load.see(200).await;
    let tally = load.stop().await;
    assert!(tally.failures() <= 16, "{tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_ports_say_what_ambient_users_expect() -> Result<()> {
    let town = town(1).await?;
    let ip = town.waypoints[0].0.ip;
    let ready = admin(ip, 15021, "/healthz/ready").await?;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let metrics = admin(ip, 15020, "/stats/prometheus").await?;
    assert!(metrics.contains("istio_requests_total{"), "{metrics}");
    let dump = admin(ip, 15000, "/config_dump").await?;
    assert!(dump.contains("reviews"), "{dump}");
    let key = fs::read_to_string(town.cluster.path().join("credentials/default/waypoint/key.pem"))?;
    let secret = key.lines().nth(1).unwrap_or("no key");
    for page in ["/config_dump", "/status", "/problems", "/conditions", "/metrics"] {
        let shown = admin(ip, 15000, page).await?;
        assert!(
            !shown.contains("PRIVATE KEY") && !shown.contains(secret),
            "{page} shows the key"
        );
    }
    Ok(())
}

/// Requests, not connections: a caller has tunnels to all of them, and chooses for each request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_balanced_over_the_replicas_of_a_waypoint() -> Result<()> {
    let town = town(2).await?;
    const REQUESTS: usize = 200;
    // One after another, so that nobody is chosen for having less to do.
    for _ in 0..REQUESTS {
        assert_eq!(status(town.curl.get(URL).await), 200);
    }
    for (spec, _) in &town.waypoints {
        let counted = async || {
            let metrics = admin(spec.ip, 15020, "/stats/prometheus")
                .await
                .unwrap_or_default();
            let counted = samples(&metrics, "istio_requests_total");
            counted.iter().map(|sample| sample.value).sum::<f64>() as usize
        };
        // Half of them, by a draw each: five times the spread away from it is a fault and no luck.
        let least = REQUESTS / 2 - 5 * 7;
        until(&format!("{} has its share", spec.name), || async {
            counted().await >= least
        })
        .await;
    }
    Ok(())
}

/// A waypoint as a process, before one pod of this process.
struct Alone {
    cluster: Cluster,
    waypoint: PodSpec,
    process: Process,
    _pod: Pod,
    _mesh: inmesh::Mesh,
    curl: inmesh::Client,
}

impl Alone {
    async fn start(vars: &[(&str, &str)]) -> Result<Self> {
        let cluster = Cluster::new()?;
        let spec = cluster.pod("reviews").label("app", "reviews");
        cluster.service("reviews", "reviews", None)?;
        cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
        let bound = [("istio.io/use-waypoint", "waypoint")];
        cluster.apply("namespace", &namespace("default", &bound))?;
        let waypoint = cluster.waypoint_pod("default", "waypoint");
        cluster.declare(&spec)?;
        cluster.declare(&waypoint)?;
        let pod = cluster.run(&spec).await?;
        let process = Process::waypoint(WAYPOINT, &cluster, &waypoint, vars)?;
        let (mesh, curl) = cluster.client("curl").await?;
        until("requests are answered", || async {
            status(curl.get(URL).await) == 200
        })
        .await;
        Ok(Self {
            cluster,
            waypoint,
            process,
            _pod: pod,
            _mesh: mesh,
            curl,
        })
    }
}

/// So that instances that were added later get their part of callers that stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_asks_its_callers_to_come_back_and_loses_nothing() -> Result<()> {
    let alone = Alone::start(&[("INMESH_TUNNEL_MAX_AGE", "1")]).await?;
    let load = Load::start(&alone.curl, &format!("{URL}sleep/2"), 4);
    until("three tunnels have been made", || async {
        let metrics = admin(alone.waypoint.ip, 15020, "/stats/prometheus").await;
        let inbound = [("direction", "inbound")];
        value(
            &metrics.unwrap_or_default(),
            "mesh_handshake_seconds_count",
            &inbound,
        ) >= 3.0
    })
    .await;
    let tally = load.stop().await;
    assert_eq!(tally.failures(), 0, "{tally:?}");
    Ok(())
}

/// Out of descriptors nobody can be accepted: that is tried again at a growing distance, and not as fast as the processor
/// can. Tunnels that stand go on, and as soon as there is room others come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_out_of_descriptors_waits_for_some() -> Result<()> {
    let alone = Alone::start(&[]).await?;
    let Alone {
        cluster,
        waypoint,
        process,
        curl,
        ..
    } = &alone;
    process.limit_files(100)?;
    let log = cluster.path().join(format!("{}.log", waypoint.name));
    let failures = || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains("accepting failed"))
            .count()
    };
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(tokio::net::TcpStream::connect((waypoint.ip, 15008)).await?);
    }
    // From 5 ms on, doubled: nine of them come within two seconds, and then one a second.
    until("it has been tried nine times", || async { failures() >= 9 }).await;
    assert_eq!(status(curl.get(URL).await), 200, "the tunnel that stands goes on");
    // Without a pause there would be thousands of them in each second.
    let most = 20 + 10 * began.elapsed().as_secs() as usize;
    assert!(failures() <= most, "{} in {:?}", failures(), began.elapsed());
    silent.clear();
    let (_mesh, other) = cluster.client("other").await?;
    until("others come in again", || async {
        status(other.get(URL).await) == 200
    })
    .await;
    Ok(())
}

/// What moves files of logs away says so by SIGHUP, and may then count on nobody writing to them any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_that_is_told_lets_go_of_its_log() -> Result<()> {
    let town = town(1).await?;
    let file = town.cluster.path().join("access.log");
    // Of the waypoint alone: the pods would write to the same file.
    let mesh = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
         extensionProviders: [{{name: file, envoyFileAccessLog: {{path: {}}}}}]\n---\n\
         apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: waypoint, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}}]\n  \
         accessLogging: [{{providers: [{{name: file}}]}}]\n",
        file.display()
    );
    town.cluster.apply("mesh", &mesh)?;
    let ask = async |path: &str| {
        let asked = town.curl.get(format!("{URL}{path}")).await;
        // To its end: that is when it is logged.
        asked.is_ok() && text(asked.expect("it is answered")).await.is_ok()
    };
    let has = |word: &str| fs::read_to_string(&file).is_ok_and(|lines| lines.contains(word));
    until("requests are logged", async || {
        ask("before").await && has("/before")
    })
    .await;
    // The last of them, so that no line is on its way when the file is moved.
    assert!(ask("last").await);
    until("the last request is logged", async || has("/last")).await;
    let moved = town.cluster.path().join("access.log.1");
    fs::rename(&file, &moved)?;
    let process = &town.waypoints[0].1;
    let holds = || {
        let mut open = process.open_files();
        open.any(|name| name == moved)
    };
    // It looks at the name only when there is another line to write.
    assert!(
        !cfg!(target_os = "linux") || holds(),
        "it writes to the file that was moved"
    );
    process.signal("HUP")?;
    until("it lets go of the file that was moved", async || !holds()).await;
    until("and writes to another", async || {
        ask("after").await && has("/after")
    })
    .await;
    assert!(!fs::read_to_string(&moved)?.contains("/after"));
    assert_eq!(status(town.curl.get(URL).await), 200, "it serves as before");
    Ok(())
}

async fn admin(ip: std::net::Ipv4Addr, port: u16, path: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect((ip, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
