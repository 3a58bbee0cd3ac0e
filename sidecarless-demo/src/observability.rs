//! What a Prometheus needs to scrape the town: its configuration, the rules, and which processes there are now.
//!
//! Everything is written into one folder. The list of processes follows the pods, and a Prometheus that was started
//! with the configuration beside it sees each change at once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use crate::kubelet::{ADMIN, Kubelet, Pod, Pods, Program};

const CONFIG: &str = include_str!("../observability/prometheus/prometheus.yml");
const RULES: &str = include_str!("../observability/prometheus/rules.yml");

/// The port and path at which users of ambient expect a waypoint's metrics.
const WAYPOINT_METRICS: (u16, &str) = (15020, "/stats/prometheus");
/// The path at which every other process has them, beside its admin pages.
const METRICS: &str = "/metrics";

/// The folder, and whoever keeps it.
#[derive(Debug)]
pub(crate) struct Observability {
    root: PathBuf,
    keeper: JoinHandle<()>,
}

impl Observability {
    /// Fills `root`, and follows the kubelet's pods from then on.
    pub(crate) fn start(root: PathBuf, kubelet: &Kubelet) -> anyhow::Result<Self> {
        let targets = root.join("targets");
        fs::create_dir_all(&targets).with_context(|| format!("making {}", targets.display()))?;
        for (name, text) in [("prometheus.yml", CONFIG), ("rules.yml", RULES)] {
            let path = root.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        let mut pods = kubelet.pods();
        let keeper = tokio::spawn({
            let root = root.clone();
            async move {
                loop {
                    let list = list(&pods.borrow_and_update());
                    if let Err(error) = write(&root, &list) {
                        eprintln!("targets of Prometheus: {error:#}");
                    }
                    if pods.changed().await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { root, keeper })
    }

    /// The configuration with which to start a Prometheus.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("prometheus.yml")
    }
}

impl Drop for Observability {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Where a pod's metrics are: `address:port` and path.
pub(crate) fn metrics_of(pod: &Pod) -> (String, &'static str) {
    let (port, path) = match pod.spec.program {
        Program::Gateway { .. } => WAYPOINT_METRICS,
        Program::Service(_) => (ADMIN, METRICS),
    };
    (format!("{}:{port}", pod.address), path)
}

/// All pods as Prometheus's service discovery by file wants them.
fn list(pods: &Pods) -> Value {
    pods.values().map(target).collect()
}

/// One pod, labelled as a cluster's Prometheus labels it: where it is, and the pod's own labels.
fn target(pod: &Pod) -> Value {
    let (authority, path) = metrics_of(pod);
    let own = pod.labels.iter().map(|(key, value)| (label(key), value.as_str()));
    let place = [
        ("namespace", pod.spec.namespace.as_str()),
        ("pod", pod.spec.name.as_str()),
        ("workload", pod.spec.owner.as_str()),
        ("__metrics_path__", path),
    ];
    let place = place.map(|(key, value)| (key.to_owned(), value));
    let labels: Map<String, Value> = own.chain(place).map(|(key, value)| (key, value.into())).collect();
    json!({ "targets": [authority], "labels": labels })
}

/// A label's name with what Prometheus does not allow in it turned into `_`, as its own discovery does.
fn label(key: &str) -> String {
    key.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// Writes beside and renames, so that nobody reads half a list.
fn write(root: &Path, list: &Value) -> anyhow::Result<()> {
    let beside = root.join("pods.json.new");
    fs::write(&beside, format!("{list:#}\n"))?;
    fs::rename(&beside, root.join("targets").join("pods.json"))?;
    Ok(())
}
