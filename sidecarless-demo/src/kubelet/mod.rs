//! The kubelet of the town: a process per pod, a `Pod` object per process, and an eye on both.
//!
//! A pod's address is known before its process starts, as in a cluster, so the object is written first, not
//! ready. It turns ready when the process says so, unready when the process dies, and is started again with a
//! back-off. A pod that is no longer wanted leaves the endpoints before its process is told to stop.

mod pod;
mod process;
mod tend;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use pod::{Phase, Pod, PodSpec, Program};
pub(crate) use process::ADMIN;

use crate::address::Block;
use crate::ca::Ca;
use crate::folder::Folder;

/// All pods by `namespace/name`.
pub(crate) type Pods = BTreeMap<String, Pod>;

/// Runs pods.
#[derive(Clone)]
pub(crate) struct Kubelet {
    shared: Arc<Shared>,
}

struct Shared {
    folder: Folder,
    ca: Ca,
    block: Block,
    logs: PathBuf,
    /// Where processes send their spans.
    collector: String,
    pods: watch::Sender<Pods>,
    /// Told to end one pod each.
    stops: Mutex<BTreeMap<String, watch::Sender<bool>>>,
    tasks: Mutex<JoinSet<()>>,
    /// Whether everything is being stopped.
    closing: AtomicBool,
    /// How the processes that were told to stop ended.
    exits: Mutex<Vec<(String, String)>>,
}

impl Kubelet {
    /// A kubelet without pods.
    pub(crate) fn new(folder: Folder, ca: Ca, block: Block, logs: PathBuf, collector: String) -> Self {
        let shared = Shared {
            folder,
            ca,
            block,
            logs,
            collector,
            pods: watch::Sender::default(),
            stops: Mutex::default(),
            tasks: Mutex::default(),
            closing: AtomicBool::new(false),
            exits: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The pods, as they change.
    pub(crate) fn pods(&self) -> watch::Receiver<Pods> {
        self.shared.pods.subscribe()
    }

    /// Starts what is wanted and does not run, stops what runs and is not wanted.
    pub(crate) fn reconcile(&self, wanted: &[PodSpec]) {
        let running: Vec<(String, Arc<PodSpec>)> = self
            .shared
            .pods
            .borrow()
            .iter()
            .map(|(key, pod)| (key.clone(), Arc::clone(&pod.spec)))
            .collect();
        for (key, spec) in &running {
            if !wanted.iter().any(|wanted| wanted == spec.as_ref()) {
                self.stop(key);
            }
        }
        for spec in wanted {
            if !running.iter().any(|(key, _)| *key == spec.key())
                && let Err(error) = self.start(spec.clone())
            {
                eprintln!("{}: {error:#}", spec.key());
            }
        }
    }

    /// `kubectl label pod`.
    pub(crate) fn label(&self, key: &str, label: &str, value: Option<&str>) -> anyhow::Result<()> {
        let mut result = Err(anyhow::anyhow!("there is no pod {key}"));
        self.shared.pods.send_modify(|pods| {
            if let Some(pod) = pods.get_mut(key) {
                match value {
                    Some(value) => pod.labels.insert(label.to_owned(), value.to_owned()),
                    None => pod.labels.remove(label),
                };
                result = pod.write(&self.shared.folder);
            }
        });
        result
    }

    /// Waits until all of these pods are ready.
    pub(crate) async fn ready(&self, keys: &[&str], within: std::time::Duration) -> anyhow::Result<()> {
        let mut pods = self.pods();
        let is_ready = |pods: &Pods, key: &str| pods.get(key).is_some_and(|pod| pod.phase == Phase::Ready);
        let all = tokio::time::timeout(
            within,
            pods.wait_for(|pods| keys.iter().all(|key| is_ready(pods, key))),
        )
        .await;
        match all {
            Ok(all) => all.map(drop).context("the kubelet is gone"),
            Err(_) => {
                let pods = self.shared.pods.borrow();
                let late: Vec<&&str> = keys.iter().filter(|key| !is_ready(&pods, key)).collect();
                bail!(
                    "not ready after {within:?}: {late:?}; their logs are in {}",
                    self.shared.logs.display()
                )
            }
        }
    }

    /// Waits until a pod is gone, its process with it.
    pub(crate) async fn gone(&self, key: &str, within: std::time::Duration) -> anyhow::Result<()> {
        let mut pods = self.pods();
        tokio::time::timeout(within, pods.wait_for(|pods| !pods.contains_key(key)))
            .await
            .with_context(|| format!("{key} is still there after {within:?}"))?
            .map(drop)
            .context("the kubelet is gone")
    }

    /// How the process of a pod that was told to stop ended: `clean`, or what else happened.
    pub(crate) fn exit_of(&self, key: &str) -> Option<String> {
        let exits = self.shared.exits.lock().unwrap_or_else(PoisonError::into_inner);
        exits
            .iter()
            .rev()
            .find(|(pod, _)| pod == key)
            .map(|(_, how)| how.clone())
    }

    /// Stops everything and waits for it.
    pub(crate) async fn shut_down(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        let keys: Vec<String> = self.shared.pods.borrow().keys().cloned().collect();
        keys.iter().for_each(|key| self.stop(key));
        let mut tasks =
            std::mem::take(&mut *self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }

    fn start(&self, spec: PodSpec) -> anyhow::Result<()> {
        let address: Ipv4Addr = self.shared.block.take()?;
        let key = spec.key();
        let credentials = self.shared.ca.issue(&spec.namespace, &spec.account, &spec.name)?;
        let pod = Pod::new(spec, address);
        pod.write(&self.shared.folder)?;
        let spec = Arc::clone(&pod.spec);
        self.shared
            .pods
            .send_modify(|pods| drop(pods.insert(key.clone(), pod)));
        let (stop, stopped) = watch::channel(false);
        self.shared
            .stops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, stop);
        let mut tasks = self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(tend::tend(
            Arc::clone(&self.shared),
            spec,
            address,
            credentials,
            stopped,
        ));
        Ok(())
    }

    fn stop(&self, key: &str) {
        if let Some(stop) = self
            .shared
            .stops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
        {
            stop.send_replace(true);
        }
    }
}

impl Shared {
    /// Changes a pod's phase, and its object with it.
    fn turn(&self, key: &str, phase: Phase) {
        self.pods.send_if_modified(|pods| match pods.get_mut(key) {
            Some(pod) if pod.phase != phase => {
                pod.phase = phase;
                if let Err(error) = pod.write(&self.folder) {
                    eprintln!("{key}: {error:#}");
                }
                true
            }
            _ => false,
        });
    }

    /// Takes a pod out of the town.
    fn forget(&self, spec: &PodSpec, address: Ipv4Addr) {
        if let Err(error) = self.folder.delete(&spec.namespace, &spec.file()) {
            eprintln!("{}: {error:#}", spec.key());
        }
        self.block.give_back(address);
        self.stops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&spec.key());
        self.pods.send_modify(|pods| drop(pods.remove(&spec.key())));
    }
}
