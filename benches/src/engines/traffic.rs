//! What every request that is sent on does besides: choose an endpoint, report on it, take a token.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use http::{HeaderMap, Request, Response, StatusCode};
use inmesh::layer::{Call, Destination, MeshBody, Refusal, RetryLayer, Routed};
use inmesh::name::{Host, ServiceName};
use inmesh::policy::Outcome;
use inmesh::policy::balance::{
    Algorithm, Draw, Endpoint, EndpointCell, EndpointKey, EndpointSet, Rank, Tried, Workload, hash_of,
};
use inmesh::policy::fault::PerMillion;
use inmesh::policy::limit::{
    AdaptiveLimit, BucketPolicy, Criticality, Descriptor, GradientPolicy, KindPolicy, LocalLimit,
    LocalPolicy, TokenBucket,
};
use inmesh::policy::outlier::OutlierPolicy;
use inmesh::policy::traffic::TrafficPolicy;
use inmesh::snapshot::{AppProtocol, Cluster, Snapshot, Via};
use inmesh::telemetry::Meter;
use tower_layer::Layer;
use tower_service::Service;

use super::harness::Harness;

/// How many endpoints: few, and as many as the largest services have.
const SIZES: [usize; 3] = [10, 1_000, 10_000];

pub(super) fn run(harness: &mut Harness) -> Result<()> {
    let now = Instant::now();
    for (name, algorithm) in [
        ("least request", Algorithm::LeastRequest),
        ("peak EWMA", Algorithm::PeakEwma),
        ("round robin", Algorithm::RoundRobin),
        ("random", Algorithm::Random),
        ("ring hash", Algorithm::RING),
        ("Maglev", Algorithm::MAGLEV),
    ] {
        for size in SIZES {
            for weighted in [false, true] {
                if weighted && algorithm.is_consistent() {
                    continue;
                }
                let set = endpoints(size, algorithm, weighted);
                let pick = |n: usize| {
                    let random = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let hash = algorithm.is_consistent().then_some(random.rotate_left(17));
                    set.pick(&Draw { random, hash, now }, &Tried::default())
                };
                ensure!(pick(1).is_some(), "nobody was chosen");
                // A choice by latency compares two that are known.
                for endpoint in set.endpoints() {
                    set.took(endpoint, Duration::from_millis(7), false, now);
                }
                let world = if weighted { label(name) } else { name };
                harness.operation(("pick", world, size), pick);
                // With what every request does besides: it is counted as under way, and no more.
                harness.operation(("count in", world, size), |n| {
                    pick(n).map(|endpoint| endpoint.cell.enter())
                });
            }
        }
    }
    let set = endpoints(10, Algorithm::LeastRequest, false);
    let fine = Outcome::response(StatusCode::OK, &HeaderMap::new());
    harness.operation(("report", "outlier detection", 10), |n| {
        set.report(&set.endpoints()[n % 10], &fine, now)
    });
    harness.operation(("hash", "a header of 36 bytes", 1), |_| {
        hash_of(black_box("6f1d2a7e-4b1c-4d7f-9a55-0b9d0f4d5a10"))
    });
    let policy = BucketPolicy {
        max: u32::MAX,
        fill: 1,
        every: Duration::from_secs(1),
    };
    let bucket = TokenBucket::new(&policy);
    harness.operation(("take", "token bucket", 1), |_| {
        bucket.take(&policy, now.elapsed()).taken
    });
    contended(harness, "token bucket, two threads", || {
        bucket.take(&policy, now.elapsed()).taken
    });
    local_limits(harness, &policy, now);
    adaptive(harness, now);
    retries(harness)
}

