//! Observe: the outermost layer. Pins the snapshot, cleans the request, opens the span, counts, and gives a refusal its
//! final form.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response, Version};
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::Span;

use super::call::{authority, dialled};
use super::origin::Caller;
use super::record::{Counted, Record};
use super::traced::Opening;
use super::{BoxError, Call, Interim, MeshBody, Origin, Refusal, hygiene, proxied};
use crate::snapshot::{Findings, Live, Place};
use crate::telemetry::{self, Meter, RequestSpan, TraceContext};

/// How long a caller over HTTP/1 may keep silent in the middle of a request's body; Envoy's stream idle timeout.
const BODY_IDLE: Duration = Duration::from_secs(300);

/// The outermost inbound layer; made per connection, because who calls is a property of the connection.
#[derive(Clone, Debug)]
pub struct Observe<S> {
    origin: Arc<Origin>,
    inner: S,
}

impl<S> Observe<S> {
    /// Observes requests of the connection that `origin` describes.
    pub fn new(origin: Arc<Origin>, inner: S) -> Self {
        Self { origin, inner }
    }

    /// What the connection must say of its own accord.
    pub(crate) fn interim(&self) -> Interim {
        self.origin.interim.clone()
    }
}

impl<S, B> Service<Request<B>> for Observe<S>
where
    S: Service<Call, Response = Response<MeshBody>, Error = Refusal>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<MeshBody>;
    type Error = Infallible;
    type Future = ObserveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Refusals of readiness are given as answers, in `call`.
        let _ = self.inner.poll_ready(cx);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let origin = &self.origin;
        let view = origin.live.pin();
        let mut request = Box::new(request.map(MeshBody::new));
        if request.version() < Version::HTTP_2 {
            // Streams of HTTP/2 may be quiet for good: who calls keeps gRPC open for what may happen.
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = body.patient(BODY_IDLE);
        }
        if request.version() == Version::HTTP_11 && !matches!(*origin.place, Place::Workload { .. }) {
            request.extensions_mut().insert(origin.interim.clone());
        }
        let opening = Opening::received(&mut request, origin, &view);
        let span = match opening.is_silent() {
            true => Span::none(),
            false => telemetry::server_span(&RequestSpan {
                method: request.method(),
                authority: authority(&request),
                path: request.uri().path(),
                version: request.version(),
                peer: origin.peer.identity.as_ref(),
                generation: view.generation,
            }),
        };
        telemetry::adopt(&span, &opening.caller);
        if let Some(tunnel) = &origin.peer.trace {
            telemetry::follow(&span, &TraceContext::of_parent(tunnel));
        }
        let (context, traced) = opening.settle(&span, origin.meter());
        let cleaned = hygiene::clean(&mut request, view.paths);
        let is_clean = cleaned.is_ok();
        proxied::receive(&mut request, origin, &view);
        let place = cleaned.and_then(|()| origin.place_of(&view, authority(&request)));
        let mut record = Record::start(
            &mut request,
            (span, traced),
            Counted::Origin(Arc::clone(origin)),
            &origin.live,
            Arc::clone(&view),
            is_clean,
        );
        record.belongs_to(&context);
        let (future, refusal) = match place {
            Ok(place) => {
                let call = Call {
                    request,
                    view,
                    place: Some(place),
                    peer: Some(Arc::clone(&origin.peer)),
                    dialled: None,
                    found: Findings::default(),
                    notes: record.notes(),
                };
                let inner = &mut self.inner;
                let called = context.in_scope(|| record.span.in_scope(|| inner.call(call)));
                (Some(called), None)
            }
            Err(refusal) => (None, Some(refusal)),
        };
        ObserveFuture {
            future,
            refusal,
            record: Some(record),
            context,
        }
    }
}

pin_project! {
    /// The future of [`Observe`].
    #[derive(Debug)]
    pub struct ObserveFuture<F> {
        #[pin]
        future: Option<F>,
        refusal: Option<Refusal>,
        record: Option<Record>,
        context: TraceContext,
    }

    impl<F> PinnedDrop for ObserveFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(record) = this.project().record.take() {
                record.abandoned();
            }
        }
    }
}

