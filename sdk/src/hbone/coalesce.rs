//! Fewer, larger writes below HTTP/2.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Writes up to this size are kept until they are flushed or joined by a larger one.
const SMALL: usize = 4 * 1024;

/// Joins small writes into one, so that a frame's head and its payload, and several small frames, become one TLS
/// record and one system call.
///
/// It claims not to write vectored: then the HTTP/2 codec copies payloads under a kibibyte next to their heads, and
/// all that is ready goes out together. Larger payloads are handed through without a copy.
pub(super) struct Coalesce<T> {
    io: T,
    held: Vec<u8>,
    alert: Alert,
}

/// The TLS alert that the peer sent, if it did. HTTP/2 reports I/O errors as text, so it is noted here on its way up.
pub(super) type Alert = Arc<OnceLock<rustls::AlertDescription>>;

impl<T> Coalesce<T> {
    pub(super) fn new(io: T) -> Self {
        Self {
            io,
            held: Vec::with_capacity(SMALL),
            alert: Alert::default(),
        }
    }

    /// Where an alert will be found.
    pub(super) fn alert(&self) -> Alert {
        self.alert.clone()
    }
}

impl<T: AsyncWrite + Unpin> Coalesce<T> {
    /// Writes what is held, and behind it as much of `more` as the other end takes. Returns how much that is.
    fn poll_push(&mut self, cx: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let both = [IoSlice::new(&self.held), IoSlice::new(more)];
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &both))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_held = written.min(self.held.len());
            self.held.drain(..of_held);
            if written > of_held {
                return Poll::Ready(Ok(written - of_held));
            }
        }
        if more.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.io).poll_write(cx, more)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalesce<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() <= SMALL {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        self.poll_push(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx, &[]))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx, &[]))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Coalesce<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buffer));
        if let Err(error) = &read
            && let Some(rustls::Error::AlertReceived(alert)) = error.get_ref().and_then(|e| e.downcast_ref())
        {
            let _ = self.alert.set(*alert); // only the first counts
        }
        Poll::Ready(read)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn everything_arrives_in_order_whatever_the_sizes() {
        let (near, mut far) = duplex(700);
        let mut sent = Vec::new();
        let sizes = [1, 9, 300, 5000, 3, 4096, 4097, 0, 100_000, 17];
        for (i, size) in sizes.into_iter().enumerate() {
            sent.extend(std::iter::repeat_n(i as u8, size));
        }
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            let mut near = Coalesce::new(near);
            let mut rest = &sent[..];
            for size in sizes {
                near.write_all(&rest[..size]).await.unwrap();
                rest = &rest[size..];
            }
            near.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert!(got == expected);
    }
}
