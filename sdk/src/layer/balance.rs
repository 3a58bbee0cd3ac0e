//! Balance: chooses the endpoint that will be asked, and tells it apart afterwards by how that ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use super::body::Held;
use super::call::{Destination, Directed, Routed};
use super::notes::Notes;
use super::{MeshBody, Reason, Refusal};
use crate::policy::Outcome;
use crate::policy::balance::{Draw, Endpoint};
use crate::policy::timeout::Limit;
use crate::policy::traffic::Counter;
use crate::snapshot::Cluster;
use crate::snapshot::tap::Phase;
use crate::telemetry::Meter;

/// Makes [`Balance`].
#[derive(Clone, Debug)]
pub struct BalanceLayer {
    meter: Meter,
}

impl BalanceLayer {
    /// Ejections are counted in `meter`.
    pub fn new(meter: Meter) -> Self {
        Self { meter }
    }
}

impl<S> Layer<S> for BalanceLayer {
    type Service = Balance<S>;

    fn layer(&self, inner: S) -> Balance<S> {
        Balance {
            inner,
            meter: self.meter.clone(),
        }
    }
}

/// Chooses an endpoint as the destination's policy says (unless the request's session has one), gives the attempt as long as it may take, counts it as under
/// way until its response has ended, and reports to outlier detection how it went.
#[derive(Clone, Debug)]
pub struct Balance<S> {
    inner: S,
    meter: Meter,
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
        routed.call.mark(Phase::Balance);
        let refused = |refusal| BalanceFuture::Refused {
            refusal: Some(refusal),
        };
        let (endpoint, cluster, ticket) = match &routed.to {
            Destination::Endpoint(endpoint) => (Arc::clone(endpoint), None, None),
            Destination::Cluster(cluster) => {
                let endpoints = &cluster.endpoints;
                let draw = Draw {
                    random: fastrand::u64(..),
                    hash: routed.hash,
                    now: routed.at,
                };
                let pinned = routed.pinned.as_ref().filter(|pinned| {
                    let cell = &pinned.cell;
                    let answers = !cell.outlier().is_ejected() && !cell.is_silent();
                    answers && !routed.tried.endpoints.contains(&pinned.key)
                });
                let chosen = match pinned {
                    Some(pinned) => Some(Arc::clone(pinned)),
                    None => endpoints.pick(&draw, &routed.tried),
                };
                let Some(endpoint) = chosen else {
                    return refused(nobody(cluster).giving_back(routed.call.request));
                };
                let limit = endpoints.policy().limits.requests;
                let Some(ticket) = endpoints.cell().enter(Counter::Requests, limit) else {
                    let detail = format!(
                        "{cluster} has {limit} requests under way, as many as its connectionPool allows"
                    );
                    return refused(Refusal::new(Reason::Overloaded, detail).outcome(Outcome::Overflow));
                };
                (endpoint, Some(Arc::clone(cluster)), Some(ticket))
            }
        };
        let held = Held {
            _endpoint: endpoint.cell.enter(),
            _cluster: ticket,
        };
        let (began, until) = (routed.at, routed.until);
        let notes = routed.call.notes.clone();
        if let Some(notes) = &notes {
            notes.attempt(&endpoint);
        }
        let directed = Directed {
            routed,
            endpoint: Arc::clone(&endpoint),
        };
        BalanceFuture::Inner {
            future: self.inner.call(directed),
            timer: until.map(|(at, _)| sleep_until(at.into())),
            limit: until.map(|(_, limit)| limit),
            asked: Some(Asked {
                endpoint,
                cluster,
                held,
                began,
                meter: self.meter.clone(),
                notes,
            }),
        }
    }
}

fn nobody(cluster: &Cluster) -> Refusal {
    let all = cluster.endpoints.endpoints().len();
    let detail = match all {
        0 => format!("{cluster} has no endpoint that is ready"),
        _ => format!(
            "none of the {all} endpoints of {cluster} is healthy ({} ejected)",
            cluster.endpoints.cell().ejected()
        ),
    };
    Refusal::new(Reason::NoEndpoint, detail).outcome(Outcome::NoEndpoint)
}

