//! One mesh's metrics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::access::{LineWriter, LogBook, LogCounts};
use super::flow::{Flow, TcpFlow, durations};
use super::labels::RequestLabels;
use super::own::{ConfigMeter, Direction, Own, SpanCounts, TunnelMeter};
use super::series::{HttpFamilies, RequestSeries};
use super::tcp::{TcpFamilies, TcpSeries};

/// The media type of [`Meter::exposition`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How many series a family holds unless told otherwise. A histogram series is 22 lines of some 800 bytes.
const SERIES: usize = 2_000;

/// The metrics of one mesh. Clones share them; nothing is global.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Registry,
    http: HttpFamilies,
    tcp: TcpFamilies,
    requests: Mutex<Resolved<RequestSeries>>,
    connections: Mutex<Resolved<TcpSeries>>,
    own: Own,
    logs: LogBook,
    #[cfg(feature = "otlp")]
    outlets: super::export::Outlets,
    hostname: Option<String>,
}

/// How many more series may come to be.
#[derive(Debug)]
pub(super) struct Budget(AtomicUsize);

/// The series handed out so far, by their labels.
#[derive(Debug)]
struct Resolved<T> {
    by_labels: HashMap<Arc<RequestLabels>, Arc<T>>,
    overflow: HashMap<Arc<RequestLabels>, Arc<T>>,
    limit: usize,
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
        Self::with_limit(SERIES)
    }

    /// A meter whose families hold about `series` series each; what exceeds that is counted under `_overflow`.
    pub fn with_limit(series: usize) -> Self {
        let mut registry = Registry::default();
        let http = HttpFamilies::new(Arc::new(Budget::new(series)));
        let tcp = TcpFamilies::default();
        register_http(&mut registry, &http);
        register_tcp(&mut registry, &tcp);
        let own = Own::new(&mut registry, series);
        let logs = LogBook::new(log_counts(&mut registry));
        #[cfg(feature = "otlp")]
        let outlets = super::export::Outlets::default();
        #[cfg(feature = "otlp")]
        own.watch_spans(outlets.counts().clone());
        Self(Arc::new(Shared {
            registry,
            http,
            tcp,
            #[cfg(feature = "otlp")]
            outlets,
            requests: Mutex::new(Resolved::new(series)),
            connections: Mutex::new(Resolved::new(series)),
            own,
            logs,
            // As a pod's own name is known to its containers.
            hostname: std::env::var("HOSTNAME").ok(),
        }))
    }

    /// The series of HTTP requests with these labels; the same one for equal labels.
    ///
    /// Takes a lock: resolve once and keep it.
    pub fn requests(&self, labels: &RequestLabels) -> Arc<RequestSeries> {
        let families = &self.0.http;
        Resolved::get(&self.0.requests, labels, |labels| {
            RequestSeries::new(labels, families.clone())
        })
    }

    /// The series of TCP connections with these labels; the same one for equal labels.
    ///
    /// Takes a lock: resolve once per connection.
    pub fn tcp(&self, labels: &RequestLabels) -> Arc<TcpSeries> {
        let families = &self.0.tcp;
        Resolved::get(&self.0.connections, labels, |labels| {
            TcpSeries::new(labels, families.clone())
        })
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
        self.0.own.denied(policy);
    }

    /// Counts a request that an AUDIT policy matched.
    pub fn audited(&self, policy: &str) {
        self.0.own.audited(policy);
    }

    /// Counts what dry-run policies would have decided: `allow` or `deny`.
    pub fn dry_run(&self, decision: &'static str) {
        self.0.own.dry_run(decision);
    }

    /// Counts a request that is sent once more.
    pub fn retry(&self) {
        self.0.own.retries.inc();
    }

    /// Counts a retry that the policy asks for and that was not possible; `reason` is one of a few fixed words.
    pub fn retry_skipped(&self, reason: &'static str) {
        self.0.own.retry_skipped(reason);
    }

    /// Counts a claim to speak for another caller that was not believed; `reason` is one of a few fixed words.
    pub fn introduction_refused(&self, reason: &'static str) {
        self.0.own.introduction_refused(reason);
    }

    /// Counts the copy of a request; `result` is one of a few fixed words.
    pub fn mirrored(&self, result: &'static str) {
        self.0.own.mirrored(result);
    }

    /// Counts a request that met a rate limit; `result` is one of a few fixed words.
    pub fn rate_limited(&self, result: &'static str) {
        self.0.own.rate_limited(result);
    }

    /// Counts a request that was refused for those under way; `criticality` is one of a few fixed words.
    pub fn shed(&self, criticality: &'static str) {
        self.0.own.shed(criticality);
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

    /// What has been counted of requests so far, by label set. Nothing of it is kept up for this: it costs what reading
    /// costs, some microseconds for each label set.
    pub(crate) fn flows(&self) -> Vec<Flow> {
        let (mut flows, mut histograms) = (Vec::new(), Vec::new());
        for series in Resolved::all(&self.0.requests) {
            let (flow, mut of_flow) = series.flow();
            histograms.extend(of_flow.drain(..).map(|histogram| (flows.len(), histogram)));
            flows.push(flow);
        }
        let read = durations(histograms.iter().map(|(_, histogram)| histogram));
        for ((index, _), durations) in histograms.iter().zip(&read) {
            flows[*index].durations.add(durations);
        }
        flows
    }

    /// What has been counted of connections so far, by label set.
    pub(crate) fn tcp_flows(&self) -> Vec<TcpFlow> {
        let all = Resolved::all(&self.0.connections);
        all.iter().map(|series| series.flow()).collect()
    }

    /// Everything counted so far as OpenMetrics text, of type [`CONTENT_TYPE`].
    pub fn exposition(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails only if one of our label sets does, and none of them can.
        if let Err(error) = text::encode(&mut text, &self.0.registry) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }
}

