//! A cluster for one test: a folder of YAML, a certificate authority, and loopback addresses of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use inmesh::identity::dev_ca::DevCa;
use inmesh::{Body, Mesh, MeshBuilder, PeerIdentity, SpiffeId, Waypoint, source};
use serde_json::{Value, json};

/// How long anything may take to become true.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The port that the echo application serves.
pub const PORT: u16 = 8080;

/// A cluster; its folder goes with it.
pub struct Cluster {
    dir: tempfile::TempDir,
    block: [u8; 2],
    ca: DevCa,
    next: AtomicU8,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("dir", &self.dir.path())
            .field("block", &self.block)
            .finish()
    }
}

/// A pod that runs in this process.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// The participant that it is.
    pub mesh: Mesh,
}

impl Cluster {
    /// An empty cluster.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("inmesh-test-").tempdir()?;
        std::fs::create_dir_all(dir.path().join("mesh"))?;
        Ok(Self {
            ca: DevCa::new_in_memory()?,
            block: free_block()?,
            dir,
            next: AtomicU8::new(2),
        })
    }

    /// The folder of the YAML.
    pub fn mesh_dir(&self) -> PathBuf {
        self.dir.path().join("mesh")
    }

    /// The certificate authority.
    pub fn ca(&self) -> &DevCa {
        &self.ca
    }

    /// An address that nobody has.
    pub fn address(&self) -> IpAddr {
        let last = self.next.fetch_add(1, Ordering::Relaxed);
        Ipv4Addr::new(127, self.block[0], self.block[1], last).into()
    }

    /// Writes a file of the configuration, as a whole.
    pub fn apply(&self, name: &str, yaml: &str) -> Result<()> {
        let path = self.mesh_dir().join(format!("{name}.yaml"));
        let draft = self.dir.path().join(format!("{name}.draft"));
        std::fs::write(&draft, yaml)?;
        std::fs::rename(&draft, &path).with_context(|| format!("writing {}", path.display()))
    }

    /// Deletes a file of the configuration.
    pub fn delete(&self, name: &str) -> Result<()> {
        Ok(std::fs::remove_file(
            self.mesh_dir().join(format!("{name}.yaml")),
        )?)
    }

    /// Writes certificates for a service account of namespace `default` and returns their folder.
    pub fn credentials(&self, account: &str) -> Result<PathBuf> {
        let dir = self.dir.path().join("credentials").join(account);
        std::fs::create_dir_all(&dir)?;
        self.ca
            .write_workload(&dir, &identity(account), Duration::from_secs(3600))?;
        Ok(dir)
    }

    /// Applies a Service `name` for pods labelled `app: <app>`, on port 80.
    pub fn service(&self, name: &str, app: &str, labels: &str) -> Result<()> {
        self.apply(
            &format!("service-{name}"),
            &format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default, labels: {{{labels}}}}}\nspec:\n  \
                 selector: {{app: {app}}}\n  ports: [{{name: http, port: 80, targetPort: {PORT}}}]\n"
            ),
        )
    }

    /// Applies a Pod object.
    pub fn pod_object(&self, name: &str, account: &str, ip: IpAddr, labels: &str) -> Result<()> {
        self.apply(
            &format!("pod-{name}"),
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{networking.istio.io/tunnel: \
                 http, {labels}}}}}\nspec: {{serviceAccountName: {account}, containers: []}}\nstatus:\n  phase: Running\n  \
                 podIP: {ip}\n  conditions: [{{type: Ready, status: 'True'}}]\n"
            ),
        )
    }

    /// A participant that is not started.
    pub fn builder(&self, name: &str, account: &str, ip: IpAddr) -> Result<MeshBuilder> {
        Ok(Mesh::builder()
            .source(source::dir(self.mesh_dir()).namespace("default"))
            .credentials_dir(self.credentials(account)?)
            .pod(name)
            .address(ip)
            .handover(Duration::from_millis(500), Duration::from_secs(5)))
    }

    /// Starts a participant that serves nothing, as one that only calls.
    pub async fn caller(&self, account: &str) -> Result<Pod> {
        let (name, ip) = (format!("{account}-1"), self.address());
        self.pod_object(&name, account, ip, &format!("app: {account}"))?;
        let mesh = self.builder(&name, account, ip)?.start().await?;
        Ok(Pod { name, ip, mesh })
    }

    /// Starts a pod with the echo application, labelled `app: <app>`, with the service account `app`.
    pub async fn server(&self, name: &str, app: &str) -> Result<Pod> {
        let ip = self.address();
        let builder = self.builder(name, app, ip)?.label("app", app).label("pod", name);
        let mesh = builder.start().await?;
        mesh.attach(PORT, echo(name)).await?;
        self.pod_object(name, app, ip, &format!("app: {app}, pod: {name}"))?;
        Ok(Pod {
            name: name.to_owned(),
            ip,
            mesh,
        })
    }

    /// Applies the Gateway `waypoint`, without anybody who serves it.
    pub fn gateway(&self) -> Result<()> {
        self.apply(
            "gateway",
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: waypoint, namespace: default, labels: \
             {istio.io/waypoint-for: service}}\nspec:\n  gatewayClassName: istio-waypoint\n  listeners: [{name: mesh, port: \
             15008, protocol: HBONE}]\n",
        )
    }

    /// Starts the waypoint in this process.
    pub async fn waypoint(&self) -> Result<Waypoint> {
        self.gateway()?;
        let ip = self.address();
        let mesh = self
            .builder("waypoint-1", "waypoint", ip)?
            .role(inmesh::snapshot::Role::Gateway {
                namespace: "default".into(),
                name: "waypoint".into(),
            })
            .start()
            .await?;
        let waypoint = Waypoint::start(mesh, Default::default()).await?;
        self.pod_object(
            "waypoint-1",
            "waypoint",
            ip,
            "gateway.networking.k8s.io/gateway-name: waypoint",
        )?;
        Ok(waypoint)
    }

    /// The command line of the waypoint as a process, and its address.
    pub fn waypoint_args(&self) -> Result<(Vec<String>, IpAddr)> {
        self.gateway()?;
        let ip = self.address();
        let args = [
            "run",
            "--gateway",
            "default/waypoint",
            "--config",
            &format!("default={}", self.mesh_dir().display()),
            "--credentials",
            &self.credentials("waypoint")?.display().to_string(),
            "--address",
            &ip.to_string(),
            "--pod",
            "waypoint-1",
        ];
        Ok((args.map(str::to_owned).into(), ip))
    }
}

