//! What all streams of one tunnel share.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Span;

use crate::name::{Peer, chain};
use crate::telemetry::{TraceContext, TunnelMeter, context_of, field};

/// One connection as its streams see it.
///
/// The counters are statistics and limits, none of them guards memory, so `Relaxed` is enough throughout.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) peer: Arc<Peer>,
    /// The epoch of our credential that the connection was made with.
    pub(super) epoch: u64,
    /// How long a dropped stream is drained.
    pub(super) linger: Duration,
    open: AtomicUsize,
    lingering: AtomicUsize,
    resets: AtomicUsize,
    going: AtomicBool,
    idle_since: Mutex<Instant>,
    meter: Option<TunnelMeter>,
}

/// How many dropped streams of one tunnel are drained at the same time; the rest are reset.
const LINGERING: usize = 128;

impl Carrier {
    /// `span` is the tunnel's; whoever drives the connection keeps it, because streams may outlast that.
    pub(super) fn new(mut peer: Peer, epoch: u64, linger: Duration, span: &Span) -> Self {
        if let Some(identity) = &peer.identity {
            span.record(field::PEER, identity.as_str());
        }
        let trace = Some(context_of(span)).filter(TraceContext::is_sampled);
        peer.trace = trace.and_then(|trace| trace.traceparent());
        Self {
            peer: Arc::new(peer),
            epoch,
            linger,
            open: AtomicUsize::new(0),
            lingering: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
            going: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            meter: None,
        }
    }

    /// Counted from now on as a tunnel that took so long to make.
    pub(super) fn metered(mut self, meter: Option<TunnelMeter>, handshake: Duration) -> Self {
        if let Some(meter) = &meter {
            meter.opened(handshake);
        }
        self.meter = meter;
        self
    }

    /// How many streams are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether nothing new is to be started: the peer has said that it goes away, or the tunnel has left its pool.
    pub(super) fn is_going(&self) -> bool {
        self.going.load(Ordering::Relaxed)
    }

    /// Notes that nothing new is to be started.
    pub(super) fn set_going(&self) {
        self.going.store(true, Ordering::Relaxed);
    }

    /// Takes the place of one stream.
    pub(super) fn enter(self: &Arc<Self>) -> Seat {
        self.open.fetch_add(1, Ordering::Relaxed);
        if let Some(meter) = &self.meter {
            meter.stream_opened();
        }
        Seat(self.clone())
    }

    /// Whether no stream has been open for that long.
    pub(super) fn is_idle(&self, longer_than: Duration) -> bool {
        let since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.open() == 0 && since.elapsed() >= longer_than
    }

    /// Counts a stream that the peer reset.
    pub(super) fn count_reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    /// How many streams the peer has reset.
    pub(super) fn resets(&self) -> usize {
        self.resets.load(Ordering::Relaxed)
    }

    /// Takes one of the places for drained streams, if there is one.
    pub(super) fn start_linger(&self) -> bool {
        let took = self.lingering.fetch_add(1, Ordering::Relaxed) < LINGERING;
        if !took {
            self.lingering.fetch_sub(1, Ordering::Relaxed);
        }
        took
    }

    /// Gives that place back.
    pub(super) fn end_linger(&self) {
        self.lingering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Notes in a tunnel's span what went wrong.
pub(super) fn fail(span: &Span, kind: &'static str, error: &(dyn Error + 'static)) {
    if span.is_disabled() {
        return;
    }
    span.record(field::OTEL_STATUS, "error");
    span.record(field::ERROR_TYPE, kind);
    span.record(field::REASON, chain(error));
}

/// One stream's place in its tunnel; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Carrier>);

impl Seat {
    pub(super) fn carrier(&self) -> &Arc<Carrier> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // The time first: whoever sees zero streams must see a fresh time with it.
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(meter) = &self.0.meter {
            meter.stream_closed();
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            meter.closed();
        }
    }
}
