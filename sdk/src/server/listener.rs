//! Accepted streams with their peers, for those who run their own HTTP server.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tower_layer::Layer;
use tower_service::Service;

use super::introductions::Introductions;
use super::ports::App;
use super::serve::{BoxFuture, Stream};
use super::{Application, Draining};
use crate::layer::{Asker, BoxError, MeshBody, Origin, Reason, Refusal, stack};
use crate::name::{Peer, PeerIdentity};
use crate::snapshot::{Live, Place};
use crate::telemetry::Meter;

/// How many accepted streams may wait for [`Listener::accept`].
const BACKLOG: usize = 128;

/// The streams that callers open to one port: what is in a tunnel, or a plain connection where that is permitted.
///
/// Nothing has been authorized yet except that plaintext may come in at all: requests must pass
/// [`Mesh::inbound`](crate::Mesh::inbound).
#[derive(Debug)]
pub struct Listener {
    accepted: mpsc::Receiver<(Accepted, PeerIdentity)>,
    port: u16,
}

/// One accepted stream.
pub struct Accepted {
    io: Box<dyn Stream>,
    /// Held until the stream is dropped, so that a shutdown waits for it.
    _draining: Draining,
}

/// The registered end that feeds a [`Listener`].
pub(crate) struct Feeder(mpsc::Sender<(Accepted, PeerIdentity)>);

/// A listener for a port and the end to be registered for it.
pub(crate) fn listener(port: u16) -> (Listener, Feeder) {
    let (sender, accepted) = mpsc::channel(BACKLOG);
    (Listener { accepted, port }, Feeder(sender))
}

impl Listener {
    /// The next stream and who opened it; waits forever once the mesh is gone.
    ///
    /// # Cancel safety
    /// No stream is lost.
    pub async fn accept(&mut self) -> (Accepted, PeerIdentity) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl App for Feeder {
    fn serve(&self, io: Box<dyn Stream>, peer: Arc<Peer>, draining: Draining) -> BoxFuture<'static, ()> {
        let sender = self.0.clone();
        Box::pin(async move {
            // Fails only if nobody accepts any more, and then the stream is closed.
            let _ = sender
                .send((
                    Accepted {
                        io,
                        _draining: draining,
                    },
                    PeerIdentity::of_connection(peer),
                ))
                .await;
        })
    }

    fn serve_tunnel(
        &self,
        io: crate::hbone::TunnelStream,
        peer: Arc<Peer>,
        draining: Draining,
    ) -> BoxFuture<'static, ()> {
        self.serve(Box::new(io), peer, draining)
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accepted")
    }
}

/// The inbound layers for one port, to be put around an application that is served by other means than
/// [`Mesh::serve`](crate::Mesh::serve).
#[derive(Clone, Debug)]
pub struct InboundLayer {
    live: Arc<Live>,
    meter: Meter,
    place: Arc<Place>,
    draining: Draining,
    introductions: Arc<Introductions>,
    asker: Asker,
}

impl InboundLayer {
    pub(crate) fn new(live: Arc<Live>, meter: Meter, port: u16, draining: Draining, asker: Asker) -> Self {
        Self {
            live,
            meter,
            asker,
            place: Arc::new(Place::Workload { port }),
            draining,
            introductions: Arc::default(),
        }
    }
}

impl InboundLayer {
    /// What the requests of a connection have in common, kept with the connection: what they are counted in is found once.
    fn origin(&self, peer: &PeerIdentity) -> Arc<Origin> {
        let make = || {
            let origin = Origin::new(
                Arc::clone(&self.live),
                self.meter.clone(),
                Arc::clone(&peer.direct),
                Arc::clone(&self.place),
                self.draining.clone(),
            );
            Arc::new(origin.asking(self.asker.clone()))
        };
        let kept = peer.kept.get_or_make(make);
        // A connection may be led through the layers of two ports, and then only the first finds its own.
        match kept.filter(|origin| origin.is_at(&self.place)) {
            Some(origin) => Arc::clone(origin),
            None => make(),
        }
    }
}

