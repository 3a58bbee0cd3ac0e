//! Plain listeners: an application's own port where plaintext is allowed, and a Gateway's HTTP listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::Draining;
use super::serve::{Accepting, BoxFuture};
use crate::name::Peer;
use crate::snapshot::{Live, Place};

/// What a plain listener is made of.
pub(crate) struct Plain {
    pub(crate) listener: TcpListener,
    pub(crate) live: Arc<Live>,
    pub(crate) place: Arc<Place>,
    /// Serves one connection.
    pub(crate) serve: Arc<dyn Fn(TcpStream, Arc<Peer>, Draining) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// Accepts plain connections until going away. Where `PeerAuthentication` demands mutual TLS, or no configuration has
/// been loaded, a connection is closed before a byte of it is read.
pub(crate) async fn serve_plain(plain: Plain, draining: Draining) {
    let Plain {
        listener,
        live,
        place,
        serve,
    } = plain;
    let local = listener.local_addr().ok();
    let mut accepting = Accepting::new(listener, draining.clone());
    while let Some((stream, from)) = accepting.next().await {
        if let Place::Workload { port } = *place
            && live.pin().is_strict(port)
        {
            tracing::info!(
                target: "inmesh::denied",
                addr = %from, port, why = "PeerAuthentication STRICT: this port takes mutual TLS only (HBONE)",
                "plaintext refused",
            );
            refuse(stream);
            continue;
        }
        let local = stream
            .local_addr()
            .ok()
            .or(local)
            .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        let peer = Arc::new(Peer::new(None, from, local));
        tokio::spawn(serve(stream, peer, draining.clone()));
    }
}

/// Closes with a reset, so that the caller's connect or first read fails at once.
fn refuse(stream: TcpStream) {
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(std::time::Duration::ZERO)).ok();
}
