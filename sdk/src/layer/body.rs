//! The one body type of the stack: an enum, so that frames pass through without a virtual call or a copy.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::policy::balance::InFlight;
use crate::policy::traffic::Ticket;

/// Any error, as tower spells it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every request and response that passes through inmesh.
///
/// Frames travel as [`Bytes`], untouched. Dropping a body that is not at its end cancels the transfer.
pub struct MeshBody {
    kind: Kind,
    sent: u64,
    watch: Option<Box<dyn Watch>>,
    patience: Option<Patience>,
    /// What counts the exchange as under way, until the body has ended.
    held: Option<Held>,
}

/// What counts an exchange as under way: at its endpoint, and at its destination.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) _endpoint: InFlight,
    pub(super) _cluster: Option<Ticket>,
}

/// How long a body may make its reader wait for the next frame.
struct Patience {
    after: Duration,
    /// Since when somebody waits.
    since: Option<Instant>,
    /// Made when somebody first has to wait, and used again.
    timer: Option<Pin<Box<Sleep>>>,
}

/// A body of which nothing came for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing of the body came for {0:?}")]
pub(crate) struct Stalled(Duration);

enum Kind {
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Boxed(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
}

/// Told once how a body ended.
pub(crate) trait Watch: Send {
    /// Data passes.
    fn passing(&mut self, _data: &[u8]) {}

    /// `bytes` of data passed; `trailers` if there were any; `complete` is false if the body was dropped or failed.
    fn ended(self: Box<Self>, bytes: u64, trailers: Option<&HeaderMap>, complete: bool);
}

impl MeshBody {
    /// A body without content.
    pub fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    /// A body of bytes at hand. Cheap to clone for a retry.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::of(if bytes.is_empty() {
            Kind::Empty
        } else {
            Kind::Full(bytes)
        })
    }

    /// Any other body; one of our own, or hyper's, is taken as it is.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // A cast through `Any` tells the known types apart without asking more of `B`.
        let mut body = Some(body);
        let any: &mut dyn Any = &mut body;
        if let Some(own) = any.downcast_mut::<Option<Self>>().and_then(Option::take) {
            return own;
        }
        if let Some(incoming) = any.downcast_mut::<Option<Incoming>>().and_then(Option::take) {
            return incoming.into();
        }
        match body {
            Some(body) if body.is_end_stream() => Self::empty(),
            Some(body) => Self::of(Kind::Boxed(Box::pin(Boxed { body }))),
            None => Self::empty(),
        }
    }

    /// A body whose errors are boxed already.
    pub(crate) fn driven(body: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>) -> Self {
        Self::of(Kind::Boxed(body))
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            sent: 0,
            watch: None,
            patience: None,
            held: None,
        }
    }

    /// Fails with [`Stalled`] if no frame comes for so long.
    pub(crate) fn patient(mut self, after: Duration) -> Self {
        if !self.is_at_hand() {
            self.patience = Some(Patience {
                after,
                since: None,
                timer: None,
            });
        }
        self
    }

    /// A copy for another attempt, where that is free: for bodies that are empty or at hand in one piece.
    pub fn try_clone(&self) -> Option<Self> {
        match &self.kind {
            Kind::Empty => Some(Self::empty()),
            Kind::Full(bytes) => Some(Self::full(bytes.clone())),
            Kind::Incoming(_) | Kind::Boxed(_) => None,
        }
    }

    /// All of it, where it is at hand in one piece.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Empty => Some(&[]),
            Kind::Full(bytes) => Some(bytes),
            Kind::Incoming(_) | Kind::Boxed(_) => None,
        }
    }

    /// Whether there is nothing to wait for.
    pub(crate) fn is_at_hand(&self) -> bool {
        matches!(self.kind, Kind::Empty | Kind::Full(_))
    }

    /// What there is, if that is all and nobody needs to see it pass.
    pub(crate) fn whole(&self) -> Option<&[u8]> {
        match &self.kind {
            _ if self.watch.is_some() => None,
            Kind::Empty => Some(&[]),
            Kind::Full(bytes) => Some(bytes),
            Kind::Incoming(_) | Kind::Boxed(_) => None,
        }
    }

    /// Reports how the body ended to `watch`.
    pub(crate) fn watched(mut self, watch: Box<dyn Watch>) -> Self {
        if self.watch.is_some() {
            // Two observers of one body (a waypoint's two halves): the outer one wraps the inner.
            return Self::of(Kind::Boxed(Box::pin(self))).watched(watch);
        }
        if self.is_end_stream() {
            watch.ended(0, None, true);
        } else {
            self.watch = Some(watch);
        }
        self
    }

    /// Keeps an exchange counted as under way until the body has ended.
    pub(crate) fn holding(mut self, held: Held) -> Self {
        if !self.is_end_stream() {
            self.held = Some(held);
        }
        self
    }

    fn end(&mut self, trailers: Option<&HeaderMap>, complete: bool) {
        self.held = None;
        if let Some(watch) = self.watch.take() {
            watch.ended(self.sent, trailers, complete);
        }
    }
}

