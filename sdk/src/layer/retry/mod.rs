//! Retry: attempts, their deadlines and the pauses between them.

mod again;
mod plan;
mod replay;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderName, Response, header};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

pub use plan::Idempotency;
pub use replay::ReplayMemory;

use super::call::{Destination, Routed, Served};
use super::{MeshBody, Reason, Refusal};
use crate::policy::Outcome;
use crate::policy::retry::GrpcMethods;
use crate::policy::traffic::Ticket;
use crate::telemetry::Meter;
use again::Again;
use plan::Plan;

/// Makes [`Retry`].
#[derive(Clone, Debug)]
pub struct RetryLayer(Arc<Kit>);

/// What all retries of a mesh participant share.
#[derive(Clone, Debug)]
struct Kit {
    meter: Meter,
    memory: ReplayMemory,
    deadline: Option<HeaderName>,
    methods: GrpcMethods,
}

impl RetryLayer {
    /// Retries, and retries that were not possible, are counted in `meter`.
    pub fn new(meter: Meter) -> Self {
        Self(Arc::new(Kit {
            meter,
            memory: ReplayMemory::default(),
            deadline: None,
            methods: GrpcMethods::default(),
        }))
    }

    /// How much of request bodies is kept for retries.
    pub fn memory(self, memory: ReplayMemory) -> Self {
        Self(Arc::new(Kit {
            memory,
            ..Kit::clone(&self.0)
        }))
    }

    /// What is known of gRPC methods.
    pub fn methods(self, methods: GrpcMethods) -> Self {
        Self(Arc::new(Kit {
            methods,
            ..Kit::clone(&self.0)
        }))
    }

    /// The header that carries, in milliseconds, how long the rest of a request may take: read from callers, shortened
    /// by what was spent here, and sent on. gRPC has `grpc-timeout` for that, which needs no name.
    pub fn deadline(self, header: Option<HeaderName>) -> Self {
        Self(Arc::new(Kit {
            deadline: header,
            ..Kit::clone(&self.0)
        }))
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry {
            inner,
            kit: Arc::clone(&self.0),
        }
    }
}

/// Sends a request until it is answered, its policy or the destination's budget is exhausted, or its deadline passes.
///
/// A request of which no byte was sent (no connection could be made) is always at hand for another attempt. One that
/// was sent is repeated from what was kept of it: bodies at hand in one piece cost nothing, of others a bounded copy is
/// made, and only where the policy may want one. A retry that the policy asks for and that is not possible is counted,
/// with the reason.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    kit: Arc<Kit>,
}

impl<S> Service<Routed> for Retry<S>
where
    S: Service<Routed, Response = Response<MeshBody>, Error = Refusal> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<Response<MeshBody>, Refusal>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        // Readiness below is immediate, so a clone may be called at once.
        Box::pin(attempts(self.inner.clone(), Arc::clone(&self.kit), routed))
    }
}

type Answer = Result<Response<MeshBody>, Refusal>;