impl<S> Layer<S> for InboundLayer {
    type Service = InboundService<S>;

    fn layer(&self, inner: S) -> InboundService<S> {
        InboundService {
            inner,
            layer: self.clone(),
        }
    }
}

/// Lets a request through to the application if the policies of the port allow it.
///
/// Who calls is read from a [`PeerIdentity`] extension (with feature `axum` also from axum's `ConnectInfo`), which must
/// come from a [`Listener`] and never from the request itself. Without one the request is denied: the policy point
/// cannot be bypassed by forgetting it.
#[derive(Clone, Debug)]
pub struct InboundService<S> {
    inner: S,
    layer: InboundLayer,
}

impl<S, B, R> Service<Request<B>> for InboundService<S>
where
    S: Service<Request<MeshBody>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<MeshBody>;
    type Error = std::convert::Infallible;
    type Future = InboundFuture<<stack::Inbound<Application<S>> as Service<Request<B>>>::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(peer) = peer_of(request.extensions()) else {
            let refusal = Refusal::new(
                Reason::Denied,
                "the request reached the policy point without a peer",
            );
            tracing::error!(target: "inmesh::denied", port = ?self.layer.place, "a request has no PeerIdentity: serve with Mesh::listen");
            let grpc = crate::layer::refusal::is_grpc(request.headers());
            return InboundFuture::Refused {
                response: Some(refusal.into_response(grpc)),
            };
        };
        let InboundLayer {
            meter, introductions, ..
        } = &self.layer;
        let origin = self.layer.origin(&peer);
        let app = Application::new(self.inner.clone(), Arc::clone(introductions), meter.clone());
        let mut stack = stack::inbound(origin, app);
        InboundFuture::Inner {
            future: stack.call(request),
        }
    }
}

fn peer_of(extensions: &http::Extensions) -> Option<PeerIdentity> {
    #[cfg(feature = "axum")]
    if let Some(info) = extensions.get::<axum::extract::ConnectInfo<PeerIdentity>>() {
        return Some(info.0.clone());
    }
    extensions.get::<PeerIdentity>().cloned()
}

pin_project_lite::pin_project! {
    /// The future of [`InboundService`].
    #[project = InboundProjection]
    #[allow(missing_docs)] // the variants are not for callers
    pub enum InboundFuture<F> {
        Inner { #[pin] future: F },
        Refused { response: Option<Response<MeshBody>> },
    }
}

impl<F> Future for InboundFuture<F>
where
    F: Future<Output = Result<Response<MeshBody>, std::convert::Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            InboundProjection::Inner { future } => future.poll(cx),
            InboundProjection::Refused { response } => Poll::Ready(Ok(response
                .take()
                .unwrap_or_else(|| Response::new(MeshBody::empty())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::layer::{Ask, Asking, Drain};

    struct Nobody;

    impl Ask for Nobody {
        fn ask(&self, _: Request<MeshBody>) -> Asking {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn the_requests_of_a_connection_share_what_they_are_counted_in() {
        let drain = Drain::new();
        let layer = |port| {
            let live = Arc::new(Live::new(crate::snapshot::Snapshot::default()));
            InboundLayer::new(live, Meter::new(), port, drain.watch(), Asker::new(Nobody))
        };
        let (layer, other) = (layer(80), layer(81));
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let connection = PeerIdentity::of_connection(Arc::new(Peer::new(None, address, address)));
        let first = layer.origin(&connection);
        assert!(Arc::ptr_eq(&first, &layer.origin(&connection.clone())));
        assert!(
            !Arc::ptr_eq(&first, &other.origin(&connection)),
            "it is for another port"
        );
        assert!(Arc::ptr_eq(&first, &layer.origin(&connection)));
        // One that somebody made for a request has no room.
        let made = PeerIdentity::direct(Arc::clone(&connection.direct));
        assert_eq!(made, connection, "what is kept says nothing of who called");
        assert!(!Arc::ptr_eq(&layer.origin(&made), &layer.origin(&made)));
    }
}
