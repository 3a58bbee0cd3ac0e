//! Inner HTTP/2 connections.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{mpsc, oneshot};

use super::connection::{Io, SendError, Way};
use super::lane::Terms;
use super::room::Room;
use crate::layer::{BoxError, MeshBody};
use crate::policy::traffic::TrafficPolicy;

/// How many bytes of one answer may wait for a reader.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same for all answers of a connection: more than the 200 streams that servers like ours allow can fill, so that
/// whoever stops reading holds up nobody else.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// How long the SETTINGS of a fresh connection are waited for, where it matters what they say.
const SETTINGS_WITHIN: Duration = Duration::from_secs(1);

/// An HTTP/2 connection, shared by all requests to an endpoint; its driver is a task.
pub(super) struct Http2 {
    sender: http2::SendRequest<MeshBody>,
    way: Way,
    closed: Arc<AtomicBool>,
    made: Instant,
    terms: Terms,
    /// How many requests it was given; not counted where that does not matter.
    carried: AtomicU32,
    /// How many of them are under way, and since when none is.
    usage: Arc<Usage>,
    /// Asks the driver whether the peer takes extended CONNECTs: only the driver knows.
    upgrades: mpsc::Sender<oneshot::Sender<bool>>,
}

impl Http2 {
    pub(super) async fn handshake(io: Io, terms: Terms) -> hyper::Result<Self> {
        let way = Way::of(&io);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        if let Some((every, timeout)) = terms.policy().connections.ping {
            builder
                .keep_alive_interval(every)
                .keep_alive_timeout(timeout)
                .keep_alive_while_idle(true);
        }
        let (sender, driver) = builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(64 << 10)
            .handshake(TokioIo::new(io))
            .await?;
        let closed = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&closed);
        let (upgrades, mut asked) = mpsc::channel::<oneshot::Sender<bool>>(1);
        // Ends when the last handle is dropped or the peer closes.
        tokio::spawn(async move {
            let mut driver = pin!(driver);
            let ended = loop {
                tokio::select! {
                    biased;
                    ended = driver.as_mut() => break ended,
                    Some(answer) = asked.recv() => {
                        // Fails if the one who asked has given up.
                        let _ = answer.send(driver.is_extended_connect_protocol_enabled());
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "inner HTTP/2 connection failed");
            }
            over.store(true, Ordering::Release);
        });
        Ok(Self {
            sender,
            way,
            closed,
            made: Instant::now(),
            terms,
            carried: AtomicU32::new(0),
            usage: Arc::default(),
            upgrades,
        })
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether it may carry another request.
    pub(super) fn lasts(&self) -> bool {
        self.terms.last(self.carried.load(Ordering::Relaxed))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.sender.is_closed()
    }

    /// Since when nothing is under way, where that is watched.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let limited = self.terms.policy().connections.idle_timeout.is_some();
        (limited && self.usage.active.load(Ordering::Relaxed) == 0).then(|| {
            let since = Duration::from_millis(self.usage.quiet.load(Ordering::Relaxed));
            self.made + since
        })
    }

