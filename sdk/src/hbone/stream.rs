//! One `CONNECT` as a stream of bytes.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::carrier::{Carrier, Seat};
use super::error::io_error;
use super::linger;
use crate::name::Peer;

/// A stream of bytes to one destination through a tunnel.
///
/// Reading gives the peer new room as data is taken, writing waits while the peer gives none, so neither side buffers
/// more than the windows of [`super::Settings`]. Shutting down ends our direction and leaves the other open. Dropping
/// the stream ends our direction too, and what the peer still sends is drained for a while, so that a finished
/// conversation never looks like a reset; [`TunnelStream::reset`] is for those that shall.
pub struct TunnelStream {
    /// Both halves are there until `reset` or `drop` takes them.
    send: Option<SendStream<Bytes>>,
    recv: Option<RecvStream>,
    seat: Option<Seat>,
    /// What is left of the last DATA frame, and the frame's whole length, for which room is due once it is read.
    chunk: Bytes,
    due: usize,
    read: Half,
    write: Half,
    peer: Arc<Peer>,
    epoch: u64,
}

/// The tunnel below a stream, as far as a user of the stream may ask about it.
#[derive(Clone, Debug)]
pub struct TunnelHandle(Arc<Carrier>);

impl TunnelHandle {
    /// Whether the peer has said GOAWAY, or the tunnel has left its pool: what is under way finishes, nothing new should
    /// be started.
    pub fn is_going(&self) -> bool {
        self.0.is_going()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.0.peer
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Open,
    Ended,
}

impl TunnelStream {
    pub(super) fn new(send: SendStream<Bytes>, recv: RecvStream, seat: Seat) -> Self {
        Self {
            send: Some(send),
            recv: Some(recv),
            peer: seat.carrier().peer.clone(),
            epoch: seat.carrier().epoch,
            seat: Some(seat),
            chunk: Bytes::new(),
            due: 0,
            read: Half::Open,
            write: Half::Open,
        }
    }

    /// Who is at the other end of the tunnel, as its certificate proved.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// The [epoch](crate::identity::Credential::epoch) of our credential that the tunnel was made with.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The tunnel below, to ask about its health later.
    pub fn tunnel(&self) -> Option<TunnelHandle> {
        self.seat
            .as_ref()
            .map(|seat| TunnelHandle(Arc::clone(seat.carrier())))
    }

    /// Cuts the stream off in both directions: for one that is no longer allowed.
    pub fn reset(mut self) {
        if let Some(send) = &mut self.send {
            send.send_reset(Reason::CANCEL);
        }
        self.read = Half::Ended;
        self.write = Half::Ended;
    }

    /// The next piece of data as it lies in memory, without a copy; `None` at the end.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        ready!(self.poll_fill(cx))?;
        if self.chunk.is_empty() {
            return Poll::Ready(None);
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.give_room();
        Poll::Ready(Some(Ok(chunk)))
    }

    /// Sees to it that `chunk` holds data, unless the peer has ended.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() && self.read == Half::Open {
            let Some(recv) = &mut self.recv else { break };
            match ready!(recv.poll_data(cx)) {
                Some(Ok(chunk)) => {
                    self.due = chunk.len();
                    self.chunk = chunk;
                }
                None => self.read = Half::Ended,
                Some(Err(error)) => {
                    self.read = Half::Ended;
                    if error.is_reset() && error.is_remote() {
                        self.count_reset();
                    }
                    // Peers end a finished stream this way too, ztunnel takes it for the end, and so do we.
                    let ended = matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL));
                    if !(error.is_reset() && ended) {
                        return Poll::Ready(Err(io_error(error)));
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Lets the peer send as much again as was read.
    fn give_room(&mut self) {
        let due = std::mem::take(&mut self.due);
        if due > 0
            && let Some(recv) = &mut self.recv
        {
            // Fails only if the stream is over, and then nobody needs room.
            let _ = recv.flow_control().release_capacity(due);
        }
    }

    fn count_reset(&self) {
        if let Some(seat) = &self.seat {
            seat.carrier().count_reset();
        }
    }

    /// Waits until at least one byte may be sent; says how many may, up to `wanted`.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if self.write == Half::Ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let Some(send) = &mut self.send else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let mut room = send.capacity();
        if room == 0 {
            send.reserve_capacity(wanted);
            room = send.capacity();
        }
        while room == 0 {
            room = match ready!(send.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        Poll::Ready(Ok(room.min(wanted)))
    }

    /// Sends a piece for which [`Self::poll_room`] found room.
    pub(crate) fn send(&mut self, data: Bytes) -> io::Result<()> {
        match &mut self.send {
            Some(send) => send.send_data(data, false).map_err(io_error),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Ends our direction.
    pub(super) fn finish(&mut self) {
        if self.write == Half::Open {
            self.write = Half::Ended;
            if let Some(send) = &mut self.send {
                // Fails only if the stream is over, which is what we want.
                let _ = send.send_data(Bytes::new(), true);
            }
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_fill(cx))?;
        let count = self.chunk.len().min(buffer.remaining());
        buffer.put_slice(&self.chunk[..count]);
        self.chunk.advance(count);
        if self.chunk.is_empty() {
            self.chunk = Bytes::new(); // lets go of the frame's memory
            self.give_room();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(cx, bytes.len()))?;
        self.send(Bytes::copy_from_slice(&bytes[..room]))?;
        Poll::Ready(Ok(room))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = slices.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(cx, total))?;
        let mut joined = BytesMut::with_capacity(room);
        for slice in slices {
            let take = slice.len().min(room - joined.len());
            joined.extend_from_slice(&slice[..take]);
        }
        self.send(joined.freeze())?;
        Poll::Ready(Ok(room))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the task that drives the tunnel writes whatever it has
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        self.finish();
        self.give_room();
        if self.read == Half::Open
            && let (Some(recv), Some(seat)) = (self.recv.take(), self.seat.take())
            && !recv.is_end_stream()
        {
            linger::drain(recv, seat);
        }
    }
}

impl fmt::Debug for TunnelStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelStream")
            .field("peer", &self.peer)
            .field("epoch", &self.epoch)
            .field("read", &self.read)
            .field("write", &self.write)
            .finish_non_exhaustive()
    }
}
