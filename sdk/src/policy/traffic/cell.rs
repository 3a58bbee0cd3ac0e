//! What is under way to one destination.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::window::{Count, Window};
use crate::policy::limit::Limits;
use crate::policy::retry::{RetryBudget, Usage};

/// What is counted of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connections.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way.
    Requests,
    /// Retries under way.
    Retries,
}

/// The live state of a destination: atomics, shared by every snapshot that has it.
#[derive(Debug, Default)]
pub struct ClusterCell {
    counts: [AtomicU32; 4],
    window: Window,
    /// What times are counted from.
    base: OnceLock<Instant>,
    /// Counts changes of who is healthy.
    health: AtomicU64,
    /// Where the turns begin, and how many were taken.
    turns: (OnceLock<u64>, AtomicU64),
    /// When the next sweep is due; zero before the first look.
    sweep_due: AtomicU64,
    /// How many endpoints are ejected. Changed under the lock only.
    ejected: AtomicU32,
    /// Held while endpoints are ejected or taken back: rare, and never while a request waits for another.
    changing: Mutex<()>,
}

impl ClusterCell {
    // All orderings here are relaxed: counts are compared with limits, and nothing else is published through them.

    /// How many there are now.
    pub fn count(&self, what: Counter) -> u32 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// Counts one more until the ticket is dropped; `None` if that exceeds the limit.
    pub fn enter(self: &Arc<Self>, what: Counter, limit: u32) -> Option<Ticket> {
        let counter = &self.counts[what as usize];
        // Added first and taken back if it was too many: one instruction for all but those who are refused.
        if counter.fetch_add(1, Ordering::Relaxed) >= limit {
            counter.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Ticket {
            cell: Arc::clone(self),
            what,
        })
    }

    /// Counts a request that finds no connection as waiting, until it has one; `None` if as many as allowed wait.
    pub fn wait(self: &Arc<Self>, limits: &Limits) -> Option<Ticket> {
        self.enter(Counter::Pending, limits.pending)
    }

    /// Counts a connection that a waiting request makes, until it is closed; `None` if there are as many as allowed: the
    /// request waits until one is free. `here` tells whether its endpoint has any; if it has none, one is made whatever
    /// the limit says, because nothing could ever wake a request that waits (Envoy does so too).
    pub fn connect(self: &Arc<Self>, limits: &Limits, here: bool) -> Option<Ticket> {
        self.enter(Counter::Connections, limits.connections)
            .or_else(|| (!here).then(|| self.enter(Counter::Connections, u32::MAX))?)
    }

    /// Counts a request among those of late, if the budget looks at those.
    pub fn arrived(&self, budget: &RetryBudget, now: Instant) {
        let interval = budget.interval();
        if !interval.is_zero() {
            self.window.add(Count::Request, self.since(now), interval);
        }
    }

    /// Counts a retry until the ticket is dropped; `None` if the budget is spent.
    pub fn retry(self: &Arc<Self>, budget: &RetryBudget, now: Instant) -> Option<Ticket> {
        // Counted before it is judged, so that of two at once only one sees the last free place.
        let ticket = self.enter(Counter::Retries, u32::MAX)?;
        if !budget.admits(&self.usage(budget, now)) {
            return None;
        }
        let interval = budget.interval();
        if !interval.is_zero() {
            self.window.add(Count::Retry, self.since(now), interval);
        }
        Some(ticket)
    }

    /// What a retry that has just been counted in is judged by.
    fn usage(&self, budget: &RetryBudget, now: Instant) -> Usage {
        let interval = budget.interval();
        let (recent_requests, recent_retries) = match interval.is_zero() {
            true => (0, 0),
            false => self.window.sum(self.since(now), interval),
        };
        Usage {
            requests: self
                .count(Counter::Requests)
                .saturating_add(self.count(Counter::Pending)),
            retries: self.count(Counter::Retries).saturating_sub(1),
            recent_requests,
            recent_retries,
        }
    }

