//! The mesh's metrics about itself.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::OVERFLOW;

/// Seconds from a fast handshake in the same zone to one that has all but failed.
const HANDSHAKE_BUCKETS: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

type Labels = [(&'static str, String); 1];

/// Which way a tunnel was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A peer opened it to us.
    Inbound,
    /// We opened it to a peer.
    Outbound,
}

/// The metrics of the configuration.
#[derive(Debug, Default)]
pub struct ConfigMeter {
    generation: Gauge,
    problems: Gauge,
    compile_seconds: Gauge<f64, AtomicU64>,
}

/// The metrics of the tunnels in one direction.
#[derive(Clone, Debug)]
pub struct TunnelMeter {
    tunnels: Gauge,
    streams: Gauge,
    handshakes: Histogram,
    failures: Counter,
}

/// What became of the spans given to one exporter. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct SpanCounts {
    exported: Counter,
    dropped: Counter,
}

/// All of our own metrics.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) config: ConfigMeter,
    inbound: TunnelMeter,
    outbound: TunnelMeter,
    denials: Family<Labels, Counter>,
    dry_run: Family<Labels, Counter>,
    audited: Family<Labels, Counter>,
    policies: Mutex<HashSet<String>>,
    limit: usize,
    pub(super) retries: Counter,
    pub(super) retry_budget_exhausted: Counter,
    retries_skipped: Family<Labels, Counter>,
    introductions_refused: Family<Labels, Counter>,
    mirrored: Family<Labels, Counter>,
    rate_limited: Family<Labels, Counter>,
    shed: Family<Labels, Counter>,
    pub(super) ejections: Counter,
    pub(super) certificate_expiry: Gauge,
    spans: std::sync::Arc<Spans>,
}

#[derive(Debug, Default)]
struct Spans(Mutex<Vec<SpanCounts>>);

impl Direction {
    /// The word in labels and spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

// ===== impl ConfigMeter =====

impl ConfigMeter {
    /// Tells that a generation of the configuration is in force.
    pub fn published(&self, generation: u64, problems: usize, compile: Duration) {
        let clamp = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.generation.set(clamp(generation));
        self.problems(problems);
        self.compile_seconds.set(compile.as_secs_f64());
    }

    /// Tells how many problems the configuration has, though it may not have been published.
    pub fn problems(&self, problems: usize) {
        let problems = i64::try_from(problems).unwrap_or(i64::MAX);
        self.problems.set(problems);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "mesh_config_generation",
            "generation of the configuration in force",
            self.generation.clone(),
        );
        registry.register(
            "mesh_config_problems",
            "problems in the configuration as last read",
            self.problems.clone(),
        );
        registry.register(
            "mesh_compile_seconds",
            "how long the last compilation took",
            self.compile_seconds.clone(),
        );
    }
}

// ===== impl TunnelMeter =====

impl TunnelMeter {
    /// Counts a tunnel that came up, and how long its handshakes took.
    pub fn opened(&self, handshake: Duration) {
        self.tunnels.inc();
        self.handshakes.observe(handshake.as_secs_f64());
    }

    /// Counts a tunnel that is gone.
    pub fn closed(&self) {
        self.tunnels.dec();
    }

    /// Counts a tunnel that never came up.
    pub fn handshake_failed(&self) {
        self.failures.inc();
    }

    /// Counts a stream that was opened in a tunnel.
    pub fn stream_opened(&self) {
        self.streams.inc();
    }

    /// Counts a stream that is gone.
    pub fn stream_closed(&self) {
        self.streams.dec();
    }
}

// ===== impl SpanCounts =====

impl SpanCounts {
    /// How many spans reached the collector.
    pub fn exported(&self) -> u64 {
        self.exported.get()
    }

    /// How many spans were lost, whether the queue was full or the collector failed.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

#[cfg(feature = "otlp")]
impl super::export::Tally for SpanCounts {
    fn arrived(&self, many: u64) {
        self.exported.inc_by(many);
    }

