//! An exchange that is written and read here, over a stream of a tunnel.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Method, Request};

use super::framing::{Arrived, Error};
use super::head::{self, Head};
use crate::client::connection::{Io, Raw, SendError, Stream};
use crate::client::room::Berth;
use crate::hbone::TunnelStream;
use crate::layer::{Interim, MeshBody};

/// The largest head of an answer; hyper's number, in round figures.
const MOST_OF_HEAD: usize = 400 << 10;

/// A connection that is written and read here.
#[derive(Debug)]
pub(super) struct Direct {
    stream: TunnelStream,
    /// Given up when the stream is closed: declared after it.
    berth: Berth,
    /// What of the request is still to be sent.
    out: Bytes,
    pub(super) arrived: Arrived,
    /// Whether the peer took less than the whole request.
    is_cut: bool,
}

/// How an exchange failed.
#[derive(Debug)]
pub(super) struct Failed {
    error: Error,
    is_unsent: bool,
}

impl Failed {
    /// With what is left of the request.
    pub(super) fn of(self, mut request: Box<Request<MeshBody>>, interim: Option<Interim>) -> SendError {
        if let Some(interim) = interim {
            request.extensions_mut().insert(interim);
        }
        SendError {
            error: self.error.into(),
            unsent: self.is_unsent.then_some(request),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            is_unsent: false,
        }
    }
}

impl Direct {
    pub(super) fn new(stream: TunnelStream, berth: Berth) -> Self {
        Self {
            stream,
            berth,
            out: Bytes::new(),
            arrived: Arrived::default(),
            is_cut: false,
        }
    }

    /// The stream, for whom else may use it between two exchanges.
    pub(super) fn into_io(self) -> Io {
        Io::new(Stream::Raw(Raw::Tunnel(self.stream)), self.berth)
    }

    /// Whether nothing of an exchange is left over.
    pub(super) fn is_settled(&self) -> bool {
        self.is_sent() && !self.is_cut && self.arrived.len() == 0
    }

    pub(super) fn is_sent(&self) -> bool {
        self.out.is_empty()
    }

    /// Whether nothing comes, not even an end. `waker` is woken when something does.
    pub(super) fn is_quiet(&mut self, waker: &Waker) -> bool {
        self.poll_chunk(&mut Context::from_waker(waker)).is_pending()
    }

    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.stream.poll_chunk(cx)
    }

    /// Sends a request and reads the head of its answer.
    pub(super) async fn exchange(
        &mut self,
        request: Bytes,
        method: &Method,
        interim: Option<&Interim>,
    ) -> Result<Head, Failed> {
        let mut request = Some(request);
        poll_fn(|cx| {
            if let Some(request) = request.take() {
                ready!(self.begin(request, cx))?;
            } else {
                self.send_on(cx);
            }
            self.poll_head(method, interim, cx).map_err(Failed::from)
        })
        .await
    }

    /// Starts to send. A peer that has left meanwhile, or that speaks without having been asked, is not sent anything.
    fn begin(&mut self, request: Bytes, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let unsent = |error| {
            Poll::Ready(Err(Failed {
                error,
                is_unsent: true,
            }))
        };
        if !self.is_quiet(cx.waker()) {
            return unsent(Error::Left);
        }
        let size = request.len();
        self.out = request;
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) if self.out.len() == size => unsent(error.into()),
            Poll::Ready(Err(_)) => {
                self.cut();
                Poll::Ready(Ok(()))
            }
            // Whoever waits for the answer is known already, and so is who waits for room.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Sends what is left of the request beside what else is done. Whether that works out, the answer will say.
    pub(super) fn send_on(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(_)) = self.poll_send(cx) {
            self.cut();
        }
    }

    /// The peer takes no more: it may have answered all the same (RFC 9112 §9.5).
    fn cut(&mut self) {
        self.out.clear();
        self.is_cut = true;
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let room = ready!(self.stream.poll_room(cx, self.out.len()))?;
            self.stream.send(self.out.split_to(room))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_head(
        &mut self,
        method: &Method,
        interim: Option<&Interim>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Error>> {
        loop {
            while self.arrived.len() > 0
                && let Some(head) = self
                    .arrived
                    .section(MOST_OF_HEAD, |bytes| head::parse(bytes, method))?
            {
                if !head.is_interim() {
                    return Poll::Ready(Ok(head));
                }
                if let Some(interim) = interim {
                    interim.tell(head.response.status(), head.response.headers());
                }
            }
            match ready!(self.poll_chunk(cx)) {
                Some(chunk) => self.arrived.push(chunk?),
                None => return Poll::Ready(Err(Error::Early)),
            }
        }
    }
}
