//! The listeners of a Gateway, as they come and go with the configuration.
//!
//! A port is bound once for all listeners that share it, and stays bound while any of them does: which listener serves, and
//! under which certificate, is looked up in the snapshot per connection (by server name) and per request (by host). So
//! listeners, certificates and routes change without a connection being lost.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::Shared;
use super::dispatch::pass_on;
use crate::compile::status::Unserved as Why;
use crate::layer::{Draining, Stage};
use crate::mesh::{Error, Mesh, Unserved};
use crate::name::{Host, Peer};
use crate::policy::connection::Heard;
use crate::server::{
    BoxFuture, Plain, bind, greet, hear, refuse, serve_http, serve_plain, terminate, usable,
};
use crate::snapshot::{ListenerView, Place, PortView, Snapshot};

/// How soon a port that could not be bound is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Binds what the Gateway listens on now, and follows its changes for as long as the mesh lives.
pub(super) fn follow(mesh: &Mesh, shared: Arc<Shared>, ports: HashMap<u16, u16>) -> Result<(), Error> {
    let draining = mesh.hold()?;
    let follower = Follower {
        shared,
        ports,
        ip: mesh.bind_ip(),
        bound: HashMap::new(),
        unserved: mesh.unserved(),
    };
    mesh.spawn(follower.run(draining));
    Ok(())
}

struct Follower {
    shared: Arc<Shared>,
    ports: HashMap<u16, u16>,
    ip: std::net::IpAddr,
    bound: HashMap<u16, Bound>,
    unserved: tokio::sync::watch::Sender<Unserved>,
}

/// A port that is bound; accepting ends when it is dropped, connections go on.
struct Bound(AbortHandle);

impl Drop for Bound {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follower {
    async fn run(mut self, draining: Draining) {
        let mut generations = self.shared.live.generations();
        let mut leaving = draining.clone();
        loop {
            let unserved = self.update(&draining).await;
            let again = !unserved.is_empty();
            self.tell(unserved);
            tokio::select! {
                changed = generations.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if again => {}
                () = leaving.reached(Stage::GoingAway) => return,
            }
        }
    }

    /// Binds what is wanted and not bound yet, and releases what is no longer wanted; returns what cannot be served.
    async fn update(&mut self, draining: &Draining) -> Unserved {
        let view = self.shared.live.pin();
        self.bound.retain(|port, _| view.gateway.port(*port).is_some());
        let mut unserved = Unserved::new();
        for (port, _) in view.gateway.ports() {
            if !self.bound.contains_key(&port)
                && let Err(error) = self.bind(port, draining).await
            {
                let listeners = view.gateway.listeners().filter(|it| it.port == port);
                unserved.extend(listeners.map(|it| (Arc::clone(&it.name), Why::Port(error.to_string()))));
            }
        }
        for listener in view.gateway.listeners() {
            if let Some(tls) = &listener.tls
                && let Err(error) = usable(tls)
            {
                unserved.insert(Arc::clone(&listener.name), Why::Tls(error.to_string()));
            }
        }
        unserved
    }

    async fn bind(&mut self, port: u16, draining: &Draining) -> std::io::Result<()> {
        let addr = SocketAddr::new(self.ip, self.ports.get(&port).copied().unwrap_or(port));
        let listener = bind(addr).await?;
        tracing::info!(%addr, port, "listening");
        let shared = Arc::clone(&self.shared);
        let plain = Plain {
            listener,
            serve: Arc::new(move |stream, peer, draining| {
                let shared = Arc::clone(&shared);
                Box::pin(serve(shared, port, stream, peer, draining)) as BoxFuture<'static, ()>
            }),
        };
        let task = tokio::spawn(serve_plain(plain, draining.clone()));
        self.bound.insert(port, Bound(task.abort_handle()));
        Ok(())
    }

    /// Says once what cannot be served, not with every attempt.
    fn tell(&self, unserved: Unserved) {
        self.unserved.send_if_modified(|known| {
            for (listener, why) in unserved
                .iter()
                .filter(|(name, why)| known.get(*name) != Some(*why))
            {
                tracing::error!(%listener, %why, "a listener of the Gateway cannot be served");
            }
            let changed = *known != unserved;
            *known = unserved;
            changed
        });
    }
}

/// Serves one connection to a port, as the port is when the connection comes.
async fn serve(shared: Arc<Shared>, port: u16, stream: TcpStream, peer: Arc<Peer>, draining: Draining) {
    let view = shared.live.pin();
    match view.gateway.port(port) {
        // Gone while the connection waited to be accepted.
        None => {}
        Some(port_view @ PortView { secure: false, .. }) => {
            let raw = port_view.listener("").filter(|it| it.connections.is_some());
            let place = raw.map(|it| Place::clone(&it.place));
            drop(view);
            if let Some(place) = place {
                return pass_on(&shared, stream, place, peer, &Heard::Plain, draining).await;
            }
            let place = Arc::new(Place::Port { port, admitted: None });
            let stack = shared.stack(peer, place, &draining);
            serve_http(stream, stack, draining).await;
        }
        Some(_) => {
            drop(view);
            if let Err(error) = serve_secure(&shared, port, stream, &peer, draining).await {
                tracing::debug!(%error, port, from = %peer.addr, "no TLS connection came about");
            }
        }
    }
}

async fn serve_secure(
    shared: &Shared,
    port: u16,
    stream: TcpStream,
    peer: &Peer,
    draining: Draining,
) -> std::io::Result<()> {
    let passes = shared.live.pin().gateway.port(port).is_some_and(|it| it.passes);
    let (server_name, stream) = if passes {
        // Whether we would understand all that a client says is no matter where it does not speak to us.
        match hear(stream).await? {
            (Heard::Tls(name), stream) => (name, stream),
            _ => return Err(std::io::Error::other("no TLS is spoken")),
        }
    } else {
        greet(stream).await?
    };
    let Some(listener) = listener(&shared.live.pin(), port, server_name.as_ref()) else {
        refuse(stream).await;
        return Err(std::io::Error::other(
            "no listener has the server name that was asked for",
        ));
    };
    if listener.connections.is_some() {
        let (place, peer) = (Place::clone(&listener.place), Arc::new(peer.clone()));
        let heard = Heard::Tls(server_name);
        match &listener.tls {
            None => pass_on(shared, stream, place, peer, &heard, draining).await,
            Some(terms) => {
                let stream = terminate(terms, stream).await?;
                pass_on(shared, stream, place, peer, &heard, draining).await;
            }
        }
        return Ok(());
    }
    let Some(terms) = listener.tls.clone() else {
        return Err(std::io::Error::other("the listener does not speak TLS"));
    };
    let place = Arc::new(Place::Port {
        port,
        admitted: terms.clients.clone(),
    });
    let stream = terminate(&terms, stream).await?;
    let peer = Arc::new(peer.clone().greeted(server_name));
    let stack = shared.stack(peer, place, &draining);
    serve_http(stream, stack, draining).await;
    Ok(())
}

/// The listener that a client asks for.
fn listener(view: &Snapshot, port: u16, name: Option<&Host>) -> Option<Arc<ListenerView>> {
    let listener = view.gateway.port(port)?.listener(name.map_or("", Host::as_str))?;
    Some(Arc::clone(listener))
}