    fn lost(&self, many: u64) {
        self.dropped.inc_by(many);
    }
}

impl Collector for Spans {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (exported, dropped) = counts.iter().fold((0, 0), |(exported, dropped), next| {
            (exported + next.exported(), dropped + next.dropped())
        });
        for (name, help, value) in [
            (
                "mesh_spans_exported",
                "spans that reached the collector",
                exported,
            ),
            ("mesh_spans_dropped", "spans that were lost", dropped),
        ] {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

// ===== impl Own =====

impl Own {
    pub(super) fn new(registry: &mut Registry, limit: usize) -> Self {
        let (inbound, outbound) = tunnel_meters(registry);
        let own = Self {
            config: ConfigMeter::default(),
            inbound,
            outbound,
            denials: Family::default(),
            dry_run: Family::default(),
            audited: Family::default(),
            policies: Mutex::default(),
            limit,
            retries: Counter::default(),
            retry_budget_exhausted: Counter::default(),
            retries_skipped: Family::default(),
            introductions_refused: Family::default(),
            mirrored: Family::default(),
            rate_limited: Family::default(),
            shed: Family::default(),
            ejections: Counter::default(),
            certificate_expiry: Gauge::default(),
            spans: std::sync::Arc::default(),
        };
        own.register(registry);
        own
    }

    fn register(&self, registry: &mut Registry) {
        self.config.register(registry);
        registry.register(
            "mesh_denials",
            "requests and connections denied, by policy",
            self.denials.clone(),
        );
        registry.register(
            "mesh_dry_run",
            "requests that dry-run policies would have decided about, by that decision",
            self.dry_run.clone(),
        );
        registry.register(
            "mesh_audited",
            "requests that an AUDIT policy matched, by policy",
            self.audited.clone(),
        );
        registry.register("mesh_retries", "requests sent once more", self.retries.clone());
        registry.register(
            "mesh_retry_budget_exhausted",
            "requests not retried for lack of budget",
            self.retry_budget_exhausted.clone(),
        );
        registry.register(
            "mesh_retries_skipped",
            "retries that the policy asked for and that were not possible, by reason",
            self.retries_skipped.clone(),
        );
        registry.register(
            "mesh_introductions_refused",
            "claims to speak for another caller that were not believed, by reason",
            self.introductions_refused.clone(),
        );
        registry.register(
            "mesh_mirrored_requests",
            "copies of requests, by what became of them",
            self.mirrored.clone(),
        );
        registry.register(
            "mesh_rate_limited_requests",
            "requests that met a rate limit, by what came of it",
            self.rate_limited.clone(),
        );
        registry.register(
            "mesh_shed_requests",
            "requests refused because as much as latency allows was under way, by how important they were",
            self.shed.clone(),
        );
        registry.register(
            "mesh_endpoint_ejections",
            "endpoints taken out of rotation",
            self.ejections.clone(),
        );
        registry.register(
            "mesh_certificate_expiry_seconds",
            "when the certificate in use expires, in seconds since 1970",
            self.certificate_expiry.clone(),
        );
        registry.register_collector(Box::new(std::sync::Arc::clone(&self.spans)));
    }

    pub(super) fn retry_skipped(&self, reason: &'static str) {
        self.retries_skipped
            .get_or_create(&[("reason", reason.to_owned())])
            .inc();
    }

    pub(super) fn introduction_refused(&self, reason: &'static str) {
        self.introductions_refused
            .get_or_create(&[("reason", reason.to_owned())])
            .inc();
    }

    pub(super) fn mirrored(&self, result: &'static str) {
        self.mirrored
            .get_or_create(&[("result", result.to_owned())])
            .inc();
    }

    pub(super) fn rate_limited(&self, result: &'static str) {
        self.rate_limited
            .get_or_create(&[("result", result.to_owned())])
            .inc();
    }

    pub(super) fn shed(&self, criticality: &'static str) {
        self.shed
            .get_or_create(&[("criticality", criticality.to_owned())])
            .inc();
    }

    pub(super) fn tunnels(&self, direction: Direction) -> &TunnelMeter {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    pub(super) fn denied(&self, policy: &str) {
        self.denials.get_or_create(&self.by_policy(policy)).inc();
    }

    pub(super) fn audited(&self, policy: &str) {
        self.audited.get_or_create(&self.by_policy(policy)).inc();
    }

    pub(super) fn dry_run(&self, decision: &'static str) {
        let labels = [("decision", decision.to_owned())];
        self.dry_run.get_or_create(&labels).inc();
    }

    /// The label of a policy, or of all others once there are too many.
    fn by_policy(&self, policy: &str) -> Labels {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        let known = policies.contains(policy);
        let name = if known || policies.len() < self.limit {
            policy
        } else {
            OVERFLOW
        };
        if !known && name == policy {
            policies.insert(policy.to_owned());
        }
        [("policy", name.to_owned())]
    }

    pub(super) fn watch_spans(&self, counts: SpanCounts) {
        let mut watched = self.spans.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push(counts);
    }
}

fn tunnel_meters(registry: &mut Registry) -> (TunnelMeter, TunnelMeter) {
    let tunnels = Family::<Labels, Gauge>::default();
    let streams = Family::<Labels, Gauge>::default();
    let failures = Family::<Labels, Counter>::default();
    let histogram: fn() -> Histogram = || Histogram::new(HANDSHAKE_BUCKETS);
    let handshakes = Family::<Labels, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
    let meter = |direction: Direction| {
        let labels = [("direction", direction.as_str().to_owned())];
        TunnelMeter {
            tunnels: tunnels.get_or_create_owned(&labels),
            streams: streams.get_or_create_owned(&labels),
            handshakes: handshakes.get_or_create_owned(&labels),
            failures: failures.get_or_create_owned(&labels),
        }
    };
    let both = (meter(Direction::Inbound), meter(Direction::Outbound));
    registry.register("mesh_tunnels", "open tunnels", tunnels);
    registry.register("mesh_tunnel_streams", "open streams in tunnels", streams);
    registry.register(
        "mesh_handshake_seconds",
        "from dialing or accepting to a usable tunnel",
        handshakes,
    );
    registry.register("mesh_handshake_failures", "tunnels that never came up", failures);
    both
}
