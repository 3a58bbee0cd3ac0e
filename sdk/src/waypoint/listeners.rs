//! The plain HTTP listeners of a Gateway, as they come and go with the configuration.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::AbortHandle;

use super::Shared;
use crate::layer::Draining;
use crate::mesh::{Error, Mesh};
use crate::server::{BoxFuture, Plain, bind, serve_http, serve_plain};
use crate::snapshot::Place;

/// Binds what the Gateway listens on now, and follows its changes for as long as the mesh lives.
pub(super) fn follow(mesh: &Mesh, shared: Arc<Shared>, ports: HashMap<u16, u16>) -> Result<(), Error> {
    let draining = mesh.hold()?;
    let follower = Follower {
        shared,
        ports,
        ip: mesh.bind_ip(),
        bound: HashMap::new(),
    };
    mesh.spawn(follower.run(draining));
    Ok(())
}

struct Follower {
    shared: Arc<Shared>,
    ports: HashMap<u16, u16>,
    ip: std::net::IpAddr,
    bound: HashMap<u16, Bound>,
}

/// A listener that stands; accepting ends when it is dropped, connections go on.
struct Bound {
    name: Arc<str>,
    task: AbortHandle,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    async fn run(mut self, draining: Draining) {
        let mut generations = self.shared.live.generations();
        let mut leaving = draining.clone();
        loop {
            self.update(&draining).await;
            tokio::select! {
                changed = generations.changed() => if changed.is_err() { return },
                () = leaving.reached(crate::layer::Stage::GoingAway) => return,
            }
        }
    }

    async fn update(&mut self, draining: &Draining) {
        let view = self.shared.live.pin();
        let mut wanted: HashMap<u16, Arc<str>> = HashMap::new();
        for listener in &view.listeners {
            match wanted.get(&listener.port) {
                None => {
                    wanted.insert(listener.port, Arc::clone(&listener.name));
                }
                Some(first) => tracing::warn!(
                    listener = %listener.name, port = listener.port, %first,
                    "not served: another listener of the Gateway has this port",
                ),
            }
        }
        self.bound
            .retain(|port, bound| wanted.get(port) == Some(&bound.name));
        for (port, name) in wanted {
            if self.bound.contains_key(&port) {
                continue;
            }
            let addr = SocketAddr::new(self.ip, self.ports.get(&port).copied().unwrap_or(port));
            match bind(addr).await {
                Ok(listener) => {
                    tracing::info!(%addr, listener = %name, port, "listening");
                    let task = tokio::spawn(serve_plain(self.plain(listener, &name), draining.clone()));
                    self.bound.insert(
                        port,
                        Bound {
                            name,
                            task: task.abort_handle(),
                        },
                    );
                }
                Err(error) => {
                    tracing::error!(%error, listener = %name, "a listener of the Gateway cannot be served")
                }
            }
        }
    }

    fn plain(&self, listener: tokio::net::TcpListener, name: &Arc<str>) -> Plain {
        let place = Arc::new(Place::Listener {
            name: Arc::clone(name),
        });
        let shared = Arc::clone(&self.shared);
        let at = Arc::clone(&place);
        Plain {
            listener,
            live: Arc::clone(&self.shared.live),
            place,
            serve: Arc::new(move |stream, peer, draining| {
                let stack = shared.stack(peer, Arc::clone(&at), &draining);
                Box::pin(serve_http(stream, stack, draining)) as BoxFuture<'static, ()>
            }),
        }
    }
}
