//! The guide's steps: what each writes into the watched folder, and takes out of it again.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::acts::TITLES;
use crate::folder::{CLUSTER, namespace_file};
use crate::manifests;
use crate::town::Town;

/// The largest manifest that the page takes.
pub(super) const LARGEST: usize = 64 * 1024;

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    /// What the page calls it.
    pub(super) id: &'static str,
    /// The act it belongs to, from 1.
    pub(super) act: usize,
    /// What a person calls it.
    pub(super) title: &'static str,
    /// What to expect.
    pub(super) about: &'static str,
    /// Where it writes.
    pub(super) place: Place,
    /// What it may write: a name and a manifest each. A person may write something else.
    pub(super) choices: Vec<(&'static str, String)>,
}

/// What a step changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// A file of its own.
    File {
        namespace: &'static str,
        file: &'static str,
    },
    /// Labels of an object that is there already: `kubectl label`.
    Labels { kind: &'static str, name: &'static str },
    /// Nothing: it only looks, or does what is no manifest.
    Nothing,
}

/// The label that binds a waypoint, and the one that says where that waypoint is.
const BINDING: [&str; 2] = ["istio.io/use-waypoint", "istio.io/use-waypoint-namespace"];

/// All steps, in the guide's order.
pub(super) fn all() -> Vec<Step> {
    let file = |namespace, file| Place::File { namespace, file };
    let labels = |kind, name| Place::Labels { kind, name };
    let step = |id, act, title, about, place, choices: &[(&'static str, String)]| Step {
        id,
        act,
        title,
        about,
        place,
        choices: choices.to_vec(),
    };
    vec![
        step(
            "look",
            1,
            "Who calls whom, and who proves what",
            "Asks for one page and lists every call behind it with the identity that its callee saw, and whether a \
             workload would also talk to somebody outside the mesh.",
            Place::Nothing,
            &[],
        ),
        step(
            "gateway",
            2,
            "Deploy a waypoint",
            "A Gateway of class istio-waypoint starts a process. Nobody uses it before a label says so.",
            file("bookinfo", "waypoint.yaml"),
            &[
                ("for services", manifests::WAYPOINT.to_owned()),
                ("for workloads", manifests::WAYPOINT_FOR_WORKLOAD.to_owned()),
            ],
        ),
        step(
            "bind",
            2,
            "Enrol the namespace",
            "From then on every call to a service of bookinfo passes the waypoint, and services see its identity.",
            labels("Namespace", "bookinfo"),
            &[
                ("waypoint", binding("Namespace", "bookinfo", "waypoint", None)),
                (
                    "waypoint-foo in foo",
                    binding("Namespace", "bookinfo", "waypoint-foo", Some("foo")),
                ),
            ],
        ),
        step(
            "service",
            2,
            "Or one Service only",
            "A Service's own label counts more than its namespace's; `none` opts out.",
            labels("Service", "reviews"),
            &[
                ("waypoint", binding("Service", "reviews", "waypoint", None)),
                ("none", binding("Service", "reviews", "none", None)),
            ],
        ),
        step(
            "pod",
            2,
            "Or one Pod",
            "Calls to the pod's address pass the waypoint, if that is one for workloads; calls to the Service do not.",
            labels("Pod", "reviews-v1-1"),
            &[("waypoint", binding("Pod", "reviews-v1-1", "waypoint", None))],
        ),
        step(
            "foo",
            2,
            "A waypoint in another namespace",
            "It may be used from bookinfo only if its listener allows that; otherwise the attachment is denied, and said \
             to be.",
            file("foo", "waypoint-foo.yaml"),
            &[
                ("allows bookinfo", manifests::WAYPOINT_FOO.to_owned()),
                (
                    "allows somebody else",
                    manifests::WAYPOINT_FOO_FOR_OTHERS.to_owned(),
                ),
            ],
        ),
        step(
            "route",
            3,
            "Split reviews by weight",
            "Applied by the caller in process while there is no waypoint, and by the waypoint once there is one. Change \
             the weights and watch the plot follow.",
            file("bookinfo", "reviews.yaml"),
            &[
                ("90 / 10", manifests::ROUTE.to_owned()),
                (
                    "50 / 50",
                    manifests::ROUTE
                        .replace("weight: 90", "weight: 50")
                        .replace("weight: 10", "weight: 50"),
                ),
            ],
        ),
        step(
            "policy",
            4,
            "Only curl may GET the product page",
            "GET as curl is answered; POST as curl and GET as anybody else get 403: from the waypoint if one is in the \
             way, else from productpage itself.",
            file("bookinfo", "productpage-waypoint.yaml"),
            &[("as in the guide", manifests::POLICY.to_owned())],
        ),
        step(
            "mtls",
            5,
            "Mutual TLS: demanded, accepted, ignored",
            "STRICT refuses plaintext. DISABLE is ignored, as ambient does, and reported.",
            file("bookinfo", "mtls.yaml"),
            &[
                ("STRICT", manifests::STRICT.to_owned()),
                ("PERMISSIVE", manifests::PERMISSIVE.to_owned()),
                ("DISABLE", manifests::DISABLE.to_owned()),
            ],
        ),
        step(
            "clean",
            6,
            "Everything back to where it began",
            "Policy, route, labels and Gateways go in the guide's order, and no request fails on the way.",
            Place::Nothing,
            &[],
        ),
    ]
}

/// The title of an act.
pub(super) fn act_title(act: usize) -> &'static str {
    TITLES.get(act - 1).copied().unwrap_or_default()
}

