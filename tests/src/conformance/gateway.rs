//! Instances of Gateways: waypoints, and what stands at the edge. In this process, or as a process of their own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use inmesh::snapshot::Role;
use inmesh::{Waypoint, source};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::case::Id;
use super::client;
use super::manifest::{Folder, name, namespace};
use super::mesh::Authority;
use super::pods;
use super::shape::Shape;
use crate::kit::process::Process;

/// What is added to a port that only root may bind.
const UNPRIVILEGED: u16 = 20_000;
/// How long an instance may take until it serves.
const PATIENCE: Duration = Duration::from_secs(10);
/// After how long to ask whether it ever will.
const SOON: Duration = Duration::from_secs(1);
/// How often to look whether it does.
const PACE: Duration = Duration::from_millis(20);
/// The waypoint's admin port.
const ADMIN: u16 = 15000;
const HBONE: u16 = 15008;

/// How to run the waypoint as a process.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// What comes before the waypoint's own arguments.
    pub args: Vec<String>,
}

impl Program {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        command
    }

    /// What `waypoint check` says of the statuses of all objects in a folder.
    ///
    /// # Errors
    /// If it cannot be run, or says nothing of them.
    pub async fn check(&self, folder: &Folder) -> Result<Value> {
        let mut command = tokio::process::Command::from(self.command());
        command
            .args(["check", "-o", "json"])
            .arg(format!("default={}", folder.watched().display()));
        let output = command
            .stdin(Stdio::null())
            .output()
            .await
            .context("running the waypoint")?;
        let document: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(document["resources"].clone())
    }
}

/// What an instance is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    id: Id,
    ip: Ipv4Addr,
    ports: Vec<u16>,
    /// Names and ports.
    listeners: Vec<(String, u16)>,
}

/// A running instance; it ends when this is dropped.
#[derive(Debug)]
pub struct Instance {
    plan: Plan,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Here(Waypoint),
    Process(#[allow(dead_code, reason = "held so that it is killed in the end")] Process),
}

impl Plan {
    /// For a Gateway, at an address of its own.
    pub fn of(gateway: &Value, id: Id, ip: Ipv4Addr) -> Self {
        let listeners = gateway["spec"]["listeners"].as_array().into_iter().flatten();
        let listeners = listeners.filter_map(|it| {
            let port = u16::try_from(it["port"].as_u64()?).ok()?;
            Some((it["name"].as_str()?.to_owned(), port))
        });
        let listeners: Vec<(String, u16)> = listeners.collect();
        let ports = listeners.iter().map(|(_, port)| *port);
        let mut ports: Vec<u16> = ports.filter(|port| *port != HBONE).collect();
        ports.sort_unstable();
        ports.dedup();
        Self {
            id,
            ip,
            ports,
            listeners,
        }
    }

    fn pod(&self) -> String {
        format!("{}-0", self.id.name)
    }

    /// Its Pod object.
    pub fn object(&self) -> Value {
        let mut object = pods::pod(&self.id.namespace, &self.pod(), &self.id.name, self.ip);
        object["metadata"]["labels"] = serde_json::json!({
            "gateway.networking.k8s.io/gateway-name": self.id.name,
            "networking.istio.io/tunnel": "http",
        });
        object
    }

    fn bound(&self) -> impl Iterator<Item = (u16, u16)> {
        self.ports
            .iter()
            .map(|port| (*port, if *port < 1024 { port + UNPRIVILEGED } else { *port }))
    }

    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// If it does not.
    pub async fn start(
        self,
        shape: Shape,
        authority: &Authority,
        folder: &Folder,
        program: &Program,
    ) -> Result<Instance> {
        let running = match shape {
            Shape::Library => Running::Here(self.here(authority, folder).await?),
            Shape::Waypoint => Running::Process(self.process(authority, folder, program)?),
        };
        let instance = Instance { plan: self, running };
        instance.ready(folder, program).await?;
        Ok(instance)
    }

