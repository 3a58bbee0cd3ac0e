//! The bounded queue between requests and the collector.
//!
//! OpenTelemetry's own batch processor would do, but for two things we promise: to count what was dropped where it can
//! be read, and to cut off a slow collector at a deadline. Both need the queue in hand.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Error, OtlpSettings};
use crate::telemetry::SpanCounts;

/// Finished spans on their way to the collector. Clones share the queue.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Shared>);

/// Puts finished spans into the queue on behalf of OpenTelemetry.
#[derive(Debug)]
pub(super) struct Courier(Queue);

#[derive(Debug)]
struct Shared {
    spans: ArrayQueue<SpanData>,
    batch: usize,
    counts: SpanCounts,
    closed: AtomicBool,
    /// Set once: when the exporter has to be done.
    deadline: Mutex<Option<Instant>>,
    wake: Notify,
    closing: Notify,
    lost_at_close: AtomicUsize,
    done: Mutex<bool>,
    done_changed: Condvar,
}

/// The exporter's thread.
struct Worker<E> {
    exporter: E,
    shared: Arc<Shared>,
    interval: Duration,
    timeout: Duration,
}

// ===== impl Queue =====

impl Queue {
    /// A queue, and the thread that empties it.
    pub(super) fn start(
        exporter: impl SpanExporter + 'static,
        settings: &OtlpSettings,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            spans: ArrayQueue::new(settings.queue.max(1)),
            batch: settings.batch.clamp(1, settings.queue.max(1)),
            counts: SpanCounts::default(),
            closed: AtomicBool::new(false),
            deadline: Mutex::default(),
            wake: Notify::new(),
            closing: Notify::new(),
            lost_at_close: AtomicUsize::new(0),
            done: Mutex::new(false),
            done_changed: Condvar::new(),
        });
        let worker = Worker {
            exporter,
            shared: Arc::clone(&shared),
            interval: settings.interval,
            timeout: settings.timeout,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("mesh-spans".to_owned())
            .spawn(move || {
                // Exporting must not itself leave spans to export.
                tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::new(), || {
                    runtime.block_on(worker.run());
                });
            })?;
        Ok(Self(shared))
    }

    pub(super) fn counts(&self) -> SpanCounts {
        self.0.counts.clone()
    }

    /// Never blocks: what finds no room is counted and gone.
    fn push(&self, span: SpanData) {
        let shared = &self.0;
        if shared.closed.load(Ordering::Acquire) || shared.spans.push(span).is_err() {
            shared.counts.add_dropped(1);
        } else if shared.spans.len() >= shared.batch {
            shared.wake.notify_one();
        }
    }

    /// Sends what is queued and stops; `true` if nothing was lost. Returns within `within`, also when called again.
    pub(super) fn close(&self, within: Duration) -> bool {
        let shared = &self.0;
        let until = Instant::now() + within;
        if !shared.closed.swap(true, Ordering::AcqRel) {
            // The worker stops a little earlier, so that it is this call that learns what was lost.
            let deadline = Instant::now() + within.mul_f64(0.9);
            *lock(&shared.deadline) = Some(deadline);
            shared.closing.notify_one();
        }
        let mut done = lock(&shared.done);
        while !*done {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let (guard, _) = shared
                .done_changed
                .wait_timeout(done, left)
                .unwrap_or_else(PoisonError::into_inner);
            done = guard;
        }
        shared.lost_at_close.load(Ordering::Relaxed) == 0
    }
}

// ===== impl Worker =====

impl<E: SpanExporter> Worker<E> {
    async fn run(self) {
        let shared = &self.shared;
        while !shared.closed.load(Ordering::Acquire) {
            tokio::select! {
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(self.interval) => {}
                () = shared.closing.notified() => break,
            }
            self.drain().await;
        }
        self.finish().await;
        *lock(&shared.done) = true;
        shared.done_changed.notify_all();
    }

    /// Sends what is queued until it is empty or closing begins.
    async fn drain(&self) {
        while !self.shared.closed.load(Ordering::Acquire) {
            let batch = self.take();
            if batch.is_empty() {
                return;
            }
            let spans = batch.len();
            let export = timeout(self.timeout, self.exporter.export(batch));
            tokio::pin!(export);
            let sent = tokio::select! {
                sent = &mut export => sent,
                // A batch under way may still arrive; from now on the deadline counts.
                () = self.shared.closing.notified() => timeout(self.left(), &mut export).await.unwrap_or_else(Err),
            };
            self.count(spans, matches!(sent, Ok(Ok(()))));
        }
    }

    async fn finish(&self) {
        loop {
            let batch = self.take();
            if batch.is_empty() {
                return;
            }
            let spans = batch.len();
            let left = self.left().min(self.timeout);
            let sent =
                !left.is_zero() && matches!(timeout(left, self.exporter.export(batch)).await, Ok(Ok(())));
            self.count(spans, sent);
        }
    }

    fn take(&self) -> Vec<SpanData> {
        let spans = &self.shared.spans;
        std::iter::from_fn(|| spans.pop())
            .take(self.shared.batch)
            .collect()
    }

    fn left(&self) -> Duration {
        let deadline = lock(&self.shared.deadline);
        deadline.map_or(self.timeout, |at| at.saturating_duration_since(Instant::now()))
    }

    fn count(&self, spans: usize, sent: bool) {
        let shared = &self.shared;
        if sent {
            shared.counts.add_exported(spans);
            return;
        }
        shared.counts.add_dropped(spans);
        if shared.closed.load(Ordering::Acquire) {
            shared.lost_at_close.fetch_add(spans, Ordering::Relaxed);
        }
    }
}

// ===== impl Courier =====

impl Courier {
    pub(super) fn new(queue: Queue) -> Self {
        Self(queue)
    }
}

impl SpanProcessor for Courier {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.0.push(span);
        }
    }

    /// Asks the worker to send, and does not wait for it: nobody who flushes may be slowed by the collector.
    fn force_flush(&self) -> OTelSdkResult {
        self.0.0.wake.notify_one();
        Ok(())
    }

    /// Only the guard ends the export. This is called wherever the last handle of the layer happens to be dropped,
    /// which may be a runtime's thread, and that must not wait for a collector.
    fn shutdown_with_timeout(&self, _within: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
