//! The mesh's metrics about itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::metric::{ByWord, Counter, Desc, Gauge, Histogram, LabelSet, Level, Reading, Registry, Sink};

/// Seconds from a fast handshake in the same zone to one that has all but failed.
const HANDSHAKE: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

/// Seconds from a decision by an index to one that somebody must have been asked for.
const DECISION: [f64; 11] = [
    1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1,
];

/// How many words a metric of ours tells apart whose words come from us. There are not as many.
const WORDS: usize = 64;

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
    compile_seconds: Level,
    published: Arc<Mutex<Option<Instant>>>,
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
    pub(super) decisions: Histogram,
    pub(super) denials: ByWord,
    pub(super) dry_run: ByWord,
    pub(super) audited: ByWord,
    pub(super) retries: Counter,
    pub(super) retry_budget_exhausted: Counter,
    pub(super) retries_skipped: ByWord,
    pub(super) introductions_refused: ByWord,
    pub(super) mirrored: ByWord,
    pub(super) rate_limited: ByWord,
    pub(super) shed: ByWord,
    pub(super) ejections: Counter,
    pub(super) certificate_expiry: Gauge,
    pub(super) log_lines: ByWord,
    pub(super) exports: ByWord,
    spans: Arc<Mutex<Vec<SpanCounts>>>,
}

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
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Tells how many problems the configuration has, though it may not have been published.
    pub fn problems(&self, problems: usize) {
        let problems = i64::try_from(problems).unwrap_or(i64::MAX);
        self.problems.set(problems);
    }

    fn register(&self, registry: &mut Registry) {
        registry.add(
            Desc::gauge(
                "mesh_config_generation",
                "Generation of the configuration in force",
            ),
            self.generation.clone(),
        );
        let published = Arc::clone(&self.published);
        registry.add(
            Desc::gauge(
                "mesh_config_age_seconds",
                "How long the configuration has been in force",
            )
            .unit("s"),
            move |sink: &mut dyn Sink| {
                let published = *published.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(at) = published {
                    sink.sample(&LabelSet::NONE, Reading::Level(at.elapsed().as_secs_f64()));
                }
            },
        );
        registry.add(
            Desc::gauge(
                "mesh_config_problems",
                "Problems in the configuration as last read",
            ),
            self.problems.clone(),
        );
        registry.add(
            Desc::gauge("mesh_compile_seconds", "How long the last compilation took").unit("s"),
            self.compile_seconds.clone(),
        );
    }
}

// ===== impl TunnelMeter =====

impl TunnelMeter {
    fn new() -> Self {
        Self {
            tunnels: Gauge::default(),
            streams: Gauge::default(),
            handshakes: Histogram::new(&HANDSHAKE),
            failures: Counter::default(),
        }
    }

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

// ===== impl Own =====

impl Own {
    pub(super) fn new(registry: &mut Registry, limit: usize) -> Self {
        let own = Self {
            config: ConfigMeter::default(),
            inbound: TunnelMeter::new(),
            outbound: TunnelMeter::new(),
            decisions: Histogram::new(&DECISION),
            denials: ByWord::new("policy", limit),
            dry_run: ByWord::new("decision", WORDS),
            audited: ByWord::new("policy", limit),
            retries: Counter::default(),
            retry_budget_exhausted: Counter::default(),
            retries_skipped: ByWord::new("reason", WORDS),
            introductions_refused: ByWord::new("reason", WORDS),
            mirrored: ByWord::new("result", WORDS),
            rate_limited: ByWord::new("result", WORDS),
            shed: ByWord::new("criticality", WORDS),
            ejections: Counter::default(),
            certificate_expiry: Gauge::default(),
            log_lines: ByWord::new("result", WORDS),
            exports: ByWord::new("result", WORDS),
            spans: Arc::default(),
        };
        own.register(registry);
        own
    }