impl<F> Future for ObserveFuture<F>
where
    F: Future<Output = Result<Response<MeshBody>, Refusal>>,
{
    type Output = Result<Response<MeshBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = match this.future.as_pin_mut() {
            Some(future) => match this.record.as_ref() {
                Some(record) => {
                    let span = &record.span;
                    ready!(this.context.in_scope(|| span.in_scope(|| future.poll(cx))))
                }
                None => ready!(future.poll(cx)),
            },
            None => Err(this
                .refusal
                .take()
                .unwrap_or_else(|| Refusal::new(super::Reason::BadRequest, "polled after completion"))),
        };
        let Some(record) = this.record.take() else {
            return Poll::Ready(Ok(Response::new(MeshBody::empty())));
        };
        Poll::Ready(Ok(record.answer(result)))
    }
}

/// The outermost outbound layer: pins the snapshot, opens the client span and counts as the source.
#[derive(Clone, Debug)]
pub struct ObserveClient<S> {
    live: Arc<Live>,
    caller: Arc<Caller>,
    inner: S,
}

impl<S> ObserveClient<S> {
    /// Observes requests that this process makes.
    pub fn new(live: Arc<Live>, meter: Meter, inner: S) -> Self {
        Self {
            live,
            caller: Arc::new(Caller::new(meter)),
            inner,
        }
    }
}

impl<S> Service<Request<MeshBody>> for ObserveClient<S>
where
    S: Service<Call, Response = Response<MeshBody>, Error = Refusal>,
{
    type Response = Response<MeshBody>;
    type Error = Refusal;
    type Future = ObserveClientFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<MeshBody>) -> Self::Future {
        let view = self.live.pin();
        let dialled = dialled(&mut request);
        let opening = Opening::sent(&mut request, &view);
        let span = match opening.is_silent() {
            true => Span::none(),
            false => telemetry::client_span(&RequestSpan {
                method: request.method(),
                authority: authority(&request),
                path: request.uri().path(),
                version: request.version(),
                peer: None,
                generation: view.generation,
            }),
        };
        let (context, traced) = opening.settle(&span, &self.caller.meter);
        let counted = Counted::Client(Arc::clone(&self.caller));
        let cleaned = hygiene::clean(&mut request, view.paths);
        let mut record = Record::start(
            &mut request,
            (span, traced),
            counted,
            &self.live,
            Arc::clone(&view),
            cleaned.is_ok(),
        );
        record.belongs_to(&context);
        if let Some(kept) = &mut record.kept {
            kept.dialled(dialled.as_ref());
        }
        let (future, refusal) = match cleaned {
            Ok(()) => {
                let call = Call {
                    request: Box::new(request),
                    view,
                    place: None,
                    peer: None,
                    dialled,
                    found: Findings::default(),
                    notes: record.notes(),
                };
                let called = context.in_scope(|| record.span.in_scope(|| self.inner.call(call)));
                (Some(called), None)
            }
            Err(refusal) => (None, Some(refusal)),
        };
        ObserveClientFuture {
            future,
            refusal,
            record: Some(record),
            context,
        }
    }
}

pin_project! {
    /// The future of [`ObserveClient`].
    #[derive(Debug)]
    pub struct ObserveClientFuture<F> {
        #[pin]
        future: Option<F>,
        refusal: Option<Refusal>,
        record: Option<Record>,
        context: TraceContext,
    }
}

impl<F> Future for ObserveClientFuture<F>
where
    F: Future<Output = Result<Response<MeshBody>, Refusal>>,
{
    type Output = Result<Response<MeshBody>, Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = match (this.future.as_pin_mut(), this.record.as_ref()) {
            (Some(future), Some(record)) => {
                let span = &record.span;
                ready!(this.context.in_scope(|| span.in_scope(|| future.poll(cx))))
            }
            (Some(future), None) => ready!(future.poll(cx)),
            (None, _) => Err(this
                .refusal
                .take()
                .unwrap_or_else(|| Refusal::new(super::Reason::BadRequest, "polled after completion"))),
        };
        Poll::Ready(match (this.record.take(), result) {
            (Some(record), Ok(response)) => Ok(record.answer(Ok(response))),
            // gRPC has a form for it, and stubs understand no other.
            (Some(record), Err(refusal)) if record.is_grpc() => Ok(record.answer(Err(refusal))),
            (Some(record), Err(refusal)) => {
                record.refused(&refusal);
                Err(refusal)
            }
            (None, result) => result,
        })
    }
}
