//! Where certificates are: Secrets and ConfigMaps, and which of them may be referred to from where.

use crate::compile::backends::Grants;
use crate::config::ResourceStore;
use crate::config::core::{ConfigMap, Secret};
use crate::config::gateway::ObjectReference;
use crate::name::{Kind, ResourceRef};

use super::listener::Fault;

/// What references to certificates are looked up in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Material<'s> {
    pub(crate) store: &'s ResourceStore,
    pub(crate) grants: &'s Grants<'s>,
}

/// How the reasons of a kind of reference are called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reasons {
    /// It leads nowhere.
    pub(super) missing: &'static str,
    /// It leads to what cannot be used.
    pub(super) kind: &'static str,
}

impl<'s> Material<'s> {
    /// The Secret that a Gateway or ListenerSet refers to.
    pub(super) fn secret(
        &self,
        from: &ResourceRef,
        to: &ObjectReference,
        reasons: Reasons,
    ) -> Result<&'s Secret, Fault> {
        let (namespace, name) = self.permitted(from, to, Kind::Secret, reasons)?;
        let found = self.store.secret(namespace, name);
        found
            .map(|(secret, _)| secret)
            .ok_or_else(|| missing(Kind::Secret, namespace, name, reasons))
    }

    /// The ConfigMap that a Gateway refers to.
    pub(super) fn config_map(
        &self,
        from: &ResourceRef,
        to: &ObjectReference,
        reasons: Reasons,
    ) -> Result<&'s ConfigMap, Fault> {
        let (namespace, name) = self.permitted(from, to, Kind::ConfigMap, reasons)?;
        let found = self.store.config_map(namespace, name);
        found
            .map(|(map, _)| map)
            .ok_or_else(|| missing(Kind::ConfigMap, namespace, name, reasons))
    }

    /// Namespace and name of what is referred to, if it is of the kind and may be referred to.
    fn permitted<'r>(
        &self,
        from: &'r ResourceRef,
        to: &'r ObjectReference,
        kind: Kind,
        reasons: Reasons,
    ) -> Result<(&'r str, &'r str), Fault> {
        let (group, written) = (to.group.as_deref().unwrap_or_default(), to.kind.as_deref());
        if !matches!(group, "" | "core") || written.unwrap_or(Kind::Secret.as_str()) != kind.as_str() {
            let text = format!(
                "{} `{}` cannot be used here: only a {kind}",
                written.unwrap_or("Secret"),
                to.name
            );
            return Err(Fault::new(reasons.kind, text));
        }
        let own = &*from.namespace;
        let namespace = to.namespace.as_deref().unwrap_or(own);
        if namespace != own && !self.grants.admit(from, kind, namespace, &to.name) {
            let text = format!(
                "no ReferenceGrant in {namespace} lets {}s of {own} refer to {kind} {}",
                from.kind, to.name
            );
            return Err(Fault::new("RefNotPermitted", text));
        }
        Ok((namespace, &to.name))
    }
}

fn missing(kind: Kind, namespace: &str, name: &str, reasons: Reasons) -> Fault {
    Fault::new(
        reasons.missing,
        format!("{kind} {namespace}/{name} does not exist"),
    )
}
