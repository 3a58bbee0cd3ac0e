//! Where a connection goes that is not HTTP: the route that takes it, and one of its backends.

use std::sync::Arc;

use super::{Destination, Reason, Refusal};
use crate::policy::connection::{ConnectionTable, Opening};
use crate::policy::route::ClusterId;
use crate::snapshot::Snapshot;

/// The cluster that a connection is led to: that of the route that takes it, or `otherwise` where there are no routes.
///
/// # Errors
/// [`Reason::NoRoute`] if there are routes and none takes it, [`Reason::Misconfigured`] if the share that it falls into
/// has no backend.
pub(crate) fn lead(
    view: &Snapshot,
    table: &ConnectionTable,
    otherwise: Option<ClusterId>,
    opening: Opening<'_>,
) -> Result<Destination, Refusal> {
    let none = || {
        Refusal::new(
            Reason::NoRoute,
            format!("no route takes a connection with {opening}"),
        )
    };
    let id = match table.is_empty() {
        true => otherwise.ok_or_else(none)?,
        false => {
            let rule = table.find(opening).ok_or_else(none)?;
            let (origin, label) = (&rule.origin.resource, &rule.origin.label);
            tracing::debug!(rule = &**label, %opening, "a route takes the connection");
            rule.pick(fastrand::u64(..))
                .map_err(|why| Refusal::new(Reason::Misconfigured, format!("{origin}: {why}")))?
        }
    };
    let cluster = view
        .cluster(id)
        .ok_or_else(|| Refusal::new(Reason::Misconfigured, "the route's cluster is gone"))?;
    Ok(Destination::Cluster(Arc::clone(cluster)))
}