impl Patience {
    /// Ready when it is exhausted.
    fn poll(patience: &mut Option<Self>, cx: &mut Context<'_>) -> Poll<Stalled> {
        let Some(Self { after, since, timer }) = patience else {
            return Poll::Pending;
        };
        let until = *since.get_or_insert_with(Instant::now) + *after;
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        // A frame only forgets since when: the timer is put right when it rings, not for each of them.
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(Stalled(*after));
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl Default for MeshBody {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Incoming> for MeshBody {
    fn from(body: Incoming) -> Self {
        Self::of(if body.is_end_stream() {
            Kind::Empty
        } else {
            Kind::Incoming(body)
        })
    }
}

impl From<Bytes> for MeshBody {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl From<String> for MeshBody {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl From<&'static str> for MeshBody {
    fn from(text: &'static str) -> Self {
        Self::full(text)
    }
}

impl Body for MeshBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = match &mut this.kind {
            Kind::Empty => None,
            Kind::Full(bytes) => {
                let frame = Frame::data(std::mem::take(bytes));
                this.kind = Kind::Empty;
                Some(Ok(frame))
            }
            Kind::Incoming(body) => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => frame.map(|frame| frame.map_err(Into::into)),
                Poll::Pending => Some(Err(ready!(Patience::poll(&mut this.patience, cx)).into())),
            },
            Kind::Boxed(body) => match body.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => Some(Err(ready!(Patience::poll(&mut this.patience, cx)).into())),
            },
        };
        if let Some(patience) = &mut this.patience {
            patience.since = None;
        }
        match &polled {
            None => this.end(None, true),
            Some(Err(_)) => this.end(None, false),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.sent += data.len() as u64;
                    if let Some(watch) = &mut this.watch {
                        watch.passing(data);
                    }
                    // hyper does not ask again once a body says that it is at its end.
                    if this.is_end_stream() {
                        this.end(None, true);
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    this.end(Some(trailers), true);
                }
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

impl Drop for MeshBody {
    fn drop(&mut self) {
        let complete = self.is_end_stream();
        self.end(None, complete);
    }
}

impl std::fmt::Debug for MeshBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "empty",
            Kind::Full(_) => "full",
            Kind::Incoming(_) => "incoming",
            Kind::Boxed(_) => "boxed",
        };
        f.debug_struct("MeshBody")
            .field("kind", &kind)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

pin_project_lite::pin_project! {
    /// A foreign body with its error boxed.
    struct Boxed<B> {
        #[pin]
        body: B,
    }
}

impl<B> Body for Boxed<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project()
            .body
            .poll_frame(cx)
            .map(|frame| frame.map(|f| f.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    type Seen = Arc<Mutex<Vec<(u64, bool, bool)>>>;
    struct Note(Seen);

    impl Watch for Note {
        fn ended(self: Box<Self>, bytes: u64, trailers: Option<&HeaderMap>, complete: bool) {
            self.0.lock().unwrap().push((bytes, trailers.is_some(), complete));
        }
    }

    #[tokio::test]
    async fn a_watcher_hears_of_the_end_once() {
        let seen = Seen::default();
        let body = MeshBody::full("hello").watched(Box::new(Note(seen.clone())));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(*seen.lock().unwrap(), [(5, false, true)]);

        seen.lock().unwrap().clear();
        drop(MeshBody::empty().watched(Box::new(Note(seen.clone()))));
        drop(MeshBody::full("x").watched(Box::new(Note(seen.clone()))));
        assert_eq!(*seen.lock().unwrap(), [(0, false, true), (0, false, false)]);
    }

    #[tokio::test]
    async fn two_watchers_both_hear() {
        let seen = Seen::default();
        let note = || Box::new(Note(seen.clone()));
        let body = MeshBody::full("hello").watched(note()).watched(note());
        body.collect().await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [(5, false, true), (5, false, true)]);
    }

    #[tokio::test]
    async fn trailers_are_seen_and_passed() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let frames = [
            Ok::<_, BoxError>(Frame::data(Bytes::from("ab"))),
            Ok(Frame::trailers(trailers)),
        ];
        let seen = Seen::default();
        let body = MeshBody::new(StreamBody::new(futures_util::stream::iter(frames)))
            .watched(Box::new(Note(seen.clone())));
        assert!(body.collect().await.unwrap().trailers().is_some());
        assert_eq!(*seen.lock().unwrap(), [(2, true, true)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_fails_and_one_that_is_slow_does_not() {
        let frames = futures_util::stream::unfold(0, async |n| {
            let pause = if n < 10 { 200 } else { 10_000 };
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Some((Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))), n + 1))
        });
        let mut body = MeshBody::new(StreamBody::new(frames)).patient(Duration::from_secs(300));
        for _ in 0..10 {
            assert!(body.frame().await.unwrap().is_ok());
            // Time that the reader takes is not the sender's.
            tokio::time::sleep(Duration::from_secs(1_000)).await;
        }
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.downcast_ref::<Stalled>().is_some(), "{error}");
    }

    #[test]
    fn only_what_is_at_hand_can_be_copied() {
        assert!(MeshBody::full("x").try_clone().is_some());
        assert!(MeshBody::new(Full::new(Bytes::new())).try_clone().is_some());
        assert!(MeshBody::new(Full::new(Bytes::from("x"))).try_clone().is_none());
        assert!(MeshBody::new(MeshBody::full("x")).try_clone().is_some());
    }
}