/// The identity of a service account of namespace `default`.
pub fn identity(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}"))
        .expect("the account is a plain word")
}

/// An application that says what it was asked and by whom.
pub fn echo(name: &str) -> axum::Router {
    let name = name.to_owned();
    axum::Router::new().fallback(move |request: axum::extract::Request| {
        let name = name.clone();
        async move {
            let peer = request.extensions().get::<PeerIdentity>();
            let headers: serde_json::Map<String, Value> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
                .collect();
            axum::Json(json!({
                "by": name,
                "peer": peer.and_then(PeerIdentity::spiffe_id).map(SpiffeId::as_str),
                "method": request.method().as_str(),
                "path": request.uri().to_string(),
                "headers": headers,
            }))
        }
    })
}

/// Reads a response to the end as JSON; `Null` if it is none.
pub async fn read(response: http::Response<Body>) -> Result<(u16, Value)> {
    use http_body_util::BodyExt;
    let status = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(anyhow::Error::from_boxed)?
        .to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Waits until something holds, looking again every 20 ms.
pub async fn until<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("it did not come true within {PATIENCE:?} that {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The path of a folder as text.
pub fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A block of loopback addresses on whose first ones nobody speaks HBONE.
fn free_block() -> Result<[u8; 2]> {
    use std::collections::hash_map::RandomState;
    use std::hash::{BuildHasher, Hasher};
    for _ in 0..100 {
        // A random number without a crate for it: the seed of a hasher.
        let random = RandomState::new().build_hasher().finish();
        let block = [10 + (random % 200) as u8, (random >> 8) as u8];
        let free = |last| {
            TcpListener::bind(SocketAddr::from((
                Ipv4Addr::new(127, block[0], block[1], last),
                15008,
            )))
            .is_ok()
        };
        if (2..8).all(free) {
            return Ok(block);
        }
    }
    bail!("no block of loopback addresses is free; on systems other than Linux only 127.0.0.1 exists")
}
