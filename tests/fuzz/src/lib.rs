//! What the fuzz targets share: a town to put the fuzzed text into, and the processes that look at it.

pub mod asked;

use inmesh::compile::{Compiled, Handover, compile};
use inmesh::config::{ResourceStore, yaml};
use inmesh::snapshot::{Node, Role, Snapshot};

/// A service with two pods and a waypoint.
pub const TOWN: &str = include_str!("town.yaml");

/// Reads texts as files of one folder.
pub fn store(texts: &[&str]) -> ResourceStore {
    let mut store = ResourceStore::default();
    for text in texts {
        for entry in yaml::read("fuzz.yaml", text, None).entries {
            store.apply(entry);
        }
    }
    store
}

/// The process of a pod.
pub fn workload(pod: &str) -> Node {
    Node {
        namespace: "default".into(),
        pod: Some(pod.into()),
        addr: None,
        labels: Default::default(),
        identity: None,
        role: Role::Workload,
        root_namespace: "istio-system".into(),
        trust_domains: vec!["cluster.local".into()],
        cluster_domain: "cluster.local".into(),
        cluster_id: "Kubernetes".into(),
        propagation: Default::default(),
        paths: Default::default(),
    }
}

/// The waypoint's process.
pub fn waypoint() -> Node {
    Node {
        role: Role::Gateway {
            namespace: "default".into(),
            name: "waypoint".into(),
        },
        ..workload("waypoint-1")
    }
}

/// What a process makes of it.
pub fn compiled(store: &ResourceStore, node: &Node, previous: Option<&Snapshot>) -> Compiled {
    compile(store, node, &Handover::default(), previous)
}