fn binding(kind: &str, name: &str, waypoint: &str, namespace: Option<&str>) -> String {
    let [label, place] = BINDING;
    let namespaced = match kind {
        "Namespace" => "",
        _ => "\n  namespace: bookinfo",
    };
    let namespace = namespace.map_or_else(String::new, |namespace| format!("    {place}: {namespace}\n"));
    format!(
        "apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}{namespaced}\n  labels:\n    {label}: {waypoint}\n{namespace}"
    )
}

impl Step {
    /// What is written now, as the manifest that would write it; nothing if nothing is.
    pub(super) fn now(&self, town: &Town) -> Option<String> {
        match self.place {
            Place::File { namespace, file } => town.folder.read(namespace, file).ok(),
            Place::Labels { kind, name } => {
                let labels = labels_now(town, kind, name);
                let [label, place] = BINDING.map(|key| labels.get(key));
                Some(binding(kind, name, label?, place.map(String::as_str)))
            }
            Place::Nothing => None,
        }
    }

    /// Writes a manifest.
    pub(super) fn apply(&self, town: &Town, yaml: &str) -> anyhow::Result<()> {
        ensure!(yaml.len() <= LARGEST, "more than {LARGEST} bytes");
        match self.place {
            Place::File { namespace, file } => town.folder.apply(namespace, file, yaml),
            Place::Labels { kind, name } => {
                let object: Value = serde_saphyr::from_str(yaml).context("this is not YAML")?;
                ensure!(
                    object["kind"] == kind && object["metadata"]["name"] == name,
                    "this is not {kind} {name}"
                );
                let wanted = object["metadata"]["labels"].as_object();
                let wanted = wanted.context("there are no labels")?;
                let other = wanted.keys().find(|key| !BINDING.contains(&key.as_str()));
                ensure!(other.is_none(), "only the labels {BINDING:?} are changed here");
                label(
                    town,
                    kind,
                    name,
                    BINDING.map(|key| (key, wanted.get(key).and_then(Value::as_str))),
                )
            }
            Place::Nothing => Ok(()),
        }
    }

    /// Takes away what was written.
    pub(super) fn delete(&self, town: &Town) -> anyhow::Result<()> {
        match self.place {
            Place::File { namespace, file } => town.folder.delete(namespace, file),
            Place::Labels { kind, name } => label(town, kind, name, BINDING.map(|key| (key, None))),
            Place::Nothing => Ok(()),
        }
    }
}

fn label(town: &Town, kind: &str, name: &str, labels: [(&str, Option<&str>); 2]) -> anyhow::Result<()> {
    match kind {
        "Namespace" => town.folder.label_namespace(name, &labels),
        "Pod" => labels
            .iter()
            .try_for_each(|(label, value)| town.kubelet.label(&format!("bookinfo/{name}"), label, *value)),
        _ => town
            .folder
            .label("bookinfo", "bookinfo.yaml", kind, name, &labels),
    }
}

fn labels_now(town: &Town, kind: &str, name: &str) -> BTreeMap<String, String> {
    if kind == "Pod" {
        let pods = town.kubelet.pods();
        let pods = pods.borrow();
        return pods
            .get(&format!("bookinfo/{name}"))
            .map(|pod| pod.labels.clone())
            .unwrap_or_default();
    }
    let objects = match kind {
        "Namespace" => town.folder.objects_of(CLUSTER, &namespace_file(name)),
        _ => town.folder.objects_of("bookinfo", "bookinfo.yaml"),
    };
    let object = objects
        .into_iter()
        .find(|object| object.kind == kind && object.name == name);
    let labels = object.and_then(|object| object.value["metadata"]["labels"].as_object().cloned());
    let labels = labels.unwrap_or_default().into_iter();
    labels
        .filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_name_of_its_own_an_act_and_yaml_that_is_some() {
        let steps = all();
        for (at, step) in steps.iter().enumerate() {
            assert!(
                steps[..at].iter().all(|other| other.id != step.id),
                "{} is there twice",
                step.id
            );
            assert!(!act_title(step.act).is_empty(), "{}", step.id);
            for (name, yaml) in &step.choices {
                let object: Value = serde_saphyr::from_str(yaml).unwrap();
                assert!(object["kind"].is_string(), "{} {name}", step.id);
            }
            assert_eq!(
                step.choices.is_empty(),
                matches!(step.place, Place::Nothing),
                "{}",
                step.id
            );
        }
    }

    #[test]
    fn a_binding_is_a_manifest_with_nothing_but_its_labels() {
        assert_eq!(
            binding("Service", "reviews", "waypoint-foo", Some("foo")),
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: reviews\n  namespace: bookinfo\n  labels:\n    \
             istio.io/use-waypoint: waypoint-foo\n    istio.io/use-waypoint-namespace: foo\n"
        );
    }
}
