//! Route: finds the rule that decides, applies its filters, and settles where the request goes.
//!
//! ```text
//! call ─▶ scope: whose routes? ─▶ decide: which rule ─▶ settle: which backend ─▶ inner ─▶ reply: what the rule does
//!                                   └▶ fault               └▶ redirect, preflight, refusal             to the answer
//! ```

mod fault;
mod reply;
mod scope;
mod settle;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::call::{Call, Destination, Routed};
use super::{MeshBody, Reason, Refusal};
use crate::snapshot::Snapshot;
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
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteLayer<D> {
    directory: D,
}

impl<D> RouteLayer<D> {
    /// Pod-addressed requests are looked up in `directory`.
    pub fn new(directory: D) -> Self {
        Self { directory }
    }
}

impl<S, D: Directory> Layer<S> for RouteLayer<D> {
    type Service = Route<S, D>;

    fn layer(&self, inner: S) -> Route<S, D> {
        Route {
            inner,
            directory: self.directory.clone(),
        }
    }
}

/// Finds the rule that decides, applies its filters, and settles where the request goes.
#[derive(Clone, Debug)]
pub struct Route<S, D> {
    inner: S,
    directory: D,
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
        let decided = match decide(call, &self.directory) {
            Ok(decided) => decided,
            Err(answer) => return RouteFuture::answered(answer),
        };
        match decided.fault() {
            None => RouteFuture::of(decided.settle(), &mut self.inner),
            // Readiness below is immediate, so a clone may be called at once.
            Some(drawn) => RouteFuture::Faulted {
                future: Box::pin(fault::inflict(drawn, decided, self.inner.clone())),
            },
        }
    }
}

/// An answer that needs no upstream: a redirect, a preflight's, or a refusal. Boxed because it is the rare case.
type Answer = Box<Result<Response<MeshBody>, Refusal>>;

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
        Faulted { future: fault::Inflicted },
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
            RouteProjection::Faulted { future } => future.as_mut().poll(cx),
            RouteProjection::Answered { answer } => Poll::Ready(
                answer
                    .take()
                    .unwrap_or_else(|| Err(Refusal::new(Reason::NoRoute, "polled after completion"))),
            ),
        }
    }
}
