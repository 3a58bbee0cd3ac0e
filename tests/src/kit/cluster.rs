//! A cluster of our own: a folder of YAML, a certificate authority, loopback addresses.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use inmesh::identity::dev_ca::DevCa;
use inmesh::snapshot::Role;
use inmesh::{Client, Mesh, MeshBuilder, SpiffeId, TrustDomain, Waypoint};
use tempfile::TempDir;

use super::admin::ADMIN;
use super::block::Block;
use super::echo::Echo;

/// The port that every pod's application has.
pub const PORT: u16 = 9080;
/// How long certificates last.
const TTL: Duration = Duration::from_secs(3600);

/// A cluster; its files and addresses are free again when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    ca: DevCa,
    block: Block,
}

/// What shall run: a name, a service account and labels.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub account: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Its address.
    pub ip: Ipv4Addr,
}

/// A running pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// What was asked for.
    pub spec: PodSpec,
    /// Its participation in the mesh.
    pub mesh: Mesh,
    /// Its application.
    pub echo: Echo,
}

impl PodSpec {
    /// In another namespace than `default`.
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// With a service account other than its name.
    pub fn account(mut self, account: &str) -> Self {
        account.clone_into(&mut self.account);
        self
    }

    /// With one more label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Its identity.
    pub fn id(&self) -> SpiffeId {
        spiffe(&self.namespace, &self.account)
    }

    /// The Pod object, as the kubelet would write it.
    pub fn yaml(&self) -> String {
        let labels: String = self
            .labels
            .iter()
            .map(|(k, v)| format!("    {k}: \"{v}\"\n"))
            .collect();
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels:\n    \
             networking.istio.io/tunnel: http\n{labels}spec:\n  serviceAccountName: {account}\n  containers:\n  - name: app\n    \
             image: app\n    ports:\n    - containerPort: {PORT}\nstatus:\n  phase: Running\n  podIP: {ip}\n  podIPs:\n  - ip: {ip}\n  \
             conditions:\n  - type: Ready\n    status: \"True\"\n",
            name = self.name,
            namespace = self.namespace,
            account = self.account,
            ip = self.ip,
        )
    }
}

/// The identity of a service account in the cluster's trust domain.
pub fn spiffe(namespace: &str, account: &str) -> SpiffeId {
    let domain = TrustDomain::parse("cluster.local").expect("it is a trust domain");
    SpiffeId::new(&domain, namespace, account).expect("namespace and account are names")
}

