//! One mesh's metrics.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::access::{LineWriter, LogBook, LogCounts};
use super::flow::{Flow, TcpFlow};
use super::labels::RequestLabels;
use super::metric::{Cell, Desc, Exposition, Family, LabelSet, Reading, Registry, Sink};
use super::own::{ConfigMeter, Direction, Own, SpanCounts, TunnelMeter};
use super::plan::{MetricPlan, Tags};
use super::series::{HttpFamilies, RequestSeries};
use super::tcp::{TcpFamilies, TcpSeries};

/// The media type of [`Meter::exposition`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How much the metrics of a mesh may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricLimits {
    /// How many series each of Istio's and OpenTelemetry's metrics has, and each of ours that tells policies apart. What
    /// exceeds that is counted under `_overflow`. A histogram's series is 22 lines of some 800 bytes.
    pub series: usize,
    /// How long a series is shown at least after it was last counted in; twice as long at most.
    pub idle: Duration,
}

/// The metrics of one mesh. Clones share them; nothing is global.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Shared>);

/// What tells series of requests apart.
type OfRequests = (Arc<RequestLabels>, Arc<MetricPlan>);
/// What tells series of connections apart.
type OfConnections = (Arc<RequestLabels>, Arc<MetricPlan>, Tags);

#[derive(Debug)]
struct Shared {
    registry: Registry,
    limits: MetricLimits,
    http: HttpFamilies,
    tcp: TcpFamilies,
    requests: Mutex<Resolved<OfRequests, RequestSeries>>,
    connections: Mutex<Resolved<OfConnections, TcpSeries>>,
    own: Own,
    logs: LogBook,
    #[cfg(feature = "otlp")]
    outlets: super::export::Outlets,
    hostname: Option<String>,
}

/// The series handed out so far, by what they are of. Bounded as the series are: what exceeds the limit is handed out anew
/// to each who asks, and counts under `_overflow`.
#[derive(Debug)]
struct Resolved<K, T> {
    known: HashMap<K, Known<T>>,
    limit: usize,
}

#[derive(Debug)]
struct Known<T> {
    series: Arc<T>,
    /// Whether anybody has asked for it since it was last looked at.
    asked: bool,
}

// ===== impl MetricLimits =====

impl Default for MetricLimits {
    fn default() -> Self {
        Self {
            series: 2_000,
            idle: Duration::from_secs(15 * 60),
        }
    }
}

