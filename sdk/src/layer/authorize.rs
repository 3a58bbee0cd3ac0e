//! Authorize: lets a request pass if the authorization policies of this place allow it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Response, StatusCode};
use pin_project_lite::pin_project;
use smallvec::SmallVec;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Span;

use super::notes::Decided;
use super::{Call, MeshBody, Reason, Refusal};
use crate::policy::RequestHead;
use crate::policy::authz::{Decision, RuleRef, RuleTold};
use crate::snapshot::tap::Phase;
use crate::snapshot::{Place, Remark};
use crate::telemetry::{Meter, field};

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
        call.mark(Phase::Authorize);
        let head = call.head();
        if let Some(place) = call.place.as_deref().filter(|_| call.view.asks().remarks) {
            remark(&call, &head, place, &self.meter);
        }
        let refusal = match (call.place.as_deref(), &call.peer) {
            (Some(place), Some(_)) => judge(place, &call, &head, &self.meter).err(),
            _ => Some(Refusal::new(
                Reason::Denied,
                "the request reached the policy point without a peer",
            )),
        };
        if let Some(refusal) = refusal.as_ref().filter(|it| it.reason == Reason::Denied) {
            match &refusal.policy {
                Some(policy) => self.meter.denied(&policy.to_string()),
                None => self.meter.denied("none"),
            }
        }
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

/// Of 256 requests so many are timed: looking at the clock twice costs as much as a short decision.
const TIMED: u8 = 4;

/// Decides, and writes the decision down where somebody wants to know.
fn judge(place: &Place, call: &Call, head: &RequestHead<'_>, meter: &Meter) -> Result<(), Refusal> {
    let span = Span::current();
    let notes = call.notes.as_deref();
    let is_timed = fastrand::u8(..) < TIMED;
    let began = (is_timed || notes.is_some() || !span.is_disabled()).then(Instant::now);
    let decision = call.view.authorize_found(place, head, &call.found);
    if let Some(began) = began {
        let cost = began.elapsed();
        if is_timed {
            meter.decision(cost);
        }
        let (Decision::Allow { by } | Decision::Deny { by, .. }) = decision;
        let allowed = decision.is_allowed();
        span.record(field::DECISION, if allowed { "allow" } else { "deny" });
        span.record(
            field::DECISION_COST,
            u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX),
        );
        if let Some(by) = by {
            span.record(field::POLICY, tracing::field::display(&by.policy));
            span.record(field::POLICY_RULE, by.rule);
        }
        if let Some(notes) = notes {
            if let Some(claims) = call.found.claims(0) {
                let _ = notes.claims.set(Arc::clone(claims));
            }
            let told = by
                .filter(|_| notes.detailed)
                .and_then(|by| call.view.rule_told(place, head, &call.found, by));
            let (clause, inputs) = told.as_ref().map(in_short).unwrap_or_default();
            notes.decide(Decided {
                allowed,
                by: by.cloned(),
                clause,
                inputs,
                cost,
            });
        }
    }
    match decision {
        Decision::Allow { .. } => Ok(()),
        // No policy speaks: the tunnel outlived what it was made for. As Envoy answers on a connection whose cluster is gone.
        Decision::Deny { by: None, .. } if call.view.has_lost(place) => {
            let generation = call.view.generation;
            let detail = format!("{place:?} is not served here any more (generation {generation})");
            Err(Refusal::new(Reason::Misconfigured, detail).status(StatusCode::SERVICE_UNAVAILABLE))
        }
        Decision::Deny { by, why } => {
            let detail = match by {
                Some(rule) => format!("{} rule {}: {why}", rule.policy, rule.rule),
                None => why.to_owned(),
            };
            let mut refusal = Refusal::new(Reason::Denied, detail);
            refusal.policy = by.map(|rule| rule.policy.clone());
            refusal.rule = by.map(|rule| rule.rule);
            Err(refusal)
        }
    }
}

/// The parts of a rule that hold, and the names of what they ask about.
fn in_short(told: &RuleTold<'_>) -> (String, String) {
    let parts: Vec<&str> = told.held().map(|one| one.at.as_str()).collect();
    let mut names: Vec<&str> = Vec::new();
    for ask in told.held().flat_map(|one| &one.asks) {
        if !names.contains(&ask.of.as_str()) {
            names.push(&ask.of);
        }
    }
    (parts.join(" "), names.join(" "))
}

/// Writes down what policies that decide nothing have to say, once for a request whichever gates it passes: in the log, the
/// metrics and the request's span.
fn remark(call: &Call, head: &RequestHead<'_>, place: &Place, meter: &Meter) {
    let (mut audited, mut dry_run) = (SmallVec::<[&RuleRef; 2]>::new(), None::<Decision<'_>>);
    call.view
        .remarks(place, head, &call.found, |remark| match remark {
            Remark::Audited(rule) if audited.contains(&rule) => {}
            Remark::Audited(rule) => audited.push(rule),
            // As with those that are enforced, one gate that would not have opened is enough.
            Remark::DryRun(decision) if dry_run.is_none_or(|it| it.is_allowed()) => dry_run = Some(decision),
            Remark::DryRun(_) => {}
        });
    let span = Span::current();
    for rule in audited {
        let policy = rule.policy.to_string();
        meter.audited(&policy);
        span.record(field::AUDIT, &*policy);
        tracing::info!(target: "inmesh::audit", policy, rule = rule.rule, ?place, "audited");
    }
    if let Some(decision) = dry_run {
        let allowed = decision.is_allowed();
        let details = decision.details();
        let details = details.as_deref().unwrap_or("allow");
        meter.dry_run(if allowed { "allow" } else { "deny" });
        span.record(field::DRY_RUN, details);
        tracing::info!(
            target: "inmesh::dry_run",
            allowed, details, ?place, "dry-run policies would have decided so",
        );
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
