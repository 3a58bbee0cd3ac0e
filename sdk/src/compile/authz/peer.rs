//! PeerAuthentication: on which ports of a workload plaintext is refused.

use std::sync::Arc;

use super::MeshSettings;
use crate::config::istio::PeerAuthentication;
use crate::config::{Entry, Labels, Problem, Severity};
use crate::snapshot::StrictPorts;

/// A policy and where it was read.
#[derive(Clone, Copy, Debug)]
pub struct PeerInput<'a> {
    /// The policy.
    pub policy: &'a PeerAuthentication,
    /// Where it was read.
    pub entry: &'a Arc<Entry>,
}

/// `mtls.mode`, apart from `UNSET`. `DISABLE` is `PERMISSIVE`, since HBONE is always accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Permissive,
    Strict,
}

/// How narrowly a policy applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Mesh,
    Namespace,
    Workload,
}

/// What the policies demand of one workload (Istio `security/v1 PeerAuthentication`): of each level the oldest counts,
/// and what that leaves unset comes from the next wider level.
///
/// A policy that is broken or invalid makes every workload that it applies to refuse plaintext on all ports.
pub fn strict_ports<'a>(
    all: impl Iterator<Item = PeerInput<'a>>,
    namespace: &str,
    labels: &Labels,
    settings: &MeshSettings<'_>,
) -> (StrictPorts, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut broken = false;
    let mut applying: Vec<(Level, PeerInput<'a>)> = Vec::new();
    for input in all {
        let is_broken = super::broken(input.entry).is_some();
        let level = match level(input.policy, namespace, labels, settings.root_namespace) {
            Some(level) => level,
            // Not even its namespace could be read.
            None if is_broken && input.policy.metadata.namespace.is_empty() => Level::Mesh,
            None => continue,
        };
        let found = validate_peer(input.policy, input.entry);
        broken |=
            super::broken(input.entry).is_some() || found.iter().any(|one| one.severity == Severity::Error);
        problems.extend(found);
        applying.push((level, input));
    }
    if broken {
        return (
            StrictPorts {
                default: true,
                ports: Default::default(),
            },
            problems,
        );
    }
    applying.sort_by_cached_key(|(_, input)| {
        let metadata = &input.policy.metadata;
        let made = metadata.creation_timestamp.clone();
        // Without a time it is taken for new: it must not overrule what is known to be older.
        (made.is_none(), made, metadata.name.clone())
    });
    let mut strict = StrictPorts::default();
    for level in [Level::Mesh, Level::Namespace, Level::Workload] {
        let mut of_level = applying
            .iter()
            .filter(|(at, _)| *at == level)
            .map(|(_, input)| input);
        let Some(oldest) = of_level.next() else { continue };
        apply(oldest.policy, &mut strict);
        for younger in of_level {
            let text = format!("{} is older and applies instead", oldest.entry.reference());
            problems.push(
                younger
                    .entry
                    .problem(Severity::Warning, "", &text, "delete one of the two"),
            );
        }
    }
    (strict, problems)
}

fn level(policy: &PeerAuthentication, namespace: &str, labels: &Labels, root: &str) -> Option<Level> {
    let from = &*policy.metadata.namespace;
    let selector = policy
        .spec
        .selector
        .as_ref()
        .map(|selector| &selector.match_labels);
    match selector.filter(|labels| !labels.is_empty()) {
        None if from == root => Some(Level::Mesh),
        None => (from == namespace).then_some(Level::Namespace),
        Some(wanted) => {
            let selected = wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
            (selected && from == namespace && from != root).then_some(Level::Workload)
        }
    }
}

fn apply(policy: &PeerAuthentication, strict: &mut StrictPorts) {
    let mode = |mtls: &crate::config::istio::MutualTls| mode(mtls.mode.as_deref()).ok().flatten();
    if let Some(mode) = policy.spec.mtls.as_ref().and_then(mode) {
        strict.default = mode == Mode::Strict;
    }
    for (port, mtls) in &policy.spec.port_level_mtls {
        if let (Ok(port), Some(mode)) = (u16::try_from(*port), mode(mtls)) {
            strict.ports.insert(port, mode == Mode::Strict);
        }
    }
}

/// The mode that is written; `Ok(None)` for `UNSET`.
fn mode(text: Option<&str>) -> Result<Option<Mode>, &str> {
    match text {
        None | Some("" | "UNSET") => Ok(None),
        Some("DISABLE" | "PERMISSIVE") => Ok(Some(Mode::Permissive)),
        Some("STRICT") => Ok(Some(Mode::Strict)),
        Some(other) => Err(other),
    }
}

/// What is wrong with a PeerAuthentication, and what of it is not enforced.
pub fn validate_peer(policy: &PeerAuthentication, entry: &Entry) -> Vec<Problem> {
    let spec = &policy.spec;
    let mut problems = Vec::new();
    let mut error = |field: &str, text: &str, remedy: &str| {
        problems.push(entry.problem(Severity::Error, field, text, remedy));
    };
    let labels = spec.selector.as_ref().map(|selector| &selector.match_labels);
    if labels.is_some_and(|labels| {
        labels
            .iter()
            .any(|(key, value)| key.is_empty() || format!("{key}{value}").contains('*'))
    }) {
        let text = "a selector has neither empty keys nor wildcards";
        error("spec.selector.matchLabels", text, "write whole labels");
    }
    if !spec.port_level_mtls.is_empty() && labels.is_none_or(|labels| labels.is_empty()) {
        let text = "mesh/namespace peer authentication cannot have port level mTLS";
        error("spec.portLevelMtls", text, "add a selector");
    }
    if spec
        .port_level_mtls
        .keys()
        .any(|port| !(1..=65535).contains(port))
    {
        error(
            "spec.portLevelMtls",
            "a port is a number 1..65535",
            "write the workload's port",
        );
    }
    let of_ports = spec.port_level_mtls.iter();
    let modes = of_ports.map(|(port, mtls)| (format!("spec.portLevelMtls.{port}.mode"), mtls));
    for (field, mtls) in spec
        .mtls
        .iter()
        .map(|mtls| ("spec.mtls.mode".to_owned(), mtls))
        .chain(modes)
    {
        if let Err(other) = mode(mtls.mode.as_deref()) {
            let text = format!("unknown mode `{other}`");
            let remedy = "use UNSET, PERMISSIVE or STRICT";
            problems.push(entry.problem(Severity::Error, &field, &text, remedy));
        }
        if mtls.mode.as_deref() == Some("DISABLE") {
            let text = "DISABLE is ignored: HBONE is always accepted, so plaintext is permitted beside it";
            problems.push(entry.problem(Severity::Ignored, &field, text, "write PERMISSIVE"));
        }
    }
    problems
}
