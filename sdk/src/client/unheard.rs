//! A connection to a port whose routes depend on how it opens: nothing is dialled before the caller has said enough.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::wire::Opened;
use crate::layer::Refusal;
use crate::policy::connection::{Heard, HelloReader};

/// How long a caller may read without having written before its protocol is taken for one in which the server speaks
/// first.
const SILENCE: Duration = Duration::from_millis(500);

/// Dials once it is known how the connection opens.
pub(super) type Dial = Box<dyn FnOnce(Heard) -> Dialling + Send>;
/// A connection that is being made.
pub(super) type Dialling = Pin<Box<dyn Future<Output = Result<Opened, Refusal>> + Send>>;

/// A connection that may not be made yet.
///
/// ```text
/// Hearing ── a ClientHello, other bytes, silence, the end ──▶ Dialling ──▶ Open
///                                                                └──────▶ Failed
/// ```
///
/// Both halves may be driven by different tasks. Whichever gets on wakes the other.
pub(super) struct Unheard {
    state: State,
    /// What the caller wrote and nobody got yet.
    held: BytesMut,
    waiting: Waiting,
}

enum State {
    Hearing {
        reader: HelloReader,
        /// Runs while the caller reads and has not written.
        silence: Option<Pin<Box<Sleep>>>,
        dial: Option<Dial>,
    },
    Dialling(Dialling),
    Open(Opened),
    Failed,
}

/// Who waits for the connection to be made.
#[derive(Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Unheard {
    pub(super) fn new(dial: Dial) -> Self {
        Self {
            state: State::Hearing {
                reader: HelloReader::default(),
                silence: None,
                dial: Some(dial),
            },
            held: BytesMut::new(),
            waiting: Waiting::default(),
        }
    }

    /// Dials, if that has not been done yet.
    fn settle(&mut self, heard: Heard) {
        if let State::Hearing { dial, .. } = &mut self.state {
            self.state = match dial.take() {
                Some(dial) => State::Dialling(dial(heard)),
                None => State::Failed,
            };
            self.waiting.wake();
        }
    }

    /// The connection, once it is made and has got everything that was written before.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Opened>> {
        if let State::Dialling(dialling) = &mut self.state {
            let dialled = ready!(dialling.as_mut().poll(cx));
            self.waiting.wake();
            self.state = match dialled {
                Ok(opened) => State::Open(opened),
                Err(refusal) => {
                    self.state = State::Failed;
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, refusal)));
                }
            };
        }
        match &mut self.state {
            State::Open(opened) => {
                while self.held.has_remaining() {
                    let count = ready!(Pin::new(&mut *opened).poll_write(cx, &self.held))?;
                    if count == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.held.advance(count);
                }
                Poll::Ready(Ok(opened))
            }
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Hearing { silence, .. } = &mut self.state else {
            return Poll::Ready(());
        };
        if self.held.is_empty() {
            let silence = silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE)));
            return silence.as_mut().poll(cx);
        }
        // It began to say something: its peer would wait for the rest, and so do we.
        Poll::Pending
    }
}

impl Waiting {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl AsyncRead for Unheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !matches!(this.state, State::Open(_)) {
            this.waiting.reader = Some(cx.waker().clone());
        }
        if matches!(this.state, State::Hearing { .. }) {
            ready!(this.poll_silence(cx));
            this.settle(Heard::Plain);
        }
        let opened = ready!(this.poll_open(cx))?;
        Pin::new(opened).poll_read(cx, buf)
    }
}

impl AsyncWrite for Unheard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let State::Hearing { reader, .. } = &mut this.state {
            if buf.is_empty() {
                return Poll::Ready(Ok(0));
            }
            // The reader settles before this grows beyond the longest ClientHello and one more write.
            this.held.extend_from_slice(buf);
            match reader.read(buf) {
                Heard::More => {}
                heard => this.settle(heard),
            }
            return Poll::Ready(Ok(buf.len()));
        }
        if !matches!(this.state, State::Open(_)) {
            this.waiting.writer = Some(cx.waker().clone());
        }
        let opened = ready!(this.poll_open(cx))?;
        Pin::new(opened).poll_write(cx, buf)
    }

    /// What is held back cannot be sent sooner: before the connection opens there is nothing to flush.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.state, State::Hearing { .. }) {
            return Poll::Ready(Ok(()));
        }
        if !matches!(this.state, State::Open(_)) {
            this.waiting.writer = Some(cx.waker().clone());
        }
        let opened = ready!(this.poll_open(cx))?;
        Pin::new(opened).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // Whatever it was going to be, it is none.
        this.settle(Heard::Plain);
        if !matches!(this.state, State::Open(_)) {
            this.waiting.writer = Some(cx.waker().clone());
        }
        let opened = ready!(this.poll_open(cx))?;
        Pin::new(opened).poll_shutdown(cx)
    }
}
