//! Access logs as records of OTLP.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};

use super::{Entry, Format};
use crate::telemetry::Meter;
use crate::telemetry::export::Queue;
use crate::telemetry::recording::SpanTarget;

/// A collector of records, and what is told it beside the text.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) target: SpanTarget,
    /// A format of JSON, each of whose keys is an attribute.
    pub(super) labels: Option<Format>,
    queue: OnceLock<Option<Queue<LogRecord>>>,
}

impl Records {
    pub(super) fn new(target: SpanTarget, labels: Option<Format>) -> Self {
        Self {
            target,
            labels,
            queue: OnceLock::new(),
        }
    }

    /// Sends the record of a request whose text is `body`.
    pub(super) fn write(&self, mut body: String, entry: &Entry<'_>, meter: &Meter) {
        use crate::telemetry::export::Tally as _;

        let counts = meter.log_counts();
        let queue = self
            .queue
            .get_or_init(|| meter.outlets().logs(&self.target, counts));
        let Some(queue) = queue else {
            return counts.lost(1);
        };
        body.truncate(body.trim_end_matches('\n').len());
        let labels = self
            .labels
            .as_ref()
            .map(|labels| labels.labels(entry))
            .unwrap_or_default();
        let nanos = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let nanos = |at: SystemTime| u64::try_from(nanos(at)).unwrap_or(u64::MAX);
        queue.push(LogRecord {
            time_unix_nano: nanos(entry.start),
            observed_time_unix_nano: nanos(entry.start + entry.duration),
            severity_number: SeverityNumber::Unspecified.into(),
            body: Some(text(body)),
            attributes: labels
                .into_iter()
                .map(|(key, value)| KeyValue {
                    key,
                    value: Some(text(value)),
                    ..KeyValue::default()
                })
                .collect(),
            trace_id: entry.trace.and_then(bytes).unwrap_or_default(),
            ..LogRecord::default()
        });
    }
}

/// Two are the same if they say the same to the same.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.target == other.target && self.labels == other.labels
    }
}

fn text(text: String) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(text)),
    }
}

/// The bytes of a trace's id in hexadecimal digits.
fn bytes(trace: &str) -> Option<Vec<u8>> {
    let id = u128::from_str_radix(trace, 16).ok()?;
    (trace.len() == 32).then(|| id.to_be_bytes().to_vec())
}
