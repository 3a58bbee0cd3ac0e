//! A policy that cannot be enforced as written: what is left of it, read so that it covers at least its target.

use serde::de::DeserializeOwned;

use super::gateway::BackendTLSPolicy;
use super::istio::{AuthorizationPolicy, DestinationRule, PeerAuthentication, RequestAuthentication};
use super::node::Node;
use super::{ObjectMeta, Resource, typed};
use crate::name::Kind;

/// The policy's name and target as far as they can be read exactly; a target in doubt is left out, which makes
/// the policy apply to its whole namespace. Rules are left out.
pub(super) fn remains(kind: Kind, node: &Node) -> Resource {
    let mut resource = blank(kind, metadata(node));
    let spec = node.get("spec");
    let selector = || spec.and_then(|spec| exactly(spec.get("selector")?));
    let target_ref = || spec.and_then(|spec| exactly(spec.get("targetRef")?));
    let target_refs = || {
        spec.and_then(|spec| exactly(spec.get("targetRefs")?))
            .unwrap_or_default()
    };
    match &mut resource {
        Resource::AuthorizationPolicy(policy) => {
            policy.spec.selector = selector();
            policy.spec.target_ref = target_ref();
            policy.spec.target_refs = target_refs();
            policy.spec.action = spec.and_then(|spec| exactly(spec.get("action")?));
        }
        Resource::RequestAuthentication(policy) => {
            policy.spec.selector = selector();
            policy.spec.target_ref = target_ref();
            policy.spec.target_refs = target_refs();
        }
        Resource::PeerAuthentication(policy) => policy.spec.selector = selector(),
        Resource::DestinationRule(rule) => {
            let host = spec.and_then(|spec| exactly(spec.get("host")?));
            rule.spec.host = host.unwrap_or_default();
            rule.spec.export_to = spec
                .and_then(|spec| exactly(spec.get("exportTo")?))
                .unwrap_or_default();
            rule.spec.workload_selector = spec.and_then(|spec| exactly(spec.get("workloadSelector")?));
        }
        Resource::BackendTLSPolicy(policy) => {
            policy.spec.target_refs = spec
                .and_then(|spec| exactly(spec.get("targetRefs")?))
                .unwrap_or_default();
        }
        _ => {}
    }
    resource
}

/// A policy of which nothing is known but this.
pub(super) fn blank(kind: Kind, metadata: ObjectMeta) -> Resource {
    match kind {
        Kind::PeerAuthentication => Resource::PeerAuthentication(PeerAuthentication {
            metadata,
            ..Default::default()
        }),
        Kind::BackendTLSPolicy => Resource::BackendTLSPolicy(BackendTLSPolicy {
            metadata,
            ..Default::default()
        }),
        Kind::DestinationRule => Resource::DestinationRule(DestinationRule {
            metadata,
            ..Default::default()
        }),
        Kind::RequestAuthentication => Resource::RequestAuthentication(RequestAuthentication {
            metadata,
            ..Default::default()
        }),
        _ => Resource::AuthorizationPolicy(AuthorizationPolicy {
            metadata,
            ..Default::default()
        }),
    }
}

/// Whether what cannot be read as a whole must be kept all the same: a policy, and a DestinationRule that speaks of TLS,
/// without which its host would be sent in the clear what is meant for TLS.
pub(super) fn must_stay(kind: Kind, node: &Node) -> bool {
    kind.is_security() || (kind == Kind::DestinationRule && node.mentions("tls"))
}

/// The metadata, or at least name and namespace.
pub(super) fn metadata(node: &Node) -> ObjectMeta {
    let Some(node) = node.get("metadata") else {
        return ObjectMeta::default();
    };
    let (metadata, _) = typed::read::<ObjectMeta>(node, "metadata");
    metadata.unwrap_or_else(|_| ObjectMeta {
        name: node.get("name").and_then(Node::as_str).unwrap_or_default().into(),
        namespace: node
            .get("namespace")
            .and_then(Node::as_str)
            .unwrap_or_default()
            .into(),
        ..ObjectMeta::default()
    })
}

/// The value, if all of it was understood.
fn exactly<T: DeserializeOwned>(node: &Node) -> Option<T> {
    let (value, remarks) = typed::read(node, "");
    value.ok().filter(|_| remarks.unknown.is_empty())
}
