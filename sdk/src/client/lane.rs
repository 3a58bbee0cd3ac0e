//! Idle connections to one endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use crossbeam_queue::ArrayQueue;

use super::http1::Http1;
use super::http2::Http2;

/// How many idle HTTP/1 connections an endpoint keeps.
const IDLE: usize = 128;

/// How long an HTTP/1 connection may idle before it is closed; below the servers' patience, so that a request seldom
/// meets a connection that the server is just closing.
pub(super) const IDLE_FOR: Duration = Duration::from_secs(45);

/// What the sending end keeps per endpoint: it lives in the endpoint's cell and so outlives a change of configuration.
pub(super) struct Lane {
    http1: ArrayQueue<Idle>,
    http2: ArcSwapOption<Http2>,
    /// One dial of the shared HTTP/2 connection at a time.
    pub(super) dialling: tokio::sync::Mutex<()>,
}

struct Idle {
    connection: Http1,
    since: Instant,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            http1: ArrayQueue::new(IDLE),
            http2: ArcSwapOption::empty(),
            dialling: tokio::sync::Mutex::new(()),
        }
    }
}

impl Lane {
    /// An idle HTTP/1 connection that is still open and was made under the given credential.
    pub(super) fn take(&self, epoch: u64) -> Option<Http1> {
        while let Some(idle) = self.http1.pop() {
            let mut connection = idle.connection;
            let idle_for = idle.since.elapsed();
            if idle_for < IDLE_FOR && connection.is_usable(epoch, idle_for) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for later; closes it if there are enough.
    pub(super) fn put(&self, connection: Http1) {
        // The queue is first in, first out: those that idle longest are used first and found out if dead.
        drop(self.http1.push(Idle {
            connection,
            since: Instant::now(),
        }));
    }

    /// The shared HTTP/2 connection, if it is open and was made under the given credential.
    pub(super) fn http2(&self, epoch: u64) -> Option<Arc<Http2>> {
        self.http2
            .load_full()
            .filter(|connection| connection.is_usable(epoch))
    }

    /// Makes `connection` the shared one.
    pub(super) fn share(&self, connection: Arc<Http2>) {
        self.http2.store(Some(connection));
    }

    /// Closes what is stale; called now and then, off the request path.
    pub(super) fn sweep(&self, epoch: u64) {
        for _ in 0..self.http1.len() {
            let Some(mut idle) = self.http1.pop() else { break };
            let idle_for = idle.since.elapsed();
            if idle_for < IDLE_FOR && idle.connection.is_usable(epoch, idle_for) {
                drop(self.http1.push(idle));
            }
        }
        if self
            .http2
            .load()
            .as_ref()
            .is_some_and(|connection| !connection.is_usable(epoch))
        {
            self.http2.store(None);
        }
    }
}
