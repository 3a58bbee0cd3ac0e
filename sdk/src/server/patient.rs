//! What is below a server's connection: a byte stream that gives up on a peer that takes nothing, and that says what the
//! server itself cannot ([`Interim`]).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Draining;
use super::serve::HEADER_TIMEOUT;
use crate::layer::Interim;

/// How long a peer may take nothing of what is there for it. Envoy's stream idle timeout is as long; unlike it this one
/// does not mind a stream on which there is nothing to say.
const STALLED: Duration = Duration::from_secs(300);

/// What a caller of HTTP/2 says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Until the first bytes have shown which version is spoken, no other limit applies to their coming.
#[derive(Default)]
struct Opening {
    /// How many bytes of the preface have come.
    matched: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Opening {
    /// Looks at what has come; whether it is still open what will be spoken.
    fn goes_on(&mut self, read: &[u8]) -> bool {
        let expected = &PREFACE[self.matched..];
        if expected.len() <= read.len() || !expected.starts_with(read) {
            return false;
        }
        self.matched += read.len();
        true
    }

    /// Ready when it has lasted too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(HEADER_TIMEOUT)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the caller says nothing"))
    }
}

/// A stream that fails once its peer has taken nothing for too long, and that a shutdown waits for.
///
/// It goes along when a connection is upgraded, so a shutdown waits for WebSockets as it does for requests.
pub(super) struct Patient<I> {
    io: I,
    /// Made when a write first has to wait, and used again.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    /// While nobody knows what will be spoken.
    opening: Option<Opening>,
    interim: Interim,
    /// What of it is still to be written.
    saying: Bytes,
    _draining: Draining,
}

impl<I> Patient<I> {
    pub(super) fn new(io: I, interim: Interim, draining: Draining) -> Self {
        Self {
            io,
            timer: None,
            is_waiting: false,
            opening: Some(Opening::default()),
            interim,
            saying: Bytes::new(),
            _draining: draining,
        }
    }

    /// What came of a write: `Pending` becomes an error when it has lasted too long.
    fn settle<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.is_waiting = false;
            return polled;
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(Instant::now() + STALLED);
        }
        ready!(timer.as_mut().poll(cx));
        self.is_waiting = false;
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer takes nothing of what is there for it",
        )))
    }
}

impl<I: AsyncWrite + Unpin> Patient<I> {
    /// Writes what is left of an interim answer: once begun it is in the middle of nothing else.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.saying.is_empty() {
            let polled = Pin::new(&mut self.io).poll_write(cx, &self.saying);
            match ready!(self.settle(polled, cx))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.saying.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Some(opening) = &mut self.opening {
            if polled.is_pending() {
                return opening.poll(cx).map(Err);
            }
            if !opening.goes_on(&buf.filled()[before..]) {
                self.opening = None;
            }
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_say(cx))?;
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.settle(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_say(cx))?;
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.settle(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has nothing left to write: this is the gap between two messages.
        self.interim.register(cx.waker());
        if self.saying.is_empty()
            && let Some(bytes) = self.interim.take()
        {
            self.saying = bytes;
        }
        ready!(self.poll_say(cx))?;
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.settle(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.settle(polled, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::layer::Drain;

    /// Hardening row 12.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut stream = Patient::new(near, Interim::default(), Drain::new().watch());
        let slow = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(STALLED * 2 / 3).await;
                far.read_exact(&mut [0; 16]).await.unwrap();
            }
            far
        });
        stream.write_all(&[0; 160]).await.unwrap();
        let _far = slow.await.unwrap();
        let began = Instant::now();
        let error = stream.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < STALLED * 2);
    }

    /// A peer to which there is nothing to say may be silent for as long as it likes.
    #[tokio::test(start_paused = true)]
    async fn silence_is_no_stall() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut stream = Patient::new(near, Interim::default(), Drain::new().watch());
        far.write_all(b"GET /").await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        let later = tokio::spawn(async move {
            tokio::time::sleep(STALLED * 10).await;
            far.write_all(b"here").await.unwrap();
            far
        });
        stream.read_exact(&mut [0; 4]).await.unwrap();
        let _far = later.await.unwrap();
        stream.write_all(b"so").await.unwrap();
    }
}
