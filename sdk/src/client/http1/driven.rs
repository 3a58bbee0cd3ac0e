//! An HTTP/1.1 connection of hyper's.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::{Kind, Standing};
use crate::client::connection::{Io, SendError};
use crate::layer::{BoxError, MeshBody, Watch};
use crate::policy::balance::Endpoint;

/// hyper's driver of an HTTP/1.1 connection.
type Driver = http1::Connection<TokioIo<Io>, MeshBody>;

/// A connection that hyper speaks on.
///
/// hyper splits a connection into a handle and a driver. Usually the driver is its own task; here the driver is polled
/// by whoever waits for the response, which spares two task switches per request. The connection is therefore not read
/// while it idles: [`Driven::is_usable`] asks before it is used again. A request whose body is still being sent when
/// the response begins, and an upgrade, do get a task.
pub(super) struct Driven {
    sender: http1::SendRequest<MeshBody>,
    driver: Option<Pin<Box<Driver>>>,
    /// The task that has the driver instead.
    task: Option<AbortHandle>,
    /// What the driver wakes.
    bell: Arc<Bell>,
}

/// Wakes whoever drives a connection, but not for what they bring about themselves while they poll.
///
/// hyper's two halves wake each other: a request wakes the driver, and so does whoever asks for the body. Both are polled
/// one after the other by the same task anyway (the driver always last), which would be woken to find nothing to do.
#[derive(Debug, Default)]
struct Bell {
    task: AtomicWaker,
    hushed: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.hushed.load(Ordering::Acquire) {
            self.task.wake();
        }
    }
}

impl Bell {
    /// Polls the driver for `task`.
    fn drive(self: &Arc<Self>, driver: &mut Pin<Box<Driver>>, task: &Waker) -> Poll<()> {
        self.task.register(task);
        let bell = Waker::from(Arc::clone(self));
        driver.as_mut().poll(&mut Context::from_waker(&bell)).map(drop)
    }

    /// Does what would only wake the caller. A waking that comes from elsewhere meanwhile is lost: the driver must be
    /// polled afterwards, or the caller be sure to come back.
    fn hushed<T>(&self, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.hushed.store(true, Ordering::Release);
        let polled = poll(&mut Context::from_waker(Waker::noop()));
        self.hushed.store(false, Ordering::Release);
        polled
    }
}

impl Driven {
    pub(super) async fn handshake(io: Io) -> hyper::Result<Self> {
        let (sender, driver) = http1::Builder::new().handshake(TokioIo::new(io)).await?;
        Ok(Self {
            sender,
            driver: Some(Box::pin(driver)),
            task: None,
            bell: Arc::default(),
        })
    }

    /// Whether it may carry another request; `just_now` it was put down.
    pub(super) fn is_usable(&mut self, just_now: bool) -> bool {
        if just_now {
            return self.sender.is_ready();
        }
        // Reads an end of stream that came while nobody looked.
        self.drive(Waker::noop()).is_pending() && self.sender.is_ready()
    }

    /// Polls the driver; `Ready` means that the connection is over. `task` is woken when there is more to do.
    fn drive(&mut self, task: &Waker) -> Poll<()> {
        match &mut self.driver {
            Some(driver) => self.bell.drive(driver, task),
            None if self.sender.is_closed() => Poll::Ready(()),
            None => Poll::Pending,
        }
    }

    /// Hands the driver to a task, for exchanges in which nobody may be waiting.
    fn detach(&mut self) {
        if let Some(driver) = self.driver.take() {
            let task = tokio::spawn(async move {
                if let Err(error) = Pin::into_inner(driver).with_upgrades().await {
                    tracing::debug!(%error, "inner connection failed");
                }
            });
            self.task = Some(task.abort_handle());
        }
    }