    /// A place on the connection for a request under this policy, if there is one.
    pub(super) fn seat(self: &Arc<Self>, policy: &Arc<TrafficPolicy>, room: &Arc<Room>) -> Option<Seated> {
        let connections = &self.terms.policy().connections;
        let counted = connections.max_requests.is_some()
            || connections.max_streams.is_some()
            || connections.idle_timeout.is_some();
        if !self.terms.hold(policy, self.carried.load(Ordering::Relaxed)) {
            return None;
        }
        if !counted {
            return Some(Seated {
                connection: Arc::clone(self),
                seat: None,
            });
        }
        // Relaxed: counts and their limits; added first, so that of two at once only one gets the last place.
        let most = connections.max_streams.unwrap_or(u32::MAX);
        if self.usage.active.fetch_add(1, Ordering::Relaxed) >= most {
            self.usage.active.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let seat = Seat {
            usage: Arc::clone(&self.usage),
            made: self.made,
            room: Arc::clone(room),
        };
        let carried = self.carried.fetch_add(1, Ordering::Relaxed);
        self.terms.last(carried).then(|| Seated {
            connection: Arc::clone(self),
            seat: Some(seat),
        })
    }

    /// As [`Http1::epoch`](super::http1::Http1::epoch).
    pub(super) fn epoch(&self) -> Option<u64> {
        self.way.epoch()
    }

    pub(super) fn is_usable(&self, epoch: u64) -> bool {
        self.way.is_open(epoch) && !self.is_closed()
    }

    /// Whether the peer takes extended CONNECTs. It says so in its SETTINGS, which a fresh connection may still wait for,
    /// and nothing tells when they have come.
    pub(super) async fn takes_upgrades(&self) -> bool {
        loop {
            let (answer, told) = oneshot::channel();
            if self.upgrades.send(answer).await.is_err() {
                return false;
            }
            match told.await {
                Ok(false) if self.made.elapsed() < SETTINGS_WITHIN => {
                    tokio::time::sleep(SETTINGS_WITHIN / 100).await;
                }
                told => return told.unwrap_or(false),
            }
        }
    }

    async fn send(&self, mut request: Box<Request<MeshBody>>) -> Result<Response<MeshBody>, SendError> {
        self.way.carry();
        let mut sender = self.sender.clone();
        // A request that is sent in one go is over before its answer begins.
        let caller = (!request.body().is_at_hand()).then(|| {
            let caller = Arc::new(Caller::default());
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = MeshBody::driven(Box::pin(Sending {
                body,
                caller: Arc::clone(&caller),
            }));
            caller
        });
        match sender.try_send_request(*request).await {
            Ok(response) => Ok(response.map(|incoming| match caller {
                Some(caller) if !incoming.is_end_stream() => MeshBody::driven(Box::pin(Receiving {
                    incoming: Some(incoming),
                    caller,
                })),
                _ => MeshBody::from(incoming),
            })),
            Err(mut failed) => {
                let unsent = failed.take_message().map(Box::new);
                Err(SendError {
                    error: failed.into_error().into(),
                    unsent,
                })
            }
        }
    }
}

// ===== requests at once =====

/// What is under way on a connection.
#[derive(Debug, Default)]
struct Usage {
    active: AtomicU32,
    /// When the last request ended, in milliseconds since the connection was made.
    quiet: AtomicU64,
}

/// A place on a connection, until the answer has ended.
struct Seat {
    usage: Arc<Usage>,
    made: Instant,
    room: Arc<Room>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let since = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.usage.quiet.store(since, Ordering::Relaxed);
        self.usage.active.fetch_sub(1, Ordering::Relaxed);
        self.room.free();
    }
}

/// A connection with a place on it.
pub(super) struct Seated {
    pub(super) connection: Arc<Http2>,
    seat: Option<Seat>,
}

impl Seated {
    /// Sends a request; the place is held until its answer has ended.
    pub(super) async fn send(self, request: Box<Request<MeshBody>>) -> Result<Response<MeshBody>, SendError> {
        let response = self.connection.send(request).await?;
        Ok(match self.seat {
            None => response,
            Some(seat) => response.map(|body| MeshBody::driven(Box::pin(Held { body, _seat: seat }))),
        })
    }
}

/// An answer's body that holds a place.
struct Held {
    body: MeshBody,
    _seat: Seat,
}

impl Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// ===== a caller that leaves in the middle =====
//
// An HTTP/2 stream is reset when both its halves have been dropped. The half that sends belongs to a task of hyper's, and
// would go on for as long as the body of the request does: so the half that receives tells it.

/// How long an answer that nobody wants is still read, so that the peer takes what says so.
const LINGER: Duration = Duration::from_secs(5);

/// Whether the caller of a request still wants its answer.
#[derive(Default)]
struct Caller {
    has_left: AtomicBool,
    waker: AtomicWaker,
}

/// A request's body, while somebody waits for the answer.
struct Sending {
    body: MeshBody,
    caller: Arc<Caller>,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending() {
            this.caller.waker.register(cx.waker());
        }
        // Acquire: pairs with the Release of the one who left; nothing else is published by it.
        if this.caller.has_left.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(::h2::Error::from(::h2::Reason::CANCEL).into())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body; dropped before its end, it stops the request too.
struct Receiving {
    incoming: Option<Incoming>,
    caller: Arc<Caller>,
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.incoming {
            Some(incoming) => Pin::new(incoming)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let Some(mut incoming) = self.incoming.take().filter(|it| !it.is_end_stream()) else {
            return;
        };
        let caller = Arc::clone(&self.caller);
        caller.has_left.store(true, Ordering::Release);
        caller.waker.wake();
        // One is held by the task below; another means that the request is still under way. If it waits for room it does
        // not look, and the peer makes room only if its answer is taken.
        let is_sending = move || Arc::strong_count(&caller) > 1;
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(tokio::time::timeout(LINGER, async move {
            while is_sending() && matches!(incoming.frame().await, Some(Ok(_))) {}
        }));
    }
}