    async fn here(&self, authority: &Authority, folder: &Folder) -> Result<Waypoint> {
        let source = source::dir(folder.watched()).namespace("default");
        let mesh = authority
            .participant(&self.id.namespace, &self.id.name, source)?
            .pod(self.pod())
            .address(IpAddr::V4(self.ip))
            .role(Role::Gateway {
                namespace: self.id.namespace.as_str().into(),
                name: self.id.name.as_str().into(),
            })
            .start()
            .await?;
        let ports: HashMap<u16, u16> = self.bound().collect();
        Ok(Waypoint::start(mesh, ports).await?)
    }

    fn process(&self, authority: &Authority, folder: &Folder, program: &Program) -> Result<Process> {
        let credentials = authority.credentials(folder, &self.id.namespace, &self.id.name)?;
        let mut command = program.command();
        command
            .arg("run")
            .args(["--gateway", &self.id.to_string()])
            .args(["--config", &format!("default={}", folder.watched().display())])
            .arg("--credentials")
            .arg(credentials)
            .args(["--address", &self.ip.to_string(), "--pod", &self.pod()]);
        for (listener, bound) in self.bound() {
            command.args(["--listen-port", &format!("{listener}={bound}")]);
        }
        let log = format!("{}-{}.log", self.id.namespace, self.pod());
        Process::spawn(&mut command, &folder.root().join(log))
    }
}

impl Instance {
    /// Where a port of the Gateway really is.
    pub fn address(&self, port: u16) -> Option<SocketAddr> {
        let (_, bound) = self.plan.bound().find(|(listener, _)| *listener == port)?;
        Some(SocketAddr::from((self.plan.ip, bound)))
    }

    /// The Gateway.
    pub fn id(&self) -> &Id {
        &self.plan.id
    }

    /// How many configurations it has seen.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn generation(&self) -> Result<u64> {
        match &self.running {
            Running::Here(waypoint) => Ok(waypoint.mesh().snapshot().generation),
            Running::Process(_) => {
                let text = client::get(SocketAddr::from((self.plan.ip, ADMIN)), "/status").await?;
                let status: Value = serde_json::from_str(&text)?;
                status["generation"]
                    .as_u64()
                    .context("the admin endpoint's /status names no generation")
            }
        }
    }

    /// Waits until every port accepts connections that a listener is served on.
    async fn ready(&self, folder: &Folder, program: &Program) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let hbone = SocketAddr::from((self.plan.ip, HBONE));
        let bound = self
            .plan
            .bound()
            .map(|(port, bound)| (port, SocketAddr::from((self.plan.ip, bound))));
        let mut unserved = None;
        for (port, addr) in std::iter::once((HBONE, hbone)).chain(bound) {
            let soon = Instant::now() + SOON;
            while TcpStream::connect(addr).await.is_err() {
                if Instant::now() > soon && unserved.is_none() {
                    unserved = Some(self.unserved(folder, program).await?);
                }
                if unserved.as_ref().is_some_and(|it| it.contains(&port)) {
                    break;
                }
                if Instant::now() > end {
                    bail!(
                        "Gateway {} does not listen on {addr} after {PATIENCE:?}",
                        self.plan.id
                    );
                }
                tokio::time::sleep(PACE).await;
            }
        }
        Ok(())
    }

    /// The ports of which the status says that no listener is served there: tests are about such listeners, too.
    async fn unserved(&self, folder: &Folder, program: &Program) -> Result<Vec<u16>> {
        let resources = program.check(folder).await?;
        let own = resources.as_array().into_iter().flatten().find(|it| {
            it["kind"] == "Gateway"
                && name(it) == self.plan.id.name
                && namespace(it) == self.plan.id.namespace
        });
        let listeners = own.and_then(|it| it["status"]["listeners"].as_array());
        let programmed = |listener: &Value| {
            let conditions = listener["conditions"].as_array().into_iter().flatten();
            let mut programmed = conditions.filter(|it| it["type"] == "Programmed");
            programmed.any(|it| it["status"] == "True")
        };
        let served = listeners.into_iter().flatten().filter(|it| programmed(it));
        let served: Vec<&str> = served.filter_map(|it| it["name"].as_str()).collect();
        let ports = self
            .plan
            .listeners
            .iter()
            .filter(|(name, _)| served.contains(&name.as_str()));
        let served: Vec<u16> = ports.map(|(_, port)| *port).collect();
        let ports = self.plan.ports.iter().copied();
        Ok(ports.filter(|port| !served.contains(port)).collect())
    }
}
