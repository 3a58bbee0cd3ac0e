//! Bytes both ways, for traffic that is not HTTP.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::TunnelStream;

/// How much is read from the plain side at once.
const CHUNK: usize = 64 * 1024;

/// Joins a plain stream and a tunnel's until both directions are over, and says how many bytes went from `a` to `b`
/// and from `b` to `a`.
///
/// The end of one direction is passed on and leaves the other open, for as long as it likes. A direction that fails is
/// treated as one that ended, as ztunnel does: a TCP reset becomes the end of the stream.
///
/// # Cancel safety
/// Dropping the future ends both streams; bytes read and not yet written are lost.
pub async fn relay(mut a: impl AsyncRead + AsyncWrite + Unpin, mut b: TunnelStream) -> (u64, u64) {
    let (mut to_b, mut to_a) = (ToTunnel::default(), FromTunnel::default());
    poll_fn(|cx| {
        let sent = to_b.poll(cx, &mut a, &mut b);
        let received = to_a.poll(cx, &mut a, &mut b);
        if sent.is_ready() && received.is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    (to_b.count, to_a.count)
}

/// From the plain side into the tunnel.
#[derive(Default)]
struct ToTunnel {
    buffer: BytesMut,
    /// Read and not yet sent. Nothing more is read until it is, so a slow tunnel slows the sender's socket.
    chunk: Bytes,
    count: u64,
    done: bool,
}

impl ToTunnel {
    fn poll<A: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        a: &mut A,
        b: &mut TunnelStream,
    ) -> Poll<()> {
        while !self.done {
            if self.chunk.is_empty() {
                match ready!(self.poll_read(cx, a)) {
                    Some(chunk) => self.chunk = chunk,
                    None => break,
                }
            }
            // Room is asked for only with data in hand: what an idle stream reserves, the others of its tunnel lack.
            let Ok(room) = ready!(b.poll_room(cx, self.chunk.len())) else {
                break;
            };
            if b.send(self.chunk.split_to(room)).is_err() {
                break;
            }
            self.count += room as u64;
        }
        self.done = true;
        b.finish();
        Poll::Ready(())
    }

    fn poll_read<A: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, a: &mut A) -> Poll<Option<Bytes>> {
        self.buffer.resize(CHUNK, 0);
        let mut buffer = ReadBuf::new(&mut self.buffer);
        let read = ready!(Pin::new(a).poll_read(cx, &mut buffer));
        let count = buffer.filled().len();
        if read.is_err() || count == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(self.buffer.split_to(count).freeze()))
    }
}

/// From the tunnel to the plain side.
#[derive(Default)]
struct FromTunnel {
    chunk: Bytes,
    count: u64,
    ended: bool,
    done: bool,
}

impl FromTunnel {
    fn poll<A: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        a: &mut A,
        b: &mut TunnelStream,
    ) -> Poll<()> {
        while !self.done {
            let step = ready!(self.poll_step(cx, a, b));
            self.done |= step.is_err();
        }
        Poll::Ready(())
    }

    /// Moves on by one chunk; an error is the end of this direction.
    fn poll_step<A: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        a: &mut A,
        b: &mut TunnelStream,
    ) -> Poll<io::Result<()>> {
        while self.chunk.has_remaining() {
            let count = ready!(Pin::new(&mut *a).poll_write(cx, &self.chunk))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.chunk.advance(count);
            self.count += count as u64;
        }
        if !self.ended {
            match b.poll_chunk(cx) {
                Poll::Ready(Some(chunk)) => {
                    self.chunk = chunk?;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => {
                    ready!(Pin::new(&mut *a).poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
        ready!(Pin::new(a).poll_shutdown(cx))?;
        self.done = true;
        Poll::Ready(Ok(()))
    }
}
