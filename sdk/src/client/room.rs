//! Room: how many connections a destination allows (`connectionPool`), and who waits for one of them.
//!
//! Nobody is asked on the way of a request that finds a connection. One that finds none counts as waiting, and makes one
//! if there is room for it; otherwise it waits until one is free or gone.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{MutexGuard, Notify};

use super::lane::Lane;
use crate::layer::{Reason, Refusal};
use crate::policy::Outcome;
use crate::policy::traffic::Ticket;
use crate::snapshot::Cluster;

/// The connections of one endpoint, and who waits for one.
#[derive(Debug, Default)]
pub(super) struct Room {
    open: AtomicU32,
    freed: Notify,
}

impl Room {
    /// Wakes one who waits: a connection is free, or there may be one more.
    pub(super) fn free(&self) {
        // Remembered if nobody waits yet: whoever looked a moment too early looks again.
        self.freed.notify_one();
    }

    /// Wakes all who wait: a connection that they can share is there.
    pub(super) fn share(&self) {
        self.freed.notify_waiters();
    }

    fn is_occupied(&self) -> bool {
        // Acquire: pairs with the release of the last connection to go, which then wakes whoever waits.
        self.open.load(Ordering::Acquire) > 0
    }
}

/// A connection's place among those that its destination allows, until it is dropped.
#[derive(Debug)]
pub(super) struct Berth {
    ticket: Option<Ticket>,
    room: Arc<Room>,
}

impl Berth {
    /// A place in a room; a ticket where somebody counts.
    pub(super) fn new(room: &Arc<Room>, ticket: Option<Ticket>) -> Self {
        room.open.fetch_add(1, Ordering::Relaxed);
        Self {
            ticket,
            room: Arc::clone(room),
        }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        // First the place is free, then somebody is told.
        drop(self.ticket.take());
        self.room.open.fetch_sub(1, Ordering::Release);
        self.room.free();
    }
}

/// What a request that found no connection does.
#[derive(Debug)]
pub(super) enum Turn<'l, C> {
    /// It uses one after all.
    Use(C),
    /// It makes one.
    Make(Making<'l>),
}

/// What is held while a connection is made.
#[derive(Debug)]
pub(super) struct Making<'l> {
    pub(super) berth: Berth,
    /// The request counts as waiting until the connection stands.
    pub(super) waiting: Option<Ticket>,
    /// Where connections are shared: nobody else makes one meanwhile.
    pub(super) alone: Option<MutexGuard<'l, ()>>,
}

/// Whether what is made is for one request at a time, or for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    Alone,
    Shared,
}

/// Waits for a connection that `find` finds, or for room to make one.
///
/// # Errors
/// If as many requests as allowed wait already.
///
/// # Cancel safety
/// Dropping the future gives the place in the queue up.
pub(super) async fn turn<'l, C>(
    lane: &'l Lane,
    cluster: Option<&Cluster>,
    sharing: Sharing,
    find: impl Fn() -> Option<C>,
) -> Result<Turn<'l, C>, Refusal> {
    let room = lane.room();
    let allowed = cluster.map(|it| (it, it.endpoints.cell(), &it.endpoints.policy().limits));
    let waiting = match allowed {
        None => None,
        Some((cluster, cell, limits)) => Some(cell.wait(limits).ok_or_else(|| overflow(cluster))?),
    };
    loop {
        let alone = match sharing {
            Sharing::Alone => None,
            Sharing::Shared => Some(lane.dialling.lock().await),
        };
        // Listens before it looks.
        let mut freed = pin!(room.freed.notified());
        freed.as_mut().enable();
        if let Some(found) = find() {
            return Ok(Turn::Use(found));
        }
        let ticket = match allowed {
            None => Some(None),
            Some((_, cell, limits)) => cell.connect(limits, room.is_occupied()).map(Some),
        };
        if let Some(ticket) = ticket {
            return Ok(Turn::Make(Making {
                berth: Berth::new(room, ticket),
                waiting,
                alone,
            }));
        }
        drop(alone);
        freed.await;
    }
}

fn overflow(cluster: &Cluster) -> Refusal {
    let detail = format!(
        "{} requests wait for a connection to {}:{}, as many as its connectionPool allows",
        cluster.endpoints.policy().limits.pending,
        cluster.host,
        cluster.port
    );
    Refusal::new(Reason::Overloaded, detail).outcome(Outcome::Overflow)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::name::{Host, ServiceName};
    use crate::policy::balance::EndpointSet;
    use crate::policy::limit::Limits;
    use crate::policy::traffic::TrafficPolicy;
    use crate::snapshot::{AppProtocol, Via};

    fn cluster(connections: u32, pending: u32) -> Cluster {
        let policy = TrafficPolicy {
            limits: Limits {
                connections,
                pending,
                ..Limits::default()
            },
            ..TrafficPolicy::default()
        };
        Cluster {
            service: ServiceName::new("default", "reviews"),
            host: Host::parse("reviews").unwrap(),
            port: 80,
            subset: None,
            protocol: AppProtocol::Http1,
            via: Via::Direct,
            endpoints: EndpointSet::with(Vec::new(), Arc::new(policy), Arc::default()),
        }
    }

    fn nothing() -> Option<()> {
        None
    }

    async fn make<'l>(lane: &'l Lane, cluster: &Cluster) -> Making<'l> {
        match turn(lane, Some(cluster), Sharing::Alone, nothing).await {
            Ok(Turn::Make(making)) => making,
            _ => panic!("there is room"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_until_a_connection_is_gone() {
        let (lane, cluster) = (Lane::default(), cluster(1, 1));
        let first = make(&lane, &cluster).await;
        drop(first.waiting);
        let next = make(&lane, &cluster);
        tokio::pin!(next);
        let early = tokio::time::timeout(Duration::from_secs(1), &mut next).await;
        assert!(early.is_err(), "one connection is allowed");
        let third = turn(&lane, Some(&cluster), Sharing::Alone, nothing).await;
        assert_eq!(third.unwrap_err().flags(), "UO", "one may wait");
        drop(first.berth);
        next.await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_without_a_connection_may_have_one_whatever_the_limit() {
        let cluster = cluster(1, 10);
        let (here, there) = (Lane::default(), Lane::default());
        let _first = make(&here, &cluster).await;
        let _second = make(&there, &cluster).await;
        let more = turn(&there, Some(&cluster), Sharing::Alone, nothing);
        assert!(tokio::time::timeout(Duration::from_secs(1), more).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_makes_what_all_share() {
        let (lane, cluster) = (Lane::default(), cluster(u32::MAX, u32::MAX));
        let Ok(Turn::Make(making)) = turn(&lane, Some(&cluster), Sharing::Shared, nothing).await else {
            panic!("nobody makes one");
        };
        let other = turn(&lane, Some(&cluster), Sharing::Shared, || Some(7));
        tokio::pin!(other);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), &mut other)
                .await
                .is_err()
        );
        drop(making.alone);
        assert!(matches!(other.await, Ok(Turn::Use(7))));
        assert_eq!(
            cluster
                .endpoints
                .cell()
                .count(crate::policy::traffic::Counter::Connections),
            1
        );
    }
}
