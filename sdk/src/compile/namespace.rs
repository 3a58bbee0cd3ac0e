//! Labels and annotations of namespaces, and which namespaces a Gateway's listener admits.

use std::collections::HashMap;

use super::labels;
use crate::config::gateway::{AllowedRoutes, RouteNamespaces};
use crate::config::{Labels, ResourceStore};

/// The labels of every namespace that is declared; all others have only their name.
#[derive(Debug, Default)]
pub(crate) struct Namespaces<'a> {
    labels: HashMap<&'a str, &'a Labels>,
    annotations: HashMap<&'a str, &'a Labels>,
}

impl<'a> Namespaces<'a> {
    pub(crate) fn read(store: &'a ResourceStore) -> Self {
        let all = || {
            store
                .namespaces()
                .map(|(it, _)| (&*it.metadata.name, &it.metadata))
        };
        Self {
            labels: all().map(|(name, meta)| (name, &meta.labels)).collect(),
            annotations: all().map(|(name, meta)| (name, &meta.annotations)).collect(),
        }
    }

    /// An annotation of a namespace.
    pub(crate) fn annotation(&self, namespace: &str, key: &str) -> Option<&'a str> {
        self.annotations.get(namespace)?.get(key).map(String::as_str)
    }

    /// A label of a namespace.
    pub(crate) fn label(&self, namespace: &str, key: &str) -> Option<&'a str> {
        self.labels.get(namespace)?.get(key).map(String::as_str)
    }

    /// Whether `allowedRoutes` of a Gateway in namespace `home` admit what lives in `guest`. Absent means `Same`.
    pub(crate) fn admits(&self, allowed: Option<&AllowedRoutes>, home: &str, guest: &str) -> bool {
        let rule = allowed.and_then(|it| it.namespaces.as_ref());
        let from = rule.and_then(|it| it.from.as_deref()).unwrap_or("Same");
        self.fits(from, rule, home, guest)
    }

    /// Whether `allowedListeners` of a Gateway in namespace `home` admit a ListenerSet in `guest`. Absent means `None`.
    pub(crate) fn takes(&self, rule: Option<&RouteNamespaces>, home: &str, guest: &str) -> bool {
        let from = rule.and_then(|it| it.from.as_deref()).unwrap_or("None");
        self.fits(from, rule, home, guest)
    }

    fn fits(&self, from: &str, rule: Option<&RouteNamespaces>, home: &str, guest: &str) -> bool {
        match from {
            "Same" => home == guest,
            "All" => true,
            "Selector" => rule.and_then(|it| it.selector.as_ref()).is_some_and(|selector| {
                let mut labels = self.labels.get(guest).copied().cloned().unwrap_or_default();
                labels.insert(labels::NAMESPACE_NAME.to_owned(), guest.to_owned());
                selector.matches(&labels)
            }),
            _ => false,
        }
    }
}