/// Not an `async fn`: that would carry its arguments twice, and they are large.
#[allow(clippy::manual_async_fn)]
fn attempts<S>(mut inner: S, kit: Arc<Kit>, mut routed: Routed) -> impl Future<Output = Answer>
where
    S: Service<Routed, Response = Response<MeshBody>, Error = Refusal>,
{
    async move {
        let mut now = Instant::from_std(routed.at);
        let plan = Plan::of(&mut routed, &kit, now.into_std());
        if plan.deadlines.end().is_some_and(|end| end <= now.into_std()) {
            return Err(Refusal::new(
                Reason::Timeout,
                "the caller's time was over when the request came",
            ));
        }
        if let Destination::Cluster(cluster) = &routed.to {
            let endpoints = &cluster.endpoints;
            endpoints
                .cell()
                .arrived(&endpoints.policy().retries, now.into_std());
        }
        let mut again =
            (plan.policy.attempts > 0).then(|| Again::new(&mut routed, &plan.policy, &kit.memory));
        // The place in the budget of the retry that is under way.
        let mut place: Option<Ticket> = None;
        loop {
            let attempt = routed.attempt;
            plan.tell(
                routed.call.request.headers_mut(),
                kit.deadline.as_ref(),
                now.into_std(),
            );
            routed.until = plan.deadlines.attempt(now.into_std());
            let mut result = inner.call(routed).await;
            drop(place.take());
            let Some(outcome) = outcome_of(&result) else {
                return finish(result, &plan, attempt, false);
            };
            let unsent = result.as_mut().err().and_then(Refusal::take_unsent);
            let headers = result.as_ref().ok().map(Response::headers);
            if !plan.policy.should_retry(&outcome, headers, attempt - 1) {
                // It would have been, had there been fewer attempts.
                let exhausted = attempt > 1 && plan.policy.should_retry(&outcome, headers, 0);
                return finish(result, &plan, attempt, exhausted);
            }
            now = Instant::now();
            let pause = plan.policy.pause(attempt, headers, fastrand::u64(..));
            let tried = match &result {
                Ok(response) => response
                    .extensions()
                    .get::<Served>()
                    .map(|served| &served.endpoint.key),
                Err(refusal) => refusal.endpoint.as_ref(),
            };
            // Without `again` the policy has no attempts, and does not get here.
            let next = match &mut again {
                Some(again) => again.routed(unsent, tried, attempt + 1),
                None => return finish(result, &plan, attempt, false),
            };
            let skipped = match next {
                Err(why) => why,
                Ok(_) if !plan.deadlines.allow_pause(now.into_std(), pause) => {
                    // The time would be over before the retry: what it was to replace is not the answer (nor is it Envoy's,
                    // whose timer ends the pause), and waiting for the end would change nothing.
                    kit.meter.retry_skipped("deadline");
                    return Err(Refusal::new(
                        Reason::Timeout,
                        "the request's time would be over before another attempt",
                    ));
                }
                Ok(next) => match admit(&next, &outcome, now) {
                    None => {
                        kit.meter.retry_budget_exhausted();
                        "budget"
                    }
                    admitted => {
                        tracing::debug!(attempt, ?outcome, ?pause, "retrying");
                        kit.meter.retry();
                        place = admitted.flatten();
                        // The answer that is being replaced must not hold its connection while we wait.
                        drop(result);
                        tokio::time::sleep(pause).await;
                        now = Instant::now();
                        routed = next;
                        routed.at = now.into_std();
                        continue;
                    }
                },
            };
            kit.meter.retry_skipped(skipped);
            return finish(result, &plan, attempt, false);
        }
    }
}

fn outcome_of(result: &Answer) -> Option<Outcome> {
    match result {
        Ok(response) => Some(Outcome::response(response.status(), response.headers())),
        Err(refusal) => refusal.outcome,
    }
}

/// A place in the destination's budget, if the retry needs one; `None` if there is none left.
#[allow(clippy::option_option)] // "no need" and "no place" are different answers
fn admit(next: &Routed, outcome: &Outcome, now: Instant) -> Option<Option<Ticket>> {
    let Destination::Cluster(cluster) = &next.to else {
        return Some(None);
    };
    let budget = &cluster.endpoints.policy().retries;
    if !budget.limits(outcome) {
        return Some(None);
    }
    let place = cluster.endpoints.cell().retry(budget, now.into_std());
    place.map(Some)
}

/// The answer that stands.
fn finish(result: Answer, plan: &Plan, attempt: u32, exhausted: bool) -> Answer {
    match result {
        Ok(mut response) => {
            if let Some(cookie) = &plan.cookie {
                response.headers_mut().append(header::SET_COOKIE, cookie.clone());
            }
            if exhausted && let Some(served) = response.extensions_mut().get_mut::<Served>() {
                served.exhausted = true;
            }
            Ok(response)
        }
        Err(refusal) => Err(refusal.retried(attempt > 1, exhausted)),
    }
}
