//! The queues to collectors that the mesh configuration names, and the way there: through the mesh itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::destination::{Carrier, Destination, Protocol};
use super::parcel::Parcel;
use super::queue::{Pace, Queue, Tally, queue};
use crate::telemetry::SpanCounts;
use crate::telemetry::access::LogCounts;
use crate::telemetry::recording::{Room, SpanProtocol, SpanTarget};

/// How many spans are sent at once. The mesh has no thread of its own for it: at some thirty microseconds each, to write down
/// a batch of OpenTelemetry's 512 would stop the requests of a whole thread for longer than most of them take.
const SPANS: usize = 64;

/// How long a queue that nobody uses any more has for what waits in it.
const LAST: Duration = Duration::from_secs(10);

/// The queues of one mesh. Those of one kind to one place are one.
#[derive(Debug, Default)]
pub(crate) struct Outlets {
    via: OnceLock<Via>,
    spans: Book<Span>,
    logs: Book<LogRecord>,
    counts: SpanCounts,
    room: Arc<Room>,
}

/// How collectors are reached.
#[derive(Debug)]
struct Via {
    carrier: Carrier,
    runtime: Handle,
}

struct Book<T>(Mutex<HashMap<SpanTarget, Open<T>>>);

struct Open<T> {
    queue: Queue<T>,
    worker: JoinHandle<()>,
}

impl Outlets {
    /// From now on collectors are reached so, by tasks of this runtime.
    pub(crate) fn deliver_by(&self, carrier: Carrier, runtime: Handle) {
        let _ = self.via.set(Via { carrier, runtime });
    }

    /// The queue for spans to a place; `None` if nothing can be sent from here.
    pub(crate) fn spans(&self, to: &SpanTarget) -> Option<Queue<Span>> {
        let pace = Pace {
            batch: SPANS,
            ..Pace::default()
        };
        self.spans.open(self.via.get()?, to, pace, self.counts.clone())
    }

    /// The queue for records of access logs to a place.
    pub(crate) fn logs(&self, to: &SpanTarget, counts: &LogCounts) -> Option<Queue<LogRecord>> {
        self.logs
            .open(self.via.get()?, to, Pace::default(), counts.clone())
    }

    /// What became of spans.
    pub(crate) fn counts(&self) -> &SpanCounts {
        &self.counts
    }

    /// Counts spans for which there was no room.
    pub(crate) fn lost(&self, many: u64) {
        self.counts.lost(many);
    }

    /// Where traces wait that may be kept.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Sends what waits and ends, within this time. What is recorded later is lost, and counted.
    pub(crate) async fn close(&self, within: Duration) {
        let workers = self.spans.end(within).into_iter().chain(self.logs.end(within));
        let all = async {
            for worker in workers {
                // A worker that was aborted has counted what it lost.
                let _ = worker.await;
            }
        };
        let _ = tokio::time::timeout(within, all).await;
    }
}

/// Nobody waits here: what has not been sent is lost with the mesh.
impl Drop for Outlets {
    fn drop(&mut self) {
        self.spans.abort();
        self.logs.abort();
    }
}

impl<T: Parcel> Book<T> {
    fn open(&self, via: &Via, to: &SpanTarget, pace: Pace, tally: impl Tally) -> Option<Queue<T>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = open.get(to) {
            return Some(open.queue.clone());
        }
        // Of a configuration that nobody has any more.
        open.retain(|_, it| {
            let held = it.queue.is_held();
            if !held {
                it.queue.end(LAST);
            }
            held
        });
        let (queue, worker) = queue(destination(to), via.carrier.clone(), resource(to), pace, tally);
        // Exporting must not itself leave spans to export.
        let running = worker.run().with_subscriber(NoSubscriber::new());
        let worker = via.runtime.spawn(running);
        let clone = queue.clone();
        open.insert(to.clone(), Open { queue, worker });
        Some(clone)
    }

    fn end(&self, within: Duration) -> Vec<JoinHandle<()>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = open.drain().map(|(_, open)| {
            open.queue.end(within.mul_f64(0.9));
            open.worker
        });
        all.collect()
    }
}

impl<T> Book<T> {
    fn abort(&self) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().for_each(|open| open.worker.abort());
    }
}

impl<T> Default for Book<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> fmt::Debug for Book<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Book")
    }
}

fn destination(to: &SpanTarget) -> Destination {
    Destination {
        protocol: match to.protocol {
            SpanProtocol::Http => Protocol::Http,
            SpanProtocol::Grpc => Protocol::Grpc,
            SpanProtocol::Zipkin => Protocol::Zipkin,
        },
        base: format!("http://{}:{}", to.host, to.port),
        path: to.path.to_string(),
        headers: to.headers.clone(),
        timeout: to.timeout,
        // No provider of the mesh configuration has a field for it.
        gzip: false,
    }
}

fn resource(to: &SpanTarget) -> Resource {
    let attribute = |(key, value): &(Arc<str>, Arc<str>)| KeyValue {
        key: key.to_string(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_string())),
        }),
        ..KeyValue::default()
    };
    Resource {
        attributes: to.resource.iter().map(attribute).collect(),
        ..Resource::default()
    }
}
