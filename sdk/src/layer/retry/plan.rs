//! What applies to one request: its retry policy, its deadlines, and what it is hashed to.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::layer::call::{Destination, Routed};
use crate::layer::refusal::is_grpc;
use crate::policy::balance::Hashed;
use crate::policy::retry::{Asked, CONTROL, Conditions, RetryPolicy};
use crate::policy::timeout::{Deadlines, Timeouts, grpc_timeout, parse_grpc_timeout};
use crate::snapshot::Via;

/// What applies where no route says anything else: Istio's default policy and no timeout.
static DEFAULT: LazyLock<Arc<RetryPolicy>> = LazyLock::new(|| Arc::new(RetryPolicy::istio_default()));

/// What applies on the way to a waypoint, which retries itself: only what surely never got there.
static TO_WAYPOINT: LazyLock<Arc<RetryPolicy>> = LazyLock::new(|| {
    Arc::new(RetryPolicy {
        conditions: Conditions::CONNECT_FAILURE | Conditions::REFUSED_STREAM,
        ..RetryPolicy::istio_default()
    })
});

/// What an application says of a request, in its [`http::Extensions`]: whether sending it twice does harm.
///
/// Without a word the route's policy decides alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// It does not: resets are retried too, whatever became of the request before.
    Idempotent,
    /// It does: what may have been seen is not sent again, whatever the policy says.
    NotIdempotent,
}

/// What applies to one request.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) policy: Arc<RetryPolicy>,
    pub(super) deadlines: Deadlines,
    grpc: bool,
    /// The cookie by which the caller's next requests find the same endpoint.
    pub(super) cookie: Option<HeaderValue>,
}

impl Plan {
    /// Reads what applies, and removes from the request what was meant for us.
    pub(super) fn of(routed: &mut Routed, deadline: Option<&HeaderName>, now: Instant) -> Self {
        let rule = routed.rule.as_ref().and_then(|won| won.rule());
        let (mut policy, mut timeouts) = match rule {
            Some(rule) => (Arc::clone(&rule.retry), rule.timeouts),
            None if is_to_waypoint(&routed.to) => (Arc::clone(&TO_WAYPOINT), Timeouts::default()),
            None => (Arc::clone(&DEFAULT), Timeouts::default()),
        };
        let trusted = routed.call.is_from_mesh();
        let headers = routed.call.request.headers_mut();
        if Asked::is_in(headers) {
            if trusted {
                let asked = Asked::read(headers, &policy);
                policy = asked.retry.unwrap_or(policy);
                timeouts = Timeouts {
                    request: asked.timeout.map_or(timeouts.request, limit),
                    per_try: asked.per_try.map_or(timeouts.per_try, limit),
                };
            }
            for name in CONTROL {
                headers.remove(name);
            }
        }
        let grpc = is_grpc(headers);
        let asked = asked_time(headers, grpc, deadline);
        match routed.call.request.extensions().get::<Idempotency>() {
            None => {}
            Some(hint) => policy = Arc::new(policy.hinted(*hint == Idempotency::Idempotent)),
        }
        let hashed = hash(routed);
        routed.hash = hashed.value();
        Self {
            policy,
            deadlines: Deadlines::new(&timeouts, asked, now),
            grpc,
            cookie: match hashed {
                Hashed::Made(_, cookie) => Some(cookie),
                _ => None,
            },
        }
    }

    /// Tells the upstream how long it has, where that is limited.
    pub(super) fn tell(&self, headers: &mut HeaderMap, deadline: Option<&HeaderName>, now: Instant) {
        let Some((until, _)) = self.deadlines.attempt(now) else {
            return;
        };
        let left = until.saturating_duration_since(now);
        if self.grpc {
            headers.insert("grpc-timeout", grpc_timeout(left));
        }
        if let Some(name) = deadline {
            headers.insert(
                name,
                HeaderValue::from(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            );
        }
    }
}

fn is_to_waypoint(to: &Destination) -> bool {
    matches!(to, Destination::Cluster(cluster) if matches!(cluster.via, Via::Waypoint { .. }))
}

/// Zero switches a limit off.
fn limit(asked: Duration) -> Option<Duration> {
    (!asked.is_zero()).then_some(asked)
}

/// How long the caller gives the request.
fn asked_time(headers: &HeaderMap, grpc: bool, deadline: Option<&HeaderName>) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let by_grpc = grpc
        .then(|| text(&HeaderName::from_static("grpc-timeout")).and_then(parse_grpc_timeout))
        .flatten();
    let by_header = deadline.and_then(text).and_then(|text| text.trim().parse().ok());
    let by_header = by_header.map(Duration::from_millis);
    match (by_grpc, by_header) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn hash(routed: &Routed) -> Hashed {
    let Destination::Cluster(cluster) = &routed.to else {
        return Hashed::Nothing;
    };
    match &cluster.endpoints.policy().balance.hash {
        None => Hashed::Nothing,
        Some(key) => {
            let head = routed.call.head();
            let source = match &routed.call.peer {
                Some(_) => head.caller.addr,
                None => routed.call.view.my_addr(),
            };
            key.of(&head, source, fastrand::u64(..))
        }
    }
}