    fn register(&self, registry: &mut Registry) {
        self.config.register(registry);
        let seconds = |name, help| Desc::histogram(name, help).unit("s");
        registry.add(
            seconds(
                "mesh_decision_seconds",
                "How long authorization took to decide, of one request in 64",
            ),
            self.decisions.clone(),
        );
        for (name, help, words) in [
            (
                "mesh_denials",
                "Requests and connections denied, by policy",
                &self.denials,
            ),
            (
                "mesh_dry_run",
                "Requests that dry-run policies would have decided about, by that decision",
                &self.dry_run,
            ),
            (
                "mesh_audited",
                "Requests that an AUDIT policy matched, by policy",
                &self.audited,
            ),
            (
                "mesh_retries_skipped",
                "Retries that the policy asked for and that were not possible, by reason",
                &self.retries_skipped,
            ),
            (
                "mesh_introductions_refused",
                "Claims to speak for another caller that were not believed, by reason",
                &self.introductions_refused,
            ),
            (
                "mesh_mirrored_requests",
                "Copies of requests, by what became of them",
                &self.mirrored,
            ),
            (
                "mesh_rate_limited_requests",
                "Requests that met a rate limit, by what came of it",
                &self.rate_limited,
            ),
            (
                "mesh_shed_requests",
                "Requests refused because as much as latency allows was under way, by how important they were",
                &self.shed,
            ),
            (
                "mesh_access_log_lines",
                "Lines of access logs, by what became of them",
                &self.log_lines,
            ),
            (
                "mesh_metric_exports",
                "Exports of all metrics to a collector, by what became of them",
                &self.exports,
            ),
        ] {
            registry.add(Desc::counter(name, help), words.clone());
        }
        for (name, help, counter) in [
            ("mesh_retries", "Requests sent once more", &self.retries),
            (
                "mesh_retry_budget_exhausted",
                "Requests not retried for lack of budget",
                &self.retry_budget_exhausted,
            ),
            (
                "mesh_endpoint_ejections",
                "Endpoints taken out of rotation",
                &self.ejections,
            ),
        ] {
            registry.add(Desc::counter(name, help), counter.clone());
        }
        registry.add(
            Desc::gauge(
                "mesh_certificate_expiry_seconds",
                "When the certificate in use expires, in seconds since 1970",
            )
            .unit("s"),
            self.certificate_expiry.clone(),
        );
        type Of<C> = fn(&TunnelMeter) -> &C;
        let tunnels: Of<Gauge> = |it| &it.tunnels;
        let streams: Of<Gauge> = |it| &it.streams;
        self.by_direction(registry, Desc::gauge("mesh_tunnels", "Open tunnels"), tunnels);
        self.by_direction(
            registry,
            Desc::gauge("mesh_tunnel_streams", "Open streams in tunnels"),
            streams,
        );
        let handshakes: Of<Histogram> = |it| &it.handshakes;
        let took = seconds(
            "mesh_handshake_seconds",
            "From dialing or accepting to a usable tunnel",
        );
        self.by_direction(registry, took, handshakes);
        let failures: Of<Counter> = |it| &it.failures;
        let failed = Desc::counter("mesh_handshake_failures", "Tunnels that never came up");
        self.by_direction(registry, failed, failures);
        type Count = fn(&SpanCounts) -> u64;
        let counts: [(&'static str, &'static str, Count); 2] = [
            (
                "mesh_spans_exported",
                "Spans that reached the collector",
                SpanCounts::exported,
            ),
            ("mesh_spans_dropped", "Spans that were lost", SpanCounts::dropped),
        ];
        for (name, help, count) in counts {
            let spans = Arc::clone(&self.spans);
            registry.add(Desc::counter(name, help), move |sink: &mut dyn Sink| {
                let spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
                sink.sample(&LabelSet::NONE, Reading::Count(spans.iter().map(count).sum()));
            });
        }
    }

    fn by_direction<C: super::metric::Cell + 'static>(
        &self,
        registry: &mut Registry,
        desc: Desc,
        of: fn(&TunnelMeter) -> &C,
    ) {
        let both = [
            (Direction::Inbound, &self.inbound),
            (Direction::Outbound, &self.outbound),
        ];
        let both = both.map(|(direction, meter)| {
            let labels = LabelSet::of("direction", direction.as_str());
            (labels, of(meter).clone())
        });
        registry.add(desc, move |sink: &mut dyn Sink| {
            for (labels, cell) in &both {
                sink.sample(labels, cell.reading());
            }
        });
    }

    pub(super) fn tunnels(&self, direction: Direction) -> &TunnelMeter {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    pub(super) fn watch_spans(&self, counts: SpanCounts) {
        let mut watched = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        // An exporter that is told of twice is still one.
        if !watched.iter().any(|known| known.exported.is(&counts.exported)) {
            watched.push(counts);
        }
    }
}
