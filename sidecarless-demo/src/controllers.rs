//! The controllers of the town: which pods the Deployments and Gateways in the folder ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::folder::{Folder, Object};
use crate::kubelet::{Kubelet, PodSpec, Program};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// What is added to a Gateway's port below 1024, which only root may bind.
const UNPRIVILEGED: u16 = 8000;

/// Keeps the pods as the folder says until the handle is aborted.
pub(crate) fn start(folder: Folder, kubelet: Kubelet) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut seen = None;
        let mut wanted = Vec::new();
        loop {
            let now = folder.fingerprint();
            if seen.as_ref() != Some(&now) {
                wanted = pods(&folder.objects());
                seen = Some(now);
            }
            // Every time, changed or not: a pod that is leaving makes room for its namesake later.
            kubelet.reconcile(&wanted);
            tokio::time::sleep(LOOK).await;
        }
    })
}

/// The pods that the objects ask for.
fn pods(objects: &[Object]) -> Vec<PodSpec> {
    objects
        .iter()
        .flat_map(|object| match object.kind.as_str() {
            "Deployment" => replicas(object),
            "Gateway" => gateway(object).into_iter().collect(),
            _ => Vec::new(),
        })
        .collect()
}

fn replicas(deployment: &Object) -> Vec<PodSpec> {
    let spec = &deployment.value["spec"];
    let template = &spec["template"];
    let containers = &template["spec"]["containers"];
    let Some(program) = containers[0]["name"].as_str() else {
        return Vec::new();
    };
    let account = template["spec"]["serviceAccountName"]
        .as_str()
        .unwrap_or("default");
    (1..=spec["replicas"].as_u64().unwrap_or(1))
        .map(|number| PodSpec {
            namespace: deployment.namespace.clone(),
            name: format!("{}-{number}", deployment.name),
            owner: deployment.name.clone(),
            labels: labels(&template["metadata"]["labels"]),
            account: account.to_owned(),
            containers: containers.clone(),
            program: Program::Service(program.to_owned()),
        })
        .collect()
}

/// The process that serves a Gateway, with the name, identity and labels that Istio's own controller gives it.
fn gateway(gateway: &Object) -> Option<PodSpec> {
    let owner = match gateway.value["spec"]["gatewayClassName"].as_str()? {
        "istio-waypoint" => gateway.name.clone(),
        "istio" => format!("{}-istio", gateway.name),
        _ => return None,
    };
    let listeners = gateway.value["spec"]["listeners"].as_array()?;
    let http = listeners
        .iter()
        .filter(|listener| listener["protocol"] == "HTTP")
        .filter_map(|listener| u16::try_from(listener["port"].as_u64()?).ok())
        .map(|port| (port, if port < 1024 { port + UNPRIVILEGED } else { port }))
        .collect();
    let labels = [
        ("gateway.networking.k8s.io/gateway-name", &gateway.name),
        ("service.istio.io/canonical-name", &owner),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.clone()));
    Some(PodSpec {
        namespace: gateway.namespace.clone(),
        name: format!("{owner}-1"),
        account: owner.clone(),
        owner,
        labels: BTreeMap::from(labels),
        containers: json!([{ "name": "waypoint", "image": "sidecarless-demo" }]),
        program: Program::Gateway {
            name: gateway.name.clone(),
            http,
        },
    })
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests;

    #[test]
    fn the_samples_manifests_ask_for_its_six_services_and_a_way_in() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(dir.path().join("town")).unwrap();
        folder
            .apply("bookinfo", "bookinfo.yaml", manifests::BOOKINFO)
            .unwrap();
        folder
            .apply("bookinfo", "bookinfo-gateway.yaml", manifests::GATEWAY)
            .unwrap();
        folder
            .apply("bookinfo", "waypoint.yaml", manifests::WAYPOINT)
            .unwrap();
        let mut names: Vec<String> = pods(&folder.objects()).into_iter().map(|pod| pod.key()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "bookinfo/bookinfo-gateway-istio-1",
                "bookinfo/details-v1-1",
                "bookinfo/productpage-v1-1",
                "bookinfo/ratings-v1-1",
                "bookinfo/reviews-v1-1",
                "bookinfo/reviews-v2-1",
                "bookinfo/reviews-v3-1",
                "bookinfo/waypoint-1",
            ]
        );
    }
}
