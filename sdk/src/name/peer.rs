//! Who is at the other end of a connection, once proved.

use std::net::SocketAddr;
use std::sync::Arc;

use super::SpiffeId;

/// The other end of one accepted connection.
///
/// `identity` comes from the certificate that the TLS handshake verified and from nothing else: headers such
/// as `baggage` or `forwarded` never end up here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The verified identity; `None` on a plaintext connection.
    pub identity: Option<SpiffeId>,
    /// The peer's address as the kernel gave it.
    pub addr: SocketAddr,
    /// The local address that the connection came in on.
    pub local: SocketAddr,
}

impl Peer {
    /// A peer with the given proof and addresses.
    pub fn new(identity: Option<SpiffeId>, addr: SocketAddr, local: SocketAddr) -> Self {
        Self {
            identity,
            addr,
            local,
        }
    }
}

/// Who called, as a request extension of every request that an inmesh server hands to the application.
///
/// `None` inside means that the call came in plaintext and nobody was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity(pub Arc<Peer>);

impl PeerIdentity {
    /// The verified SPIFFE id of the direct caller.
    ///
    /// Behind a waypoint that is the waypoint's identity.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.0.identity.as_ref()
    }
}
