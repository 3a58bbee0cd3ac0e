//! A pod: what is wanted of it, how it is, and the object that says so.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::folder::Folder;

/// The label by which a workload says that it terminates HBONE itself.
const TUNNEL: (&str, &str) = ("networking.istio.io/tunnel", "http");

/// What a pod's process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// One of the bookinfo services, or a caller, by the container's name.
    Service(String),
    /// The waypoint, serving one Gateway.
    Gateway {
        /// The Gateway's name; its namespace is the pod's.
        name: String,
        /// HTTP listeners: the Gateway's port, and the one that is bound for it.
        http: Vec<(u16, u16)>,
    },
}

/// What is wanted of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodSpec {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Its Deployment or Gateway, which is what it calls itself in traces.
    pub(crate) owner: String,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Service account.
    pub(crate) account: String,
    /// Containers, as in its Deployment.
    pub(crate) containers: Value,
    /// What to run.
    pub(crate) program: Program,
}

impl PodSpec {
    /// `namespace/name`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The file of its object.
    pub(super) fn file(&self) -> String {
        format!("pod-{}.yaml", self.name)
    }
}

/// How a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its process has not said yet that it is ready, or died and will be started again.
    Starting,
    /// Its process is ready.
    Ready,
    /// On its way out: no endpoint any more.
    Stopping,
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// What is wanted of it.
    pub(crate) spec: Arc<PodSpec>,
    /// Its address.
    pub(crate) address: Ipv4Addr,
    /// How it is.
    pub(crate) phase: Phase,
    /// Its labels now: those of the template and those put on since.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its process, while there is one.
    pub(crate) process: Option<u32>,
    /// How many processes it has had.
    pub(crate) started: u32,
    /// How the last of those ended that ended by itself.
    pub(crate) ended: Option<String>,
}

impl Pod {
    /// A pod that has not started yet.
    pub(super) fn new(spec: PodSpec, address: Ipv4Addr) -> Self {
        let mut labels = spec.labels.clone();
        labels.insert(TUNNEL.0.to_owned(), TUNNEL.1.to_owned());
        Self {
            spec: Arc::new(spec),
            address,
            phase: Phase::Starting,
            labels,
            process: None,
            started: 0,
            ended: None,
        }
    }

    /// Where it takes HTTP from outside the mesh, if it does.
    pub(crate) fn entrance(&self) -> Option<String> {
        match &self.spec.program {
            Program::Gateway { http, .. } => {
                http.first().map(|(_, bound)| format!("{}:{bound}", self.address))
            }
            Program::Service(_) => None,
        }
    }

    /// Writes the object into the watched folder.
    pub(super) fn write(&self, folder: &Folder) -> anyhow::Result<()> {
        let text = serde_saphyr::to_string(&self.object())?;
        folder.apply(&self.spec.namespace, &self.spec.file(), &text)
    }

    fn object(&self) -> Value {
        let ready = if self.phase == Phase::Ready {
            "True"
        } else {
            "False"
        };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.spec.name,
                "namespace": self.spec.namespace,
                "labels": self.labels,
            },
            "spec": {
                "serviceAccountName": self.spec.account,
                "nodeName": "town",
                "containers": self.spec.containers,
            },
            "status": {
                "phase": "Running",
                "podIP": self.address.to_string(),
                "podIPs": [{ "ip": self.address.to_string() }],
                "conditions": [{ "type": "Ready", "status": ready }],
            },
        })
    }
}
