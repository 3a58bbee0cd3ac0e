//! Everything that the page shows, as JSON.

use serde_json::{Value, json};

use super::Shared;
use super::graph::role;
use super::steps::{Place, act_title};
use super::watch::now;
use crate::ca::identity;
use crate::kubelet::{ADMIN, Phase, Pod};

/// The state, with the seconds after `since`.
pub(super) fn of(shared: &Shared, since: u64) -> Value {
    let town = &shared.town;
    let pods: Vec<Value> = town
        .kubelet
        .pods()
        .borrow()
        .iter()
        .map(|(key, it)| pod(key, it))
        .collect();
    let steps: Vec<Value> = shared
        .bench
        .steps()
        .iter()
        .map(|step| {
            let choices: Vec<Value> = step
                .choices
                .iter()
                .map(|(name, yaml)| json!({ "name": name, "yaml": yaml }))
                .collect();
            json!({
                "id": step.id,
                "act": step.act,
                "actTitle": act_title(step.act),
                "title": step.title,
                "about": step.about,
                "runs": matches!(step.place, Place::Nothing),
                "choices": choices,
                "now": step.now(town),
            })
        })
        .collect();
    json!({
        "at": now(),
        "entrance": town.entrance().ok(),
        "traces": town.traces.page(),
        "folder": town.folder.root().display().to_string(),
        "prometheus": town.observability.config().display().to_string(),
        "pods": pods,
        "steps": steps,
        "lines": shared.log.lines(),
        "edges": shared.graph.edges(),
        "seconds": shared.watch.seconds(since),
        "pages": shared.watch.pages(),
        "totals": shared.watch.totals(),
    })
}

fn pod(key: &str, pod: &Pod) -> Value {
    json!({
        "key": key,
        "workload": pod.spec.owner,
        "role": role(pod),
        "address": pod.address.to_string(),
        "process": pod.process,
        "restarts": pod.started.saturating_sub(1),
        "ended": pod.ended,
        "phase": match pod.phase {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Stopping => "stopping",
        },
        "identity": identity(&pod.spec.namespace, &pod.spec.account),
        "admin": format!("http://{}:{ADMIN}/", pod.address),
    })
}
