//! Replay: keeps what was sent of a body, so that it can be sent again.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::layer::{BoxError, MeshBody};

/// How much of request bodies may be kept for retries: per request, and by one mesh participant in all.
#[derive(Clone, Debug)]
pub struct ReplayMemory(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    per_request: usize,
    total: usize,
    used: AtomicUsize,
}

impl Default for ReplayMemory {
    fn default() -> Self {
        Self::new(Self::PER_REQUEST, Self::TOTAL)
    }
}

impl ReplayMemory {
    /// 64 KiB: nearly all calls of services fit.
    pub const PER_REQUEST: usize = 64 << 10;
    /// 1 MiB, Envoy's limit: more is not kept, whatever is asked for.
    pub const MOST: usize = 1 << 20;
    /// 64 MiB: a thousand requests of the greatest size at once.
    pub const TOTAL: usize = 64 << 20;

    /// Keeps so many bytes of one request (at most [`ReplayMemory::MOST`]), and so many in all.
    pub fn new(per_request: usize, total: usize) -> Self {
        Self(Arc::new(Memory {
            per_request: per_request.min(Self::MOST),
            total,
            used: AtomicUsize::new(0),
        }))
    }

    /// How many bytes are kept now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        // Relaxed: a sum and its limit. Added first, so that two at once cannot both get the last.
        let before = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.0.total;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Why a body cannot be sent again: the reasons that `retry_skipped` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// More was sent than is kept of one request.
    TooLarge,
    /// Too much is kept of other requests.
    Memory,
    /// The body itself failed.
    Failed,
}

impl Lost {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "body_too_large",
            Self::Memory => "body_memory",
            Self::Failed => "body_failed",
        }
    }
}

/// A body that can be read from its beginning again. Only one reader is served at a time: the latest.
#[derive(Debug)]
pub(super) struct Replay(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    memory: ReplayMemory,
    /// What was read, oldest first.
    chunks: Vec<Bytes>,
    /// What was read last, still growing.
    open: BytesMut,
    trailers: Option<HeaderMap>,
    /// How much is kept.
    size: usize,
    /// What was not read yet.
    rest: MeshBody,
    ended: bool,
    lost: Option<Lost>,
    /// Counts the readers: a body of an attempt that was given up must not read any more.
    reader: u32,
}

impl Replay {
    /// Keeps what is read of a body.
    pub(super) fn new(body: MeshBody, memory: ReplayMemory) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            memory,
            chunks: Vec::new(),
            open: BytesMut::new(),
            trailers: None,
            size: 0,
            ended: body.is_end_stream(),
            rest: body,
            lost: None,
            reader: 0,
        })))
    }

    /// The body, from its beginning; readers before this one fail from now on.
    pub(super) fn body(&self) -> Result<MeshBody, Lost> {
        let mut kept = lock(&self.0);
        if let Some(lost) = kept.lost {
            return Err(lost);
        }
        if !kept.open.is_empty() {
            let chunk = kept.open.split().freeze();
            kept.chunks.push(chunk);
        }
        kept.reader += 1;
        let reader = Reader {
            number: kept.reader,
            next: 0,
            sent_trailers: false,
            kept: Arc::clone(&self.0),
        };
        drop(kept);
        Ok(MeshBody::driven(Box::pin(reader)))
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    // Never contended: one attempt is under way at a time, and one given up reads at most once more.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn keep(&mut self, data: &Bytes) {
        if self.lost.is_some() {
            return;
        }
        if self.size + data.len() > self.memory.0.per_request {
            self.lose(Lost::TooLarge);
        } else if !self.memory.take(data.len()) {
            self.lose(Lost::Memory);
        } else {
            // Copied: a slice would hold on to the whole buffer that it was read into.
            self.open.extend_from_slice(data);
            self.size += data.len();
        }
    }

    fn lose(&mut self, why: Lost) {
        self.lost = Some(why);
        self.memory.give_back(std::mem::take(&mut self.size));
        (self.chunks, self.open, self.trailers) = (Vec::new(), BytesMut::new(), None);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.memory.give_back(self.size);
    }
}

/// One reading of a [`Replay`].
struct Reader {
    number: u32,
    /// The next chunk to repeat.
    next: usize,
    sent_trailers: bool,
    kept: Arc<Mutex<Kept>>,
}