    /// How long after the first look `now` is.
    pub(in crate::policy) fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.base.get_or_init(|| now))
    }

    /// The number of the next turn; the first is anybody's.
    pub(in crate::policy) fn turn(&self, random: u64) -> u64 {
        let first = *self.turns.0.get_or_init(|| random);
        first.wrapping_add(self.turns.1.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts changes of who is healthy: whoever has prepared a choice compares.
    pub(in crate::policy) fn health(&self) -> u64 {
        self.health.load(Ordering::Acquire)
    }

    /// Says that somebody was ejected or came back.
    pub(in crate::policy) fn health_changed(&self) {
        // Release, with the acquire above: who sees the new number sees what was written to the endpoints before.
        self.health.fetch_add(1, Ordering::Release);
    }

    /// How many endpoints are ejected.
    pub fn ejected(&self) -> u32 {
        self.ejected.load(Ordering::Relaxed)
    }

    pub(in crate::policy) fn set_ejected(&self, count: usize) {
        self.ejected
            .store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Waits for the right to eject and take back.
    pub(in crate::policy) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sweeps that have become due at such an interval since the last ones were taken: how many, and when the last
    /// was due. The first look takes none. Whoever is told of sweeps must carry them out.
    pub(in crate::policy) fn sweeps(&self, now: Instant, interval: Duration) -> Option<(u32, Duration)> {
        let interval = nanos(interval).max(1);
        let due = self.sweep_due.load(Ordering::Relaxed);
        let now = nanos(self.since(now));
        if due != 0 && now < due {
            return None;
        }
        let (sweeps, last) = match due {
            0 => (0, now),
            due => (
                (now - due) / interval + 1,
                due + (now - due) / interval * interval,
            ),
        };
        let claimed = self.sweep_due.compare_exchange(
            due,
            (last + interval).max(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        (claimed.is_ok() && sweeps > 0).then(|| {
            (
                u32::try_from(sweeps).unwrap_or(u32::MAX),
                Duration::from_nanos(last),
            )
        })
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// One that is counted, until it is dropped.
#[derive(Debug)]
#[must_use = "counts until it is dropped"]
pub struct Ticket {
    cell: Arc<ClusterCell>,
    what: Counter,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cell.counts[self.what as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::retry::Least;

    #[test]
    fn a_limit_is_exact() {
        let cell = Arc::new(ClusterCell::default());
        let first = cell.enter(Counter::Requests, 2);
        let second = cell.enter(Counter::Requests, 2);
        assert!(first.is_some() && second.is_some());
        assert!(cell.enter(Counter::Requests, 2).is_none());
        assert!(
            cell.enter(Counter::Pending, 2).is_some(),
            "each is counted for itself"
        );
        drop(first);
        assert!(cell.enter(Counter::Requests, 2).is_some());
        drop(second);
        assert_eq!(cell.count(Counter::Requests), 0);
    }

    #[test]
    fn a_share_of_recent_requests_may_be_retries() {
        let cell = Arc::new(ClusterCell::default());
        let budget = RetryBudget::Share {
            percent: 20.0,
            least: Least::Concurrent(0),
            interval: Duration::from_secs(10),
            unsent: true,
        };
        let start = Instant::now();
        for _ in 0..100 {
            cell.arrived(&budget, start);
        }
        let admitted = (0..100).filter(|_| cell.retry(&budget, start).is_some()).count();
        assert_eq!(admitted, 20);
        let later = start + Duration::from_secs(30);
        assert!(cell.retry(&budget, later).is_none(), "all is long ago");
    }

    #[test]
    fn who_seldom_calls_may_still_try_again() {
        let cell = Arc::new(ClusterCell::default());
        let budget = RetryBudget::default();
        let start = Instant::now();
        cell.arrived(&budget, start);
        let admitted = (0..500).filter(|_| cell.retry(&budget, start).is_some()).count();
        assert_eq!(admitted, 100, "ten a second, over ten seconds");
    }

    #[test]
    fn sweeps_are_claimed_once() {
        let cell = ClusterCell::default();
        let start = Instant::now();
        let ten = Duration::from_secs(10);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(cell.sweeps(start, ten), None);
        assert_eq!(cell.sweeps(after(9), ten), None);
        assert_eq!(cell.sweeps(after(10), ten), Some((1, Duration::from_secs(10))));
        assert_eq!(cell.sweeps(after(10), ten), None);
        assert_eq!(cell.sweeps(after(45), ten), Some((3, Duration::from_secs(40))));
        assert_eq!(cell.sweeps(after(49), ten), None);
    }
}
