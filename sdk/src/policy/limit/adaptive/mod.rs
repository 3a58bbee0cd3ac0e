//! A limit of what is under way at once that follows from how long it takes (Envoy's `adaptive_concurrency` filter).
//!
//! ```text
//! requests ─▶ limit ─▶ application ─▶ samples ─┬─ each window:  limit × gradient + √limit
//!               ▲                              └─ now and then: how long it takes with nearly nothing under way
//!               └──────────────────────────────────────────────────────┘
//! ```
//!
//! The gradient is how long requests take when nothing waits, over how long they take now: below one, something waits, and
//! less is let in. What is less important is let in up to a part of the limit only, and so goes first.

mod gradient;
mod samples;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub use gradient::GradientPolicy;
use samples::Samples;

/// How important a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Criticality {
    /// It may use all that there is.
    #[default]
    Critical,
    /// It is let in up to four fifths.
    SheddablePlus,
    /// It is let in up to one half.
    Sheddable,
}

impl Criticality {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Critical, Self::SheddablePlus, Self::Sheddable];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::SheddablePlus => "sheddable-plus",
            Self::Sheddable => "sheddable",
        }
    }

    /// Reads what is written.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        Self::ALL
            .into_iter()
            .find(|it| it.as_str().eq_ignore_ascii_case(text))
    }

    /// What of a limit it may use; never nothing.
    fn part(self, limit: u32) -> u32 {
        let percent = match self {
            Self::Critical => 100,
            Self::SheddablePlus => 80,
            Self::Sheddable => 50,
        };
        (u64::from(limit) * percent).div_ceil(100) as u32
    }
}

/// A limit and its live state.
#[derive(Debug)]
pub struct AdaptiveLimit {
    policy: GradientPolicy,
    /// What times are counted from.
    base: OnceLock<Instant>,
    in_flight: AtomicU32,
    limit: AtomicU32,
    samples: Samples,
    /// Requests that began before this, in nanoseconds, tell nothing of what is measured now.
    epoch: AtomicU64,
    /// When there is something to work out, in nanoseconds; [`MEASURING`] while that takes a number of requests instead.
    due: AtomicU64,
    /// Held by whoever works it out; nobody waits for it.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How long requests take when nothing waits.
    floor: Option<Duration>,
    /// The limit that comes back when that has been measured; `None` while it is not.
    measuring: Option<u32>,
    /// When it is measured next.
    measure_at: Duration,
    /// For how many windows in a row the limit has been the least.
    least: u32,
}

/// What is waited for is not a time.
const MEASURING: u64 = u64::MAX;

/// After so many windows at the least limit the floor is doubted, and measured again.
const DOUBT: u32 = 5;

impl AdaptiveLimit {
    /// A limit that has measured nothing yet: it begins with that, at the least limit.
    pub fn new(policy: GradientPolicy) -> Self {
        let state = State {
            floor: policy.fixed_floor,
            measuring: policy.fixed_floor.is_none().then_some(policy.least),
            measure_at: Duration::MAX,
            least: 0,
        };
        Self {
            base: OnceLock::new(),
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(policy.least),
            samples: Samples::default(),
            epoch: AtomicU64::new(0),
            due: AtomicU64::new(match policy.fixed_floor {
                Some(_) => nanos(policy.every),
                None => MEASURING,
            }),
            state: Mutex::new(state),
            policy,
        }
    }

    /// How it follows.
    pub fn policy(&self) -> &GradientPolicy {
        &self.policy
    }

    /// How much may be under way at once, now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Lets a request in, if there is room for what is as important; it counts until the guard is dropped.
    pub fn enter(self: &Arc<Self>, criticality: Criticality, now: Instant) -> Option<Entered> {
        // Relaxed: counts and their limit, and nothing else is published through them. Added first and taken back if it
        // was too many, so that the limit is exact.
        let most = criticality.part(self.limit());
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= most {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Entered {
            limit: Arc::clone(self),
            began: self.since(now),
        })
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.base.get_or_init(|| now))
    }

    /// Takes down how long a request took.
    fn sample(&self, began: Duration, now: Duration) {
        if nanos(began) < self.epoch.load(Ordering::Relaxed) {
            return;
        }
        let count = self.samples.add(now.saturating_sub(began));
        let is_due = match self.due.load(Ordering::Relaxed) {
            MEASURING => count >= u64::from(self.policy.requests),
            due => nanos(now) >= due,
        };
        // Whoever else is at it has seen nearly the same.
        if is_due && let Ok(mut state) = self.state.try_lock() {
            self.settle(&mut state, count, now);
        }
    }

    /// Works out what the samples mean.
    fn settle(&self, state: &mut State, count: u64, now: Duration) {
        if let Some(before) = state.measuring {
            if count >= u64::from(self.policy.requests) {
                state.floor = self.samples.take(self.policy.percentile);
                state.measuring = None;
                state.measure_at = now.saturating_add(self.policy.until_measured(nanos(now)));
                self.set(before);
                self.due
                    .store(nanos(now.saturating_add(self.policy.every)), Ordering::Relaxed);
            }
            return;
        }
        if nanos(now) < self.due.load(Ordering::Relaxed) {
            return;
        }
        self.due
            .store(nanos(now.saturating_add(self.policy.every)), Ordering::Relaxed);
        if let (Some(floor), Some(took)) = (state.floor, self.samples.take(self.policy.percentile)) {
            let before = self.limit();
            let after = self.policy.next(before, floor, took);
            let stays = before == self.policy.least && after == before;
            state.least = if stays { state.least + 1 } else { 0 };
            self.set(after);
        }
        let doubtful = state.least >= DOUBT && self.policy.fixed_floor.is_none();
        if now >= state.measure_at || doubtful {
            state.measuring = Some(self.limit());
            state.least = 0;
            self.set(self.policy.least);
            self.samples.clear();
            self.due.store(MEASURING, Ordering::Relaxed);
            self.epoch.store(nanos(now), Ordering::Relaxed);
        }
    }

    fn set(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How long requests take when nothing waits, as far as is known.
    pub fn floor(&self) -> Option<Duration> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).floor
    }
}

/// A request that was let in; it counts until it is dropped.
#[derive(Debug)]
#[must_use = "counts until it is dropped"]
pub struct Entered {
    limit: Arc<AdaptiveLimit>,
    began: Duration,
}

impl Entered {
    /// The request was answered to its end: what it took is taken down. Without a word it says nothing of that.
    pub fn answered(self, now: Instant) {
        let (limit, began) = (Arc::clone(&self.limit), self.began);
        drop(self);
        limit.sample(began, limit.since(now));
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.limit.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
