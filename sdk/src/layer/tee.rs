//! Tee: a body that is read once, and copies of what passed through it.
//!
//! The copies never hold up the one who reads. What they have not taken yet waits for them, up to a limit; a copy that
//! lags further behind is given up and fails, as does every copy of a body that was not read to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{BoxError, MeshBody};

/// How many bytes may wait for one copy.
const LAG: usize = 256 << 10;

/// What a frame costs besides its bytes: a body of single bytes must not take hundreds of times as much.
const FRAME: usize = 64;

/// Makes `count` copies of a body: free where it is at hand, of the frames as they pass where it is not.
pub(super) fn tee(body: MeshBody, count: usize) -> (MeshBody, Vec<MeshBody>) {
    if let Some(copies) = (0..count).map(|_| body.try_clone()).collect() {
        return (body, copies);
    }
    let left = body.size_hint().exact();
    let (outlets, copies) = (0..count).map(|_| Outlet::open(left)).unzip();
    let tee = Tee { body, outlets };
    (MeshBody::new(tee), copies)
}

/// The copy did not keep up, or the body was not read to its end.
#[derive(Debug, thiserror::Error)]
#[error("the copy of the body ends here")]
struct Torn;

enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// The body that is read.
struct Tee {
    body: MeshBody,
    outlets: Vec<Outlet>,
}

/// Where a copy's pieces go in. The channel is bounded by `waiting`.
struct Outlet {
    pieces: UnboundedSender<Piece>,
    waiting: Arc<AtomicUsize>,
}

/// A copy.
struct Copied {
    pieces: UnboundedReceiver<Piece>,
    waiting: Arc<AtomicUsize>,
    left: Option<u64>,
    is_over: bool,
}

impl Outlet {
    fn open(left: Option<u64>) -> (Self, MeshBody) {
        let (sender, receiver) = unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let copy = Copied {
            pieces: receiver,
            waiting: Arc::clone(&waiting),
            left,
            is_over: false,
        };
        let outlet = Self {
            pieces: sender,
            waiting,
        };
        (outlet, MeshBody::new(copy))
    }

    /// Whether the copy is still worth feeding.
    fn feed(&self, piece: Piece) -> bool {
        // Relaxed: only the one who reads adds, so the sum is never too small.
        let cost = piece.cost();
        let before = self.waiting.fetch_add(cost, Ordering::Relaxed);
        (before == 0 || before + cost <= LAG) && self.pieces.send(piece).is_ok()
    }
}

impl Piece {
    fn cost(&self) -> usize {
        match self {
            Self::Data(data) => FRAME + data.len(),
            Self::Trailers(_) | Self::End => 0,
        }
    }
}

impl Tee {
    fn feed(&mut self, piece: impl Fn() -> Piece) {
        // Dropping an outlet tears its copy.
        self.outlets.retain(|outlet| outlet.feed(piece()));
    }

    fn end(&mut self) {
        for outlet in self.outlets.drain(..) {
            outlet.feed(Piece::End);
        }
    }
}

impl Body for Tee {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &polled {
            None => this.end(),
            Some(Err(_)) => this.outlets.clear(),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
                    this.feed(|| Piece::Data(data.clone()));
                } else if let Some(trailers) = frame.trailers_ref() {
                    this.feed(|| Piece::Trailers(trailers.clone()));
                }
                // Nobody asks again once a body says that it is at its end.
                if this.body.is_end_stream() {
                    this.end();
                }
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body for Copied {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let piece = ready!(this.pieces.poll_recv(cx));
        if let Some(piece) = &piece {
            this.waiting.fetch_sub(piece.cost(), Ordering::Relaxed);
        }
        Poll::Ready(match piece {
            Some(Piece::Data(data)) => {
                this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                Some(Ok(Frame::data(data)))
            }
            Some(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Piece::End) => {
                this.is_over = true;
                None
            }
            None => {
                this.is_over = true;
                Some(Err(Torn.into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn streamed(frames: Vec<Result<Frame<Bytes>, BoxError>>) -> MeshBody {
        MeshBody::new(StreamBody::new(stream::iter(frames)))
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn copies_have_every_byte_and_the_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        let body = streamed(vec![
            data("ab"),
            data(""),
            data("cd"),
            Ok(Frame::trailers(trailers)),
        ]);
        let (body, copies) = tee(body, 2);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcd");
        for copy in copies {
            let copy = copy.collect().await.unwrap();
            assert!(copy.trailers().is_some());
            assert_eq!(copy.to_bytes(), "abcd");
        }
    }

    #[tokio::test]
    async fn a_body_at_hand_is_simply_there_twice() {
        let (body, copies) = tee(MeshBody::full("ab"), 1);
        drop(body);
        for copy in copies {
            assert_eq!(copy.collect().await.unwrap().to_bytes(), "ab");
        }
    }

    #[tokio::test]
    async fn a_copy_that_lags_is_torn_and_holds_nobody_up() {
        let frame = Bytes::from(vec![0; 64 << 10]);
        let frames = (0..64).map(|_| Ok(Frame::data(frame.clone()))).collect();
        let (body, mut copies) = tee(streamed(frames), 1);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 4 << 20);
        let mut copy = copies.remove(0);
        let mut bytes = 0;
        let torn = loop {
            match copy.frame().await {
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(torn && bytes <= LAG, "{bytes}");
    }

    #[tokio::test]
    async fn a_body_that_is_not_read_to_its_end_tears_its_copies() {
        let (mut body, mut copies) = tee(streamed(vec![data("ab"), data("cd")]), 1);
        body.frame().await.unwrap().unwrap();
        drop(body);
        let mut copy = copies.remove(0);
        assert_eq!(copy.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        assert!(copy.frame().await.unwrap().is_err());

        let (body, copies) = tee(streamed(vec![data("ab"), Err("broken".into())]), 1);
        assert!(body.collect().await.is_err());
        for copy in copies {
            assert!(copy.collect().await.is_err());
        }
    }

    #[tokio::test]
    async fn a_copy_that_is_gone_is_no_longer_fed() {
        let (body, copies) = tee(streamed(vec![data("ab"), data("cd")]), 2);
        drop(copies);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcd");
    }
}
