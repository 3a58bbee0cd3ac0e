//! Route: finds the rule that decides, applies its filters, and settles where the request goes.
//!
//! ```text
//! call ─▶ scope: whose routes? ─▶ decide: which rule ─▶ choose: which backend ─▶ settle ─▶ inner ─▶ reply: what the rule
//!                                   └▶ fault               ├▶ preflight          └▶ redirect, refusal     does to the answer
//!                                                         └▶ vet: whoever the rule asks allows it
//! ```

mod fault;
mod reply;
mod scope;
mod settle;
#[cfg(test)]
mod tests;
mod vet;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::call::{Call, Destination, Routed};
use super::{Asker, MeshBody, Reason, Refusal};
use crate::snapshot::Snapshot;
use crate::snapshot::tap::Phase;
use crate::telemetry::Meter;
use reply::Reply;
use settle::{Settled, decide};

/// Finds the way to a workload that is addressed by its own address. Kept outside the layers because the live state
/// of such endpoints is the sending end's.
pub trait Directory: Clone {
    /// The endpoint for `ip:port`, or why there is none.
    ///
    /// # Errors
    /// If nothing in the mesh has that address.
    fn pod(&self, view: &Snapshot, ip: std::net::IpAddr, port: u16) -> Result<Destination, Refusal>;
}

/// Makes [`Route`].
#[derive(Clone, Debug)]
pub struct RouteLayer<D> {
    directory: D,
    asking: Asking,
}

impl<D> RouteLayer<D> {
    /// Pod-addressed requests are looked up in `directory`, denials are counted in `meter`.
    pub fn new(directory: D, meter: Meter) -> Self {
        let asking = Asking { asker: None, meter };
        Self { directory, asking }
    }

    /// Authorizers that rules name are asked through `asker`. Without one nobody is asked, and what must be asked about
    /// is refused.
    #[must_use]
    pub fn asking(mut self, asker: Option<Asker>) -> Self {
        self.asking.asker = asker;
        self
    }
}

impl<S, D: Directory> Layer<S> for RouteLayer<D> {
    type Service = Route<S, D>;

    fn layer(&self, inner: S) -> Route<S, D> {
        Route {
            inner,
            directory: self.directory.clone(),
            asking: self.asking.clone(),
        }
    }
}

/// Finds the rule that decides, applies its filters, and settles where the request goes.
#[derive(Clone, Debug)]
pub struct Route<S, D> {
    inner: S,
    directory: D,
    asking: Asking,
}

/// How the authorizers are asked that rules name.
#[derive(Clone, Debug)]
struct Asking {
    asker: Option<Asker>,
    meter: Meter,
}

impl<S, D> Service<Call> for Route<S, D>
where
    S: Service<Routed, Response = Response<MeshBody>, Error = Refusal> + Clone + Send + 'static,
    S::Future: Send,
    D: Directory,
{
    type Response = S::Response;
    type Error = Refusal;
    type Future = RouteFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        call.mark(Phase::Route);
        let decided = match decide(call, &self.directory) {
            Ok(decided) => decided,
            Err(answer) => return RouteFuture::answered(answer),
        };
        // Readiness below is immediate, so a clone may be called at once.
        if let Some(drawn) = decided.fault() {
            let (asking, inner) = (self.asking.clone(), self.inner.clone());
            return RouteFuture::Waiting {
                future: Box::pin(fault::inflict(drawn, decided, asking, inner)),
            };
        }
        match decided.choose() {
            Err(answer) => RouteFuture::answered(answer),
            Ok(choice) if choice.is_asked_about() => RouteFuture::Waiting {
                future: Box::pin(vet::send(choice, self.asking.clone(), self.inner.clone())),
            },
            Ok(choice) => RouteFuture::of(choice.settle(HeaderMap::new()), &mut self.inner),
        }
    }
}

/// An answer that needs no upstream: a redirect, a preflight's, or a refusal. Boxed because it is the rare case.
type Answer = Box<Result<Response<MeshBody>, Refusal>>;

/// What comes of a request that has to wait first. Boxed because that, too, is the rare case.
type Later = Pin<Box<dyn Future<Output = Result<Response<MeshBody>, Refusal>> + Send>>;

fn refuse<T>(reason: Reason, detail: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, Answer> {
    Err(Box::new(Err(Refusal::new(reason, detail))))
}

pin_project! {
    /// The future of [`Route`].
    #[project = RouteProjection]
    #[allow(missing_docs)] // the variants are not for callers
    pub enum RouteFuture<F> {
        Inner { #[pin] future: F, reply: Option<Box<Reply>> },
        Answered { answer: Option<Result<Response<MeshBody>, Refusal>> },
        Waiting { future: Later },
    }
}

impl<F> RouteFuture<F> {
    /// Sends on what is settled.
    fn of<S>(settled: Result<Settled, Answer>, inner: &mut S) -> Self
    where
        S: Service<Routed, Future = F>,
    {
        match settled {
            Ok(settled) => Self::Inner {
                future: inner.call(settled.routed),
                reply: settled.reply,
            },
            Err(answer) => Self::answered(answer),
        }
    }

    fn answered(answer: Answer) -> Self {
        Self::Answered {
            answer: Some(*answer),
        }
    }
}

impl<F> Future for RouteFuture<F>
where
    F: Future<Output = Result<Response<MeshBody>, Refusal>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            RouteProjection::Inner { future, reply } => {
                let result = ready!(future.poll(cx));
                Poll::Ready(match (reply.take(), result) {
                    (None, result) => result,
                    (Some(reply), Ok(mut response)) => {
                        reply.finish(&mut response);
                        Ok(response)
                    }
                    (Some(reply), Err(refusal)) => Err(reply.refused(refusal)),
                })
            }
            RouteProjection::Waiting { future } => future.as_mut().poll(cx),
            RouteProjection::Answered { answer } => Poll::Ready(
                answer
                    .take()
                    .unwrap_or_else(|| Err(Refusal::new(Reason::NoRoute, "polled after completion"))),
            ),
        }
    }
}
