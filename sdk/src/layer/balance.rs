//! Balance: chooses the endpoint that will be asked.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::call::{Destination, Directed, Routed};
use super::{MeshBody, Reason, Refusal};
use crate::policy::balance::InFlight;

/// Makes [`Balance`].
#[derive(Clone, Copy, Debug, Default)]
pub struct BalanceLayer;

impl<S> Layer<S> for BalanceLayer {
    type Service = Balance<S>;

    fn layer(&self, inner: S) -> Balance<S> {
        Balance { inner }
    }
}

/// Chooses an endpoint by least requests of two, unless the request's session has one, and counts the request in there until its response head is back.
#[derive(Clone, Debug)]
pub struct Balance<S> {
    inner: S,
}

impl<S> Service<Routed> for Balance<S>
where
    S: Service<Directed, Response = Response<MeshBody>, Error = Refusal>,
{
    type Response = S::Response;
    type Error = Refusal;
    type Future = BalanceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        let endpoint = match &routed.to {
            Destination::Endpoint(endpoint) => Some(Arc::clone(endpoint)),
            Destination::Cluster(cluster) => match &routed.pinned {
                Some(pinned) if !routed.tried.contains(&pinned.key) => Some(Arc::clone(pinned)),
                _ => cluster
                    .endpoints
                    .pick(fastrand::u64(..), &routed.tried)
                    .map(Arc::clone),
            },
        };
        match endpoint {
            Some(endpoint) => {
                let in_flight = endpoint.cell.enter();
                let future = self.inner.call(Directed { routed, endpoint });
                BalanceFuture::Inner {
                    future,
                    _in_flight: in_flight,
                }
            }
            None => {
                let detail = match &routed.to {
                    Destination::Cluster(cluster) => {
                        format!("{}:{} has no endpoint that is ready", cluster.host, cluster.port)
                    }
                    Destination::Endpoint(_) => String::new(),
                };
                let refusal = Refusal::new(Reason::NoEndpoint, detail).giving_back(routed.call.request);
                BalanceFuture::Refused {
                    refusal: Some(refusal),
                }
            }
        }
    }
}

pin_project! {
    /// The future of [`Balance`].
    #[project = BalanceProjection]
    #[derive(Debug)]
    #[allow(missing_docs)] // the variants are not for callers
    pub enum BalanceFuture<F> {
        Inner { #[pin] future: F, _in_flight: InFlight },
        Refused { refusal: Option<Refusal> },
    }
}

impl<F> Future for BalanceFuture<F>
where
    F: Future<Output = Result<Response<MeshBody>, Refusal>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            BalanceProjection::Inner { future, .. } => future.poll(cx),
            BalanceProjection::Refused { refusal } => Poll::Ready(Err(refusal
                .take()
                .unwrap_or_else(|| Refusal::new(Reason::NoEndpoint, "polled after completion")))),
        }
    }
}
