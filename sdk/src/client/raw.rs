//! Connections that are not HTTP.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::unheard::{Dial, Unheard};
use super::wire::Opened;

/// A byte stream to a destination; both directions close on their own.
pub struct Connection(Stage);

enum Stage {
    Opened(Opened),
    /// Boxed, because it is rare and large.
    Unheard(Box<Unheard>),
}

impl Connection {
    /// One that is made.
    pub(super) fn opened(opened: Opened) -> Self {
        Self(Stage::Opened(opened))
    }

    /// One that is made once its caller has said whom it is for.
    pub(super) fn unheard(dial: Dial) -> Self {
        Self(Stage::Unheard(Box::new(Unheard::new(dial))))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stage::Opened(opened) => opened.fmt(f),
            Stage::Unheard(_) => f.write_str("Unheard"),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stage::Opened(io) => Pin::new(io).poll_read(cx, buf),
            Stage::Unheard(io) => Pin::new(&mut **io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stage::Opened(io) => Pin::new(io).poll_write(cx, buf),
            Stage::Unheard(io) => Pin::new(&mut **io).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stage::Opened(io) => Pin::new(io).poll_flush(cx),
            Stage::Unheard(io) => Pin::new(&mut **io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stage::Opened(io) => Pin::new(io).poll_shutdown(cx),
            Stage::Unheard(io) => Pin::new(&mut **io).poll_shutdown(cx),
        }
    }
}
