//! From sources to the snapshot in force: the loop behind a [`Mesh`](crate::Mesh).
//!
//! ```text
//! Source ─▶ ResourceStore ─coalesce─▶ compile ─▶ Live::publish ─▶ Status
//! ```
//!
//! Events that come close together become one compilation (quiet for 20 ms, at most 250 ms). Compiling runs on the
//! runtime's blocking threads, and so is whatever grows with the configuration; publishing is one atomic swap. What was in force stays in force until something better is
//! ready: through sources that fail, configuration that strict mode refuses, and bugs of our own.

mod clock;
mod dns;
mod files;
mod history;
mod inbox;
#[cfg(feature = "jwt")]
mod keys;
mod retire;
mod run;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use history::{Change, ChangeKind, Generation};
#[cfg(feature = "jwt")]
pub(crate) use keys::{Fetch, keep as keep_keys};
pub use status::{Failed, Report, Status};

use crate::snapshot::{Live, Node, Snapshot};
use crate::source::BoxSource;

/// How a control loop works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ControlSettings {
    /// Who we are.
    pub node: Node,
    /// Whether configuration that is not enforced in full is refused as a whole.
    pub strict: bool,
    /// How long a waypoint binding must be known before callers use it.
    pub settle: Duration,
    /// How long a removed waypoint binding is still honoured by destinations and served by the waypoint.
    pub linger: Duration,
    /// How long it must be quiet before events are acted on.
    pub quiet: Duration,
    /// How long events are collected at most.
    pub collect: Duration,
    /// How often host names of ServiceEntries are looked up.
    pub resolve: Duration,
}

impl ControlSettings {
    /// The defaults.
    pub fn new(node: Node) -> Self {
        Self {
            node,
            strict: false,
            settle: Duration::from_secs(1),
            linger: Duration::from_secs(15),
            quiet: Duration::from_millis(20),
            collect: Duration::from_millis(250),
            resolve: Duration::from_secs(30),
        }
    }
}

/// A running control loop; it ends when this is dropped.
#[derive(Debug)]
pub struct ControlHandle {
    status: watch::Receiver<Arc<Status>>,
    task: AbortHandle,
}

impl ControlHandle {
    /// The state of the configuration, to read or to watch.
    pub fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// Ends the loop; what is in force stays so.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for ControlHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a control loop that publishes into `live`, and calls `published` with the old and the new snapshot each time,
/// on a thread that may block.
///
/// Nothing is published before every source has told all it has. Must be called within a tokio runtime.
pub fn spawn(
    sources: Vec<BoxSource>,
    settings: ControlSettings,
    live: Arc<Live>,
    published: impl Fn(&Snapshot, &Snapshot, &Report) + Send + Sync + 'static,
) -> ControlHandle {
    let (tell, status) = watch::channel(Arc::new(Status::default()));
    let task = tokio::spawn(run::run(sources, settings, live, published, tell)).abort_handle();
    ControlHandle { status, task }
}
