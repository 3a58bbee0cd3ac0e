//! How metrics are read out: what there is, in order, to whoever writes it down.

use std::fmt;
use std::sync::Arc;

use super::cell::Distribution;
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
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) enum Reading {
    Count(u64),
    Level(f64),
    Distribution(Distribution),
}

/// What metrics are read out to.
pub(in crate::telemetry) trait Sink {
    /// The metric that the next samples belong to.
    fn metric(&mut self, desc: &Desc);
    fn sample(&mut self, labels: &LabelSet, reading: Reading);
}

/// What has values.
pub(in crate::telemetry) trait Source: Send + Sync {
    fn read(&self, sink: &mut dyn Sink);
}

/// All metrics of a mesh, in the order that they are shown in.
#[derive(Default)]
pub(in crate::telemetry) struct Registry(Vec<(Desc, Arc<dyn Source>)>);

impl Registry {
    pub(in crate::telemetry) fn add(&mut self, desc: Desc, source: impl Source + 'static) {
        self.0.push((desc, Arc::new(source)));
    }

    pub(in crate::telemetry) fn read(&self, sink: &mut dyn Sink) {
        for (desc, source) in &self.0 {
            sink.metric(desc);
            source.read(sink);
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(desc, _)| desc.name);
        f.debug_list().entries(names).finish()
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
        sink.sample(&LabelSet::NONE, Reading::Distribution(self.read()));
    }
}

impl Source for Gauge {
    fn read(&self, sink: &mut dyn Sink) {
        sink.sample(&LabelSet::NONE, Reading::Level(self.get() as f64));
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