// ===== impl Meter =====

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter {
    /// A meter that has counted nothing yet.
    pub fn new() -> Self {
        Self::with_limits(MetricLimits::default())
    }

    /// A meter whose metrics hold so much.
    pub fn with_limits(limits: MetricLimits) -> Self {
        let series = limits.series;
        let mut registry = Registry::default();
        let http = HttpFamilies::new(series);
        let tcp = TcpFamilies::new(series);
        register_http(&mut registry, &http);
        register_tcp(&mut registry, &tcp);
        registry.add(
            Desc::gauge("istio_build", "What this is, and of which version"),
            |sink: &mut dyn Sink| sink.sample(&build(), Reading::Number(1)),
        );
        register_semantic(&mut registry, &http);
        let own = Own::new(&mut registry, series);
        register_room(&mut registry, &http, &tcp);
        let logs = LogBook::new(LogCounts::new(
            own.log_lines.counter("written"),
            own.log_lines.counter("dropped"),
        ));
        #[cfg(feature = "otlp")]
        let outlets = super::export::Outlets::default();
        #[cfg(feature = "otlp")]
        own.watch_spans(outlets.counts().clone());
        Self(Arc::new(Shared {
            registry,
            limits,
            http,
            tcp,
            requests: Mutex::new(Resolved::new(series)),
            connections: Mutex::new(Resolved::new(series)),
            own,
            logs,
            #[cfg(feature = "otlp")]
            outlets,
            // As a pod's own name is known to its containers.
            hostname: std::env::var("HOSTNAME").ok(),
        }))
    }

    /// How much it may hold.
    pub fn limits(&self) -> MetricLimits {
        self.0.limits
    }

    /// The series of HTTP requests with these labels; the same one for equal labels.
    ///
    /// Takes a lock: resolve once and keep it.
    pub fn requests(&self, labels: &RequestLabels) -> Arc<RequestSeries> {
        self.requests_as(labels, &Arc::default())
    }

    /// The series of HTTP requests with these labels, as far as a plan tells them.
    ///
    /// Takes a lock: resolve once and keep it.
    pub fn requests_as(&self, labels: &RequestLabels, plan: &Arc<MetricPlan>) -> Arc<RequestSeries> {
        let labels = Arc::new(labels.clone());
        let make = |labels, plan| RequestSeries::new(labels, plan, self.0.http.clone());
        Resolved::get(
            &self.0.requests,
            (Arc::clone(&labels), Arc::clone(plan)),
            |full| match full {
                false => make(labels, Arc::clone(plan)),
                true => make(Arc::new(labels.overflow()), Arc::clone(plan)),
            },
        )
    }

    /// The series of TCP connections with these labels; the same one for equal labels.
    ///
    /// Takes a lock: resolve once per connection.
    pub fn tcp(&self, labels: &RequestLabels) -> Arc<TcpSeries> {
        self.tcp_as(labels, &Arc::default(), &Tags::default())
    }

    /// The series of TCP connections with these labels, as far as a plan tells them.
    ///
    /// Takes a lock: resolve once per connection.
    pub fn tcp_as(&self, labels: &RequestLabels, plan: &Arc<MetricPlan>, tags: &Tags) -> Arc<TcpSeries> {
        let labels = Arc::new(labels.clone());
        let make = |labels, tags| TcpSeries::new(labels, Arc::clone(plan), tags, self.0.tcp.clone());
        let key = (Arc::clone(&labels), Arc::clone(plan), tags.clone());
        Resolved::get(&self.0.connections, key, |full| match full {
            false => make(labels, tags.clone()),
            true => make(Arc::new(labels.overflow()), Tags::default()),
        })
    }

    /// Forgets the series that were not counted in since it was last called and that nobody keeps. Whoever runs a mesh calls
    /// it once in each [`MetricLimits::idle`].
    pub fn sweep(&self) {
        let shared = &*self.0;
        let mut requests = shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.retain(|known| known.series.sweep());
        drop(requests);
        let mut connections = shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|_| false);
        drop(connections);
        shared.http.sweep();
        shared.tcp.sweep();
    }

    /// How many series there are now of Istio's and OpenTelemetry's metrics together.
    pub fn series(&self) -> usize {
        let rooms = rooms(&self.0.http, &self.0.tcp);
        rooms.iter().map(|(_, room)| room.len()).sum()
    }

    /// The writer to an access log, the same for all who ask.
    ///
    /// Takes a lock: ask once and keep it.
    pub fn log_to(&self, path: &Arc<str>) -> LineWriter {
        self.0.logs.writer(path)
    }

    /// The queues to collectors that the mesh configuration names.
    #[cfg(feature = "otlp")]
    pub(crate) fn outlets(&self) -> &super::export::Outlets {
        &self.0.outlets
    }

    /// What became of the lines of access logs.
    pub fn log_counts(&self) -> &LogCounts {
        self.0.logs.counts()
    }

    /// Opens the files of access logs anew: they were moved away.
    pub fn reopen_logs(&self) {
        self.0.logs.reopen();
    }

    /// Waits until access logs are written, at most this long. Blocks.
    pub fn flush_logs(&self, patience: Duration) {
        self.0.logs.flush(patience);
    }

    /// The name of this machine, for access logs.
    pub fn hostname(&self) -> Option<&str> {
        self.0.hostname.as_deref()
    }

    /// The metrics of the configuration.
    pub fn config(&self) -> &ConfigMeter {
        &self.0.own.config
    }

    /// The metrics of the tunnels in one direction.
    pub fn tunnels(&self, direction: Direction) -> &TunnelMeter {
        self.0.own.tunnels(direction)
    }

    /// Counts a request or connection that this policy (`namespace/name`) denied.
    pub fn denied(&self, policy: &str) {
        self.0.own.denials.inc(policy);
    }

    /// Counts a request that an AUDIT policy matched.
    pub fn audited(&self, policy: &str) {
        self.0.own.audited.inc(policy);
    }

    /// Counts what dry-run policies would have decided: `allow` or `deny`.
    pub fn dry_run(&self, decision: &'static str) {
        self.0.own.dry_run.inc(decision);
    }

    /// Counts a request that is sent once more.
    pub fn retry(&self) {
        self.0.own.retries.inc();
    }

    /// Counts a retry that the policy asks for and that was not possible; `reason` is one of a few fixed words.
    pub fn retry_skipped(&self, reason: &'static str) {
        self.0.own.retries_skipped.inc(reason);
    }

    /// Counts a claim to speak for another caller that was not believed; `reason` is one of a few fixed words.
    pub fn introduction_refused(&self, reason: &'static str) {
        self.0.own.introductions_refused.inc(reason);
    }

    /// Counts the copy of a request; `result` is one of a few fixed words.
    pub fn mirrored(&self, result: &'static str) {
        self.0.own.mirrored.inc(result);
    }

    /// Counts a request that met a rate limit; `result` is one of a few fixed words.
    pub fn rate_limited(&self, result: &'static str) {
        self.0.own.rate_limited.inc(result);
    }

    /// Counts a request that was not retried because too many others were.
    pub fn retry_budget_exhausted(&self) {
        self.0.own.retry_budget_exhausted.inc();
    }

    /// Counts an endpoint that was taken out of rotation.
    pub fn ejected(&self) {
        self.0.own.ejections.inc();
    }

    /// Tells when the certificate in use expires.
    pub fn certificate_expiry(&self, at: SystemTime) {
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.unwrap_or(Duration::ZERO).as_secs();
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        self.0.own.certificate_expiry.set(seconds);
    }

    /// Includes the counts of a span exporter, which may be older than this meter, in `mesh_spans_*_total`.
    pub fn watch_spans(&self, counts: SpanCounts) {
        self.0.own.watch_spans(counts);
    }

    /// Counts a request that was refused for those under way; `criticality` is one of a few fixed words.
    pub fn shed(&self, criticality: &'static str) {
        self.0.own.shed.inc(criticality);
    }

    /// What has been counted of requests so far, by label set. Nothing of it is kept up for this: it costs what reading
    /// costs, some microseconds for each label set.
    pub(crate) fn flows(&self) -> Vec<Flow> {
        let all = Resolved::all(&self.0.requests);
        all.iter().map(|series| series.flow()).collect()
    }

    /// What has been counted of connections so far, by label set.
    pub(crate) fn tcp_flows(&self) -> Vec<TcpFlow> {
        let all = Resolved::all(&self.0.connections);
        all.iter().map(|series| series.flow()).collect()
    }

    /// Tells how long authorization took to decide about one request. Not all are told: who decides chooses some.
    pub fn decision(&self, took: Duration) {
        self.0.own.decisions.observe(took.as_secs_f64());
    }

    /// Everything counted so far as OpenMetrics text, of type [`CONTENT_TYPE`].
    pub fn exposition(&self) -> String {
        self.exposition_as(Exposition::OpenMetrics)
    }

    /// Counts an export of all metrics; `result` is one of a few fixed words.
    #[cfg(feature = "otlp")]
    pub(super) fn exported(&self, result: &'static str) {
        self.0.own.exports.inc(result);
    }

    /// Reads out everything counted so far.
    #[cfg(feature = "otlp")]
    pub(super) fn read(&self, sink: &mut dyn Sink) {
        self.0.registry.read(sink);
    }

    /// Everything counted so far, as text.
    pub fn exposition_as(&self, format: Exposition) -> String {
        format.write(&self.0.registry)
    }
}

