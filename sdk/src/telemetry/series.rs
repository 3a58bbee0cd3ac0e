//! Resolved label sets: what is kept beside a route, so that counting a request is a short search and a few adds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use super::flow::{Durations, Flow};
use super::labels::{Kind, Outcome, RequestLabels};
use super::metric::{Counter, Family, Histogram, LabelSet, Trace};
use super::plan::{Metric, MetricPlan, Tags};
use super::semantic::{HttpFacts, Semantic};
use super::sets;

/// The buckets of every `istio_*` histogram, milliseconds and bytes alike: the defaults of Envoy, which Istio
/// leaves as they are.
pub(super) const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// How many outcomes one label set tells apart before it turns coarse. A peer may invent status codes.
const OUTCOMES: usize = 64;

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The status code; `0` when no response was sent.
    pub response_code: u16,
    /// Envoy's short flags, comma separated; `-` when there are none.
    pub flags: &'static str,
    /// The `grpc-status` of a gRPC response.
    pub grpc_status: Option<u16>,
    /// From the request's first byte to the response's last.
    pub duration: Duration,
    /// The request's size.
    pub request_bytes: u64,
    /// The response's size.
    pub response_bytes: u64,
    /// The trace that it belongs to, if that is recorded.
    pub trace: Option<[u8; 16]>,
    /// What OpenTelemetry's metrics tell of it; `None` if they are not told.
    pub http: Option<HttpFacts>,
}

/// The families that requests are counted in.
#[derive(Clone, Debug)]
pub(super) struct HttpFamilies {
    pub(super) requests: Family<Counter>,
    pub(super) duration: Family<Histogram>,
    pub(super) request_bytes: Family<Histogram>,
    pub(super) response_bytes: Family<Histogram>,
    pub(super) request_messages: Family<Counter>,
    pub(super) response_messages: Family<Counter>,
    pub(super) semantic: Semantic,
}

/// Counts the requests of one label set. Equal labels share one.
#[derive(Debug)]
pub struct RequestSeries {
    labels: Arc<RequestLabels>,
    plan: Arc<MetricPlan>,
    /// Whether the plan tells nothing; OpenTelemetry's metrics are silent with Istio's.
    is_silent: bool,
    families: HttpFamilies,
    rows: ArcSwap<Rows>,
    growing: Mutex<()>,
    messages: OnceLock<Messages>,
    semantic: super::semantic::Series,
}

/// Where the messages of gRPC streams are counted. Clones count in the same series.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    requests: Option<Counter>,
    responses: Option<Counter>,
}

#[derive(Clone, Debug, Default)]
struct Rows {
    plain: Vec<Arc<Row>>,
    tagged: HashMap<Tags, Vec<Arc<Row>>>,
    /// What stands in for all others once there is no more room: one for each coarse outcome.
    overflow: Vec<Arc<Row>>,
}

/// The cells of one outcome.
#[derive(Debug)]
struct Row {
    outcome: Outcome,
    last: LastUse,
    requests: Option<Counter>,
    duration: Option<Histogram>,
    request_bytes: Option<Histogram>,
    response_bytes: Option<Histogram>,
}

/// Whether something was used since somebody last looked; and, once it was not, that it no longer may be.
///
/// Who counts reads one flag that mostly stands. Whoever read it and then slept through a whole interval, microseconds
/// that may last minutes only on a stopped machine, counts one request in a series that is no longer shown.
#[derive(Debug)]
pub(super) struct LastUse(AtomicU8);

const IDLE: u8 = 0;
const USED: u8 = 1;
const RETIRED: u8 = 2;

// ===== impl LastUse =====

impl Default for LastUse {
    fn default() -> Self {
        Self(AtomicU8::new(USED))
    }
}

impl LastUse {
    /// Notes a use; `false` if there may be none any more.
    pub(super) fn note(&self) -> bool {
        let seen = self.0.load(Ordering::Relaxed);
        seen == USED
            || self
                .0
                .compare_exchange(IDLE, USED, Ordering::Relaxed, Ordering::Relaxed)
                .map_or_else(|now| now == USED, |_| true)
    }

    /// Ends an interval; `true` if there was no use in it, and there will be none.
    pub(super) fn sweep(&self) -> bool {
        let swap = |from, to| {
            let swapped = self
                .0
                .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
            swapped.is_ok()
        };
        !swap(USED, IDLE) && (swap(IDLE, RETIRED) || self.0.load(Ordering::Relaxed) == RETIRED)
    }
}

// ===== impl HttpFamilies =====

