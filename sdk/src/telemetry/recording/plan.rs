//! How the requests of a place are traced, as configuration was compiled.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::sampling::Sampling;
use super::tag::Tag;
use crate::telemetry::Propagation;
use crate::telemetry::access::Wanted;
#[cfg(feature = "otlp")]
use crate::telemetry::{Meter, export::Queue};
#[cfg(feature = "otlp")]
use opentelemetry_proto::tonic::trace::v1::Span;

/// What the mesh does about traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// Nothing of its own: its `tracing` spans are there for an OpenTelemetry layer, and a caller's context is handed on.
    #[default]
    Unasked,
    /// As little as possible (`disableSpanReporting`): no spans, and the headers of traces pass as they are.
    Silent,
    /// It decides which are recorded, and records them.
    Recorded,
}

/// How the requests of a place are traced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TracePlan {
    /// What is done at all.
    pub tracing: Tracing,
    /// Where spans go; `None` if nowhere, and then contexts are made all the same.
    pub outlet: Option<Arc<Outlet>>,
    /// How many of the traces that begin here are recorded.
    pub sampling: Sampling,
    /// Which headers carry contexts.
    pub propagation: Propagation,
    /// Custom tags.
    pub tags: Vec<Tag>,
    /// Tags that are the same in every span: who we are.
    pub own: Arc<[(Arc<str>, Arc<str>)]>,
    /// How long the path in a span may be.
    pub longest: usize,
    /// Which traces are kept after all, though they were not sampled.
    pub keep: Option<Keep>,
    /// What must be kept of a request for its span.
    pub wanted: Wanted,
}

/// The plans of a process: for what it receives, by where that comes in, and for what it sends.
#[derive(Clone, Debug, Default)]
pub struct TracePlans<R> {
    /// For what it receives, where it comes in.
    pub received: R,
    /// For what it sends of its own accord.
    pub sent: Arc<TracePlan>,
}

/// Which traces are kept at the end of their local part, though they were not sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Those that took at least so long.
    pub slow: Option<Duration>,
    /// Those that failed: 5xx, a gRPC status of that kind, no answer at all.
    pub failed: bool,
    /// Those that were refused by policy.
    pub denied: bool,
}

/// Where spans go: a provider of the mesh configuration, and who says so to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpanTarget {
    /// What the mesh configuration calls it.
    pub name: Arc<str>,
    /// How it is spoken to.
    pub protocol: SpanProtocol,
    /// The service.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// The path, where one is configured.
    pub path: Arc<str>,
    /// Header fields or metadata that go with each batch.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The attributes of the resource that all spans are about.
    pub resource: Vec<(Arc<str>, Arc<str>)>,
}

/// A way out of this process for spans.
#[derive(Debug)]
pub struct Outlet {
    /// Where they go.
    pub target: SpanTarget,
    /// The queue to there, once somebody has recorded a span.
    #[cfg(feature = "otlp")]
    queue: std::sync::OnceLock<Option<Queue<Span>>>,
}

/// How a provider is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanProtocol {
    /// OTLP/HTTP.
    Http,
    /// OTLP/gRPC.
    Grpc,
    /// Zipkin's API v2.
    Zipkin,
}

impl Outlet {
    /// The way there.
    pub fn new(target: SpanTarget) -> Self {
        Self {
            target,
            #[cfg(feature = "otlp")]
            queue: std::sync::OnceLock::new(),
        }
    }

    /// Sends a span, by a queue that `meter` keeps open.
    #[cfg(feature = "otlp")]
    pub(super) fn send(&self, span: Span, meter: &Meter) {
        let outlets = meter.outlets();
        match self.queue.get_or_init(|| outlets.spans(&self.target)) {
            Some(queue) => queue.push(span),
            None => outlets.lost(1),
        }
    }
}

/// Two are the same if they lead to the same.
impl PartialEq for Outlet {
    fn eq(&self, other: &Self) -> bool {
        self.target == other.target
    }
}

impl TracePlan {
    /// Header fields that every recorded span tells something of.
    const TOLD: [&'static str; 6] = [
        "content-type",
        "grpc-timeout",
        "user-agent",
        "x-client-trace-id",
        "x-envoy-downstream-service-cluster",
        "x-request-id",
    ];

    /// The same, having seen to what must be kept of requests.
    pub fn ready(mut self) -> Self {
        let told = Wanted {
            request: Self::TOLD.into_iter().map(HeaderName::from_static).collect(),
            ..Wanted::default()
        };
        let tags = self.tags.iter().map(Tag::wanted);
        self.wanted = tags.fold(told, Wanted::and);
        self
    }
}
