//! Faults in front of everything else that a rule does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::time::Instant;
use tower_service::Service;

use super::{Asking, Directory, Route};
use crate::layer::call::{Call, Delayed, Destination, Routed};
use crate::layer::{MeshBody, Reason, Refusal};
use crate::name::{Host, Kind, ResourceRef, ServiceName};
use crate::policy::balance::EndpointSet;
use crate::policy::fault::{Abort, Delay, FaultPolicy, PerMillion};
use crate::policy::route::{
    Action, Backend, Backends, ClusterId, RouteRule, RouteTableBuilder, RuleOrigin, Target,
};
use crate::snapshot::{
    AppProtocol, Cluster, Findings, ServiceId, ServicePortView, ServiceView, Snapshot, Via,
};
use crate::telemetry::Meter;

/// Nobody is addressed by address here.
#[derive(Clone)]
struct Nobody;

impl Directory for Nobody {
    fn pod(&self, _: &Snapshot, _: IpAddr, _: u16) -> Result<Destination, Refusal> {
        Err(Refusal::new(Reason::NoRoute, "nobody"))
    }
}

/// Counts what arrives.
#[derive(Clone, Default)]
struct Upstream(Arc<AtomicUsize>);

impl Service<Routed> for Upstream {
    type Response = Response<MeshBody>;
    type Error = Refusal;
    type Future = std::future::Ready<Result<Response<MeshBody>, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Routed) -> Self::Future {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(Response::new(MeshBody::empty())))
    }
}

/// One service with one rule.
struct World {
    view: Arc<Snapshot>,
    upstream: Upstream,
}

fn world(action: Action, fault: FaultPolicy) -> World {
    let origin = RuleOrigin::new(ResourceRef::new(Kind::VirtualService, "ns", "vs"), 0, None);
    let mut table = RouteTableBuilder::default();
    let rule = table.rule(
        RouteRule {
            fault: Some(fault),
            ..RouteRule::new(origin, action)
        },
        None,
    );
    table.listed(rule, 0, &[crate::matcher::HostPattern::Any], Default::default());
    let host = Host::parse("reviews").unwrap();
    let name = ServiceName::new("ns", "reviews");
    let cluster = Cluster {
        service: name.clone(),
        host: host.clone(),
        port: 80,
        subset: None,
        protocol: AppProtocol::Http1,
        via: Via::Direct,
        endpoints: EndpointSet::new(Vec::new()),
    };
    let port = ServicePortView {
        number: 80,
        protocol: AppProtocol::Http1,
        routes: Arc::new(table.build()),
        connections: Arc::default(),
        cluster: ClusterId(0),
        session: None,
    };
    let view = Snapshot {
        hosts: HashMap::from([(host.clone(), ServiceId(0))]),
        services: vec![Arc::new(ServiceView {
            name,
            host,
            ports: vec![port],
        })],
        clusters: vec![Arc::new(cluster)],
        ..Snapshot::default()
    };
    World {
        view: Arc::new(view),
        upstream: Upstream::default(),
    }
}

impl World {
    async fn get(&self, headers: &[(&'static str, &'static str)]) -> Result<Response<MeshBody>, Refusal> {
        let mut request = Request::builder().uri("http://reviews/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let call = Call {
            request: Box::new(request.body(MeshBody::empty()).unwrap()),
            view: Arc::clone(&self.view),
            place: None,
            peer: None,
            dialled: None,
            found: Findings::default(),
            notes: None,
        };
        let mut route = Route {
            inner: self.upstream.clone(),
            directory: Nobody,
            asking: Asking {
                asker: None,
                meter: Meter::new(),
            },
        };
        route.call(call).await
    }

    fn reached(&self) -> usize {
        self.upstream.0.load(Ordering::Relaxed)
    }
}

fn forward() -> Action {
    Action::Forward(Backends::new(vec![Backend::new(Target::Cluster(ClusterId(0)), 1)]).unwrap())
}

fn delay(percent: f64) -> Option<Delay> {
    Some(Delay {
        share: PerMillion::percent(percent),
        time: Duration::from_secs(7),
    })
}

fn abort(percent: f64, status: StatusCode) -> Option<Abort> {
    Some(Abort {
        share: PerMillion::percent(percent),
        status,
        grpc_status: None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_delay_comes_before_the_request_is_sent() {
    let fault = FaultPolicy {
        delay: delay(100.0),
        ..FaultPolicy::default()
    };
    let world = world(forward(), fault);
    let began = Instant::now();
    {
        let mut asked = std::pin::pin!(world.get(&[]));
        let early = tokio::time::timeout(Duration::from_secs(6), &mut asked).await;
        assert!(early.is_err());
        assert_eq!(world.reached(), 0);
        let response = asked.await.unwrap();
        assert!(response.extensions().get::<Delayed>().is_some());
    }
    assert_eq!(began.elapsed(), Duration::from_secs(7));
    assert_eq!(world.reached(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_abort_comes_after_the_delay_and_in_place_of_everything_else() {
    let teapot = StatusCode::IM_A_TEAPOT;
    for (action, delayed, flags) in [
        (forward(), None, "FI"),
        (forward(), delay(100.0), "DI,FI"),
        (Action::fail("it cannot be carried out"), None, "FI"),
    ] {
        let fault = FaultPolicy {
            delay: delayed,
            abort: abort(100.0, teapot),
            ..FaultPolicy::default()
        };
        let world = world(action, fault);
        let began = Instant::now();
        let refusal = world.get(&[]).await.unwrap_err();
        assert_eq!((refusal.status, &*refusal.body), (teapot, "fault filter abort"));
        assert_eq!(refusal.flags(), flags);
        assert_eq!(began.elapsed(), delayed.map_or(Duration::ZERO, |it| it.time));
        assert_eq!(world.reached(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn shares_are_drawn_independently_and_repeat_with_their_seed() {
    let fault = FaultPolicy {
        delay: delay(50.0),
        abort: abort(20.0, StatusCode::BAD_GATEWAY),
        ..FaultPolicy::default()
    };
    let run = |seed: u64| async move {
        fastrand::seed(seed);
        let world = world(forward(), fault);
        let mut seen = [0; 4];
        for _ in 0..2_000 {
            let (delayed, aborted) = match world.get(&[]).await {
                Ok(response) => (response.extensions().get::<Delayed>().is_some(), false),
                Err(refusal) => (refusal.flags().contains("DI"), true),
            };
            seen[usize::from(delayed) * 2 + usize::from(aborted)] += 1;
        }
        seen
    };
    let seen = run(1).await;
    assert_eq!(seen, run(1).await);
    assert_ne!(seen, run(2).await);
    // Plain, aborted, delayed, both: six standard deviations to either side.
    for (count, expected) in seen.into_iter().zip([800_u32, 200, 800, 200]) {
        let within = 6.0 * (f64::from(expected) * (1.0 - f64::from(expected) / 2_000.0)).sqrt();
        assert!(f64::from(expected.abs_diff(count)) < within, "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_ask_by_header_only_where_they_may() {
    let asked = [("x-envoy-fault-abort-request", "503")];
    let closed = world(forward(), FaultPolicy::default());
    assert!(closed.get(&asked).await.is_ok());
    let open = world(
        forward(),
        FaultPolicy {
            by_header: true,
            ..FaultPolicy::default()
        },
    );
    assert_eq!(
        open.get(&asked).await.unwrap_err().status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(open.get(&[]).await.is_ok());
}
