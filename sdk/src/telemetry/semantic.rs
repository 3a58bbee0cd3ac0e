//! OpenTelemetry's own metrics of HTTP: `http.server.request.duration` and `http.client.request.duration`, with the stable
//! attributes of its semantic conventions (1.27, "HTTP metrics").

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::labels::RequestLabels;
use super::metric::{Family, Histogram, LabelSet, Text};
use super::series::{LastUse, Sample};

/// The buckets that the conventions ask for, in seconds.
const BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// How many combinations one series tells apart.
const ROWS: usize = 128;

/// What OpenTelemetry's metrics tell of a request besides its outcome. The words are those of the conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpFacts {
    /// Whether this process made the request.
    pub client: bool,
    /// `http.request.method`: one of the known ones.
    pub method: &'static str,
    /// `url.scheme`.
    pub scheme: &'static str,
    /// `network.protocol.version`.
    pub version: &'static str,
    /// `server.port`; 0 if it is not known.
    pub port: u16,
}

/// The two families.
#[derive(Clone, Debug)]
pub(super) struct Semantic {
    pub(super) server: Family<Histogram>,
    pub(super) client: Family<Histogram>,
}

/// The cells of one series.
#[derive(Debug, Default)]
pub(super) struct Series {
    rows: ArcSwap<Vec<Arc<Row>>>,
    growing: Mutex<()>,
}

#[derive(Debug)]
struct Row {
    facts: HttpFacts,
    code: u16,
    last: LastUse,
    duration: Histogram,
}

impl HttpFacts {
    /// The word for a method: those that the conventions do not know are one.
    pub fn method(method: &http::Method) -> &'static str {
        const KNOWN: [&str; 9] = [
            "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE",
        ];
        let mut known = KNOWN.into_iter();
        known.find(|it| *it == method.as_str()).unwrap_or("_OTHER")
    }

    /// The word for a version.
    pub fn version(version: http::Version) -> &'static str {
        match version {
            http::Version::HTTP_10 => "1.0",
            http::Version::HTTP_2 => "2",
            http::Version::HTTP_3 => "3",
            _ => "1.1",
        }
    }
}

impl Semantic {
    pub(super) fn new(limit: usize) -> Self {
        let family = || Family::new(limit, || Histogram::traced(&BUCKETS));
        Self {
            server: family(),
            client: family(),
        }
    }

    fn family(&self, facts: &HttpFacts) -> &Family<Histogram> {
        if facts.client { &self.client } else { &self.server }
    }

    pub(super) fn sweep(&self) {
        self.server.sweep();
        self.client.sweep();
    }
}

impl Series {
    pub(super) fn record(&self, facts: &HttpFacts, sample: &Sample, labels: &RequestLabels, into: &Semantic) {
        let trace = sample.trace.map(|trace| (trace, std::time::SystemTime::now()));
        let seconds = sample.duration.as_secs_f64();
        let rows = self.rows.load();
        match find(&rows, facts, sample.response_code) {
            Some(row) if row.last.note() => row.duration.observe_in(seconds, trace),
            _ => self
                .grown(facts, sample.response_code, labels, into)
                .observe_in(seconds, trace),
        }
    }

    #[cold]
    fn grown(&self, facts: &HttpFacts, code: u16, labels: &RequestLabels, into: &Semantic) -> Histogram {
        let family = into.family(facts);
        let overflow = || family.overflow(&LabelSet::of("otel.metric.overflow", "true"));
        if family.is_full() || self.rows.load().len() >= ROWS {
            return overflow();
        }
        let _one_grows = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self.rows.load_full();
        if let Some(row) = find(&rows, facts, code).filter(|row| row.last.note()) {
            return row.duration.clone();
        }
        let Some(duration) = family.get(&attributes(facts, code, labels)) else {
            return overflow();
        };
        let others = rows.iter().filter(|row| row.facts != *facts || row.code != code);
        let mut grown: Vec<Arc<Row>> = others.cloned().collect();
        grown.push(Arc::new(Row {
            facts: *facts,
            code,
            last: LastUse::default(),
            duration: duration.clone(),
        }));
        self.rows.store(Arc::new(grown));
        duration
    }

    /// Forgets what was not used since it was last called; whether there is anything left.
    pub(super) fn sweep(&self) -> bool {
        let _nobody_grows = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::clone(&self.rows.load());
        rows.retain(|row| !row.last.sweep());
        let is_used = !rows.is_empty();
        self.rows.store(Arc::new(rows));
        is_used
    }
}

fn find<'a>(rows: &'a [Arc<Row>], facts: &HttpFacts, code: u16) -> Option<&'a Row> {
    let mut rows = rows.iter();
    rows.find(|row| row.code == code && row.facts == *facts)
        .map(|row| &**row)
}

/// By name, as OpenTelemetry compares them.
fn attributes(facts: &HttpFacts, code: u16, labels: &RequestLabels) -> LabelSet {
    let mut out: Vec<(Text, Text)> = Vec::with_capacity(7);
    // A server is not to blame for what its caller did wrong; a client got an error all the same.
    let is_error = code == 0 || code >= 500 || facts.client && code >= 400;
    if is_error {
        let kind = match code {
            0 => "cancelled".into(),
            code => Text::from(code.to_string()),
        };
        out.push(("error.type".into(), kind));
    }
    out.push(("http.request.method".into(), facts.method.into()));
    if code != 0 {
        out.push(("http.response.status_code".into(), code.to_string().into()));
    }
    out.push(("network.protocol.version".into(), facts.version.into()));
    if !labels.service.host.is_empty() {
        out.push(("server.address".into(), Text::from(&labels.service.host)));
        if facts.port != 0 {
            out.push(("server.port".into(), facts.port.to_string().into()));
        }
    }
    out.push(("url.scheme".into(), facts.scheme.into()));
    LabelSet::new(out)
}
