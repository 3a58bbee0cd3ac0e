//! Changes, ends and losses under load.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use inmesh_tests::cluster::{Cluster, Pod, identity, read, until};

/// Requests that go on until asked to stop.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    failures: Arc<AtomicU64>,
    workers: Vec<tokio::task::JoinHandle<Option<String>>>,
}

impl Load {
    fn start(pod: &Pod) -> Self {
        let (stop, sent, failures) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicU64>::default(),
            Arc::<AtomicU64>::default(),
        );
        let workers = (0..4)
            .map(|_| {
                let (client, stop) = (pod.mesh.client(), Arc::clone(&stop));
                let (sent, failures) = (Arc::clone(&sent), Arc::clone(&failures));
                tokio::spawn(async move {
                    let mut first = None;
                    while !stop.load(Ordering::Relaxed) {
                        let answer = match client.get("http://web/").await {
                            Ok(response) => read(response).await.map_err(|error| error.to_string()),
                            Err(refusal) => Err(format!("{refusal:?}")),
                        };
                        sent.fetch_add(1, Ordering::Relaxed);
                        let failure = match answer {
                            Ok((200, _)) => None,
                            Ok((status, _)) => Some(status.to_string()),
                            Err(text) => Some(text),
                        };
                        if let Some(text) = failure {
                            failures.fetch_add(1, Ordering::Relaxed);
                            first.get_or_insert(text);
                        }
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    first
                })
            })
            .collect();
        Self {
            stop,
            sent,
            failures,
            workers,
        }
    }

    /// How many were sent and failed so far.
    fn so_far(&self) -> (u64, u64) {
        (
            self.sent.load(Ordering::Relaxed),
            self.failures.load(Ordering::Relaxed),
        )
    }

    /// Waits until that many more were sent.
    async fn go_on(&self, more: u64) -> Result<()> {
        let wanted = self.so_far().0 + more;
        until("the load goes on", || async {
            Ok((self.so_far().0 >= wanted).then_some(()))
        })
        .await
    }

    /// How many failed, and how the first did.
    async fn end(self) -> Result<(u64, Option<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut first = None;
        for worker in self.workers {
            first = first.or(worker.await?);
        }
        Ok((self.failures.load(Ordering::Relaxed), first))
    }
}

async fn seen_as(pod: &Pod, account: &str) -> Result<()> {
    let expected = identity(account);
    until("calls take the way they should", || async {
        let Ok(response) = pod.mesh.client().get("http://web/").await else {
            return Ok(None);
        };
        let (_, said) = read(response).await?;
        Ok((said["peer"] == expected.as_str()).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binding_and_unbinding_a_waypoint_under_a_policy_loses_nothing() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    town.apply(
        "policy",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: curl, namespace: default}\nspec:\n  targetRefs: \
         [{kind: Service, group: '', name: web}]\n  rules:\n  - from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}]\n",
    )?;
    let _pods = [
        town.server("web-1", "web").await?,
        town.server("web-2", "web").await?,
    ];
    let curl = town.caller("curl").await?;
    let _waypoint = town.waypoint().await?;
    seen_as(&curl, "curl").await?;
    let load = Load::start(&curl);
    for _ in 0..2 {
        town.service("web", "web", "istio.io/use-waypoint: waypoint")?;
        seen_as(&curl, "waypoint").await?;
        load.go_on(200).await?;
        town.service("web", "web", "")?;
        seen_as(&curl, "curl").await?;
        load.go_on(200).await?;
    }
    let (failures, first) = load.end().await?;
    assert_eq!(failures, 0, "{first:?}");
    Ok(())
}

/// A process that is ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn waypoint(town: &Cluster) -> Result<(Self, std::net::IpAddr)> {
        let (args, ip) = town.waypoint_args()?;
        let child = Command::new(env!("CARGO_BIN_EXE_test-waypoint"))
            .args(args)
            .stderr(Stdio::null())
            .spawn()?;
        Ok((Self(child), ip))
    }

    fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill")
            .args([name, &self.0.id().to_string()])
            .status()?;
        anyhow::ensure!(status.success(), "kill {name} failed");
        Ok(())
    }
}

