//! How many retries may be under way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A limit on concurrent retries: a share of the requests under way, but at least a few.
///
/// Keeps retries from multiplying the load of a cluster that is failing *because* of load.
#[derive(Debug)]
pub struct RetryBudget {
    percent: f64,
    min: u32,
    /// Requests under way, retries not counted again. Only a number to compare with: relaxed ordering is enough.
    requests: AtomicU32,
    /// Retries under way.
    retries: AtomicU32,
}

/// 20 % and at least 3, as Envoy's.
impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(20.0, 3)
    }
}

impl RetryBudget {
    /// A budget of this share of the requests under way (0 to 100; anything else is brought into that range), and
    /// at least `min` retries.
    pub fn new(percent: f64, min: u32) -> Self {
        let percent = if percent.is_nan() {
            0.0
        } else {
            percent.clamp(0.0, 100.0)
        };
        Self {
            percent,
            min,
            requests: AtomicU32::new(0),
            retries: AtomicU32::new(0),
        }
    }

    /// Counts a request until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(self.clone())
    }

    /// Counts a retry until the guard is dropped; `None` if the budget is spent.
    pub fn retry(self: &Arc<Self>) -> Option<ActiveRetry> {
        let limit = self.limit();
        let admit = |retries: u32| (retries < limit).then(|| retries + 1);
        self.retries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit)
            .ok()
            .map(|_| ActiveRetry(self.clone()))
    }

    /// How many retries may be under way now.
    pub fn limit(&self) -> u32 {
        let requests = self.requests.load(Ordering::Relaxed);
        // Multiplied first, so that whole percentages of round numbers come out whole. The cast saturates.
        let share = (self.percent * f64::from(requests) / 100.0) as u32;
        share.max(self.min)
    }
}

/// A request under way.
#[derive(Debug)]
#[must_use = "counts until it is dropped"]
pub struct ActiveRequest(Arc<RetryBudget>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A retry under way.
#[derive(Debug)]
#[must_use = "counts until it is dropped"]
pub struct ActiveRetry(Arc<RetryBudget>);

impl Drop for ActiveRetry {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::Relaxed);
    }
}
