//! Retry: attempts, their deadlines and the pauses between them.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::call::{Call, Destination, Routed, Served, Won};
use super::{MeshBody, Reason, Refusal};
use crate::name::Peer;
use crate::policy::Outcome;
use crate::policy::balance::{Endpoint, EndpointKey};
use crate::policy::retry::RetryPolicy;
use crate::policy::timeout::Timeouts;
use crate::snapshot::{AppProtocol, Place, Snapshot};
use crate::telemetry::Meter;

/// What applies where no route says anything else: Istio's default policy and no timeout.
static DEFAULT: LazyLock<Arc<RetryPolicy>> = LazyLock::new(|| Arc::new(RetryPolicy::istio_default()));

/// Makes [`Retry`].
#[derive(Clone, Debug)]
pub struct RetryLayer {
    meter: Meter,
}

impl RetryLayer {
    /// Retries, and retries that were not possible, are counted in `meter`.
    pub fn new(meter: Meter) -> Self {
        Self { meter }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry {
            inner,
            meter: self.meter.clone(),
        }
    }
}

/// Sends a request until it is answered, its policy is exhausted, or its deadline passes.
///
/// A request of which no byte was sent (no connection could be made) is always at hand for another attempt. One that
/// was sent is repeated only if its body is empty or at hand in one piece; where that forbids a retry that the policy
/// asks for, it is counted as skipped.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    meter: Meter,
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
        Box::pin(attempts(self.inner.clone(), self.meter.clone(), routed))
    }
}

async fn attempts<S>(mut inner: S, meter: Meter, mut routed: Routed) -> Result<Response<MeshBody>, Refusal>
where
    S: Service<Routed, Response = Response<MeshBody>, Error = Refusal>,
{
    let rule = routed.rule.as_ref().and_then(|won| won.rule());
    let (policy, timeouts) = match rule {
        Some(rule) => (Arc::clone(&rule.retry), rule.timeouts),
        None => (Arc::clone(&DEFAULT), Timeouts::default()),
    };
    let deadline = timeouts.request.map(|after| Instant::now() + after);
    loop {
        let attempt = routed.attempt;
        let again = (attempt <= policy.attempts).then(|| Again::of(&routed, &policy));
        let result = once(&mut inner, routed, timeouts.per_try, deadline).await;
        let outcome = match &result {
            Ok(response) => Outcome::response(response.status(), response.headers()),
            Err(refusal) => match &refusal.outcome {
                Some(outcome) => *outcome,
                None => return result,
            },
        };
        let Some(again) = again else { return result };
        if !policy.should_retry(&outcome, attempt - 1) {
            return result;
        }
        let tried = match &result {
            Ok(response) => response
                .extensions()
                .get::<Served>()
                .map(|served| served.endpoint.key.clone()),
            Err(refusal) => refusal.endpoint.clone(),
        };
        let (result, returned) = match result {
            Ok(response) => (Ok(response), None),
            Err(mut refusal) => {
                let unsent = refusal.take_unsent();
                (Err(refusal), unsent)
            }
        };
        let Some(mut next) = again.routed(returned) else {
            meter.retry_skipped("body_sent");
            return result;
        };
        let pause = policy.backoff.delay(attempt, fastrand::u64(..));
        if deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) {
            meter.retry_skipped("deadline");
            return result;
        }
        tracing::debug!(attempt, ?outcome, ?pause, "retrying");
        meter.retry();
        // The answer that is being replaced must not hold its connection while we wait.
        drop(result);
        tokio::time::sleep(pause).await;
        next.tried.extend(tried.filter(|_| policy.avoid_previous));
        next.attempt = attempt + 1;
        routed = next;
    }
}

/// One attempt under its own deadline and the request's.
async fn once<S>(
    inner: &mut S,
    routed: Routed,
    per_try: Option<Duration>,
    deadline: Option<Instant>,
) -> Result<Response<MeshBody>, Refusal>
where
    S: Service<Routed, Response = Response<MeshBody>, Error = Refusal>,
{
    let this_try = per_try.map(|after| Instant::now() + after);
    let future = inner.call(routed);
    let (until, overall) = match (this_try, deadline) {
        (None, None) => return future.await,
        (Some(until), None) => (until, false),
        (None, Some(until)) => (until, true),
        (Some(this), Some(whole)) => (this.min(whole), whole <= this),
    };
    match tokio::time::timeout_at(until, future).await {
        Ok(result) => result,
        // The request's own deadline is the end; that of one try may be followed by another.
        Err(_) if overall => Err(Refusal::new(Reason::Timeout, "the request's deadline passed")),
        Err(_) => {
            Err(Refusal::new(Reason::Timeout, "the attempt's deadline passed")
                .outcome(Outcome::PerTryTimeout))
        }
    }
}

/// What another attempt would be made of.
struct Again {
    view: Arc<Snapshot>,
    place: Option<Arc<Place>>,
    peer: Option<Arc<Peer>>,
    rule: Option<Won>,
    to: Destination,
    pinned: Option<Arc<Endpoint>>,
    tried: Vec<EndpointKey>,
    /// A faithful copy of the request, where the policy may want one.
    copy: Option<Box<Request<MeshBody>>>,
}

impl Again {
    fn of(routed: &Routed, policy: &RetryPolicy) -> Self {
        let http2 = match &routed.to {
            Destination::Cluster(cluster) => cluster.protocol == AppProtocol::Http2,
            Destination::Endpoint(_) => false,
        };
        // Over HTTP/1 the default policy only ever repeats what was not sent: no copy needed.
        let copy = if policy.repeats_sent(http2) {
            copy(&routed.call.request)
        } else {
            None
        };
        Self {
            view: Arc::clone(&routed.call.view),
            place: routed.call.place.clone(),
            peer: routed.call.peer.clone(),
            rule: routed.rule.clone(),
            to: routed.to.clone(),
            pinned: routed.pinned.clone(),
            tried: routed.tried.clone(),
            copy,
        }
    }

    /// The next attempt, with the request that came back unsent or a copy of it.
    fn routed(self, returned: Option<Request<MeshBody>>) -> Option<Routed> {
        let request = returned.or_else(|| self.copy.map(|copy| *copy))?;
        let call = Call {
            request,
            view: self.view,
            place: self.place,
            peer: self.peer,
        };
        Some(Routed {
            call,
            rule: self.rule,
            to: self.to,
            pinned: self.pinned,
            tried: self.tried,
            attempt: 1,
        })
    }
}

fn copy(request: &Request<MeshBody>) -> Option<Box<Request<MeshBody>>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    // What an upgrade's two ends are joined by, and what its answer must look like.
    *copy.extensions_mut() = request.extensions().clone();
    Some(Box::new(copy))
}
