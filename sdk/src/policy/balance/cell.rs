//! What is known of an endpoint right now.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::latency::Latency;
use crate::policy::outlier::OutlierCell;

/// The live state of an endpoint: atomics, shared by every snapshot that lists the endpoint.
#[derive(Default)]
pub struct EndpointCell {
    in_flight: AtomicU32,
    outlier: OutlierCell,
    latency: Latency,
    /// Whether whoever is at the other end has fallen silent: the sending end knows, of all endpoints behind one tunnel at
    /// once.
    silence: OnceLock<Arc<AtomicBool>>,
    /// When it was first seen: what its warm-up counts from.
    born: OnceLock<Instant>,
    /// Whatever the sending end keeps per endpoint (its idle connections). Typed by that end alone, so that
    /// engines need not know what a connection is.
    connections: OnceLock<Box<dyn Any + Send + Sync>>,
    /// Likewise, what the measuring side keeps per endpoint.
    series: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl EndpointCell {
    /// Requests under way to this endpoint from this process.
    pub fn in_flight(&self) -> u32 {
        // Relaxed: a load hint; nothing is published through it.
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request in until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Whether the peer has stopped answering, as far as the sending end knows: to be asked only where nobody else is.
    pub fn is_silent(&self) -> bool {
        // Relaxed: a hint; nothing is published through it.
        self.silence
            .get()
            .is_some_and(|silent| silent.load(Ordering::Relaxed))
    }

    /// Lets the sending end say from now on whether the peer is silent; the first to come is listened to.
    pub fn heed(&self, silence: impl FnOnce() -> Arc<AtomicBool>) {
        self.silence.get_or_init(silence);
    }

    /// What outlier detection remembers of it.
    pub fn outlier(&self) -> &OutlierCell {
        &self.outlier
    }

    /// Takes down how long an attempt took; whether it failed is asked because failing quickly is not being quick.
    pub(in crate::policy) fn took(&self, time: Duration, failed: bool, now: Instant) {
        self.latency.observe(time, failed, self.age(now));
    }

    /// What one more request costs, where that is judged by how long those before took.
    pub(super) fn cost(&self, now: Instant) -> f32 {
        self.latency.cost(self.in_flight(), self.age(now))
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born(now))
    }

    /// When it was first seen; `now`, if nobody has looked before.
    pub(super) fn born(&self, now: Instant) -> Instant {
        *self.born.get_or_init(|| now)
    }

    /// The sending end's own state for this endpoint (its connections), made on first use.
    ///
    /// Returns `None` if another type sits there already.
    pub fn connections<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.connections.get_or_init(|| Box::new(make())).downcast_ref()
    }

    /// The measuring side's own state for this endpoint, made on first use.
    ///
    /// Returns `None` if another type sits there already.
    pub fn series<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.series.get_or_init(|| Box::new(make())).downcast_ref()
    }
}

impl std::fmt::Debug for EndpointCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointCell")
            .field("in_flight", &self.in_flight())
            .field("silent", &self.is_silent())
            .field("outlier", &self.outlier)
            .finish_non_exhaustive()
    }
}

/// One request under way; dropping it counts the request out.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointCell>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
