//! Inner HTTP/1.1 connections.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::connection::{Io, SendError, Way};
use super::lane::Lane;
use crate::layer::{BoxError, MeshBody, Watch};
use crate::policy::balance::Endpoint;

/// hyper's driver of an HTTP/1.1 connection.
type Driver = http1::Connection<TokioIo<Io>, MeshBody>;

/// An HTTP/1.1 connection for one request at a time.
///
/// hyper splits a connection into a handle and a driver. Usually the driver is its own task; here the driver is polled
/// by whoever waits for the response, which spares two task switches per request. The connection is therefore not read
/// while it idles: [`Http1::is_usable`] asks before it is used again. A request whose body is still being sent when
/// the response begins, and an upgrade, do get a task.
pub(super) struct Http1 {
    sender: http1::SendRequest<MeshBody>,
    /// Boxed, because the connection moves between its lane and its users and is large.
    driver: Option<Pin<Box<Driver>>>,
    /// The task that has the driver instead.
    task: Option<AbortHandle>,
    way: Way,
}

impl Http1 {
    pub(super) async fn handshake(io: Io) -> hyper::Result<Self> {
        let way = Way::of(&io);
        let (sender, driver) = http1::Builder::new().handshake(TokioIo::new(io)).await?;
        Ok(Self {
            sender,
            driver: Some(Box::pin(driver)),
            task: None,
            way,
        })
    }

    /// The epoch of the credential that the tunnel below was made with; `None` outside of a tunnel.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.way.epoch()
    }

    /// Whether the connection is open, idle and made under the current credential.
    pub(super) fn is_usable(&mut self, epoch: u64) -> bool {
        if !self.way.is_open(epoch) {
            return false;
        }
        let mut cx = Context::from_waker(Waker::noop());
        // Reads an end of stream that came while nobody looked.
        self.drive(&mut cx).is_pending() && self.sender.is_ready()
    }

    /// Polls the driver; `Ready` means that the connection is over.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.driver {
            Some(driver) => driver.as_mut().poll(cx).map(drop),
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
        mut self,
        request: Request<MeshBody>,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Response<MeshBody>, SendError> {
        self.way.carry();
        let upgrade = request.headers().contains_key(http::header::UPGRADE);
        let (request, sent) = if request.body().is_at_hand() {
            (request, None)
        } else if request.body().size_hint().exact().is_some_and(|n| n <= SMALL) {
            let (flag, sent) = Sent::new();
            (request.map(|body| body.watched(Box::new(flag))), Some(sent))
        } else {
            self.detach();
            (request, None)
        };
        if upgrade {
            self.detach();
        }
        let response = {
            let mut response = std::pin::pin!(self.sender.try_send_request(request));
            let driver = &mut self.driver;
            poll_fn(|cx| {
                if let Some(connection) = driver
                    && connection.as_mut().poll(cx).is_ready()
                {
                    // Over; the response future knows why.
                    *driver = None;
                }
                response.as_mut().poll(cx)
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
                let body = Http1Body {
                    incoming,
                    rest: Some((self, Arc::clone(endpoint))),
                }
                .settle();
                Ok(Response::from_parts(parts, body))
            }
            Err(mut failed) => {
                let unsent = failed.take_message();
                Err(SendError {
                    error: failed.into_error(),
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
struct Http1Body {
    incoming: Incoming,
    rest: Option<(Http1, Arc<Endpoint>)>,
}

impl Http1Body {
    fn settle(mut self) -> MeshBody {
        if self.incoming.is_end_stream() {
            self.give_back(&mut Context::from_waker(Waker::noop()));
            return MeshBody::empty();
        }
        MeshBody::driven(Box::pin(self))
    }

    /// Returns the connection to its lane if it is ready for another request.
    fn give_back(&mut self, cx: &mut Context<'_>) {
        let Some((mut connection, endpoint)) = self.rest.take() else {
            return;
        };
        if connection.driver.is_none() && !connection.sender.is_closed() {
            // A task drives it and may need a moment more to be done with the request.
            tokio::spawn(async move {
                if connection.sender.ready().await.is_ok()
                    && let Some(lane) = endpoint.cell.connections(Lane::default)
                {
                    lane.put(connection);
                }
            });
            return;
        }
        if connection.drive(cx).is_pending()
            && connection.sender.is_ready()
            && let Some(lane) = endpoint.cell.connections(Lane::default)
        {
            lane.put(connection);
        }
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        // Nobody wants the rest of the answer. By itself the driver would still send the rest of the request.
        if let Some((connection, _)) = self.rest.take()
            && let Some(task) = connection.task
        {
            task.abort();
        }
    }
}

impl Body for Http1Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut polled = Pin::new(&mut this.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some((connection, _)) = &mut this.rest
        {
            if connection.drive(cx).is_ready() {
                connection.driver = None;
            }
            polled = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        if let Poll::Ready(frame) = &polled {
            match frame {
                Some(Err(_)) => drop(this.rest.take()),
                Some(Ok(_)) if !this.incoming.is_end_stream() => {}
                _ => this.give_back(cx),
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