impl HttpFamilies {
    pub(super) fn new(limit: usize) -> Self {
        let counters = || Family::new(limit, Counter::default);
        let histograms = || Family::new(limit, || Histogram::new(&BUCKETS));
        let traced = || Family::new(limit, || Histogram::traced(&BUCKETS));
        Self {
            requests: counters(),
            duration: traced(),
            request_bytes: histograms(),
            response_bytes: histograms(),
            request_messages: counters(),
            response_messages: counters(),
            semantic: Semantic::new(limit),
        }
    }

    fn is_full(&self) -> bool {
        self.requests.is_full()
            || self.duration.is_full()
            || self.request_bytes.is_full()
            || self.response_bytes.is_full()
    }

    pub(super) fn sweep(&self) {
        for family in [&self.requests, &self.request_messages, &self.response_messages] {
            family.sweep();
        }
        for family in [&self.duration, &self.request_bytes, &self.response_bytes] {
            family.sweep();
        }
        self.semantic.sweep();
    }
}

// ===== impl RequestSeries =====

impl RequestSeries {
    pub(super) fn new(labels: Arc<RequestLabels>, plan: Arc<MetricPlan>, families: HttpFamilies) -> Self {
        Self {
            labels,
            is_silent: plan.is_silent(),
            plan,
            families,
            rows: ArcSwap::default(),
            growing: Mutex::new(()),
            messages: OnceLock::new(),
            semantic: Default::default(),
        }
    }

    /// The labels of this series.
    pub fn labels(&self) -> &RequestLabels {
        &self.labels
    }

    /// What is told of its requests.
    pub fn plan(&self) -> &MetricPlan {
        &self.plan
    }

    /// Counts one finished request.
    ///
    /// Allocates only for the first of each (code, flags, gRPC status).
    pub fn record(&self, sample: &Sample) {
        self.record_tagged(sample, &Tags::default());
    }

    /// Counts one finished request, with what the plan's expressions came to.
    pub fn record_tagged(&self, sample: &Sample, tags: &Tags) {
        if self.is_silent {
            return;
        }
        let outcome = Outcome {
            code: sample.response_code,
            flags: sample.flags,
            grpc: sample.grpc_status,
        };
        match self.rows.load().find(outcome, tags) {
            Some(row) if row.last.note() => row.record(sample),
            _ => self.record_new(outcome, sample, tags),
        }
        if let Some(facts) = sample.http {
            self.semantic
                .record(&facts, sample, &self.labels, &self.families.semantic);
        }
    }

    fn record_new(&self, outcome: Outcome, sample: &Sample, tags: &Tags) {
        let rows = self.rows.load();
        // Once there is no room, or too many are told apart, this is the way of whatever is new: it takes no lock either.
        let known = if self.families.is_full() {
            find(&rows.overflow, outcome.coarse())
        } else if tags.is_empty() && rows.plain.len() >= OUTCOMES {
            find(&rows.plain, outcome.coarse())
        } else {
            None
        };
        if let Some(row) = known.filter(|row| row.last.note()) {
            return row.record(sample);
        }
        let _one_grows = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self.rows.load_full();
        let outcome = match tags.is_empty() && rows.plain.len() >= OUTCOMES {
            true => outcome.coarse(),
            false => outcome,
        };
        if let Some(row) = rows.find(outcome, tags).filter(|row| row.last.note()) {
            return row.record(sample);
        }
        let mut grown = Rows::clone(&rows);
        let row = match self.row(outcome, &self.labels, tags, Family::get, Family::get) {
            Some(row) => {
                let row = Arc::new(row);
                let among = match tags.is_empty() {
                    true => &mut grown.plain,
                    false => grown.tagged.entry(tags.clone()).or_default(),
                };
                among.retain(|it| it.outcome != outcome);
                among.push(Arc::clone(&row));
                row
            }
            None => {
                let (outcome, labels) = (outcome.coarse(), self.labels.overflow());
                let none = Tags::default();
                let counter = |family: &Family<Counter>, labels: &LabelSet| Some(family.overflow(labels));
                let histogram = |family: &Family<Histogram>, labels: &LabelSet| Some(family.overflow(labels));
                let Some(row) = self.row(outcome, &labels, &none, counter, histogram) else {
                    return;
                };
                let row = Arc::new(row);
                grown.overflow.retain(|it| it.outcome != outcome);
                grown.overflow.push(Arc::clone(&row));
                row
            }
        };
        row.record(sample);
        self.rows.store(Arc::new(grown));
    }

