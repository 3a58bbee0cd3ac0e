//! The town as a whole: the folder, the pods, and the traces that they leave.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::address::Block;
use crate::ca::Ca;
use crate::caller::Caller;
use crate::controllers;
use crate::folder::{CLUSTER, Folder};
use crate::kubelet::{ADMIN, Kubelet, Pod};
use crate::manifests;
use crate::observability::Observability;
use crate::traces::Traces;

/// How long pods may take to become ready, or to go.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The pods that the manifests ask for.
const PODS: [&str; 9] = [
    "bookinfo/productpage-v1-1",
    "bookinfo/details-v1-1",
    "bookinfo/reviews-v1-1",
    "bookinfo/reviews-v2-1",
    "bookinfo/reviews-v3-1",
    "bookinfo/ratings-v1-1",
    "bookinfo/bookinfo-gateway-istio-1",
    "default/curl-1",
    "default/other-1",
];

/// A town that stands.
pub(crate) struct Town {
    /// What is written.
    pub(crate) folder: Folder,
    /// What runs.
    pub(crate) kubelet: Kubelet,
    /// What was seen.
    pub(crate) traces: Traces,
    /// What a Prometheus scrapes.
    pub(crate) observability: Observability,
    logs: PathBuf,
    controllers: Mutex<JoinHandle<()>>,
}

impl Town {
    /// Builds the town under `root` and starts its processes, without waiting for them.
    pub(crate) async fn build(root: &Path) -> anyhow::Result<Self> {
        let logs = root.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        let folder = Folder::create(root.join("town"))?;
        let ca = Ca::create(root.join("credentials"))?;
        let block = Block::find()?;
        let traces = Traces::start().await?;
        let kubelet = Kubelet::new(folder.clone(), ca, block, logs.clone(), traces.endpoint());
        let observability = Observability::start(root.join("observability"), &kubelet)?;
        let controllers = controllers::start(folder.clone(), kubelet.clone());
        let town = Self {
            folder,
            kubelet,
            traces,
            observability,
            logs,
            controllers: Mutex::new(controllers),
        };
        town.found()?;
        Ok(town)
    }

    /// Writes the manifests.
    fn found(&self) -> anyhow::Result<()> {
        self.folder
            .apply(CLUSTER, "gateway-classes.yaml", manifests::CLASSES)?;
        self.folder
            .apply("bookinfo", "bookinfo.yaml", manifests::BOOKINFO)?;
        self.folder
            .apply("bookinfo", "bookinfo-versions.yaml", manifests::VERSIONS)?;
        self.folder
            .apply("bookinfo", "bookinfo-gateway.yaml", manifests::GATEWAY)?;
        self.folder.apply("default", "clients.yaml", manifests::CLIENTS)
    }

    /// Waits until every pod of the manifests is ready.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        self.kubelet.ready(&PODS, PATIENCE).await
    }

    /// A pod by `namespace/name`.
    pub(crate) fn pod(&self, key: &str) -> anyhow::Result<Pod> {
        self.kubelet
            .pods()
            .borrow()
            .get(key)
            .cloned()
            .with_context(|| format!("there is no pod {key}"))
    }

    /// A pod's address.
    pub(crate) fn address(&self, key: &str) -> anyhow::Result<Ipv4Addr> {
        Ok(self.pod(key)?.address)
    }

    /// Where a pod's process has its admin pages.
    pub(crate) fn admin(&self, key: &str) -> anyhow::Result<String> {
        Ok(format!("{}:{ADMIN}", self.address(key)?))
    }

    /// A caller by name.
    pub(crate) fn caller(&self, name: &str) -> anyhow::Result<Caller> {
        Ok(Caller::at(self.address(&format!("default/{name}-1"))?))
    }

    /// Where a browser comes in: `address:port`.
    pub(crate) fn entrance(&self) -> anyhow::Result<String> {
        let gateway = self.pod("bookinfo/bookinfo-gateway-istio-1")?;
        gateway.entrance().context("the gateway has no HTTP listener")
    }

    /// Where the processes' logs are.
    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Stops every process and waits for it.
    pub(crate) async fn shut_down(&self) {
        let mut controllers = self.controllers.lock().await;
        controllers.abort();
        // Aborting takes effect at the next pause; without waiting for it a pod might still be started.
        let _ = (&mut *controllers).await;
        self.kubelet.shut_down().await;
    }
}
