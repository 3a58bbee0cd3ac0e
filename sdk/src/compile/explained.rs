//! To whom this process shows why it decided: the annotation `inmesh.io/explain-to`.
//!
//! On a Gateway it is about the waypoint (or ingress) that the Gateway is, on a Pod about that workload, and on a Namespace
//! about all of these in it that say nothing themselves. Its value lists principals as an AuthorizationPolicy writes them.
//! An entry that is not understood trusts nobody.

use std::sync::Arc;

use super::inbound::Own;
use super::labels;
use super::namespace::Namespaces;
use crate::config::{Entry, Labels, Problem, Resource, ResourceStore, Severity};
use crate::matcher::TextSet;
use crate::name::ResourceRef;
use crate::snapshot::Node;

/// Everything that carries our own annotations.
pub(crate) struct Explained<'s, 'a> {
    pub(crate) store: &'a ResourceStore,
    pub(crate) namespaces: &'s Namespaces<'a>,
}

impl Explained<'_, '_> {
    /// Whom a process trusts so, the one that `gateway` or else `own` says it is.
    pub(crate) fn to(&self, node: &Node, gateway: Option<&ResourceRef>, own: &Own) -> TextSet {
        let (object, namespace) = match gateway {
            Some(gateway) => (self.store.get(gateway), &*gateway.namespace),
            None => (own.member.as_ref().map(|it| &it.entry), &*node.namespace),
        };
        let own = object.and_then(|entry| annotations(&entry.resource).get(labels::EXPLAIN_TO));
        let value = own
            .map(String::as_str)
            .or_else(|| self.namespaces.annotation(namespace, labels::EXPLAIN_TO));
        TextSet::parse(entries(value.unwrap_or_default()).filter(|entry| amiss(entry).is_none()))
    }
}

/// What is wrong with a value.
pub(super) fn judge(entry: &Arc<Entry>, field: &str, value: &str, problems: &mut Vec<Problem>) {
    for (part, remedy) in entries(value).filter_map(|part| Some((part, amiss(part)?))) {
        let text = format!("`{part}` names nobody who can be trusted with decisions, so it is passed over");
        problems.push(entry.problem(Severity::Warning, field, text, remedy));
    }
}

/// Where a Pod has none of its own, its Deployment's template has none either: the API server copies them.
fn annotations(resource: &Resource) -> &Labels {
    &resource.metadata().annotations
}

fn entries(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// What to do about an entry that is no principal, nor all principals of a namespace or trust domain. Looser patterns
/// (`*`, `*/sa/x`, `td/ns/a*`) are refused: what decisions tell is for people whom somebody thought of.
fn amiss(entry: &str) -> Option<&'static str> {
    const FORM: &str = "write TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT, or TRUST-DOMAIN/ns/NAMESPACE/*";
    if entry.starts_with("spiffe://") {
        return Some("leave out spiffe://, as in an AuthorizationPolicy");
    }
    let steps: Vec<&str> = entry.split('/').collect();
    fn is_plain(step: &&str) -> bool {
        !step.is_empty() && !step.contains('*')
    }
    let fits = match steps.as_slice() {
        [domain, "ns", namespace, "sa", account] => [domain, namespace, account].into_iter().all(is_plain),
        [domain, "ns", namespace, "*"] => [domain, namespace].into_iter().all(is_plain),
        _ => false,
    };
    (!fits).then_some(FORM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_are_trusted_whom_somebody_thought_of() {
        for (entry, fine) in [
            ("cluster.local/ns/ops/sa/debug", true),
            ("cluster.local/ns/ops/*", true),
            ("*", false),
            ("*/ns/ops/sa/debug", false),
            ("cluster.local/*", false),
            ("cluster.local/ns/ops*", false),
            ("cluster.local/ns/ops/sa/*", false),
            ("cluster.local/ns/ops/sa/d*", false),
            ("cluster.local/ns//sa/debug", false),
            ("spiffe://cluster.local/ns/ops/sa/debug", false),
            ("debug", false),
        ] {
            assert_eq!(amiss(entry).is_none(), fine, "{entry}");
        }
        assert_eq!(entries(" a, b,,c ").collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
