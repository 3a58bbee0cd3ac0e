//! Replicas of one service as processes, with or without waypoints before them.

use std::time::Duration;

use anyhow::Result;
use inmesh::hbone::Settings;
use inmesh::{Client, Mesh};

use super::Shape;
use super::cluster::{Cluster, PodSpec, gateway, namespace};
use super::process::Process;
use super::wait::until;
use super::world::status;

/// The binaries of a pod and of a waypoint: only tests know where theirs are.
#[derive(Clone, Copy, Debug)]
pub struct Binaries {
    /// `test-pod`.
    pub pod: &'static str,
    /// `test-waypoint`.
    pub waypoint: &'static str,
}

/// Replicas of `reviews`, a caller `curl` in this process, and in one shape a waypoint between them.
#[derive(Debug)]
pub struct Town {
    /// Where it runs.
    pub cluster: Cluster,
    /// The replicas.
    pub pods: Vec<(PodSpec, Process)>,
    /// The caller.
    pub curl: Client,
    /// The waypoint between them, in that shape.
    pub waypoint: Option<Process>,
    _mesh: Mesh,
    binaries: Binaries,
    started: usize,
}

/// How often peers are asked whether they are still there, and how long they may take to say so, where nothing is said.
pub const KEEPALIVE: (u64, u64) = (10, 20);

/// What is called.
pub const URL: &str = "http://reviews:9080";

impl Town {
    /// Starts so many replicas; `files` are there from the beginning.
    pub async fn start(
        binaries: Binaries,
        shape: Shape,
        replicas: usize,
        files: &[(&str, &str)],
    ) -> Result<Self> {
        Self::watching(binaries, shape, replicas, files, KEEPALIVE).await
    }

    /// As [`Town::start`]; whoever chooses among the replicas, the caller or the waypoint, asks at this interval whether they are
    /// still there, and waits so long for the answer, in seconds.
    pub async fn watching(
        binaries: Binaries,
        shape: Shape,
        replicas: usize,
        files: &[(&str, &str)],
        pace: (u64, u64),
    ) -> Result<Self> {
        let mut town = Self::found(binaries, shape, files, pace).await?;
        town.cluster.service("reviews", "reviews", None)?;
        for _ in 0..replicas {
            let replica = town.replica_of("reviews", &[]).await?;
            town.pods.push(replica);
        }
        until("requests are answered", || async {
            status(town.curl.get(URL).await) == 200
        })
        .await;
        Ok(town)
    }

    /// A town in which nobody lives yet.
    pub async fn found(
        binaries: Binaries,
        shape: Shape,
        files: &[(&str, &str)],
        (interval, timeout): (u64, u64),
    ) -> Result<Self> {
        let cluster = Cluster::new()?;
        for (name, yaml) in files {
            cluster.apply(name, yaml)?;
        }
        let waypoint = cluster.waypoint_pod("default", "waypoint");
        if shape == Shape::Waypoint {
            cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
            let bound = [("istio.io/use-waypoint", "waypoint")];
            cluster.apply("namespace", &namespace("default", &bound))?;
            cluster.declare(&waypoint)?;
        }
        let mut hbone = Settings::default();
        if shape == Shape::InProcess {
            hbone.ping_every = Duration::from_secs(interval);
            hbone.ping_timeout = Duration::from_secs(timeout);
        }
        let mesh = cluster
            .participant("default", "curl")?
            .hbone(hbone)
            .start()
            .await?;
        let vars = [
            ("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_default()),
            ("INMESH_TUNNEL_KEEPALIVE_INTERVAL", interval.to_string()),
            ("INMESH_TUNNEL_KEEPALIVE_TIMEOUT", timeout.to_string()),
        ];
        let vars = vars.each_ref().map(|(name, value)| (*name, value.as_str()));
        let town = Self {
            curl: mesh.client(),
            pods: Vec::new(),
            waypoint: match shape {
                Shape::InProcess => None,
                Shape::Waypoint => Some(Process::waypoint(binaries.waypoint, &cluster, &waypoint, &vars)?),
            },
            _mesh: mesh,
            binaries,
            started: 0,
            cluster,
        };
        if shape == Shape::Waypoint {
            listens(&waypoint).await;
        }
        Ok(town)
    }

    /// Starts one more replica of `reviews`, and makes it known when it listens.
    pub async fn replica(&mut self) -> Result<(PodSpec, Process)> {
        self.replica_of("reviews", &[]).await
    }

    /// Starts one more replica of a service, with variables of its environment, and makes it known when it listens.
    pub async fn replica_of(&mut self, app: &str, vars: &[(&str, &str)]) -> Result<(PodSpec, Process)> {
        let name = format!("{app}-{}", self.started);
        self.started += 1;
        let spec = self.cluster.pod(&name).account(app).label("app", app);
        // A server must know itself before it lets anybody in.
        self.cluster.apply(&format!("pod-{name}"), &unready(&spec))?;
        let process = Process::pod(self.binaries.pod, &self.cluster, &spec, vars)?;
        listens(&spec).await;
        self.cluster.declare(&spec)?;
        Ok((spec, process))
    }

    /// Puts another replica, with these variables of its environment, in the place of the first one: the new one is there
    /// before the old one is told to go. It must end by itself.
    pub async fn replace(&mut self, vars: &[(&str, &str)]) -> Result<()> {
        let (spec, mut old) = self.pods.remove(0);
        let next = self.replica_of(&spec.account, vars).await?;
        self.pods.push(next);
        old.terminate()?;
        self.going(&spec)?;
        let code = old.ended(Duration::from_secs(25)).await?;
        anyhow::ensure!(code == Some(0), "{} ended with {code:?}", spec.name);
        self.cluster.remove(&format!("pod-{}", spec.name))
    }

    /// Tells everybody that a replica is going, as the API server would.
    pub fn going(&self, spec: &PodSpec) -> Result<()> {
        self.cluster.apply(&format!("pod-{}", spec.name), &unready(spec))
    }
}

fn unready(spec: &PodSpec) -> String {
    spec.yaml().replace("status: \"True\"", "status: \"False\"")
}

async fn listens(spec: &PodSpec) {
    until(&format!("{} listens", spec.name), || async {
        tokio::net::TcpStream::connect((spec.ip, 15008)).await.is_ok()
    })
    .await;
}