// ===== impl Resolved =====

impl<K: Eq + Hash, T> Resolved<K, T> {
    fn new(limit: usize) -> Self {
        Self {
            known: HashMap::new(),
            limit,
        }
    }

    fn all(resolved: &Mutex<Self>) -> Vec<Arc<T>> {
        let resolved = resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved
            .known
            .values()
            .map(|known| Arc::clone(&known.series))
            .collect()
    }

    /// `make` is told whether there is no room to keep it.
    fn get(resolved: &Mutex<Self>, key: K, make: impl FnOnce(bool) -> T) -> Arc<T> {
        let mut resolved = resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = resolved.known.get_mut(&key) {
            known.asked = true;
            return Arc::clone(&known.series);
        }
        let full = resolved.known.len() >= resolved.limit;
        let series = Arc::new(make(full));
        if !full {
            let known = Known {
                series: Arc::clone(&series),
                asked: true,
            };
            resolved.known.insert(key, known);
        }
        series
    }

    /// Keeps what somebody has or asked for of late, or is used.
    fn retain(&mut self, is_used: impl Fn(&Known<T>) -> bool) {
        self.known.retain(|_, known| {
            // Looked at in any case: that ends an interval.
            let used = is_used(known);
            let asked = std::mem::take(&mut known.asked);
            used || asked || Arc::strong_count(&known.series) > 1
        });
    }
}

