//! The HBONE listener: tunnels in, one task per CONNECT.

use std::sync::Arc;

use http::StatusCode;
use tokio::net::TcpListener;

use super::serve::{Accepting, BoxFuture};
use super::{Draining, Stage};
use crate::hbone::{Acceptor, Authority, Incoming, TunnelStream};
use crate::name::Peer;

/// What a CONNECT asks for, as its answerer sees it.
pub(crate) struct Arrival {
    pub(crate) authority: Authority,
    pub(crate) peer: Arc<Peer>,
}

/// Decides about CONNECTs: who may pass, and what answers them.
pub(crate) trait Dispatch: Send + Sync + 'static {
    /// What will serve the stream, or the status and reason of the refusal. May connect onwards first, so that 200
    /// means that somebody is there.
    fn admit(self: Arc<Self>, arrival: Arrival, draining: Draining) -> BoxFuture<'static, Admission>;

    /// The `baggage` of the 200.
    fn baggage(&self) -> Option<http::HeaderValue>;
}

/// The answer to a CONNECT: what serves it, or why not.
pub(crate) type Admission = Result<Serve, (StatusCode, String)>;

/// Serves an accepted stream.
pub(crate) type Serve = Box<dyn FnOnce(TunnelStream) -> BoxFuture<'static, ()> + Send>;

/// Accepts tunnels until draining has ended.
pub(crate) async fn serve_hbone(
    listener: TcpListener,
    acceptor: Acceptor,
    dispatch: Arc<dyn Dispatch>,
    draining: Draining,
) {
    let acceptor = Arc::new(acceptor);
    let mut accepting = Accepting::new(listener, draining.clone());
    while let Some((stream, from)) = accepting.next().await {
        let (acceptor, dispatch, draining) = (Arc::clone(&acceptor), Arc::clone(&dispatch), draining.clone());
        tokio::spawn(async move {
            match acceptor.handshake(stream).await {
                Ok(inbound) => tunnel(inbound, dispatch, draining).await,
                Err(error) => {
                    tracing::debug!(%from, error = %crate::layer::chain(&error), "tunnel refused");
                }
            }
        });
    }
}

async fn tunnel(mut inbound: crate::hbone::Inbound, dispatch: Arc<dyn Dispatch>, draining: Draining) {
    let mut going_away = draining.clone();
    let mut over = draining.clone();
    // As long as it is held no idle connection in the streams is closed: the peer may just be using one.
    let mut untold = Some(draining.untold());
    let age = inbound.max_age();
    let mut old = std::pin::pin!(async {
        match age {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
    });
    loop {
        let incoming = tokio::select! {
            incoming = inbound.next() => incoming,
            () = &mut old, if untold.is_some() => {
                inbound.graceful_shutdown(untold.take());
                continue;
            }
            () = going_away.reached(Stage::GoingAway), if untold.is_some() => {
                inbound.graceful_shutdown(untold.take());
                continue;
            }
            () = over.reached(Stage::Over) => return,
        };
        let Some(incoming) = incoming else { return };
        tokio::spawn(answer(incoming, Arc::clone(&dispatch), draining.clone()));
    }
}

async fn answer(incoming: Incoming, dispatch: Arc<dyn Dispatch>, draining: Draining) {
    let arrival = Arrival {
        authority: incoming.authority.clone(),
        peer: Arc::clone(&incoming.peer),
    };
    let (authority, peer) = (arrival.authority.clone(), Arc::clone(&arrival.peer));
    let baggage = dispatch.baggage();
    match dispatch.admit(arrival, draining).await {
        Ok(serve) => match incoming.accept(baggage) {
            Ok(stream) => serve(stream).await,
            Err(error) => tracing::debug!(%error, "the caller left before it was answered"),
        },
        Err((status, why)) => {
            tracing::info!(
                target: "inmesh::denied",
                status = status.as_u16(), %authority, peer = ?peer.identity, addr = %peer.addr, %why, "CONNECT refused",
            );
            incoming.refuse(status);
        }
    }
}