// ===== impl Budget =====

impl Budget {
    fn new(series: usize) -> Self {
        Self(AtomicUsize::new(series))
    }

    pub(super) fn take(&self) -> bool {
        let left = &self.0;
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

// ===== impl Resolved =====

impl<T> Resolved<T> {
    fn all(resolved: &Mutex<Self>) -> Vec<Arc<T>> {
        let resolved = resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let all = resolved.by_labels.values().chain(resolved.overflow.values());
        all.cloned().collect()
    }

    fn new(limit: usize) -> Self {
        Self {
            by_labels: HashMap::new(),
            overflow: HashMap::new(),
            limit,
        }
    }

    fn get(
        resolved: &Mutex<Self>,
        labels: &RequestLabels,
        make: impl FnOnce(Arc<RequestLabels>) -> T,
    ) -> Arc<T> {
        let mut resolved = resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = resolved.by_labels.get(labels) {
            return Arc::clone(series);
        }
        let full = resolved.by_labels.len() >= resolved.limit;
        let (labels, into) = if full {
            (labels.overflow(), &mut resolved.overflow)
        } else {
            (labels.clone(), &mut resolved.by_labels)
        };
        let labels = Arc::new(labels);
        let series = into
            .entry(Arc::clone(&labels))
            .or_insert_with(|| Arc::new(make(labels)));
        Arc::clone(series)
    }
}

fn register_http(registry: &mut Registry, http: &HttpFamilies) {
    registry.register("istio_requests", "requests", http.requests.clone());
    registry.register(
        "istio_request_duration_milliseconds",
        "from a request's first byte to its response's last",
        http.duration.clone(),
    );
    registry.register(
        "istio_request_bytes",
        "size of requests",
        http.request_bytes.clone(),
    );
    registry.register(
        "istio_response_bytes",
        "size of responses",
        http.response_bytes.clone(),
    );
}

fn log_counts(registry: &mut Registry) -> LogCounts {
    let lines = Family::<[(&'static str, &'static str); 1], Counter>::default();
    let counts = LogCounts::new(
        lines.get_or_create_owned(&[("result", "written")]),
        lines.get_or_create_owned(&[("result", "dropped")]),
    );
    registry.register(
        "mesh_access_log_lines",
        "lines of access logs, by what became of them",
        lines,
    );
    counts
}

fn register_tcp(registry: &mut Registry, tcp: &TcpFamilies) {
    let counters = [
        ("connections_opened", "connections opened", &tcp.opened),
        ("connections_closed", "connections closed", &tcp.closed),
        ("connections_failed", "connections that failed", &tcp.failed),
        ("sent_bytes", "bytes of responses", &tcp.sent),
        ("received_bytes", "bytes of requests", &tcp.received),
    ];
    for (name, help, family) in counters {
        registry.register(format!("istio_tcp_{name}"), help, family.clone());
    }
}
