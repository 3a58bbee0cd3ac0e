//! What has been counted and measured outlives changes of anything but its own limit.

use std::sync::Arc;

use super::Bearer;
use crate::name::ResourceRef;
use crate::policy::limit::{LocalLimit, LocalPolicy};
use crate::snapshot::{LimiterKind, Shedding, SheddingPolicy};

impl Bearer<'_> {
    /// Adaptive limits: what they were, if nothing of them changed.
    pub(super) fn shedding(&self, by: &ResourceRef, policy: SheddingPolicy) -> Arc<Shedding> {
        let limiters = self.previous.into_iter().flat_map(|it| &it.limits.limiters);
        let before = limiters
            .filter(|(_, it)| it.by == *by)
            .find_map(|(_, it)| match &it.kind {
                LimiterKind::Adaptive(before) if *before.policy() == policy => Some(Arc::clone(before)),
                _ => None,
            });
        before.unwrap_or_else(|| Arc::new(Shedding::new(policy)))
    }

    /// A local limit: what it was, if nothing of it changed.
    pub(super) fn before(&self, by: &ResourceRef, policy: &LocalPolicy) -> Option<Arc<LocalLimit>> {
        let limits = &self.previous?.limits;
        let of_filters =
            limits
                .limiters
                .iter()
                .filter(|(_, it)| it.by == *by)
                .filter_map(|(_, it)| match &it.kind {
                    LimiterKind::Local(limit) => limit.as_ref(),
                    LimiterKind::Global(_) | LimiterKind::Adaptive(_) => None,
                });
        let of_routes = limits.settings.iter().filter_map(|it| it.local.as_ref());
        of_filters
            .chain(of_routes)
            .find(|it| it.policy() == policy)
            .cloned()
    }
}
