//! Making one tunnel: TCP, TLS, HTTP/2.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::Span;

use super::carrier::Carrier;
use super::coalesce::Coalesce;
use super::error::io_error;
use super::keepalive::{Beat, Keepalive};
use super::pool::TunnelTarget;
use super::{Error, Settings};
use crate::identity::{Credential, Refused, spiffe_id_of};
use crate::name::Peer;
use crate::telemetry::TunnelMeter;

/// The stream limit before the peer's SETTINGS have come: a number that no peer sends by chance.
const UNKNOWN: usize = 0x7ead_beef;

type Io = Coalesce<TlsStream<TcpStream>>;

/// A tunnel to open streams on.
pub(super) struct Tunnel {
    pub(super) requests: SendRequest<Bytes>,
    /// Lets the driver ask whether the connection still takes requests, for as long as the tunnel is in the pool: a
    /// handle of the driver's own would keep the connection open.
    #[allow(dead_code)] // held, not read
    pub(super) probe: Arc<Mutex<SendRequest<Bytes>>>,
    pub(super) carrier: Arc<Carrier>,
    /// How many streams it may carry.
    pub(super) cap: usize,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // It has left the pool: what is under way goes on, but nothing new is started on it, in its streams neither. Nobody
        // would see a GOAWAY from now on.
        self.carrier.set_going();
    }
}

/// The connection behind a [`Tunnel`], to be driven until it ends.
pub(super) struct Driver {
    connection: Connection<Io, Bytes>,
    keepalive: Keepalive,
    carrier: Arc<Carrier>,
    probe: Weak<Mutex<SendRequest<Bytes>>>,
}

/// Connects to the target and proves both identities; `span` is the tunnel's.
pub(super) async fn dial(
    credential: &Credential,
    target: &TunnelTarget,
    settings: &Settings,
    meter: Option<&TunnelMeter>,
    span: &Span,
) -> Result<(Tunnel, Driver), Error> {
    let addr = target.addr;
    let tcp = connect(addr, settings).await?;
    let after = settings.handshake_timeout;
    match timeout(after, handshake(tcp, credential, target, settings, meter, span)).await {
        Ok(made) => made,
        Err(_) => Err(Error::HandshakeTimeout { addr, after }),
    }
}

async fn connect(addr: SocketAddr, settings: &Settings) -> Result<TcpStream, Error> {
    let after = settings.connect_timeout;
    let failed = |e: io::Error| Error::Connect {
        addr,
        source: Arc::new(e),
    };
    let from = settings.dial_from.filter(|from| from.is_ipv4() == addr.is_ipv4());
    let tcp = timeout(after, reach(addr, from))
        .await
        .map_err(|_| Error::ConnectTimeout { addr, after })?
        .map_err(failed)?;
    prepare(&tcp, settings).map_err(failed)?;
    Ok(tcp)
}

async fn reach(addr: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(from) = from else {
        return TcpStream::connect(addr).await;
    };
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(addr).await
}

/// Sets what every tunnel's socket has: no delay, and TCP keep-alive at ztunnel's pace.
pub(super) fn prepare(tcp: &TcpStream, settings: &Settings) -> io::Result<()> {
    const PACE: Duration = Duration::from_secs(180);
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(PACE).with_interval(PACE);
    let socket = SockRef::from(tcp);
    // Pings find out about peers that vanished between requests; this about one that does while it is written to. What
    // was sent may stay unacknowledged for a ping and the wait for its answer.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(settings.silence()))?;
    #[cfg(not(target_os = "linux"))]
    let _ = settings;
    socket.set_tcp_keepalive(&keepalive)
}

async fn handshake(
    tcp: TcpStream,
    credential: &Credential,
    target: &TunnelTarget,
    settings: &Settings,
    meter: Option<&TunnelMeter>,
    span: &Span,
) -> Result<(Tunnel, Driver), Error> {
    let (addr, began) = (target.addr, Instant::now());
    let failed = |e: io::Error| Error::handshake(addr, e);
    let config = credential
        .client_config(target.identities.clone())
        .map_err(|e| failed(io::Error::new(io::ErrorKind::InvalidData, e)))?;
    let local = tcp.local_addr().map_err(failed)?;
    // rustls wants a name; ours is sent nowhere and looked at by nobody.
    let nobody = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let tls = TlsConnector::from(Arc::new(config))
        .connect(nobody, tcp)
        .await
        .map_err(failed)?;
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
    let mut builder = settings.client();
    builder.initial_max_send_streams(UNKNOWN);
    let io = Coalesce::new(tls);
    let alert = io.alert();
    let failed = |e: io::Error| match alert.get() {
        Some(alert) => Error::alert(addr, *alert),
        None => failed(e),
    };
    let (requests, mut connection) = builder.handshake(io).await.map_err(|e| failed(io_error(e)))?;
    let allowed = settings_of(&mut connection).await.map_err(failed)?;
    let keepalive = Keepalive::new(connection.ping_pong(), settings.ping_every, settings.ping_timeout);
    let carrier = Carrier::new(
        Peer::new(Some(identity), addr, local),
        credential.epoch(),
        settings.linger,
        span,
    );
    let carrier = Arc::new(carrier.metered(meter.cloned(), began.elapsed()));
    let probe = Arc::new(Mutex::new(requests.clone()));
    let driver = Driver {
        connection,
        keepalive,
        carrier: Arc::clone(&carrier),
        probe: Arc::downgrade(&probe),
    };
    let tunnel = Tunnel {
        requests,
        probe,
        carrier,
        cap: settings.max_streams.min(allowed),
    };
    Ok((tunnel, driver))
}

/// Waits for the peer's SETTINGS and says how many streams it allows.
///
/// In TLS 1.3 a server judges the client's certificate after the client believes to be connected; its first word is
/// either SETTINGS or the alert that says what it thinks of us, so waiting makes that a handshake's error.
async fn settings_of(connection: &mut Connection<Io, Bytes>) -> io::Result<usize> {
    poll_fn(|cx| {
        match Pin::new(&mut *connection).poll(cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(io_error(error))),
            Poll::Pending => {}
        }
        match connection.max_concurrent_send_streams() {
            UNKNOWN => Poll::Pending,
            allowed => Poll::Ready(Ok(allowed)),
        }
    })
    .await
}

impl Driver {
    /// Drives the connection to its end. `beat` is called with [`Beat::Sent`] each time a ping is due, and with [`Beat::Dead`]
    /// when one was not answered: before the tunnel's streams hear of it.
    pub(super) async fn run(self, mut beat: impl FnMut(&Beat)) -> io::Result<()> {
        let Self {
            connection,
            mut keepalive,
            carrier,
            probe,
        } = self;
        let mut connection = pin!(connection);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(ended.map_err(io_error));
                }
                // The codec keeps a GOAWAY to itself, but refuses requests from then on.
                if !carrier.is_going()
                    && let Some(probe) = probe.upgrade()
                    && let Ok(mut requests) = probe.lock()
                    && let Poll::Ready(Err(_)) = requests.poll_ready(&mut Context::from_waker(Waker::noop()))
                {
                    carrier.set_going();
                }
                let now = ready!(keepalive.poll(cx));
                beat(&now);
                match now {
                    Beat::Sent | Beat::Heard => {}
                    Beat::Dead => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Beat::Over => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
                }
            }
        })
        .await
    }
}
