//! Mutual TLS on an application's own port, as sidecars speak it: told from plaintext by its first byte.
//!
//! HBONE is how members of an ambient mesh talk. A caller with a sidecar may not know that there is HBONE here, and dials
//! the port that the application has; what it proves there counts like what is proved in a tunnel.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::serve::HEADER_TIMEOUT;
use crate::identity::{Credential, Refused, Trust, spiffe_id_of};
use crate::name::Peer;

/// The type of a TLS record that begins a handshake (RFC 8446 §5.1). No method of HTTP begins with it.
const HANDSHAKE: u8 = 22;
/// How long a caller may take for the handshake, and for its first byte where plaintext is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// Terminates mutual TLS under the newest credential.
pub(crate) struct MutualTls {
    credential: watch::Receiver<Arc<Credential>>,
    trust: Trust,
    /// Made once for each credential.
    made: Mutex<Option<(u64, Arc<ServerConfig>)>>,
}

impl MutualTls {
    pub(crate) fn new(credential: watch::Receiver<Arc<Credential>>, trust: Trust) -> Self {
        Self {
            credential,
            trust,
            made: Mutex::new(None),
        }
    }

    /// Whether a connection begins with TLS, as it must where it `is_strict`. A caller that says nothing is given up.
    pub(crate) async fn begins(stream: &TcpStream, is_strict: bool) -> io::Result<bool> {
        let mut first = [0];
        let patience = if is_strict { PATIENCE } else { HEADER_TIMEOUT };
        let count = timeout(patience, stream.peek(&mut first)).await??;
        Ok(count == 1 && first[0] == HANDSHAKE)
    }

    /// Terminates TLS; the peer is whom its certificate proves.
    ///
    /// # Errors
    /// If it proves nobody whom we accept, or is too slow.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        local: SocketAddr,
    ) -> io::Result<(TlsStream<TcpStream>, Peer)> {
        let config = self.config().map_err(io::Error::other)?;
        let stream = timeout(PATIENCE, TlsAcceptor::from(config).accept(stream)).await??;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or_else(|| io::Error::other(Refused::NoCertificate))?;
        let identity = spiffe_id_of(certificate).map_err(io::Error::other)?;
        let peer = Peer::new(Some(identity), from, local).with_certificate(certificate);
        Ok((stream, peer))
    }

    fn config(&self) -> Result<Arc<ServerConfig>, crate::identity::Error> {
        let credential = Arc::clone(&self.credential.borrow());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((epoch, config)) if *epoch == credential.epoch() => Ok(Arc::clone(config)),
            _ => {
                let config = Arc::new(credential.port_config(self.trust.clone())?);
                *made = Some((credential.epoch(), Arc::clone(&config)));
                Ok(config)
            }
        }
    }
}