    /// Sends a request; the connection goes back to the endpoint's lane at the end of the response's body.
    pub(super) async fn send(
        mut self: Box<Self>,
        standing: Standing,
        mut request: Box<Request<MeshBody>>,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Response<MeshBody>, SendError> {
        let upgrade = request.headers().contains_key(http::header::UPGRADE);
        let mut sent = None;
        if request.body().is_at_hand() {
            // Sent in one go.
        } else if request.body().size_hint().exact().is_some_and(|n| n <= SMALL) {
            let (flag, told) = Sent::new();
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = body.watched(Box::new(flag));
            sent = Some(told);
        } else {
            self.detach();
        }
        if upgrade {
            self.detach();
        }
        let response = {
            let (bell, driver) = (&self.bell, &mut self.driver);
            let sender = &mut self.sender;
            // Boxed: as long as it has not begun, it is as large as the request.
            let mut response = Box::pin(bell.hushed(|_| sender.try_send_request(*request)));
            poll_fn(|cx| {
                let Some(connection) = driver else {
                    return response.as_mut().poll(cx);
                };
                if bell.drive(connection, cx.waker()).is_ready() {
                    // Over; the response future knows why.
                    *driver = None;
                }
                // What wakes the response is the driver, which was polled just now.
                response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            })
            .await
        };
        match response {
            Ok(response) if response.status() == http::StatusCode::SWITCHING_PROTOCOLS => {
                self.detach();
                Ok(response.map(MeshBody::from))
            }
            Ok(response) => {
                if sent.is_some_and(|sent| !sent.load(Ordering::Acquire)) {
                    // An early answer: the rest of the request flows whether or not somebody reads the answer.
                    self.detach();
                }
                let (parts, incoming) = response.into_parts();
                let body = DrivenBody {
                    incoming,
                    rest: Some((self, standing, Arc::clone(endpoint))),
                }
                .settle();
                Ok(Response::from_parts(parts, body))
            }
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

/// Bodies up to this size that are still to come are mostly there before the answer begins: not worth a task.
const SMALL: u64 = 64 << 10;

/// Set when a request's body has been taken from its source.
struct Sent(Arc<AtomicBool>);

impl Sent {
    fn new() -> (Self, Arc<AtomicBool>) {
        let flag = Arc::new(AtomicBool::new(false));
        (Self(Arc::clone(&flag)), flag)
    }
}

impl Watch for Sent {
    fn ended(self: Box<Self>, _: u64, _: Option<&http::HeaderMap>, _: bool) {
        self.0.store(true, Ordering::Release);
    }
}

/// A response body that drives its connection and gives it back at the end.
struct DrivenBody {
    incoming: Incoming,
    rest: Option<(Box<Driven>, Standing, Arc<Endpoint>)>,
}

impl DrivenBody {
    fn settle(mut self) -> MeshBody {
        if self.incoming.is_end_stream() {
            self.give_back();
            return MeshBody::empty();
        }
        MeshBody::driven(Box::pin(self))
    }

    /// Returns the connection to its lane if it is ready for another request.
    fn give_back(&mut self) {
        let Some((mut connection, standing, endpoint)) = self.rest.take() else {
            return;
        };
        if connection.driver.is_none() && !connection.sender.is_closed() {
            // A task drives it and may need a moment more to be done with the request.
            tokio::spawn(async move {
                if connection.sender.ready().await.is_ok() {
                    standing.give_back(Kind::Driven(connection), &endpoint);
                }
            });
            return;
        }
        // Nobody waits for what comes while it idles. hyper is mostly done with the exchange when its end has been read.
        connection.bell.task.take();
        let settled = connection.sender.is_ready() || connection.drive(Waker::noop()).is_pending();
        if settled && connection.sender.is_ready() {
            standing.give_back(Kind::Driven(connection), &endpoint);
        }
    }
}

impl Drop for DrivenBody {
    fn drop(&mut self) {
        // Nobody wants the rest of the answer. By itself the driver would still send the rest of the request.
        if let Some((connection, ..)) = self.rest.take()
            && let Some(task) = connection.task
        {
            task.abort();
        }
    }
}

impl Body for DrivenBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = match &mut this.rest {
            // As in `send`: the driver is what there is to wait for.
            Some((connection, ..)) if connection.driver.is_some() => {
                let incoming = &mut this.incoming;
                let bell = Arc::clone(&connection.bell);
                let mut polled = bell.hushed(|cx| Pin::new(&mut *incoming).poll_frame(cx));
                if polled.is_pending() {
                    if connection.drive(cx.waker()).is_ready() {
                        connection.driver = None;
                    }
                    polled = Pin::new(incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
                }
                polled
            }
            _ => Pin::new(&mut this.incoming).poll_frame(cx),
        };
        if let Poll::Ready(frame) = &polled {
            match frame {
                Some(Err(_)) => drop(this.rest.take()),
                Some(Ok(_)) if !this.incoming.is_end_stream() => {}
                _ => this.give_back(),
            }
        }
        polled.map(|frame| frame.map(|f| f.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
