//! The world of the mesh shapes: addresses, certificates and the YAML that all processes read.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use inmesh_tests::pki::PemFiles;
use serde::{Deserialize, Serialize};

use super::shape::Ground;
use super::town::{Town, changing};

/// The port that the service is called on.
pub(super) const SERVICE_PORT: u16 = 80;
/// The port that the backend serves.
pub(super) const TARGET_PORT: u16 = 8080;
/// The port of every tunnel.
pub(super) const HBONE: u16 = 15008;

/// The port of the live view, which our waypoint's is as well.
const ADMIN: u16 = 15000;

/// Where everything of one shape is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct World {
    dir: PathBuf,
    /// The third of four numbers that all addresses share: `127.<block>.0.x`.
    block: u8,
    /// What is configured.
    pub(super) town: Town,
}

impl World {
    /// Writes certificates and YAML into `dir`; through a waypoint if asked for.
    pub(super) fn make(dir: &Path, ground: &Ground<'_>, with_waypoint: bool) -> Result<Self> {
        let Ground {
            root,
            town,
            collector,
            ..
        } = *ground;
        let world = Self {
            dir: dir.to_owned(),
            block: free_block()?,
            town,
        };
        for account in ["server", "client", "waypoint"] {
            root.issue(&world.dir, "default", account)?;
        }
        let mesh = world.mesh();
        fs::create_dir_all(&mesh).with_context(|| format!("creating {}", mesh.display()))?;
        fs::write(mesh.join("town.yaml"), world.yaml(with_waypoint))?;
        fs::write(mesh.join("routes.yaml"), town.routes_yaml())?;
        fs::write(mesh.join("policies.yaml"), town.policies_yaml(with_waypoint))?;
        fs::write(mesh.join("telemetry.yaml"), town.telemetry_yaml(collector))?;
        Ok(world)
    }

    /// Changes the configuration: in one step, as whoever rolls out configuration should.
    pub(super) fn change(&self, version: usize) -> Result<()> {
        let new = self.dir.join("changing.yaml.new");
        fs::write(&new, changing(version))?;
        fs::rename(&new, self.mesh().join("changing.yaml"))?;
        Ok(())
    }

    /// The folder with the YAML.
    pub(super) fn mesh(&self) -> PathBuf {
        self.dir.join("mesh")
    }

    /// The certificates of a service account.
    pub(super) fn identity(&self, account: &str) -> PathBuf {
        self.dir.join(account)
    }

    /// The same as files.
    pub(super) fn pems(&self, account: &str) -> PemFiles {
        PemFiles::in_dir(&self.identity(account))
    }

    /// The address of a process.
    pub(super) fn ip(&self, who: &str) -> IpAddr {
        let last = match who {
            "server" => 2,
            "client" => 3,
            "waypoint" => 4,
            _ => 100,
        };
        Ipv4Addr::new(127, self.block, 0, last).into()
    }

    /// The admin endpoint of a process.
    pub(super) fn admin(&self, who: &str) -> SocketAddr {
        SocketAddr::new(self.ip(who), ADMIN)
    }

    /// The service's virtual address.
    pub(super) fn service(&self) -> SocketAddr {
        SocketAddr::new(self.ip("service"), SERVICE_PORT)
    }

    fn yaml(&self, with_waypoint: bool) -> String {
        let pod = |name: &str, extra: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}-1\n  namespace: default\n  labels:\n    app: {name}\n    \
                 networking.istio.io/tunnel: http\n{extra}spec:\n  serviceAccountName: {name}\n  containers: []\nstatus:\n  \
                 phase: Running\n  podIP: {}\n  conditions: [{{type: Ready, status: 'True'}}]\n---\n",
                self.ip(name),
            )
        };
        let label = if with_waypoint {
            "  labels: {istio.io/use-waypoint: waypoint}\n"
        } else {
            ""
        };
        let mut yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: server\n  namespace: default\n{label}spec:\n  clusterIP: {}\n  \
             selector: {{app: server}}\n  ports: [{{name: http, port: {SERVICE_PORT}, targetPort: {TARGET_PORT}}}]\n---\n{}{}",
            self.ip("service"),
            pod("server", ""),
            pod("client", ""),
        );
        if with_waypoint {
            yaml += "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: waypoint, namespace: default}\n\
                     spec:\n  gatewayClassName: istio-waypoint\n  listeners: [{name: mesh, port: 15008, protocol: HBONE}]\n---\n";
            yaml += &pod(
                "waypoint",
                "    gateway.networking.k8s.io/gateway-name: waypoint\n",
            );
        }
        yaml
    }
}

/// A block of loopback addresses on whose first ones nobody speaks HBONE.
fn free_block() -> Result<u8> {
    let start = (std::process::id() % 200) as u8;
    for step in 0..200u8 {
        let block = 20 + (start.wrapping_add(step.wrapping_mul(7))) % 200;
        let free = |last| TcpListener::bind((Ipv4Addr::new(127, block, 0, last), HBONE));
        if [2, 3, 4].map(free).iter().all(Result::is_ok) {
            return Ok(block);
        }
    }
    bail!("no loopback block 127.x.0.0 is free; on systems other than Linux only 127.0.0.1 exists")
}
