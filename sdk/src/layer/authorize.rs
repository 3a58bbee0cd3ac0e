//! Authorize: lets a request pass if the authorization policies of this place allow it.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Call, MeshBody, Reason, Refusal};
use crate::policy::authz::Decision;
use crate::snapshot::{Place, Remark};
use crate::telemetry::Meter;

/// Makes [`Authorize`].
#[derive(Clone, Debug)]
pub struct AuthorizeLayer {
    meter: Meter,
}

impl AuthorizeLayer {
    /// Denials are counted in `meter`.
    pub fn new(meter: Meter) -> Self {
        Self { meter }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize {
            inner,
            meter: self.meter.clone(),
        }
    }
}

/// Lets a request pass if the authorization policies of this place allow it.
///
/// A call without a place or a peer came from nowhere that was proved: it is denied.
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
    meter: Meter,
}

impl<S> Service<Call> for Authorize<S>
where
    S: Service<Call, Response = Response<MeshBody>, Error = Refusal>,
{
    type Response = S::Response;
    type Error = Refusal;
    type Future = AuthorizeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let head = call.head();
        if let Some(place) = call.place.as_deref() {
            call.view
                .remarks(place, &head, &call.found, |remark| note(place, remark));
        }
        let refusal = match (call.place.as_deref(), &call.peer) {
            (Some(place), Some(_)) => match call.view.authorize_found(place, &head, &call.found) {
                Decision::Allow { .. } => None,
                Decision::Deny { by, why } => {
                    let detail = match by {
                        Some(rule) => format!("{} rule {}: {why}", rule.policy, rule.rule),
                        None => why.to_owned(),
                    };
                    let mut refusal = Refusal::new(Reason::Denied, detail);
                    refusal.policy = by.map(|rule| rule.policy.clone());
                    match &refusal.policy {
                        Some(policy) => self.meter.denied(&policy.to_string()),
                        None => self.meter.denied("none"),
                    }
                    Some(refusal)
                }
            },
            _ => Some(Refusal::new(
                Reason::Denied,
                "the request reached the policy point without a peer",
            )),
        };
        match refusal {
            None => AuthorizeFuture::Inner {
                future: self.inner.call(call),
            },
            Some(refusal) => AuthorizeFuture::Refused {
                refusal: Some(refusal),
            },
        }
    }
}

/// Writes down what a policy that decides nothing has to say.
fn note(place: &Place, remark: Remark<'_>) {
    match remark {
        Remark::Audited(rule) => {
            tracing::info!(target: "inmesh::audit", policy = %rule.policy, rule = rule.rule, ?place, "audited");
        }
        Remark::DryRun(decision) => {
            let details = decision.details();
            tracing::info!(
                target: "inmesh::dry_run",
                allowed = decision.is_allowed(), details = details.as_deref().unwrap_or("-"), ?place,
                "dry-run policies would have decided so",
            );
        }
    }
}

pin_project! {
    /// The future of [`Authorize`].
    #[project = AuthorizeProjection]
    #[derive(Debug)]
    #[allow(missing_docs)] // the variants are not for callers
    pub enum AuthorizeFuture<F> {
        Inner { #[pin] future: F },
        Refused { refusal: Option<Refusal> },
    }
}

impl<F> Future for AuthorizeFuture<F>
where
    F: Future<Output = Result<Response<MeshBody>, Refusal>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            AuthorizeProjection::Inner { future } => future.poll(cx),
            AuthorizeProjection::Refused { refusal } => Poll::Ready(Err(refusal
                .take()
                .unwrap_or_else(|| Refusal::new(Reason::Denied, "polled after completion")))),
        }
    }
}
