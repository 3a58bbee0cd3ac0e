//! The receiving end of tunnels.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderValue, Request, Response, StatusCode};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{Span, debug, trace};

use super::carrier::{Carrier, Seat, fail};
use super::coalesce::Coalesce;
use super::connect::{BAGGAGE, ConnectHead};
use super::dial::prepare;
use super::error::io_error;
use super::keepalive::{Beat, Keepalive};
use super::{Authority, Error, Settings, TunnelStream};
use crate::identity::{Credential, Refused, Trust, spiffe_id_of};
use crate::name::Peer;
use crate::telemetry::{Direction, TunnelMeter, tunnel_span};

/// Makes tunnels of accepted TCP connections, as whatever credential is newest.
///
/// Who may connect is settled here by [`Trust`]; what they may then do is for the caller to decide per stream.
pub struct Acceptor {
    credential: watch::Receiver<Arc<Credential>>,
    trust: Trust,
    settings: Settings,
    /// The TLS settings of the newest credential, with its epoch.
    tls: Mutex<Option<(u64, Arc<ServerConfig>)>>,
    meter: Option<TunnelMeter>,
}

impl Acceptor {
    /// An acceptor for those whom `trust` accepts.
    pub fn new(credential: watch::Receiver<Arc<Credential>>, trust: Trust, settings: Settings) -> Self {
        Self {
            credential,
            trust,
            settings,
            tls: Mutex::new(None),
            meter: None,
        }
    }

