//! The connections to one endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;

use super::http1::Http1;
use super::http2::{Http2, Seated};
use super::room::Room;
use crate::policy::traffic::TrafficPolicy;

/// How many idle HTTP/1 connections an endpoint keeps.
const IDLE: usize = 128;

/// How long an HTTP/1 connection may idle before it is closed, unless its destination says otherwise; below the servers'
/// patience, so that a request seldom meets a connection that the server is just closing.
const IDLE_FOR: Duration = Duration::from_secs(45);

/// What the sending end keeps per endpoint: it lives in the endpoint's cell and so outlives a change of configuration.
pub(super) struct Lane {
    http1: ArrayQueue<Idle>,
    /// One, unless its destination limits how much a connection carries at once.
    http2: ArcSwap<Vec<Arc<Http2>>>,
    /// One dial of a shared HTTP/2 connection at a time.
    pub(super) dialling: tokio::sync::Mutex<()>,
    room: Arc<Room>,
}

struct Idle {
    connection: Http1,
    since: Instant,
}

/// What a connection was made under: for as long as it applies, and it is not used up, the connection is used.
#[derive(Debug)]
pub(super) struct Terms {
    policy: Arc<TrafficPolicy>,
    made: Instant,
}

impl Terms {
    pub(super) fn new(policy: Arc<TrafficPolicy>) -> Self {
        Self {
            policy,
            made: Instant::now(),
        }
    }

    pub(super) fn policy(&self) -> &Arc<TrafficPolicy> {
        &self.policy
    }

    /// Whether requests under this policy may still use the connection, which has carried so many.
    pub(super) fn hold(&self, policy: &Arc<TrafficPolicy>, carried: u32) -> bool {
        let connections = &self.policy.connections;
        let same = Arc::ptr_eq(&self.policy, policy) || *connections == policy.connections;
        same && self.last(carried)
    }

    /// Whether the connection, which has carried so many requests, is not used up.
    pub(super) fn last(&self, carried: u32) -> bool {
        let connections = &self.policy.connections;
        connections.max_age.is_none_or(|age| self.made.elapsed() < age)
            && connections.max_requests.is_none_or(|most| carried < most)
    }

    /// Whether the connection may have idled for so long. Zero is for ever.
    fn may_idle(&self, time: Duration) -> bool {
        let most = self.policy.connections.idle_timeout.unwrap_or(IDLE_FOR);
        most.is_zero() || time < most
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            http1: ArrayQueue::new(IDLE),
            http2: ArcSwap::default(),
            dialling: tokio::sync::Mutex::new(()),
            room: Arc::default(),
        }
    }
}

impl Lane {
    /// An idle HTTP/1 connection that is still open and was made under the given credential and policy.
    pub(super) fn take(&self, epoch: u64, policy: &Arc<TrafficPolicy>) -> Option<Http1> {
        while let Some(idle) = self.http1.pop() {
            let mut connection = idle.connection;
            let terms = connection.terms();
            let idle_for = idle.since.elapsed();
            let lasts = terms.may_idle(idle_for) && connection.is_for(policy);
            if lasts && connection.is_usable(epoch, idle_for) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for later; closes it if there are enough, or if it has carried as much as it may.
    pub(super) fn put(&self, connection: Http1) {
        if !connection.lasts() {
            return;
        }
        let limited = connection.terms().policy.limits.connections != u32::MAX;
        // The queue is first in, first out: those that idle longest are used first and found out if dead.
        drop(self.http1.push(Idle {
            connection,
            since: Instant::now(),
        }));
        if limited {
            self.room.free();
        }
    }

    /// A shared HTTP/2 connection that is open, has room, and was made under the given credential and policy.
    pub(super) fn http2(&self, epoch: u64, policy: &Arc<TrafficPolicy>) -> Option<Seated> {
        let all = self.http2.load();
        all.iter()
            .filter(|connection| connection.is_usable(epoch))
            .find_map(|connection| connection.seat(policy, &self.room))
    }

    /// Lets others use `connection` too.
    pub(super) fn share(&self, connection: Arc<Http2>) {
        self.http2.rcu(|all| {
            let open = all.iter().filter(|it| it.lasts() && !it.is_closed());
            open.chain([&connection]).cloned().collect::<Vec<_>>()
        });
        self.room.share();
    }

    /// The connections there are, and who waits for one.
    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Closes what is stale; called now and then, off the request path.
    pub(super) fn sweep(&self, epoch: u64) {
        for _ in 0..self.http1.len() {
            let Some(mut idle) = self.http1.pop() else { break };
            let connection = &mut idle.connection;
            let idle_for = idle.since.elapsed();
            let lasts = connection.terms().may_idle(idle_for) && connection.lasts();
            if lasts && connection.is_usable(epoch, idle_for) {
                drop(self.http1.push(idle));
            }
        }
        let keeps = |it: &Arc<Http2>| {
            it.lasts()
                && it.is_usable(epoch)
                && it
                    .quiet_since()
                    .is_none_or(|since| it.terms().may_idle_shared(since))
        };
        if !self.http2.load().iter().all(keeps) {
            self.http2
                .rcu(|all| all.iter().filter(|it| keeps(it)).cloned().collect::<Vec<_>>());
        }
    }
}

impl Terms {
    /// As [`Terms::may_idle`] for connections that are shared: they are kept unless their destination says otherwise,
    /// because the peer is not surprised by a stream on one.
    fn may_idle_shared(&self, since: Instant) -> bool {
        let most = self.policy.connections.idle_timeout;
        most.is_none_or(|most| most.is_zero() || since.elapsed() < most)
    }
}