/// Waits until the process says on its admin port that it is ready.
async fn ready(ip: std::net::IpAddr) -> Result<()> {
    until("the waypoint is ready", || async {
        let Ok(stream) = tokio::net::TcpStream::connect((ip, 15021)).await else {
            return Ok(None);
        };
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        let request = http::Request::get("/healthz/ready")
            .header("host", "x")
            .body(String::new())?;
        Ok((sender.send_request(request).await?.status() == 200).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_process_that_is_told_to_stop_loses_nothing_and_one_that_is_killed_little() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "istio.io/use-waypoint: waypoint")?;
    let _pods = [
        town.server("web-1", "web").await?,
        town.server("web-2", "web").await?,
    ];
    let (mut process, ip) = Process::waypoint(&town)?;
    ready(ip).await?;
    town.pod_object(
        "waypoint-1",
        "waypoint",
        ip,
        "gateway.networking.k8s.io/gateway-name: waypoint",
    )?;
    let curl = town.caller("curl").await?;
    seen_as(&curl, "waypoint").await?;

    // SIGTERM: the binding is taken away as a controller would, and the process drains.
    let load = Load::start(&curl);
    load.go_on(200).await?;
    process.signal("-TERM")?;
    town.service("web", "web", "")?;
    let status = until("the process ends", || {
        let ended = process.0.try_wait();
        async move { Ok(ended?) }
    })
    .await?;
    assert!(status.success(), "{status}");
    seen_as(&curl, "curl").await?;
    let (failures, first) = load.end().await?;
    assert_eq!(failures, 0, "{first:?}");

    // kill -9: only what was under way at that moment, and what comes before the next instance is there, may fail.
    town.service("web", "web", "istio.io/use-waypoint: waypoint")?;
    let (process, ip) = Process::waypoint(&town)?;
    ready(ip).await?;
    town.pod_object(
        "waypoint-1",
        "waypoint",
        ip,
        "gateway.networking.k8s.io/gateway-name: waypoint",
    )?;
    seen_as(&curl, "waypoint").await?;
    process.signal("-KILL")?;
    let refusal = until("the loss is noticed", || async {
        Ok(curl.mesh.client().get("http://web/").await.err())
    })
    .await?;
    assert_eq!(refusal.status.as_u16(), 503, "fails closed: {refusal}");
    town.service("web", "web", "")?;
    seen_as(&curl, "curl").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_used_without_losing_a_request() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    let server = town.server("web-1", "web").await?;
    let curl = town.caller("curl").await?;
    seen_as(&curl, "curl").await?;
    let load = Load::start(&curl);
    for (pod, account) in [(&server, "web"), (&curl, "curl")] {
        let before = pod.mesh.certificate_expiry();
        load.go_on(100).await?;
        let dir = town.credentials(account)?;
        town.ca()
            .write_workload(&dir, &identity(account), Duration::from_secs(7200))?;
        until("the new certificate is in force", || async {
            Ok((pod.mesh.certificate_expiry() > before).then_some(()))
        })
        .await?;
        load.go_on(200).await?;
    }
    let (failures, first) = load.end().await?;
    assert_eq!(failures, 0, "{first:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shuts_down_loses_nothing() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    let (first, _second) = (
        town.server("web-1", "web").await?,
        town.server("web-2", "web").await?,
    );
    let curl = town.caller("curl").await?;
    seen_as(&curl, "curl").await?;
    let load = Load::start(&curl);
    load.go_on(200).await?;
    town.delete("pod-web-1")?;
    assert!(
        first.mesh.shutdown(Duration::from_secs(10)).await,
        "everything finished by itself"
    );
    assert!(!first.mesh.is_ready());
    load.go_on(200).await?;
    let (failures, why) = load.end().await?;
    assert_eq!(failures, 0, "{why:?}");
    Ok(())
}
