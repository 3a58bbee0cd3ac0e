//! The application end of the inbound stack.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::Draining;
use super::introductions::Introductions;
use super::ports::App;
use super::serve::{BoxFuture, Stream, serve_http};
use crate::layer::{Asker, BoxError, Call, MeshBody, Origin, Reason, Refusal, stack, upgrade};
use crate::name::{Peer, PeerIdentity};
use crate::snapshot::tap::Phase;
use crate::snapshot::{Live, Place};
use crate::telemetry::{Meter, field};

/// An application as the innermost service: takes it a request with the caller in its extensions.
#[derive(Clone, Debug)]
pub struct Application<A> {
    app: A,
    introductions: Arc<Introductions>,
    meter: Meter,
}

impl<A> Application<A> {
    /// Wraps an application; what its callers are introduced as is remembered in `introductions`.
    pub(crate) fn new(app: A, introductions: Arc<Introductions>, meter: Meter) -> Self {
        Self {
            app,
            introductions,
            meter,
        }
    }
}

impl<A, B> Service<Call> for Application<A>
where
    A: Service<Request<MeshBody>, Response = Response<B>> + Clone,
    A::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<MeshBody>;
    type Error = Refusal;
    type Future = ApplicationFuture<A, A::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        call.mark(Phase::Application);
        let Call {
            mut request,
            view,
            place,
            peer,
            ..
        } = call;
        if let (Some(peer), Some(place)) = (peer, place) {
            let headers = request.headers_mut();
            let original = self
                .introductions
                .read(headers, &view, &place, &peer, &self.meter);
            if let Some(original) = &original {
                tracing::Span::current().record(field::ORIGINAL_CALLER, original.id.as_str());
            }
            let identity = PeerIdentity::direct(peer).introducing(original);
            request.extensions_mut().insert(identity);
        }
        let extended = upgrade::restore(&mut request);
        ApplicationFuture {
            extended,
            state: ApplicationState::Waiting {
                app: self.app.clone(),
                request: Some(request),
            },
        }
    }
}

pin_project! {
    /// The future of [`Application`]: waits until the application is ready, then for its answer.
    pub struct ApplicationFuture<A, F> {
        #[pin]
        state: ApplicationState<A, F>,
        // The application sees an extended CONNECT and answers it as one.
        extended: bool,
    }
}

pin_project! {
    #[project = ApplicationProjection]
    enum ApplicationState<A, F> {
        Waiting { app: A, request: Option<Box<Request<MeshBody>>> },
        Running { #[pin] future: F },
    }
}

impl<A, B> Future for ApplicationFuture<A, A::Future>
where
    A: Service<Request<MeshBody>, Response = Response<B>>,
    A::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<MeshBody>, Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut state = this.state;
        let failed =
            |error: A::Error| Refusal::new(Reason::Application, "the application failed").caused_by(error);
        loop {
            match state.as_mut().project() {
                ApplicationProjection::Waiting { app, request } => {
                    if let Err(error) = ready!(app.poll_ready(cx)) {
                        return Poll::Ready(Err(failed(error)));
                    }
                    let Some(request) = request.take() else {
                        return Poll::Ready(Err(Refusal::new(
                            Reason::Application,
                            "polled after completion",
                        )));
                    };
                    let future = app.call(*request);
                    state.set(ApplicationState::Running { future });
                }
                ApplicationProjection::Running { future } => {
                    return future.poll(cx).map(|result| match result {
                        Ok(mut response) => {
                            if *this.extended {
                                upgrade::answer_restored(&mut response);
                            }
                            Ok(response.map(MeshBody::new))
                        }
                        Err(error) => Err(failed(error)),
                    });
                }
            }
        }
    }
}

/// An HTTP application behind one port of a workload.
pub(crate) struct HttpApp<A> {
    pub(crate) app: A,
    pub(crate) live: Arc<Live>,
    pub(crate) meter: Meter,
    pub(crate) place: Arc<Place>,
    pub(crate) asker: Asker,
    pub(crate) introductions: Arc<Introductions>,
}

impl<A, B> App for HttpApp<A>
where
    A: Service<Request<MeshBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    A::Error: Into<BoxError>,
    A::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn serve(&self, io: Box<dyn Stream>, peer: Arc<Peer>, draining: Draining) -> BoxFuture<'static, ()> {
        Box::pin(serve_http(io, self.stack(peer, &draining), draining))
    }

    fn serve_tunnel(
        &self,
        io: crate::hbone::TunnelStream,
        peer: Arc<Peer>,
        draining: Draining,
    ) -> BoxFuture<'static, ()> {
        Box::pin(serve_http(io, self.stack(peer, &draining), draining))
    }
}

impl<A: Clone> HttpApp<A> {
    fn stack(&self, peer: Arc<Peer>, draining: &Draining) -> stack::Inbound<Application<A>> {
        let origin = Origin::new(
            Arc::clone(&self.live),
            self.meter.clone(),
            peer,
            Arc::clone(&self.place),
            draining.clone(),
        )
        .asking(self.asker.clone());
        let introductions = Arc::clone(&self.introductions);
        let app = Application::new(self.app.clone(), introductions, self.meter.clone());
        stack::inbound(Arc::new(origin), app)
    }
}
