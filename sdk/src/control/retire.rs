//! Where snapshots go that are no longer in force.
//!
//! Requests that are under way still hold them. Whoever lets go last frees what only that snapshot had, which takes
//! milliseconds where there are thousands of services: here that is never a thread that serves requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::snapshot::Snapshot;

/// How soon after the swap somebody looks whether any request still holds a snapshot. Most have ended by then.
const FIRST: Duration = Duration::from_millis(100);
/// How often at the least: what is held for long (an upgraded connection) is in no hurry.
const LAST: Duration = Duration::from_secs(10);

/// Snapshots that may still be in use, each held by a task until nobody else does.
#[derive(Debug, Default)]
pub(super) struct Retired(JoinSet<()>);

impl Retired {
    /// Takes a snapshot that was replaced.
    pub(super) fn add(&mut self, old: Arc<Snapshot>) {
        while self.0.try_join_next().is_some() {}
        self.0.spawn(free(old));
    }
}

/// Waits until nobody else holds it. It is no longer where it could be had from, so the count only falls.
async fn free(old: Arc<Snapshot>) {
    let mut pause = FIRST;
    while Arc::strong_count(&old) > 1 {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST);
    }
    tokio::task::spawn_blocking(move || drop(old));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_is_freed_once_no_request_holds_it() {
        let mut retired = Retired::default();
        let pinned = Arc::new(Snapshot::default());
        let seen = Arc::downgrade(&pinned);
        retired.add(Arc::clone(&pinned));
        tokio::time::sleep(3 * LAST).await;
        assert_eq!(seen.strong_count(), 2);
        drop(pinned);
        assert_eq!(seen.strong_count(), 1, "the last holder is no request");
        retired.0.join_next().await.unwrap().unwrap();
        while seen.strong_count() > 0 {
            tokio::time::sleep(FIRST).await;
        }
    }
}
