//! How a tunnel or one of its streams can fail.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::identity::{self, Refused};

/// Why there is no stream. Cheap to clone, because all who waited for one dial share its outcome.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No TCP connection.
    #[error("connecting to {addr} failed")]
    Connect {
        /// Where to.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// No TCP connection within the connect timeout. A NetworkPolicy that blocks the HBONE port looks like this.
    #[error("connecting to {addr} took longer than {after:?}")]
    ConnectTimeout {
        /// Where to.
        addr: SocketAddr,
        /// The timeout.
        after: Duration,
    },
    /// TLS or HTTP/2 did not come about, for a reason other than identity.
    #[error("the handshake with {addr} failed")]
    Handshake {
        /// The other end.
        addr: SocketAddr,
        /// What went wrong.
        #[source]
        source: Arc<io::Error>,
    },
    /// TLS and HTTP/2 did not come about in time.
    #[error("the handshake with {addr} took longer than {after:?}")]
    HandshakeTimeout {
        /// The other end.
        addr: SocketAddr,
        /// The timeout.
        after: Duration,
    },
    /// The peer's certificate does not prove somebody we accept.
    #[error("{addr} is not whom it should be")]
    Identity {
        /// The other end.
        addr: SocketAddr,
        /// What is wrong with its certificate.
        #[source]
        source: Refused,
    },
    /// The peer did not accept our certificate, or nothing of what we offered.
    #[error("{addr} refused our credential or offer: {alert}")]
    Alert {
        /// The other end.
        addr: SocketAddr,
        /// The TLS alert that it sent.
        alert: String,
    },
    /// Our own credential cannot be used for a handshake.
    #[error("our credential is unusable")]
    Credential(#[source] identity::Error),
    /// The peer turned the stream away before it did anything with it.
    #[error("{addr} refused the stream unprocessed")]
    RefusedStream {
        /// The other end.
        addr: SocketAddr,
    },
    /// The peer answered the `CONNECT` with something other than 200.
    #[error("{addr} answered {status} to CONNECT {authority}")]
    Status {
        /// The other end.
        addr: SocketAddr,
        /// What was asked for.
        authority: String,
        /// The answer.
        status: StatusCode,
    },
    /// The peer did not answer the `CONNECT` in time.
    #[error("{addr} did not answer CONNECT {authority} within {after:?}")]
    AnswerTimeout {
        /// The other end.
        addr: SocketAddr,
        /// What was asked for.
        authority: String,
        /// The timeout.
        after: Duration,
    },
    /// The tunnel or the stream broke before the `CONNECT` was answered.
    #[error("the tunnel with {addr} broke")]
    Lost {
        /// The other end.
        addr: SocketAddr,
        /// What went wrong.
        #[source]
        source: Arc<io::Error>,
    },
    /// The pool takes no more streams.
    #[error("tunnels are being shut down")]
    Closed,
}

impl Error {
    /// Whether no tunnel came about, so that nothing of the caller's has left this process.
    pub fn is_connect_failure(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::ConnectTimeout { .. }
                | Self::Handshake { .. }
                | Self::HandshakeTimeout { .. }
                | Self::Identity { .. }
                | Self::Alert { .. }
                | Self::Credential(_)
        )
    }

    /// Whether the peer turned the stream away before it did anything with it (RFC 9113 §8.7).
    pub fn is_refused_stream(&self) -> bool {
        matches!(self, Self::RefusedStream { .. })
    }

    /// Whether somebody was reached who is not whom we meant to reach.
    pub fn is_identity(&self) -> bool {
        matches!(self, Self::Identity { .. })
    }

    /// Whether the peer was able to pass the stream on and had reason not to, so that another peer is not to be asked for
    /// the same: the share that a waypoint's route gives to a backend that cannot be had is not to be made smaller.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Status {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                ..
            }
        )
    }

    /// Whether time ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout { .. } | Self::HandshakeTimeout { .. } | Self::AnswerTimeout { .. }
        )
    }

    /// The peer's answer, if it answered.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(super) fn alert(addr: SocketAddr, alert: rustls::AlertDescription) -> Self {
        Self::Alert {
            addr,
            alert: format!("{alert:?}"),
        }
    }

    /// Says what a handshake's I/O error is about: their certificate, ours, or neither.
    pub(super) fn handshake(addr: SocketAddr, source: io::Error) -> Self {
        let tls = source
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => Self::alert(addr, *alert),
            Some(error) => match Refused::from_tls(error) {
                Some(reason) => Self::Identity { addr, source: reason },
                None => Self::Handshake {
                    addr,
                    source: Arc::new(source),
                },
            },
            None => Self::Handshake {
                addr,
                source: Arc::new(source),
            },
        }
    }

    /// Says what an HTTP/2 error before the answer to a `CONNECT` means for the caller.
    pub(super) fn before_answer(addr: SocketAddr, error: h2::Error) -> Self {
        // After a GOAWAY the peer has not processed, and will not, the streams that fail with that very frame.
        let unprocessed =
            error.is_remote() && error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        if unprocessed || error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            return Self::RefusedStream { addr };
        }
        Self::Lost {
            addr,
            source: Arc::new(io_error(error)),
        }
    }
}

/// An HTTP/2 error as the I/O error that it stands for.
pub(super) fn io_error(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::Other.into());
    }
    let kind = match error.reason() {
        Some(h2::Reason::NO_ERROR | h2::Reason::CANCEL | h2::Reason::STREAM_CLOSED) => {
            io::ErrorKind::BrokenPipe
        }
        Some(_) => io::ErrorKind::ConnectionReset,
        None => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