impl Body for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut kept = lock(&this.kept);
        if kept.reader != this.number {
            return Poll::Ready(Some(Err("the attempt was given up".into())));
        }
        if let Some(chunk) = kept.chunks.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if kept.ended {
            let trailers = kept.trailers.clone().filter(|_| !this.sent_trailers);
            this.sent_trailers = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = ready!(Pin::new(&mut kept.rest).poll_frame(cx));
        match &polled {
            None => kept.ended = true,
            Some(Err(_)) => kept.lose(Lost::Failed),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    kept.keep(data);
                    // What this reader has read is in the open chunk, which becomes a chunk only for the next one.
                    kept.ended |= kept.rest.is_end_stream();
                } else if let Some(trailers) = frame.trailers_ref() {
                    kept.trailers = Some(trailers.clone()).filter(|_| kept.lost.is_none());
                    kept.ended = true;
                    this.sent_trailers = true;
                }
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let kept = lock(&self.kept);
        let trailers = kept.trailers.is_some() && !self.sent_trailers;
        kept.ended && self.next >= kept.chunks.len() && !trailers
    }

    fn size_hint(&self) -> SizeHint {
        let kept = lock(&self.kept);
        let repeated: usize = kept.chunks.iter().skip(self.next).map(Bytes::len).sum();
        let rest = kept.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + repeated as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + repeated as u64);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn streamed(frames: Vec<Result<Frame<Bytes>, BoxError>>) -> MeshBody {
        MeshBody::new(StreamBody::new(futures_util::stream::iter(frames)))
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    async fn text(body: MeshBody) -> String {
        let bytes = body.collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn it_is_read_again_from_wherever_it_was_left() {
        let memory = ReplayMemory::default();
        let replay = Replay::new(
            streamed(vec![data("one "), data("two "), data("three")]),
            memory.clone(),
        );
        let mut first = replay.body().unwrap();
        first.frame().await.unwrap().unwrap();
        first.frame().await.unwrap().unwrap();
        let mut second = replay.body().unwrap();
        assert!(first.frame().await.unwrap().is_err(), "the first was given up");
        second.frame().await.unwrap().unwrap();
        assert_eq!(text(replay.body().unwrap()).await, "one two three");
        assert_eq!(text(replay.body().unwrap()).await, "one two three");
        assert_eq!(memory.used(), 13);
        drop((first, second, replay));
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn trailers_are_repeated() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x", "y".parse().unwrap());
        let replay = Replay::new(
            streamed(vec![data("a"), Ok(Frame::trailers(trailers))]),
            ReplayMemory::default(),
        );
        for _ in 0..3 {
            let read = replay.body().unwrap().collect().await.unwrap();
            assert_eq!(read.trailers().unwrap()["x"], "y");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_passed_on_but_not_kept() {
        let memory = ReplayMemory::new(8, 100);
        let replay = Replay::new(
            streamed(vec![data("12345678"), data("9"), data("0")]),
            memory.clone(),
        );
        assert_eq!(text(replay.body().unwrap()).await, "1234567890");
        assert_eq!(replay.body().unwrap_err(), Lost::TooLarge);
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn all_together_keep_no_more_than_allowed() {
        let memory = ReplayMemory::new(10, 12);
        let body = || streamed(vec![data("12345678")]);
        let first = Replay::new(body(), memory.clone());
        text(first.body().unwrap()).await;
        let second = Replay::new(body(), memory.clone());
        text(second.body().unwrap()).await;
        assert_eq!(second.body().unwrap_err(), Lost::Memory);
        assert_eq!(memory.used(), 8);
        drop(first);
        let third = Replay::new(body(), memory.clone());
        text(third.body().unwrap()).await;
        assert!(third.body().is_ok());
    }

    #[tokio::test]
    async fn a_length_stays_as_it_was() {
        let replay = Replay::new(
            MeshBody::new(http_body_util::Full::new(Bytes::from("hello"))),
            ReplayMemory::default(),
        );
        assert_eq!(replay.body().unwrap().size_hint().exact(), Some(5));
        let mut first = replay.body().unwrap();
        first.frame().await.unwrap().unwrap();
        assert_eq!(replay.body().unwrap().size_hint().exact(), Some(5));
    }

    #[tokio::test]
    async fn a_body_that_failed_is_not_repeated() {
        let replay = Replay::new(
            streamed(vec![data("a"), Err("broken".into())]),
            ReplayMemory::default(),
        );
        assert!(replay.body().unwrap().collect().await.is_err());
        assert_eq!(replay.body().unwrap_err(), Lost::Failed);
    }
}
