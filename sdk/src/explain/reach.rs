//! Where the next hop of a request is to be looked for: what following it through the mesh takes, as the command does.

use std::sync::Arc;

use super::Question;
use super::hop::nowhere;
use crate::name::SpiffeId;
use crate::policy::connection::Opening;
use crate::policy::route::{self, Action};
use crate::snapshot::{Cluster, Place, Snapshot, Way};

impl Question {
    /// What the caller dials.
    pub(crate) fn dialled(&self) -> &str {
        &self.dialled
    }

    /// Who sends it.
    pub(crate) fn sender(&self) -> Option<&SpiffeId> {
        self.from.as_ref()
    }
}

/// Who can get a request from `place`: the cluster of every backend that has a share.
pub(crate) fn clusters(
    view: &Snapshot,
    place: Option<&Place>,
    question: &Question,
    peer: Option<&SpiffeId>,
) -> Vec<Arc<Cluster>> {
    let Ok(way) = view.way(place, &question.dialled, Some(&question.scheme)) else {
        return Vec::new();
    };
    if let Some(opens) = &question.opens {
        return match backends(way, opens.as_opening()) {
            Ok(backends) => shares(view, backends),
            Err(otherwise) => otherwise
                .and_then(|id| view.cluster(id))
                .cloned()
                .into_iter()
                .collect(),
        };
    }
    let Ok(target) = question.target(view.paths) else {
        return Vec::new();
    };
    let (table, port) = match way {
        Way::Service(_, port) if port.routes.is_empty() => {
            return view.cluster(port.cluster).cloned().into_iter().collect();
        }
        Way::Service(_, port) => (&port.routes, port.number),
        Way::Listener(listener) => (&listener.routes, listener.port),
        Way::Pod(_) => return Vec::new(),
    };
    let found = table.find(&target.head(peer, nowhere(port)));
    match found
        .and_then(|found| table.rule(found.rule))
        .map(|rule| &rule.action)
    {
        Some(Action::Forward(backends)) => shares(view, backends),
        _ => Vec::new(),
    }
}

/// Of what leads to the next hop: the backends of the rule that takes the connection, or where it goes without one.
fn backends<'s>(way: Way<'s>, opening: Opening<'_>) -> Result<&'s route::Backends, Option<route::ClusterId>> {
    let (table, otherwise) = match way {
        Way::Service(_, port) => (&*port.connections, Some(port.cluster)),
        Way::Listener(listener) => match &listener.connections {
            Some(passed) => (&passed.routes, None),
            None => return Err(None),
        },
        Way::Pod(_) => return Err(None),
    };
    if table.is_empty() {
        return Err(otherwise);
    }
    table
        .find(opening)
        .and_then(|rule| rule.backends.as_ref().ok())
        .ok_or(None)
}

fn shares(view: &Snapshot, backends: &route::Backends) -> Vec<Arc<Cluster>> {
    let cluster = |it: &route::Backend| match it.cluster {
        route::Target::Cluster(id) if it.weight > 0 => view.cluster(id).cloned(),
        _ => None,
    };
    backends.iter().filter_map(cluster).collect()
}
