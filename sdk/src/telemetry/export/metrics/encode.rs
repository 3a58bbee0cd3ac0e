//! From cells to OTLP's messages.

use std::time::SystemTime;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
    exemplar, metric, number_data_point,
};

use crate::telemetry::Meter;
use crate::telemetry::metric::{Desc, Distribution, Kind, LabelSet, Reading, Sink};

/// Everything counted so far.
pub(super) fn all(meter: &Meter, since: SystemTime) -> Vec<Metric> {
    let mut sheet = Sheet {
        since: nanos(since),
        now: nanos(SystemTime::now()),
        metrics: Vec::new(),
    };
    meter.read(&mut sheet);
    sheet.metrics.retain(|metric| !is_empty(metric));
    sheet.metrics
}

struct Sheet {
    since: u64,
    now: u64,
    metrics: Vec<Metric>,
}

impl Sink for Sheet {
    fn metric(&mut self, desc: &Desc) {
        let (dotted, unit) = desc.otel;
        let name = match (dotted, desc.kind) {
            (Some(dotted), _) => dotted.to_owned(),
            // By the name that queries know it by.
            (None, Kind::Counter) => format!("{}_total", desc.name),
            (None, _) => desc.name.to_owned(),
        };
        let temporality = AggregationTemporality::Cumulative.into();
        let data = match desc.kind {
            Kind::Counter => metric::Data::Sum(Sum {
                data_points: Vec::new(),
                aggregation_temporality: temporality,
                is_monotonic: true,
            }),
            Kind::Gauge => metric::Data::Gauge(Gauge::default()),
            Kind::Histogram => metric::Data::Histogram(Histogram {
                data_points: Vec::new(),
                aggregation_temporality: temporality,
            }),
        };
        self.metrics.push(Metric {
            name,
            description: desc.help.to_owned(),
            unit: unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        });
    }

    fn sample(&mut self, labels: &LabelSet, reading: Reading) {
        let attributes = labels
            .iter()
            .map(|(name, value)| attribute(name, value))
            .collect();
        let (since, now) = (self.since, self.now);
        let number = |value| NumberDataPoint {
            attributes,
            start_time_unix_nano: since,
            time_unix_nano: now,
            value: Some(value),
            ..NumberDataPoint::default()
        };
        let data = self.metrics.last_mut().and_then(|metric| metric.data.as_mut());
        match (data, reading) {
            (Some(metric::Data::Sum(sum)), Reading::Count(count)) => {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                sum.data_points
                    .push(number(number_data_point::Value::AsInt(count)));
            }
            (Some(metric::Data::Gauge(gauge)), Reading::Level(level)) => {
                gauge
                    .data_points
                    .push(number(number_data_point::Value::AsDouble(level)));
            }
            (Some(metric::Data::Gauge(gauge)), Reading::Number(level)) => {
                gauge
                    .data_points
                    .push(number(number_data_point::Value::AsInt(level)));
            }
            (Some(metric::Data::Histogram(histogram)), Reading::Histogram(cell)) => {
                let labelled = number(number_data_point::Value::AsInt(0)).attributes;
                histogram
                    .data_points
                    .push(self::histogram(labelled, &cell.read(), since, now));
            }
            // A source gives what its metric was declared to be.
            _ => {}
        }
    }
}

fn histogram(attributes: Vec<KeyValue>, read: &Distribution, since: u64, now: u64) -> HistogramDataPoint {
    let exemplars = read.exemplars.iter().map(|it| Exemplar {
        time_unix_nano: nanos(it.at),
        trace_id: it.trace.to_vec(),
        value: Some(exemplar::Value::AsDouble(it.value)),
        ..Exemplar::default()
    });
    HistogramDataPoint {
        attributes,
        start_time_unix_nano: since,
        time_unix_nano: now,
        count: read.count(),
        sum: Some(read.sum),
        bucket_counts: read.counts.clone(),
        explicit_bounds: read.bounds.to_vec(),
        exemplars: exemplars.collect(),
        ..HistogramDataPoint::default()
    }
}

fn attribute(name: &str, value: &str) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn is_empty(metric: &Metric) -> bool {
    match &metric.data {
        Some(metric::Data::Sum(sum)) => sum.data_points.is_empty(),
        Some(metric::Data::Gauge(gauge)) => gauge.data_points.is_empty(),
        Some(metric::Data::Histogram(histogram)) => histogram.data_points.is_empty(),
        _ => true,
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
