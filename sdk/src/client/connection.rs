//! What is below an inner HTTP connection: a stream inside a tunnel, or a plain TCP connection, and TLS where it is demanded.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tracing::Span;

use super::room::Berth;
use crate::hbone::{TunnelHandle, TunnelStream};
use crate::layer::{BoxError, MeshBody};
use crate::telemetry::{self, TraceContext};

/// What is spoken on a stream, for those whom TLS tells so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
    /// Whoever asked for the stream knows.
    Bytes,
}

/// The bytes below an inner connection, and the place that it takes up for as long as they flow, an upgrade included.
#[derive(Debug)]
pub(super) struct Io {
    stream: Stream,
    /// Given up when the stream is closed: declared after it.
    _berth: Berth,
}

/// A tunnel's bytes, a plain connection's, or TLS over either.
#[derive(Debug)]
pub(super) enum Stream {
    Raw(Raw),
    Tls(Box<TlsStream<Raw>>),
}

/// A stream inside a tunnel, or a plain TCP connection.
#[derive(Debug)]
pub(super) enum Raw {
    Tunnel(TunnelStream),
    Plain(TcpStream),
}

impl Io {
    pub(super) fn new(stream: Stream, berth: Berth) -> Self {
        Self {
            stream,
            _berth: berth,
        }
    }

    /// The stream inside a tunnel, if it is that and nothing else.
    pub(super) fn into_tunnel(self) -> Result<(TunnelStream, Berth), Self> {
        match self {
            Self {
                stream: Stream::Raw(Raw::Tunnel(stream)),
                _berth: berth,
            } => Ok((stream, berth)),
            other => Err(other),
        }
    }

    fn raw(&self) -> &Raw {
        match &self.stream {
            Stream::Raw(raw) => raw,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }
}

/// What must still hold of the way below a connection for it to be used again.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Tunnel {
        epoch: u64,
        tunnel: Option<TunnelHandle>,
    },
    Plain,
}

impl Way {
    pub(super) fn of(io: &Io) -> Self {
        match io.raw() {
            Raw::Tunnel(stream) => Self::Tunnel {
                epoch: stream.epoch(),
                tunnel: stream.tunnel(),
            },
            Raw::Plain(_) => Self::Plain,
        }
    }

    pub(super) fn epoch(&self) -> Option<u64> {
        match self {
            Self::Tunnel { epoch, .. } => Some(*epoch),
            Self::Plain => None,
        }
    }

    /// Links the request under way to the tunnel that carries it, where both are recorded.
    pub(super) fn carry(&self) {
        if let Self::Tunnel { tunnel, .. } = self
            && let Some(trace) = tunnel.as_ref().and_then(|tunnel| tunnel.peer().trace.as_ref())
        {
            telemetry::follow(&Span::current(), &TraceContext::of_parent(trace));
        }
    }

    pub(super) fn is_open(&self, current: u64) -> bool {
        match self {
            Self::Tunnel { epoch, tunnel } => {
                *epoch == current && !tunnel.as_ref().is_none_or(TunnelHandle::is_going)
            }
            Self::Plain => true,
        }
    }
}

/// Reads and writes as one of two streams does.
macro_rules! either {
    ($kind:ident: $one:ident, $other:ident) => {
        impl AsyncRead for $kind {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<std::io::Result<()>> {
                match self.get_mut() {
                    Self::$one(io) => Pin::new(io).poll_read(cx, buf),
                    Self::$other(io) => Pin::new(io).poll_read(cx, buf),
                }
            }
        }

        impl AsyncWrite for $kind {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<std::io::Result<usize>> {
                match self.get_mut() {
                    Self::$one(io) => Pin::new(io).poll_write(cx, buf),
                    Self::$other(io) => Pin::new(io).poll_write(cx, buf),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> Poll<std::io::Result<usize>> {
                match self.get_mut() {
                    Self::$one(io) => Pin::new(io).poll_write_vectored(cx, bufs),
                    Self::$other(io) => Pin::new(io).poll_write_vectored(cx, bufs),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::$one(io) => io.is_write_vectored(),
                    Self::$other(io) => io.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
                match self.get_mut() {
                    Self::$one(io) => Pin::new(io).poll_flush(cx),
                    Self::$other(io) => Pin::new(io).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
                match self.get_mut() {
                    Self::$one(io) => Pin::new(io).poll_shutdown(cx),
                    Self::$other(io) => Pin::new(io).poll_shutdown(cx),
                }
            }
        }
    };
}

either!(Raw: Tunnel, Plain);
either!(Stream: Raw, Tls);

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// How sending over an inner connection failed.
#[derive(Debug)]
pub(super) struct SendError {
    /// What happened.
    pub(super) error: BoxError,
    /// The request, if certainly no byte of it was sent.
    pub(super) unsent: Option<Box<Request<MeshBody>>>,
}
