//! From OpenTelemetry's SDK into the queue.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use super::queue::Queue;

/// Puts finished spans into the queue on behalf of OpenTelemetry.
#[derive(Debug)]
pub(super) struct Courier(Queue<SpanData>);

impl Courier {
    pub(super) fn new(queue: Queue<SpanData>) -> Self {
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
        self.0.wake();
        Ok(())
    }

    /// Only the guard ends the export. This is called wherever the last handle of the layer happens to be dropped,
    /// which may be a runtime's thread, and that must not wait for a collector.
    fn shutdown_with_timeout(&self, _within: Duration) -> OTelSdkResult {
        Ok(())
    }
}
