//! The one body type of the stack: an enum, so that frames pass through without a virtual call or a copy.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// Any error, as tower spells it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every request and response that passes through inmesh.
///
/// Frames travel as [`Bytes`], untouched. Dropping a body that is not at its end cancels the transfer.
pub struct MeshBody {
    kind: Kind,
    sent: u64,
    watch: Option<Box<dyn Watch>>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Boxed(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
}

/// Told once how a body ended.
pub(crate) trait Watch: Send {
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
        }
    }

    /// A copy for another attempt, where that is free: for bodies that are empty or at hand in one piece.
    pub fn try_clone(&self) -> Option<Self> {
        match &self.kind {
            Kind::Empty => Some(Self::empty()),
            Kind::Full(bytes) => Some(Self::full(bytes.clone())),
            Kind::Incoming(_) | Kind::Boxed(_) => None,
        }
    }

    /// Reports how the body ended to `watch`.
    pub(crate) fn watched(mut self, watch: Box<dyn Watch>) -> Self {
        if self.watch.is_some() {
            // Two observers of one body (a waypoint's two halves): the outer one wraps the inner.
            return Self {
                kind: Kind::Boxed(Box::pin(self)),
                sent: 0,
                watch: None,
            }
            .watched(watch);
        }
        if self.is_end_stream() {
            watch.ended(0, None, true);
        } else {
            self.watch = Some(watch);
        }
        self
    }

    fn end(&mut self, trailers: Option<&HeaderMap>, complete: bool) {
        if let Some(watch) = self.watch.take() {
            watch.ended(self.sent, trailers, complete);
        }
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
            Kind::Incoming(body) => ready!(Pin::new(body).poll_frame(cx)).map(|f| f.map_err(Into::into)),
            Kind::Boxed(body) => ready!(body.as_mut().poll_frame(cx)),
        };
        match &polled {
            None => this.end(None, true),
            Some(Err(_)) => this.end(None, false),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.sent += data.len() as u64;
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

    #[test]
    fn only_what_is_at_hand_can_be_copied() {
        assert!(MeshBody::full("x").try_clone().is_some());
        assert!(MeshBody::new(Full::new(Bytes::new())).try_clone().is_some());
        assert!(MeshBody::new(Full::new(Bytes::from("x"))).try_clone().is_none());
        assert!(MeshBody::new(MeshBody::full("x")).try_clone().is_some());
    }
}