/// A whole limit as a filter has it: descriptors compared, a bucket of each kind and of all.
fn local_limits(harness: &mut Harness, bucket: &BucketPolicy, now: Instant) {
    let kind = |value: Option<&str>| KindPolicy {
        entries: vec![("caller".into(), value.map(Into::into))],
        bucket: *bucket,
    };
    let limit = |kinds: Vec<KindPolicy>| {
        LocalLimit::new(LocalPolicy {
            enabled: PerMillion::ALL,
            enforced: PerMillion::ALL,
            all: Some(*bucket),
            kinds,
            counts_twice: true,
            values: 1_024,
            status: StatusCode::TOO_MANY_REQUESTS,
            exhausted: false,
            headers: Vec::new(),
            tells: false,
            stage: 0,
        })
    };
    let caller = "spiffe://cluster.local/ns/default/sa/productpage";
    let descriptor: [Descriptor<'_>; 1] = [std::iter::once(("caller", caller.into())).collect()];
    for (name, limit) in [
        ("limit of all", limit(Vec::new())),
        ("limit of one kind", limit(vec![kind(Some(caller))])),
        ("limit of each caller", limit(vec![kind(None)])),
    ] {
        harness.operation(("take", name, 1), |_| limit.take(black_box(&descriptor), now));
        if name == "limit of each caller" {
            contended(harness, "of each caller, two threads", || {
                limit
                    .take(black_box(&descriptor), now)
                    .is_some_and(|it| it.allowed)
            });
        }
    }
}

/// A limit that follows latency: a request let in, and told of.
fn adaptive(harness: &mut Harness, now: Instant) {
    let limit = Arc::new(AdaptiveLimit::new(GradientPolicy {
        most: 1_000,
        least: 100,
        every: Duration::from_millis(100),
        percentile: 0.5,
        measure_every: Duration::from_secs(60),
        jitter: 0.15,
        requests: 50,
        buffer: 0.25,
        fixed_floor: None,
    }));
    harness.operation(("let in", "adaptive concurrency", 1), |_| {
        let entered = limit.enter(Criticality::Critical, now);
        entered.map(|it| it.answered(now + Duration::from_millis(1)))
    });
}

/// What a request costs that is answered at the first attempt.
fn retries(harness: &mut Harness) -> Result<()> {
    let cluster = Arc::new(Cluster {
        service: ServiceName::new("default", "reviews"),
        host: Host::parse("reviews.default.svc.cluster.local")?,
        port: 9080,
        subset: None,
        protocol: AppProtocol::Http1,
        via: Via::Direct,
        endpoints: endpoints(10, Algorithm::LeastRequest, false),
    });
    let view = Arc::new(Snapshot::default());
    let routed = || {
        let call = Call::outgoing(Request::new(MeshBody::empty()), Arc::clone(&view));
        Routed::new(call, None, Destination::Cluster(Arc::clone(&cluster)))
    };
    let poll = |future: &mut (dyn Future<Output = Result<Response<MeshBody>, Refusal>> + Unpin)| {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(std::pin::Pin::new(future).poll(&mut cx), Poll::Ready(Ok(_)))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let _entered = runtime.enter();
    let mut retry = RetryLayer::new(Meter::new()).layer(Answers);
    harness.operation(("send", "without a retry layer", 1), |_| {
        poll(&mut Answers.call(routed()))
    });
    harness.operation(("send", "through the retry layer", 1), |_| {
        poll(&mut retry.call(routed()))
    });
    Ok(())
}

/// Answers at once.
#[derive(Clone, Copy, Debug)]
struct Answers;

impl Service<Routed> for Answers {
    type Response = Response<MeshBody>;
    type Error = Refusal;
    type Future = std::future::Ready<Result<Response<MeshBody>, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Routed) -> Self::Future {
        std::future::ready(Ok(Response::new(MeshBody::empty())))
    }
}

/// The same while another thread does nothing else.
fn contended(harness: &mut Harness, world: &'static str, take: impl Fn() -> bool + Sync) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                take();
            }
        });
        harness.operation(("take", world, 2), |_| take());
        over.store(true, Ordering::Relaxed);
    });
}

fn label(name: &str) -> &'static str {
    match name {
        "least request" => "least request, weighted",
        "peak EWMA" => "peak EWMA, weighted",
        "round robin" => "round robin, weighted",
        _ => "random, weighted",
    }
}

fn endpoints(count: usize, algorithm: Algorithm, weighted: bool) -> EndpointSet {
    let endpoint = |n: usize| {
        let addr = SocketAddr::from(([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 15008));
        Arc::new(Endpoint {
            key: EndpointKey {
                dial: addr,
                authority: Some(addr.to_string().into()),
            },
            addr,
            tls: inmesh::policy::tls::Origination::None,
            identities: Arc::new([]),
            weight: if weighted { 1 + n as u32 % 7 } else { 1 },
            rank: Rank::default(),
            workload: Arc::new(Workload::default()),
            cell: Arc::new(EndpointCell::default()),
        })
    };
    let mut policy = TrafficPolicy {
        outlier: Some(OutlierPolicy::default()),
        ..TrafficPolicy::default()
    };
    policy.balance.algorithm = algorithm;
    EndpointSet::with(
        (0..count).map(endpoint).collect(),
        Arc::new(policy),
        Arc::default(),
    )
}
