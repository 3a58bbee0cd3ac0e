//! How metrics are read out: what there is, in order, to whoever writes it down.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{Counter, Gauge, Histogram, LabelSet, Level};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::telemetry) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What is said of a metric before its values.
#[derive(Clone, Copy, Debug)]
pub(in crate::telemetry) struct Desc {
    /// Without `_total`.
    pub(in crate::telemetry) name: &'static str,
    pub(in crate::telemetry) help: &'static str,
    pub(in crate::telemetry) kind: Kind,
    /// In OpenTelemetry: its name, where that is another, and its unit.
    pub(in crate::telemetry) otel: (Option<&'static str>, &'static str),
}

/// One value.
#[derive(Clone, Debug)]
pub(in crate::telemetry) enum Reading {
    Count(u64),
    Number(i64),
    Level(f64),
    Histogram(Histogram),
}

/// What metrics are read out to.
pub(in crate::telemetry) trait Sink {
    /// The metric that the next samples belong to.
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "called by the export"))]
    fn metric(&mut self, desc: &Desc);
    fn sample(&mut self, labels: &LabelSet, reading: Reading);
}

/// What has values.
pub(in crate::telemetry) trait Source: Send + Sync {
    fn read(&self, sink: &mut dyn Sink);
}

/// All metrics of a mesh, in the order that they are shown in.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Registry {
    /// By which they are written as text.
    pub(super) written: prometheus_client::registry::Registry,
    all: Vec<Shown>,
}

/// A metric, as prometheus-client collects it.
#[derive(Clone)]
struct Shown(Desc, Arc<dyn Source>);

/// Writes down samples by prometheus-client's encoder.
struct Writer<'a> {
    /// Gone once a value without labels was written: there is only one.
    encoder: Option<MetricEncoder<'a>>,
    written: fmt::Result,
}

impl Registry {
    pub(in crate::telemetry) fn add(&mut self, desc: Desc, source: impl Source + 'static) {
        let shown = Shown(desc, Arc::new(source));
        self.written.register_collector(Box::new(shown.clone()));
        self.all.push(shown);
    }

    pub(in crate::telemetry) fn descs(&self) -> impl Iterator<Item = &Desc> {
        self.all.iter().map(|Shown(desc, _)| desc)
    }

    #[cfg(feature = "otlp")]
    pub(in crate::telemetry) fn read(&self, sink: &mut dyn Sink) {
        for Shown(desc, source) in &self.all {
            sink.metric(desc);
            source.read(sink);
        }
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(desc, source) = self;
        let kind = match desc.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut writer = Writer {
            encoder: Some(encoder.encode_descriptor(desc.name, desc.help, None, kind)?),
            written: Ok(()),
        };
        source.read(&mut writer);
        writer.written
    }
}

impl Sink for Writer<'_> {
    fn metric(&mut self, _: &Desc) {}

    fn sample(&mut self, labels: &LabelSet, reading: Reading) {
        let written = if labels.is_empty() {
            self.encoder
                .take()
                .map_or(Ok(()), |encoder| reading.encode(encoder))
        } else {
            let encoder = self.encoder.as_mut();
            encoder.map_or(Ok(()), |encoder| reading.encode(encoder.encode_family(labels)?))
        };
        self.written = self.written.and(written);
    }
}

impl Reading {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => ConstCounter::new(*count).encode(encoder),
            Self::Number(number) => ConstGauge::new(*number).encode(encoder),
            Self::Level(level) => ConstGauge::new(*level).encode(encoder),
            Self::Histogram(histogram) => histogram.encode(encoder),
        }
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl Desc {
    pub(in crate::telemetry) const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Counter)
    }

    pub(in crate::telemetry) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Gauge)
    }

    pub(in crate::telemetry) const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Histogram)
    }

    const fn new(name: &'static str, help: &'static str, kind: Kind) -> Self {
        Self {
            name,
            help,
            kind,
            otel: (None, ""),
        }
    }

    /// The unit, as OpenTelemetry writes them (UCUM).
    pub(in crate::telemetry) const fn unit(mut self, unit: &'static str) -> Self {
        self.otel.1 = unit;
        self
    }

    /// Its name in OpenTelemetry, where that is another.
    pub(in crate::telemetry) const fn dotted(mut self, name: &'static str) -> Self {
        self.otel.0 = Some(name);
        self
    }
}

impl Source for Counter {
    fn read(&self, sink: &mut dyn Sink) {
        sink.sample(&LabelSet::NONE, Reading::Count(self.get()));
    }
}

impl Source for Histogram {
    fn read(&self, sink: &mut dyn Sink) {
        sink.sample(&LabelSet::NONE, Reading::Histogram(self.clone()));
    }
}

impl Source for Gauge {
    fn read(&self, sink: &mut dyn Sink) {
        sink.sample(&LabelSet::NONE, Reading::Number(self.get()));
    }
}

impl Source for Level {
    fn read(&self, sink: &mut dyn Sink) {
        sink.sample(&LabelSet::NONE, Reading::Level(self.get()));
    }
}

/// What is only known when it is asked for.
impl<F> Source for F
where
    F: Fn(&mut dyn Sink) + Send + Sync,
{
    fn read(&self, sink: &mut dyn Sink) {
        self(sink);
    }
}