/// What has a limit, by the name of its metric.
fn rooms<'a>(http: &'a HttpFamilies, tcp: &'a TcpFamilies) -> [(&'static str, &'a dyn Room); 13] {
    [
        ("istio_requests", &http.requests),
        ("istio_request_duration_milliseconds", &http.duration),
        ("istio_request_bytes", &http.request_bytes),
        ("istio_response_bytes", &http.response_bytes),
        ("istio_request_messages", &http.request_messages),
        ("istio_response_messages", &http.response_messages),
        ("istio_tcp_connections_opened", &tcp.opened),
        ("istio_tcp_connections_closed", &tcp.closed),
        ("istio_tcp_connections_failed", &tcp.failed),
        ("istio_tcp_sent_bytes", &tcp.sent),
        ("istio_tcp_received_bytes", &tcp.received),
        ("http_server_request_duration_seconds", &http.semantic.server),
        ("http_client_request_duration_seconds", &http.semantic.client),
    ]
}

/// Something with a limit.
trait Room {
    fn len(&self) -> usize;
    fn refused(&self) -> u64;
}

impl<C: Cell> Room for Family<C> {
    fn len(&self) -> usize {
        self.len()
    }

    fn refused(&self) -> u64 {
        self.refused()
    }
}

fn register_http(registry: &mut Registry, http: &HttpFamilies) {
    let histogram = Desc::histogram;
    registry.add(Desc::counter("istio_requests", "Requests"), http.requests.clone());
    registry.add(
        histogram(
            "istio_request_duration_milliseconds",
            "From a request's first byte to its response's last",
        )
        .unit("ms"),
        http.duration.clone(),
    );
    for (name, help, family) in [
        (
            "istio_request_bytes",
            "Size of requests' bodies",
            &http.request_bytes,
        ),
        (
            "istio_response_bytes",
            "Size of responses' bodies",
            &http.response_bytes,
        ),
    ] {
        registry.add(histogram(name, help).unit("By"), family.clone());
    }
    for (name, help, family) in [
        (
            "istio_request_messages",
            "Messages of gRPC requests",
            &http.request_messages,
        ),
        (
            "istio_response_messages",
            "Messages of gRPC responses",
            &http.response_messages,
        ),
    ] {
        registry.add(Desc::counter(name, help), family.clone());
    }
}

fn register_tcp(registry: &mut Registry, tcp: &TcpFamilies) {
    for (name, help, unit, family) in [
        (
            "istio_tcp_connections_opened",
            "Connections opened",
            "",
            &tcp.opened,
        ),
        (
            "istio_tcp_connections_closed",
            "Connections closed",
            "",
            &tcp.closed,
        ),
        (
            "istio_tcp_connections_failed",
            "Connections that failed",
            "",
            &tcp.failed,
        ),
        ("istio_tcp_sent_bytes", "Bytes of responses", "By", &tcp.sent),
        (
            "istio_tcp_received_bytes",
            "Bytes of requests",
            "By",
            &tcp.received,
        ),
    ] {
        registry.add(Desc::counter(name, help).unit(unit), family.clone());
    }
}

fn register_semantic(registry: &mut Registry, http: &HttpFamilies) {
    for (name, dotted, help, family) in [
        (
            "http_server_request_duration_seconds",
            "http.server.request.duration",
            "Duration of HTTP server requests",
            &http.semantic.server,
        ),
        (
            "http_client_request_duration_seconds",
            "http.client.request.duration",
            "Duration of HTTP client requests",
            &http.semantic.client,
        ),
    ] {
        let desc = Desc::histogram(name, help).dotted(dotted).unit("s");
        registry.add(desc, family.clone());
    }
}

/// How full the families are.
fn register_room(registry: &mut Registry, http: &HttpFamilies, tcp: &TcpFamilies) {
    type Told = fn(&dyn Room) -> Reading;
    let told: [(Desc, Told); 2] = [
        (
            Desc::gauge("mesh_metric_series", "Series that a metric has now"),
            |room| Reading::Number(i64::try_from(room.len()).unwrap_or(i64::MAX)),
        ),
        (
            Desc::counter(
                "mesh_metric_series_refused",
                "Label sets that found no room and were counted under _overflow",
            ),
            |room| Reading::Count(room.refused()),
        ),
    ];
    for (desc, told) in told {
        let (http, tcp) = (http.clone(), tcp.clone());
        registry.add(desc, move |sink: &mut dyn Sink| {
            for (metric, room) in rooms(&http, &tcp) {
                sink.sample(&LabelSet::of("metric", metric), told(room));
            }
        });
    }
}

/// As Istio's proxies tell what they are.
fn build() -> LabelSet {
    LabelSet::new(vec![
        ("component".into(), "proxy".into()),
        ("tag".into(), env!("CARGO_PKG_VERSION").into()),
    ])
}

#[cfg(test)]
mod tests;