    /// Counts tunnels, their streams and handshakes in `meter`.
    pub fn metered(mut self, meter: TunnelMeter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Proves both identities to each other and starts HTTP/2.
    ///
    /// # Errors
    /// If the peer presents nobody whom we accept, speaks something else, or takes too long.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn handshake(&self, tcp: TcpStream) -> Result<Inbound, Error> {
        let refused = |e: io::Error| Error::handshake(SocketAddr::from(([0, 0, 0, 0], 0)), e);
        let addr = tcp.peer_addr().map_err(refused)?;
        let after = self.settings.handshake_timeout;
        let span = tunnel_span(Direction::Inbound, addr);
        let outcome = match timeout(after, self.prove(tcp, addr, span.clone())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::HandshakeTimeout { addr, after }),
        };
        if let Err(error) = &outcome {
            fail(&span, "handshake", error);
            if let Some(meter) = &self.meter {
                meter.handshake_failed();
            }
        }
        outcome
    }

    async fn prove(&self, tcp: TcpStream, addr: SocketAddr, span: Span) -> Result<Inbound, Error> {
        let began = Instant::now();
        let failed = |e: io::Error| Error::handshake(addr, e);
        prepare(&tcp, &self.settings).map_err(failed)?;
        let local = tcp.local_addr().map_err(failed)?;
        let (epoch, config) = self.tls().map_err(Error::Credential)?;
        let tls = TlsAcceptor::from(config).accept(tcp).await.map_err(failed)?;
        let (_, session) = tls.get_ref();
        if session.alpn_protocol() != Some(b"h2") {
            return Err(failed(io::Error::new(
                io::ErrorKind::InvalidData,
                "the peer does not speak HTTP/2",
            )));
        }
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let identity = certificate
            .ok_or(Refused::NoCertificate)
            .and_then(spiffe_id_of)
            .map_err(|source| Error::Identity { addr, source })?;
        debug!(%addr, peer = %identity, "tunnel accepted");
        let mut peer = Peer::new(Some(identity), addr, local);
        if let Some(certificate) = certificate {
            peer = peer.with_certificate(certificate);
        }
        let handshake = self.settings.server().handshake(Coalesce::new(tls));
        let mut connection = handshake.await.map_err(|e| failed(io_error(e)))?;
        let settings = &self.settings;
        let keepalive = Keepalive::new(connection.ping_pong(), settings.ping_every, settings.ping_timeout);
        let carrier = Carrier::new(peer, epoch, settings.linger, &span);
        let carrier = carrier.metered(self.meter.clone(), began.elapsed());
        Ok(Inbound {
            connection,
            keepalive,
            carrier: Arc::new(carrier),
            opened: 0,
            max_age: settings.max_age.map(|age| around(age, fastrand::f64())),
            max_resets: settings.max_resets,
            untold: None,
            span,
        })
    }

    /// The TLS settings of the newest credential, made once for each.
    fn tls(&self) -> Result<(u64, Arc<ServerConfig>), crate::identity::Error> {
        let credential = self.credential.borrow().clone();
        let mut made = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((epoch, config)) if *epoch == credential.epoch() => Ok((*epoch, config.clone())),
            _ => {
                let config = Arc::new(credential.server_config(self.trust.clone())?);
                *made = Some((credential.epoch(), config.clone()));
                Ok((credential.epoch(), config))
            }
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

/// One accepted tunnel.
///
/// [`Inbound::next`] drives everything in it, the streams handed out before included, so it must be called until it
/// says `None`.
pub struct Inbound {
    connection: Connection<Coalesce<TlsStream<TcpStream>>, Bytes>,
    keepalive: Keepalive,
    carrier: Arc<Carrier>,
    opened: usize,
    max_age: Option<Duration>,
    max_resets: usize,
    /// Held until the peer has heard that it shall open no more streams.
    untold: Option<Box<dyn Send>>,
    /// Ends with the connection.
    span: Span,
}

impl Inbound {
    /// Who is at the other end.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.carrier.peer
    }

    /// The epoch of our credential that the tunnel was made with.
    pub fn epoch(&self) -> u64 {
        self.carrier.epoch
    }

    /// How old it may become before its peer is to make another.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.carrier.open()
    }

    /// The next stream that asks to be let in; `None` when the tunnel is over.
    ///
    /// What is not a `CONNECT` to a well-formed authority is answered with 400 here and never shown.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped, but nothing moves in the tunnel until it is called again.
    pub async fn next(&mut self) -> Option<Incoming> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Inbound::next`], for those who drive several things in one task.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, answer)))) => {
                    self.opened += 1;
                    self.calm_resets();
                    if let Some(incoming) = self.read(request, answer) {
                        return Poll::Ready(Some(incoming));
                    }
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    debug!(peer = ?self.carrier.peer, error = %error, "tunnel broke");
                    fail(&self.span, "broken", &error);
                    return Poll::Ready(None);
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            match self.keepalive.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Beat::Sent) => {}
                Poll::Ready(Beat::Heard) => self.untold = None,
                Poll::Ready(Beat::Over) => return Poll::Ready(None),
                Poll::Ready(Beat::Dead) => {
                    debug!(peer = ?self.carrier.peer, "the peer does not answer pings");
                    fail(&self.span, "broken", &io::Error::from(io::ErrorKind::TimedOut));
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// Tells the peer to open no more streams. Those that are open go on; [`Inbound::next`] says `None` after the last.
    ///
    /// `untold` is dropped when the peer has heard it, or is gone: from then on it starts nothing new in the streams either.
    pub fn graceful_shutdown(&mut self, untold: impl Send + 'static) {
        self.connection.graceful_shutdown();
        self.keepalive.ask();
        self.untold = Some(Box::new(untold));
    }

    /// Sends a peer away that opens streams only to reset them. The HTTP/2 codec sees this when resets come faster than
    /// streams are handed out; this is for the patient.
    fn calm_resets(&mut self) {
        let resets = self.carrier.resets();
        if resets > self.max_resets && resets * 2 > self.opened {
            debug!(peer = ?self.carrier.peer, resets, "too many resets");
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }

    fn read(&self, request: Request<RecvStream>, mut answer: SendResponse<Bytes>) -> Option<Incoming> {
        let (mut parts, body) = request.into_parts();
        match ConnectHead::from_request(&parts.method, &parts.uri, &mut parts.headers) {
            Ok(head) => Some(Incoming {
                authority: head.authority.clone(),
                head,
                peer: self.carrier.peer.clone(),
                open: Unanswered(Some((answer, body, self.carrier.enter()))),
            }),
            Err(status) => {
                trace!(peer = ?self.carrier.peer, %status, "not a CONNECT");
                // The body goes with the stream, unread.
                let _ = answer.send_response(with_status(status), true);
                None
            }
        }
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("carrier", &self.carrier)
            .finish_non_exhaustive()
    }
}

/// A stream that asks to be let in. Dropping it without an answer is answered with 503.
#[derive(Debug)]
#[must_use]
pub struct Incoming {
    /// What was asked, hints included.
    pub head: ConnectHead,
    /// Where it shall go; the same as in the head.
    pub authority: Authority,
    /// Who asks, as its certificate proved.
    pub peer: Arc<Peer>,
    open: Unanswered,
}

impl Incoming {
    /// Answers 200, with our own labels if given.
    ///
    /// # Errors
    /// If the peer has gone in the meantime.
    pub fn accept(mut self, baggage: Option<HeaderValue>) -> Result<TunnelStream, Error> {
        let Some((mut answer, body, seat)) = self.open.0.take() else {
            return Err(Error::Closed);
        };
        let mut response = with_status(StatusCode::OK);
        if let Some(baggage) = baggage {
            response.headers_mut().insert(BAGGAGE, baggage);
        }
        match answer.send_response(response, false) {
            Ok(send) => Ok(TunnelStream::new(send, body, seat)),
            Err(error) => {
                seat.carrier().count_reset();
                Err(Error::before_answer(self.peer.addr, error))
            }
        }
    }

    /// Answers with a status that means no. What the peer has sent already is thrown away unread.
    pub fn refuse(mut self, status: StatusCode) {
        self.open.refuse(status);
    }
}

struct Unanswered(Option<(SendResponse<Bytes>, RecvStream, Seat)>);

impl Unanswered {
    fn refuse(&mut self, status: StatusCode) {
        if let Some((mut answer, _, seat)) = self.0.take()
            && answer.send_response(with_status(status), true).is_err()
        {
            seat.carrier().count_reset();
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.refuse(StatusCode::SERVICE_UNAVAILABLE);
    }
}

impl fmt::Debug for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "open" } else { "answered" })
    }
}

fn with_status(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}

/// Up to a tenth sooner or later: each at its own time, so that those who came together do not come back together.
fn around(age: Duration, random: f64) -> Duration {
    age.mul_f64(0.9 + 0.2 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_of_one_age_do_not_end_at_one_time() {
        let age = Duration::from_secs(100);
        let at = |random| around(age, random).as_secs_f64().round();
        assert_eq!((at(0.0), at(0.5), at(1.0)), (90.0, 100.0, 110.0));
    }
}
