//! Listeners outside tunnels: an application's own port, and a Gateway's HTTP listeners.
//!
//! ```text
//! application's port ─ first byte ─┬ TLS        mutual TLS: whoever proves an identity of the mesh comes in under it
//!                                  └ otherwise  plaintext: served where PeerAuthentication permits, else reset
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::mutual::MutualTls;
use super::serve::{Accepting, BoxFuture, Stream};
use super::{Draining, Stage};
use crate::name::Peer;
use crate::snapshot::Live;

/// Serves one connection.
pub(crate) type ServeOne<I> = Arc<dyn Fn(I, Arc<Peer>, Draining) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a plain listener is made of.
pub(crate) struct Plain {
    pub(crate) listener: TcpListener,
    pub(crate) serve: ServeOne<TcpStream>,
}

/// What the listener of an application's own port is made of.
pub(crate) struct Own {
    pub(crate) listener: TcpListener,
    pub(crate) live: Arc<Live>,
    pub(crate) port: u16,
    pub(crate) mutual: Arc<MutualTls>,
    pub(crate) serve: ServeOne<Box<dyn Stream>>,
}

/// Accepts plain connections until going away.
pub(crate) async fn serve_plain(plain: Plain, draining: Draining) {
    let Plain { listener, serve } = plain;
    let local = listener.local_addr().ok();
    let mut accepting = Accepting::new(listener, draining.clone());
    while let Some((stream, from)) = accepting.next().await {
        let peer = Arc::new(Peer::new(None, from, local_of(&stream, local)));
        tokio::spawn(serve(stream, peer, draining.clone()));
    }
}

/// Accepts connections to an application's own port until going away.
pub(crate) async fn serve_own(own: Own, draining: Draining) {
    let Own {
        listener,
        live,
        port,
        mutual,
        serve,
    } = own;
    let local = listener.local_addr().ok();
    let mut accepting = Accepting::new(listener, draining.clone());
    while let Some((stream, from)) = accepting.next().await {
        let local = local_of(&stream, local);
        let (live, mutual, serve) = (Arc::clone(&live), Arc::clone(&mutual), Arc::clone(&serve));
        let draining = draining.clone();
        tokio::spawn(async move {
            let is_strict = || live.pin().is_strict(port);
            let mut leaving = draining.clone();
            let is_tls = tokio::select! {
                is_tls = MutualTls::begins(&stream, is_strict()) => is_tls,
                // Nothing has been asked yet.
                () = leaving.reached(Stage::GoingAway) => return,
            };
            let (stream, peer): (Box<dyn Stream>, _) = match is_tls {
                Ok(true) => match mutual.accept(stream, from, local).await {
                    Ok((stream, peer)) => (Box::new(stream), peer),
                    Err(error) => {
                        tracing::debug!(%error, addr = %from, port, "no mutual TLS came about");
                        return;
                    }
                },
                // What is asked after the first byte is what is demanded now.
                Ok(false) if !is_strict() => (Box::new(stream), Peer::new(None, from, local)),
                Err(_) if !is_strict() => return,
                Ok(false) | Err(_) => {
                    tracing::info!(
                        target: "inmesh::denied",
                        addr = %from, port, why = "PeerAuthentication STRICT: this port takes mutual TLS only",
                        "plaintext refused",
                    );
                    refuse(stream);
                    return;
                }
            };
            serve(stream, Arc::new(peer), draining).await;
        });
    }
}

fn local_of(stream: &TcpStream, listener: Option<SocketAddr>) -> SocketAddr {
    let local = stream.local_addr().ok().or(listener);
    local.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
}

/// Closes with a reset, so that the caller's connect or first read fails at once.
fn refuse(stream: TcpStream) {
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(std::time::Duration::ZERO)).ok();
}
