//! What applies to one request: its retry policy, its deadlines, and what it is hashed to.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::Kit;
use crate::layer::MeshBody;
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
/// Without a word the route's policy decides alone; of a gRPC call its method's definition may say it
/// ([`MeshBuilder::grpc_definitions`](crate::MeshBuilder::grpc_definitions)). A waypoint on the way is asked to do likewise.
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
    pub(super) fn of(routed: &mut Routed, kit: &Kit, now: Instant) -> Self {
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
        let asked = asked_time(headers, grpc, kit.deadline.as_ref());
        if let Some(hint) = hint(&routed.call.request, grpc, kit) {
            let idempotent = hint == Idempotency::Idempotent;
            policy = Arc::new(policy.hinted(idempotent));
            if is_to_waypoint(&routed.to) {
                Asked::write(routed.call.request.headers_mut(), idempotent);
            }
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

/// What the application says of a request, by itself or by the definition of the method that it calls.
fn hint(request: &Request<MeshBody>, grpc: bool, kit: &Kit) -> Option<Idempotency> {
    let of_method = || grpc && kit.methods.is_idempotent(request.uri().path());
    let said = request.extensions().get::<Idempotency>().copied();
    said.or_else(|| of_method().then_some(Idempotency::Idempotent))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Call;
    use crate::name::{Host, ServiceName};
    use crate::policy::balance::EndpointSet;
    use crate::policy::retry::GrpcMethods;
    use crate::snapshot::{AppProtocol, Cluster, Snapshot};
    use crate::telemetry::Meter;

    fn kit(methods: GrpcMethods) -> Kit {
        Kit {
            meter: Meter::new(),
            memory: Default::default(),
            deadline: None,
            methods,
        }
    }

    fn routed(via: Via, request: Request<MeshBody>) -> Routed {
        let cluster = Cluster {
            service: ServiceName::new("default", "shop"),
            host: Host::parse("shop.default.svc.cluster.local").unwrap(),
            port: 80,
            subset: None,
            protocol: AppProtocol::Http2,
            via,
            endpoints: EndpointSet::new(Vec::new()),
        };
        let call = Call::outgoing(request, Arc::new(Snapshot::default()));
        Routed::new(call, None, Destination::Cluster(Arc::new(cluster)))
    }

    fn call(hint: Option<Idempotency>) -> Request<MeshBody> {
        let mut request = Request::post("http://shop/a.Shop/Get");
        if let Some(hint) = hint {
            request = request.extension(hint);
        }
        let grpc = request.header("content-type", "application/grpc");
        grpc.body(MeshBody::empty()).unwrap()
    }

    #[test]
    fn a_methods_definition_counts_where_the_call_says_nothing() {
        // `service Shop { rpc Get(...) { option idempotency_level = IDEMPOTENT; } }` of package `a`.
        let set = b"\x0a\x17\x12\x01a\x32\x12\x0a\x04Shop\x12\x0a\x0a\x03Get\x22\x03\x90\x02\x02";
        let methods = GrpcMethods::read(set).unwrap();
        assert!(methods.is_idempotent("/a.Shop/Get"));
        let repeats_resets = |methods: &GrpcMethods, hint| {
            let mut routed = routed(Via::Direct, call(hint));
            let plan = Plan::of(&mut routed, &kit(methods.clone()), Instant::now());
            plan.policy.conditions.contains(Conditions::RESET)
        };
        let none = GrpcMethods::default();
        assert!(!repeats_resets(&none, None));
        assert!(repeats_resets(&none, Some(Idempotency::Idempotent)));
        assert!(repeats_resets(&methods, None));
        assert!(!repeats_resets(&methods, Some(Idempotency::NotIdempotent)));
    }

    #[test]
    fn a_waypoint_is_told_what_it_cannot_see() {
        let told = |via, hint| {
            let mut routed = routed(via, call(hint));
            Plan::of(&mut routed, &kit(GrpcMethods::default()), Instant::now());
            let headers = routed.call.request.headers();
            let names = CONTROL.iter().filter(|name| headers.contains_key(**name));
            names.copied().collect::<Vec<_>>()
        };
        let waypoint = || Via::Waypoint {
            namespace: "default".into(),
            name: "waypoint".into(),
        };
        assert_eq!(
            told(waypoint(), Some(Idempotency::Idempotent)),
            ["x-envoy-retry-on"]
        );
        assert_eq!(
            told(waypoint(), Some(Idempotency::NotIdempotent)),
            ["x-envoy-max-retries"]
        );
        assert_eq!(told(waypoint(), None), [""; 0]);
        assert_eq!(told(Via::Direct, Some(Idempotency::Idempotent)), [""; 0]);
    }
}
