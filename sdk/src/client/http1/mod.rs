//! Inner HTTP/1.1 connections, each for one request at a time.
//!
//! ```text
//!                       ┌─ Direct   a request that is at hand, over a stream of a tunnel: written and read here
//! a connection is one of┤
//!                       └─ Driven   everything else: bodies that stream, upgrades, TLS, TCP: hyper's
//! ```
//!
//! Most requests of a mesh are the first kind, and hyper's generality (a driver, a handle, three channels and a read buffer
//! between them) costs more than the exchange itself: the tunnel hands over what came as it lies in memory, and takes what
//! goes in one piece. A connection begins direct and becomes driven with the first request that needs it.

mod body;
mod direct;
mod driven;
mod framing;
mod head;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use http::{Request, Response};

use self::direct::Direct;
use self::driven::Driven;
use super::connection::{Io, SendError, Way};
use super::lane::{Lane, Terms};
use crate::layer::{Interim, MeshBody};
use crate::policy::balance::Endpoint;
use crate::policy::traffic::TrafficPolicy;

/// An HTTP/1.1 connection for one request at a time.
pub(super) struct Http1 {
    kind: Kind,
    standing: Standing,
}

/// Boxed, because connections move between their lane and their users and are large.
enum Kind {
    Direct(Box<Direct>),
    Driven(Box<Driven>),
}

/// What a connection may still be used for.
struct Standing {
    way: Way,
    terms: Terms,
    /// How many requests it was given.
    carried: u32,
}

impl Standing {
    /// Returns a connection that is done with its request to the endpoint's lane.
    fn give_back(self, kind: Kind, endpoint: &Endpoint) {
        if let Some(lane) = endpoint.cell.connections(Lane::default) {
            lane.put(Http1 { kind, standing: self });
        }
    }
}

/// How long a connection may have been idle without being looked at before it is used again.
const JUST_NOW: Duration = Duration::from_millis(250);

impl Http1 {
    pub(super) async fn handshake(io: Io, terms: Terms) -> hyper::Result<Self> {
        let way = Way::of(&io);
        let kind = match io.into_tunnel() {
            Ok((stream, berth)) => Kind::Direct(Box::new(Direct::new(stream, berth))),
            Err(io) => Kind::Driven(Box::new(Driven::handshake(io).await?)),
        };
        let standing = Standing {
            way,
            terms,
            carried: 0,
        };
        Ok(Self { kind, standing })
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.standing.terms
    }

    /// Whether it may carry another request under this policy.
    pub(super) fn is_for(&self, policy: &Arc<TrafficPolicy>) -> bool {
        self.standing.terms.hold(policy, self.standing.carried)
    }

    /// Whether it may carry another request.
    pub(super) fn lasts(&self) -> bool {
        self.standing.terms.last(self.standing.carried)
    }

    /// The epoch of the credential that the tunnel below was made with; `None` outside of a tunnel.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.standing.way.epoch()
    }

    /// Whether the connection is idle, made under the current credential, and as far as one knows open.
    ///
    /// One that was put down a moment ago is taken at its word: it is read before it is written to, so that a request to
    /// a peer that has left meanwhile comes back unsent.
    pub(super) fn is_usable(&mut self, epoch: u64, idle_for: Duration) -> bool {
        if !self.standing.way.is_open(epoch) {
            return false;
        }
        let just_now = idle_for < JUST_NOW;
        match &mut self.kind {
            Kind::Direct(direct) => just_now || direct.is_quiet(Waker::noop()),
            Kind::Driven(driven) => driven.is_usable(just_now),
        }
    }

    /// Sends a request; the connection goes back to the endpoint's lane at the end of the response's body.
    pub(super) async fn send(
        self,
        mut request: Box<Request<MeshBody>>,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Response<MeshBody>, SendError> {
        let Self { kind, mut standing } = self;
        standing.way.carry();
        standing.carried = standing.carried.saturating_add(1);
        let interim = request.extensions_mut().remove::<Interim>();
        let driven = match kind {
            Kind::Direct(mut direct) => {
                // What else lies in the extensions is meant for hyper.
                if request.extensions().is_empty()
                    && let Some(asked) = head::encode(&request)
                {
                    return match direct.exchange(asked, request.method(), interim.as_ref()).await {
                        Ok(answer) => Ok(body::answered(direct, answer, standing, endpoint)),
                        Err(failed) => Err(failed.of(request, interim)),
                    };
                }
                // Few requests come here, and all would carry the size of what follows.
                match Box::pin(Driven::handshake(direct.into_io())).await {
                    Ok(driven) => Box::new(driven),
                    Err(error) => {
                        return Err(SendError {
                            error: error.into(),
                            unsent: Some(request),
                        });
                    }
                }
            }
            Kind::Driven(driven) => driven,
        };
        if let Some(interim) = interim {
            interim.listen(&mut request);
        }
        Box::pin(driven.send(standing, request, endpoint)).await
    }
}
