//! Who is at the other end of a connection, once proved.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::{HeaderName, HeaderValue};

use super::{Host, SpiffeId};

/// The header in which a waypoint introduces its caller to the destination, signed.
pub(crate) const INTRODUCTION: HeaderName = HeaderName::from_static("x-inmesh-caller");

/// Envoy's header for the certificate of a caller in front of a proxy.
pub(crate) const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

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
    /// The certificate that proved the identity, in DER; `None` on a plaintext connection.
    pub certificate: Option<Arc<[u8]>>,
    /// What a client asked for whose TLS a Gateway's listener terminated; `None` on any other connection. Its own name is
    /// not among this: who a Gateway's clients are is no identity of the mesh.
    pub tls: Option<Greeting>,
    /// The `traceparent` of the connection's own span, if that is recorded: what its requests are linked to.
    pub trace: Option<HeaderValue>,
}

/// What a client asks for when it begins to speak TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Greeting {
    /// The server name (SNI), if it gave one.
    pub server_name: Option<Host>,
}

impl Peer {
    /// A peer with the given proof and addresses.
    pub fn new(identity: Option<SpiffeId>, addr: SocketAddr, local: SocketAddr) -> Self {
        Self {
            identity,
            addr,
            local,
            certificate: None,
            tls: None,
            trace: None,
        }
    }

    /// With the certificate (DER, the leaf) that proved the identity.
    #[must_use]
    pub fn with_certificate(mut self, certificate: &[u8]) -> Self {
        self.certificate = Some(certificate.into());
        self
    }

    /// The same peer, as a client whose TLS was terminated.
    pub(crate) fn greeted(self, server_name: Option<Host>) -> Self {
        Self {
            tls: Some(Greeting { server_name }),
            ..self
        }
    }

    /// The server name that a client asked for; empty if it asked for none.
    pub(crate) fn sni(&self) -> &str {
        let name = self.tls.as_ref().and_then(|tls| tls.server_name.as_ref());
        name.map_or("", Host::as_str)
    }
}

/// Who called, as a request extension of every request that an inmesh server hands to the application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerIdentity {
    /// The other end of the connection that the request came in on: the caller itself, or a waypoint.
    pub direct: Arc<Peer>,
    /// The caller in front of the waypoint, where the direct peer is a waypoint that the configuration binds to what
    /// was called, and it introduced its caller. Never taken from anybody else.
    pub original: Option<Original>,
    /// What a server keeps of the connection from one of its requests to the next.
    pub(crate) kept: Kept,
}

/// Room for what a server keeps of a connection, if it keeps anything. It says nothing of who called.
#[derive(Clone, Default)]
pub(crate) struct Kept(Option<Arc<OnceLock<Box<dyn Any + Send + Sync>>>>);

/// A caller that a waypoint spoke for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Original {
    /// Whom the waypoint proved.
    pub id: SpiffeId,
    /// On what the word is believed.
    pub by: IntroducedBy,
}

/// On what a waypoint's word about its caller is believed. Closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntroducedBy {
    /// It is signed by the waypoint, for this workload, a moment ago.
    Signature,
    /// `x-forwarded-client-cert`, as Istio's waypoints write it on demand: only the connection vouches for it.
    ForwardedClientCert,
}

impl PeerIdentity {
    /// A caller that nobody stands in front of.
    pub fn direct(peer: Arc<Peer>) -> Self {
        Self {
            direct: peer,
            original: None,
            kept: Kept::default(),
        }
    }

    /// The same, for all requests of one connection.
    pub(crate) fn of_connection(peer: Arc<Peer>) -> Self {
        Self {
            kept: Kept(Some(Arc::default())),
            ..Self::direct(peer)
        }
    }

    /// With the caller that the direct peer spoke for.
    #[must_use]
    pub fn introducing(mut self, original: Option<Original>) -> Self {
        self.original = original;
        self
    }

    /// The verified SPIFFE id of the direct peer; `None` if the call came in plaintext and nobody was proved.
    ///
    /// Behind a waypoint that is the waypoint's identity.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.direct.identity.as_ref()
    }

    /// Who called, as far as anybody can say: the original caller behind a waypoint that introduced it, else the direct
    /// peer.
    pub fn caller(&self) -> Option<&SpiffeId> {
        let original = self.original.as_ref().map(|original| &original.id);
        original.or_else(|| self.spiffe_id())
    }
}

impl Kept {
    /// What is kept, made if nothing is yet; `None` if there is no room, or something else is in it.
    pub(crate) fn get_or_make<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        let room = self.0.as_ref()?;
        room.get_or_init(|| Box::new(make())).downcast_ref()
    }
}

impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kept {}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}
