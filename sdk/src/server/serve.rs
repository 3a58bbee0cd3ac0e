//! Serving HTTP on a byte stream, and accepting such streams.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

use super::patient::Patient;
use super::{Draining, Stage};
use crate::layer::{Call, Inbound, MOST_FIELDS, MeshBody, Refusal};

/// How long a caller may take to send a request's head, and how long an HTTP/1 connection may idle.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// The decoded size of a request's header fields; Envoy's default is 60 KiB.
const HEADER_BYTES: u32 = 64 << 10;
/// How many requests a caller may have under way on one HTTP/2 connection.
const STREAMS: u32 = 200;
/// How many bytes of one request may wait for the application to read them.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same for all requests of a connection: more than they can fill together, or an application that leaves a few
/// uploads unread would hold up everybody behind the same waypoint.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// Streams that the caller reset and that were not yet handed out: beyond this it is a flood (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Streams that we had to reset because of malformed frames: beyond this it is a flood (CVE-2025-8671).
const LOCAL_ERRORS: usize = 100;

/// Serves requests on one byte stream until it ends or draining closes it. HTTP/1.1 and HTTP/2 (prior knowledge) are
/// told apart by the first bytes.
pub(crate) async fn serve_http<S, I>(io: I, service: Inbound<S>, mut draining: Draining)
where
    S: Service<Call, Response = Response<MeshBody>, Error = Refusal> + Clone + Send + 'static,
    S::Future: Send,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES as usize)
        .max_headers(MOST_FIELDS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .max_local_error_reset_streams(Some(LOCAL_ERRORS))
        .enable_connect_protocol()
        .keep_alive_interval(Some(Duration::from_secs(30)));
    let io = TokioIo::new(Patient::new(io, service.interim(), draining.clone()));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| service.clone().call(request));
    let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
    let mut watch = draining.clone();
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        // HTTP/1 answers carry `connection: close` from the first stage on; idle ones are closed from here.
        () = watch.reached(Stage::Closing) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = draining.reached(Stage::Over) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Listens on an address.
///
/// # Errors
/// If it cannot be bound; the error names the address and what to do.
pub(crate) async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => "; another process listens there",
            io::ErrorKind::AddrNotAvailable => "; the address is not this machine's",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
            _ => "",
        };
        io::Error::new(
            error.kind(),
            format!("listening on {addr} failed: {error}{remedy}"),
        )
    })
}

/// Accepts connections until going away, and backs off when the process is out of file descriptors instead of
/// spinning.
pub(crate) struct Accepting {
    listener: TcpListener,
    draining: Draining,
    pause: Duration,
}

impl Accepting {
    pub(crate) fn new(listener: TcpListener, draining: Draining) -> Self {
        Self {
            listener,
            draining,
            pause: Duration::ZERO,
        }
    }

    pub(crate) async fn next(&mut self) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.draining.reached(Stage::GoingAway) => return None,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.pause = Duration::ZERO;
                    stream.set_nodelay(true).ok();
                    return Some((stream, peer));
                }
                Err(error) => {
                    self.pause = (self.pause * 2).clamp(Duration::from_millis(5), Duration::from_secs(1));
                    tracing::warn!(%error, pause = ?self.pause, "accepting failed");
                    tokio::time::sleep(self.pause).await;
                }
            }
        }
    }
}

/// A boxed future, for the few places that dispatch dynamically: once per connection.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;

    use super::*;
    use crate::layer::{Drain, Origin, stack};
    use crate::name::Peer;
    use crate::snapshot::{Live, Place, Snapshot};
    use crate::telemetry::Meter;

    /// Behind the policy; nobody gets there, since without configuration everything is denied.
    #[derive(Clone)]
    struct Unreached;

    impl Service<Call> for Unreached {
        type Response = Response<MeshBody>;
        type Error = Refusal;
        type Future = std::future::Ready<Result<Response<MeshBody>, Refusal>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Call) -> Self::Future {
            unreachable!("denied before")
        }
    }

    fn served() -> (DuplexStream, Drain) {
        let drain = Drain::new();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let origin = Origin::new(
            Arc::new(Live::new(Snapshot::default())),
            Meter::new(),
            Arc::new(Peer::new(None, nowhere, nowhere)),
            Arc::new(Place::Workload { port: 1 }),
            drain.watch(),
        );
        let (near, far) = tokio::io::duplex(64 << 10);
        let stack = stack::inbound(Arc::new(origin), Unreached);
        tokio::spawn(serve_http(near, stack, drain.watch()));
        (far, drain)
    }

    /// Hardening row 11: byte after byte, each in time, but never a head.
    #[tokio::test(start_paused = true)]
    async fn row_11_a_head_that_drips_is_not_waited_for() {
        for first in [&b"GET / HTTP/1.1\r\nx: "[..], b"P", b""] {
            let (mut far, _drain) = served();
            let began = Instant::now();
            far.write_all(first).await.unwrap();
            let (mut read, mut write) = tokio::io::split(far);
            let drip = tokio::spawn(async move {
                while write.write_all(b"y").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            });
            let mut rest = Vec::new();
            let _ = read.read_to_end(&mut rest).await;
            assert!(began.elapsed() <= 2 * HEADER_TIMEOUT, "{:?}", began.elapsed());
            drip.abort();
        }
    }

    /// Nothing, or not even enough to tell the version by.
    #[tokio::test(start_paused = true)]
    async fn row_11_a_silent_caller_is_not_waited_for() {
        for first in [
            &b""[..],
            b"P",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let (mut far, _drain) = served();
            let began = Instant::now();
            far.write_all(first).await.unwrap();
            let _ = far.read_to_end(&mut Vec::new()).await;
            assert!(began.elapsed() <= 2 * HEADER_TIMEOUT, "{:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed() {
        let (mut far, _drain) = served();
        far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut all = String::new();
        far.read_to_string(&mut all).await.unwrap();
        assert!(all.starts_with("HTTP/1.1 403"), "{all}");
    }
}