impl Cluster {
    /// An empty cluster.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("inmesh-e2e-").tempdir()?;
        fs::create_dir(dir.path().join("mesh"))?;
        let ca = DevCa::open_or_create(dir.path().join("ca"))?;
        Ok(Self {
            ca,
            block: Block::take()?,
            dir,
        })
    }

    /// The folder that everybody in the cluster reads.
    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("mesh")
    }

    /// The certificate authority.
    pub fn ca(&self) -> &DevCa {
        &self.ca
    }

    /// An address that nobody has.
    pub fn address(&self) -> Ipv4Addr {
        self.block.address()
    }

    /// Writes `<name>.yaml` in one step, as a careful editor does.
    pub fn apply(&self, name: &str, yaml: &str) -> Result<()> {
        let draft = self.dir.path().join(format!("{name}.draft"));
        fs::write(&draft, yaml)?;
        fs::rename(&draft, self.folder().join(format!("{name}.yaml")))?;
        Ok(())
    }

    /// Removes `<name>.yaml`.
    pub fn remove(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.folder().join(format!("{name}.yaml")))?)
    }

    /// A Service for what carries `app: <app>` (and `version: <version>`), on port 9080.
    pub fn service(&self, name: &str, app: &str, version: Option<&str>) -> Result<()> {
        let version = version
            .map(|version| format!("    version: {version}\n"))
            .unwrap_or_default();
        let yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: default\nspec:\n  selector:\n    app: {app}\n\
             {version}  ports:\n  - name: http\n    port: {PORT}\n  - name: grpc\n    port: 9090\n    targetPort: {PORT}\n  - name: tcp-raw\n    \
             port: 7000\n"
        );
        self.apply(&format!("service-{name}"), &yaml)
    }

    /// Plans a pod: it is in nobody's configuration yet.
    pub fn pod(&self, name: &str) -> PodSpec {
        PodSpec {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            account: name.to_owned(),
            labels: Vec::new(),
            ip: self.block.address(),
        }
    }

    /// Makes a pod known.
    pub fn declare(&self, spec: &PodSpec) -> Result<()> {
        self.apply(&format!("pod-{}", spec.name), &spec.yaml())
    }

    /// The folder with a fresh credential for an identity; writing it again rotates it.
    pub fn credentials(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let dir = self.dir.path().join("credentials").join(namespace).join(account);
        self.ca.write_workload(&dir, &spiffe(namespace, account), TTL)?;
        Ok(dir)
    }

    /// A participant that reads this cluster's folder. Bindings hand over quickly, so that tests need not wait.
    pub fn participant(&self, namespace: &str, account: &str) -> Result<MeshBuilder> {
        let mesh = Mesh::builder()
            .credentials_dir(self.credentials(namespace, account)?)
            .source(inmesh::source::dir(self.folder()).namespace("default"))
            .handover(Duration::from_millis(300), Duration::from_secs(10));
        Ok(mesh)
    }

    /// A client without an address of its own.
    pub async fn client(&self, account: &str) -> Result<(Mesh, Client)> {
        let mesh = self.participant("default", account)?.start().await?;
        let client = mesh.client();
        Ok((mesh, client))
    }

    /// Runs a pod in this process and makes it known.
    pub async fn run(&self, spec: &PodSpec) -> Result<Pod> {
        let mesh = self
            .participant(&spec.namespace, &spec.account)?
            .pod(&spec.name)
            .address(IpAddr::V4(spec.ip))
            .admin((spec.ip, ADMIN).into())
            .start()
            .await?;
        let echo = Echo::new(&spec.name, Some(mesh.client()));
        mesh.attach(PORT, echo.clone()).await?;
        self.declare(spec)?;
        Ok(Pod {
            spec: spec.clone(),
            mesh,
            echo,
        })
    }

    /// Plans an instance of the waypoint with this name.
    pub fn waypoint_pod(&self, namespace: &str, name: &str) -> PodSpec {
        let mut spec = self.pod(&format!("{name}-0")).namespace(namespace).account(name);
        spec.labels.push((
            "gateway.networking.k8s.io/gateway-name".to_owned(),
            name.to_owned(),
        ));
        spec
    }

    /// Runs an instance of a waypoint in this process and makes it known.
    pub async fn run_waypoint(&self, spec: &PodSpec) -> Result<Waypoint> {
        let mesh = self
            .participant(&spec.namespace, &spec.account)?
            .pod(&spec.name)
            .address(IpAddr::V4(spec.ip))
            .admin((spec.ip, ADMIN).into())
            .role(Role::Gateway {
                namespace: spec.namespace.as_str().into(),
                name: spec.account.as_str().into(),
            })
            .start()
            .await?;
        let waypoint = Waypoint::start(mesh, std::collections::HashMap::new()).await?;
        self.declare(spec)?;
        Ok(waypoint)
    }

    /// Where the cluster keeps what is its own.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A waypoint's Gateway.
pub fn gateway(namespace: &str, name: &str, serves: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels:\n    \
         istio.io/waypoint-for: {serves}\nspec:\n  gatewayClassName: istio-waypoint\n  listeners:\n  - name: mesh\n    port: 15008\n    \
         protocol: HBONE\n"
    )
}

/// A Namespace with labels.
pub fn namespace(name: &str, labels: &[(&str, &str)]) -> String {
    let labels: String = labels.iter().map(|(k, v)| format!("    {k}: {v}\n")).collect();
    let labels = if labels.is_empty() {
        String::new()
    } else {
        format!("  labels:\n{labels}")
    };
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n{labels}")
}