    /// The cells of an outcome; `None` if one of them finds no room.
    fn row(
        &self,
        outcome: Outcome,
        labels: &RequestLabels,
        tags: &Tags,
        counter: impl Fn(&Family<Counter>, &LabelSet) -> Option<Counter>,
        histogram: impl Fn(&Family<Histogram>, &LabelSet) -> Option<Histogram>,
    ) -> Option<Row> {
        let standard = LabelSet::new(sets::request(labels, outcome));
        let set = |metric| self.plan.labels(metric, &standard, tags);
        // What is not told needs no room.
        let told = |metric, family: &Family<Histogram>| match set(metric) {
            Some(labels) => histogram(family, &labels).map(Some),
            None => Some(None),
        };
        let families = &self.families;
        Some(Row {
            outcome,
            last: LastUse::default(),
            requests: match set(Metric::RequestCount) {
                Some(labels) => Some(counter(&families.requests, &labels)?),
                None => None,
            },
            duration: told(Metric::RequestDuration, &families.duration)?,
            request_bytes: told(Metric::RequestSize, &families.request_bytes)?,
            response_bytes: told(Metric::ResponseSize, &families.response_bytes)?,
        })
    }

    /// Where the messages of a gRPC stream are counted.
    ///
    /// Takes a lock for the first stream, and for each whose labels a Telemetry makes of the request.
    pub fn messages(&self, tags: &Tags) -> Messages {
        let make = || {
            let cell = |metric, family: &Family<Counter>| {
                let standard = |labels: &RequestLabels| {
                    let standard = LabelSet::new(sets::messages(labels));
                    self.plan.labels(metric, &standard, tags)
                };
                let found = family.get(&standard(&self.labels)?);
                found.or_else(|| Some(family.overflow(&standard(&self.labels.overflow())?)))
            };
            Messages {
                requests: cell(Metric::GrpcRequestMessages, &self.families.request_messages),
                responses: cell(Metric::GrpcResponseMessages, &self.families.response_messages),
            }
        };
        match tags.is_empty() {
            true => self.messages.get_or_init(make).clone(),
            false => make(),
        }
    }

    /// What has been counted in it so far.
    pub(super) fn flow(&self) -> Flow {
        let mut flow = Flow {
            labels: Arc::clone(&self.labels),
            requests: 0,
            failed: 0,
            denied: 0,
            durations: Durations::default(),
        };
        let rows = self.rows.load();
        let tagged = rows.tagged.values().flatten();
        for row in rows.plain.iter().chain(tagged).chain(&rows.overflow) {
            let requests = row.requests.as_ref().map_or(0, Counter::get);
            flow.requests += requests;
            match row.outcome.kind() {
                Kind::Fine => {}
                Kind::Failed => flow.failed += requests,
                Kind::Denied => flow.denied += requests,
            }
            if let Some(duration) = &row.duration {
                flow.durations.add(&Durations::of(duration));
            }
        }
        flow
    }

    /// Forgets what was not used since it was last called; whether there is anything left.
    pub(super) fn sweep(&self) -> bool {
        let _nobody_grows = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Rows::clone(&self.rows.load());
        let swept = |rows: &mut Vec<Arc<Row>>| rows.retain(|row| !row.last.sweep());
        swept(&mut rows.plain);
        swept(&mut rows.overflow);
        rows.tagged.values_mut().for_each(swept);
        rows.tagged.retain(|_, rows| !rows.is_empty());
        let is_used = !rows.plain.is_empty() || !rows.overflow.is_empty() || !rows.tagged.is_empty();
        self.rows.store(Arc::new(rows));
        let told = self.semantic.sweep();
        is_used || told
    }
}

impl Rows {
    fn find(&self, outcome: Outcome, tags: &Tags) -> Option<&Row> {
        match tags.is_empty() {
            true => find(&self.plain, outcome),
            false => find(self.tagged.get(tags)?, outcome),
        }
    }
}

fn find(rows: &[Arc<Row>], outcome: Outcome) -> Option<&Row> {
    let mut rows = rows.iter();
    rows.find(|row| row.outcome == outcome).map(|row| &**row)
}

impl Row {
    fn record(&self, sample: &Sample) {
        if let Some(requests) = &self.requests {
            requests.inc();
        }
        if let Some(duration) = &self.duration {
            let trace: Option<(Trace, SystemTime)> = sample.trace.map(|trace| (trace, SystemTime::now()));
            duration.observe_in(sample.duration.as_secs_f64() * 1e3, trace);
        }
        if let Some(bytes) = &self.request_bytes {
            bytes.observe(sample.request_bytes as f64);
        }
        if let Some(bytes) = &self.response_bytes {
            bytes.observe(sample.response_bytes as f64);
        }
    }
}

// ===== impl Messages =====

impl Messages {
    /// Counts messages that the caller sent.
    pub fn requested(&self, messages: u64) {
        if let Some(counter) = self.requests.as_ref().filter(|_| messages > 0) {
            counter.inc_by(messages);
        }
    }

    /// Counts messages that it was sent.
    pub fn responded(&self, messages: u64) {
        if let Some(counter) = self.responses.as_ref().filter(|_| messages > 0) {
            counter.inc_by(messages);
        }
    }
}