/// Who was asked.
#[derive(Debug)]
struct Asked {
    endpoint: Arc<Endpoint>,
    cluster: Option<Arc<Cluster>>,
    held: Held,
    began: std::time::Instant,
    meter: Meter,
    notes: Option<Arc<Notes>>,
}

impl Asked {
    /// How long it took, where the choice goes by that.
    fn timed(&self, failed: bool) {
        let timed = |it: &&Arc<Cluster>| it.endpoints.policy().balance.algorithm.is_timed();
        if let Some(cluster) = self.cluster.as_ref().filter(timed) {
            let now = Instant::now().into_std();
            let took = now.saturating_duration_since(self.began);
            cluster.endpoints.took(&self.endpoint, took, failed, now);
        }
    }

    /// The answer, reported.
    fn answered(self, result: Result<Response<MeshBody>, Refusal>) -> Result<Response<MeshBody>, Refusal> {
        self.timed(result.as_ref().map_or(true, |it| it.status().is_server_error()));
        if let Some(notes) = &self.notes {
            notes.attempted(&result);
        }
        // The answer, and the clock, are looked at only where somebody is watched.
        let watched = self
            .cluster
            .as_ref()
            .filter(|cluster| cluster.endpoints.policy().outlier.is_some());
        let outcome = watched.and_then(|_| match &result {
            Ok(response) => Some(Outcome::response(response.status(), response.headers())),
            Err(refusal) => refusal.outcome,
        });
        if let (Some(cluster), Some(outcome)) = (watched, outcome)
            && cluster
                .endpoints
                .report(&self.endpoint, &outcome, Instant::now().into_std())
        {
            self.meter.ejected();
            tracing::warn!(
                endpoint = %self.endpoint.addr,
                service = %cluster.host,
                ?outcome,
                times = self.endpoint.cell.outlier().times(),
                "endpoint ejected",
            );
        }
        result.map(|response| response.map(|body| body.holding(self.held)))
    }

    fn late(self, limit: Limit) -> Result<Response<MeshBody>, Refusal> {
        let (detail, outcome) = match limit {
            Limit::PerTry => ("the attempt's deadline passed", Outcome::PerTryTimeout),
            // The request's own deadline is the end; that of one try may be followed by another.
            Limit::Request => ("the request's deadline passed", Outcome::Timeout),
        };
        let refusal = Refusal::new(Reason::Timeout, detail)
            .outcome(outcome)
            .at(&self.endpoint.key);
        self.answered(Err(refusal))
    }
}

pin_project! {
    /// The future of [`Balance`]. Dropped before its end it has taken at least so long, and told nothing better.
    #[project = BalanceProjection]
    #[allow(missing_docs)] // the variants are not for callers
    pub enum BalanceFuture<F> {
        Inner {
            #[pin] future: F,
            #[pin] timer: Option<Sleep>,
            limit: Option<Limit>,
            asked: Option<Asked>,
        },
        Refused { refusal: Option<Refusal> },
    }

    impl<F> PinnedDrop for BalanceFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            if let BalanceProjection::Inner { asked, .. } = this.project()
                && let Some(asked) = asked.take()
            {
                asked.timed(true);
            }
        }
    }
}

impl<F> Future for BalanceFuture<F>
where
    F: Future<Output = Result<Response<MeshBody>, Refusal>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let over = || Refusal::new(Reason::NoEndpoint, "polled after completion");
        match self.project() {
            BalanceProjection::Inner {
                future,
                timer,
                limit,
                asked,
            } => {
                if let Poll::Ready(result) = future.poll(cx) {
                    return Poll::Ready(match asked.take() {
                        Some(asked) => asked.answered(result),
                        None => Err(over()),
                    });
                }
                let (Some(timer), Some(limit)) = (timer.as_pin_mut(), *limit) else {
                    return Poll::Pending;
                };
                ready!(timer.poll(cx));
                Poll::Ready(match asked.take() {
                    Some(asked) => asked.late(limit),
                    None => Err(over()),
                })
            }
            BalanceProjection::Refused { refusal } => Poll::Ready(Err(refusal.take().unwrap_or_else(over))),
        }
    }
}
