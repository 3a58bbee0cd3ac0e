//! The stand-alone waypoint: the inbound stack with the outbound stack behind it, and nothing else.
//!
//! ```text
//! HBONE :15008 ─ Observe ─ Authorize ─ Route ─ Retry ─ Balance ─ Upstream
//! ```
//!
//! The same layers as in a library, the same snapshot; only the two ends differ. The same process also serves the HTTP
//! listeners of an ordinary Gateway in front of the outbound stack.

#[cfg(feature = "cli")]
pub mod cli;
mod dispatch;
mod listeners;
mod sniff;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{PodDirectory, Upstream};
use crate::layer::{Asker, Draining, Origin, stack};
use crate::mesh::{Error, Mesh};
use crate::name::Peer;
use crate::server::Incoming;
use crate::snapshot::Place;

/// The inbound stack with the outbound stack behind it.
type Stack = stack::Inbound<stack::Forward<PodDirectory, Upstream>>;

/// A running waypoint (or gateway). The mesh it was made of must have [`Role::Gateway`](crate::snapshot::Role::Gateway).
#[derive(Clone, Debug)]
pub struct Waypoint {
    mesh: Mesh,
}

impl Waypoint {
    /// Starts to serve: HBONE on 15008, and the HTTP listeners of its Gateway, if it has any, as they come and go.
    /// `ports` maps a listener's port to the port that is really bound, where the two differ.
    ///
    /// # Errors
    /// If 15008 cannot be bound. A listener that cannot be bound later is reported and tried again with the next
    /// configuration.
    pub async fn start(mesh: Mesh, ports: HashMap<u16, u16>) -> Result<Self, Error> {
        let shared = Arc::new(Shared::of(&mesh));
        let dispatch = dispatch::WaypointDispatch::new(Arc::clone(&shared));
        mesh.listen_hbone(Arc::new(dispatch)).await?;
        listeners::follow(&mesh, shared, ports)?;
        Ok(Self { mesh })
    }

    /// The mesh participant that the waypoint is.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Stops without losing a request; see [`Mesh::shutdown`].
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.mesh.shutdown(grace).await
    }
}

/// What every connection of a waypoint needs.
struct Shared {
    live: Arc<crate::snapshot::Live>,
    meter: crate::telemetry::Meter,
    wire: crate::client::Wire,
    directory: PodDirectory,
    forward: stack::Forward<PodDirectory, Upstream>,
    asker: Asker,
}

impl Shared {
    fn of(mesh: &Mesh) -> Self {
        let forward = stack::forward(
            mesh.meter().clone(),
            mesh.retry(),
            mesh.directory().clone(),
            Some(mesh.asker()),
            Upstream::new(mesh.wire().clone()),
        );
        Self {
            live: Arc::clone(mesh.live()),
            meter: mesh.meter().clone(),
            wire: mesh.wire().clone(),
            directory: mesh.directory().clone(),
            forward,
            asker: Asker::new(mesh.client()),
        }
    }

    /// A connection that is not HTTP.
    fn incoming(&self, place: Place, peer: Arc<Peer>) -> Incoming {
        Incoming {
            place,
            peer,
            live: Arc::clone(&self.live),
            meter: self.meter.clone(),
            asker: self.asker.clone(),
        }
    }

    /// The stack for one connection.
    fn stack(&self, peer: Arc<Peer>, place: Arc<Place>, draining: &Draining) -> Stack {
        let origin = Origin::new(
            Arc::clone(&self.live),
            self.meter.clone(),
            peer,
            place,
            draining.clone(),
        )
        .asking(self.asker.clone());
        stack::inbound(Arc::new(origin), self.forward.clone())
    }
}
