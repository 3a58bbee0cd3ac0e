//! Annotations of our own, wherever they are: each has its places and its form, and what is in the wrong one is said.

use std::sync::Arc;

use super::{explained, labels, rate_limit, tracing};
use crate::config::{Entry, Labels, Problem, Resource, ResourceStore, Severity};
use crate::name::Kind;

/// An annotation that there is.
struct Known {
    key: &'static str,
    /// What it has an effect on.
    kinds: &'static [Kind],
    /// The same in words, as a remedy.
    places: &'static str,
    /// Says what is wrong with a value.
    judge: fn(&Arc<Entry>, field: &str, value: &str, &mut Vec<Problem>),
}

const KNOWN: &[Known] = &[
    Known {
        key: labels::EXPLAIN_TO,
        kinds: &[Kind::Gateway, Kind::Namespace, Kind::Pod, Kind::WorkloadEntry],
        places: "put it on a Gateway, a Namespace or a Pod",
        judge: explained::judge,
    },
    Known {
        key: labels::LOAD_BALANCER,
        kinds: &[Kind::Service, Kind::ServiceEntry, Kind::DestinationRule],
        places: "put it on a Service, a ServiceEntry or a DestinationRule",
        judge: load_balancer,
    },
    Known {
        key: labels::CRITICALITY,
        kinds: &[Kind::EnvoyFilter],
        places: "put it on an EnvoyFilter with adaptive concurrency",
        judge: sheds,
    },
    Known {
        key: labels::CRITICALITY_HEADER,
        kinds: &[Kind::EnvoyFilter],
        places: "put it on an EnvoyFilter with adaptive concurrency",
        judge: sheds,
    },
    Known {
        key: labels::KEEP_TRACES,
        kinds: &[Kind::Telemetry],
        places: "put it on a Telemetry",
        judge: tracing::judge_keep,
    },
];

/// What is wrong with annotations of ours.
pub(super) fn report(store: &ResourceStore, problems: &mut Vec<Problem>) {
    for entry in store.iter() {
        let meta = entry.resource.metadata();
        for (key, value) in ours(&meta.annotations) {
            let field = format!("metadata.annotations.{key}");
            match KNOWN.iter().find(|it| it.key == key) {
                None => {
                    let text = "no annotation is called so, so it has no effect";
                    problems.push(entry.problem(Severity::Ignored, field, text, "check its spelling"));
                }
                Some(known) if !known.kinds.contains(&entry.resource.kind()) => {
                    let text = format!("it has no effect on a {}", entry.resource.kind());
                    problems.push(entry.problem(Severity::Ignored, field, text, known.places));
                }
                Some(known) => (known.judge)(entry, &field, value, problems),
            }
        }
        for (key, _) in ours(&meta.labels) {
            let text = "it is an annotation; as a label it has no effect";
            let field = format!("metadata.labels.{key}");
            problems.push(entry.problem(Severity::Ignored, field, text, "put it under annotations"));
        }
    }
}

fn ours(all: &Labels) -> impl Iterator<Item = (&str, &str)> {
    all.iter()
        .filter(|(key, _)| key.starts_with(labels::OWN))
        .map(|(key, value)| (key.as_str(), value.as_str()))
}

fn load_balancer(entry: &Arc<Entry>, field: &str, value: &str, problems: &mut Vec<Problem>) {
    if value != labels::PEAK_EWMA {
        let text = format!("`{value}` is no way to choose, so it has no effect");
        problems.push(entry.problem(Severity::Ignored, field, text, "write peak-ewma, or nothing"));
    }
}

/// What it says itself is judged where the filter is compiled.
fn sheds(entry: &Arc<Entry>, field: &str, _: &str, problems: &mut Vec<Problem>) {
    let Resource::EnvoyFilter(filter) = &entry.resource else {
        return;
    };
    let patches = &filter.spec.config_patches;
    if !patches.iter().any(|it| rate_limit::is_adaptive(&it.patch.value)) {
        let text = "the filter sheds nothing, so it has no effect";
        problems.push(entry.problem(
            Severity::Ignored,
            field,
            text,
            "add adaptive concurrency, or remove it",
        ));
    }
}
