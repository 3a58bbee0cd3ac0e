//! What a person sees of a process while it runs: its requests one by one, and who calls whom.
//!
//! ```text
//! layer ──▶ snapshot::Tap ──▶ collector ──▶ ring of the last ones ──▶ asked for, one by one
//!                                      └──▶ everybody who looks on, as they end
//! telemetry::Meter ── read when asked ──▶ graph: who calls whom, how often, how well
//! ```
//!
//! Nothing is collected unless somebody looks, but for the last requests that were refused, failed or were slow, of which
//! the short form is kept. Everything is bounded: the queue, the ring, what is kept of one request, how many are told of in
//! a second.

mod exchange;
mod explained;
mod filter;
mod graph;
mod ring;
mod waterfall;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tokio::time::timeout;

pub(crate) use exchange::Exchange;
pub(crate) use filter::{Filter, NoFilter};
pub(crate) use graph::Graph;

use crate::snapshot::{Live, Wanted};
use crate::telemetry::Meter;
use graph::Readings;
use ring::Ring;

/// How many requests one who looks on may lag behind before some are left out.
const BACKLOG: usize = 1_024;
/// How often it is looked whether a lease is over.
const TICK: Duration = Duration::from_secs(1);

/// What those who look on share. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Arc<Hub>);

#[derive(Debug)]
struct Hub {
    live: Arc<Live>,
    meter: Meter,
    ring: Mutex<Ring>,
    told: broadcast::Sender<Told>,
    watchers: AtomicUsize,
    /// Until when somebody who only asks now and then counts as looking on.
    lease: Mutex<Option<Instant>>,
    readings: Mutex<Readings>,
}

/// What those who look on are told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// A request is over.
    Exchange(Arc<Exchange>),
    /// So many are over that nothing is said of.
    Lost(u64),
}

/// Somebody who looks on; no longer, once this is dropped.
#[derive(Debug)]
pub(crate) struct Onlooker {
    hub: Arc<Hub>,
    told: broadcast::Receiver<Told>,
}

impl Watch {
    /// Begins to keep what is remarkable. [`Watch::collect`] must be run beside it.
    pub(crate) fn new(live: Arc<Live>, meter: Meter) -> Self {
        live.tap().want(Wanted::Remarkable);
        Self(Arc::new(Hub {
            live,
            meter,
            ring: Mutex::default(),
            told: broadcast::Sender::new(BACKLOG),
            watchers: AtomicUsize::new(0),
            lease: Mutex::new(None),
            readings: Mutex::default(),
        }))
    }

    /// Takes in what is left at the tap, for ever.
    pub(crate) async fn collect(self) {
        let tap = self.0.live.tap();
        loop {
            match timeout(TICK, tap.next()).await {
                Ok(taken) => {
                    let id = lock(&self.0.ring).number();
                    let exchange = Arc::new(Exchange::of(id, &taken));
                    drop(taken);
                    lock(&self.0.ring).add(Arc::clone(&exchange));
                    // Fails where nobody looks on just now.
                    let _ = self.0.told.send(Told::Exchange(exchange));
                    // Explaining takes its time, and others have work to do.
                    tokio::task::yield_now().await;
                }
                Err(_) => {
                    let lost = tap.lost();
                    if lost > 0 {
                        let _ = self.0.told.send(Told::Lost(lost));
                    }
                    self.0.settle();
                }
            }
        }
    }

    /// Begins to look on.
    pub(crate) fn look(&self) -> Onlooker {
        let told = self.0.told.subscribe();
        self.0.watchers.fetch_add(1, Ordering::Relaxed);
        self.0.settle();
        Onlooker {
            hub: Arc::clone(&self.0),
            told,
        }
    }

    /// Counts whoever asks as looking on for a while, so that there is something to tell when it asks again.
    pub(crate) fn lease(&self, duration: Duration) {
        let until = Instant::now() + duration;
        let mut lease = lock(&self.0.lease);
        *lease = Some(lease.map_or(until, |other| other.max(until)));
        drop(lease);
        self.0.settle();
    }

    /// The newest requests first, as many as `limit`.
    pub(crate) fn exchanges(&self, filter: &Filter, limit: usize) -> Vec<Arc<Exchange>> {
        lock(&self.0.ring).newest(filter, limit)
    }

    /// One request, if it is still known.
    pub(crate) fn exchange(&self, id: u64) -> Option<Arc<Exchange>> {
        lock(&self.0.ring).get(id)
    }

    /// Who calls whom. Rates are those since a reading that is as old as `window`, or as the oldest there is.
    pub(crate) async fn graph(&self, window: Duration) -> Graph {
        let wait = lock(&self.0.readings).take(&self.0.meter, window);
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
            lock(&self.0.readings).take(&self.0.meter, window);
        }
        lock(&self.0.readings).graph(window)
    }
}

impl Hub {
    /// Has the tap give what is wanted now.
    fn settle(&self) {
        let mut lease = lock(&self.lease);
        *lease = lease.filter(|until| *until > Instant::now());
        let looking = lease.is_some() || self.watchers.load(Ordering::Relaxed) > 0;
        // Under the lock, so that of two who say it at the same time the later one knows of the earlier.
        self.live.tap().want(match looking {
            true => Wanted::All,
            false => Wanted::Remarkable,
        });
    }
}

impl Onlooker {
    /// What comes next; `None` once nothing will.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        match self.told.recv().await {
            Ok(told) => Some(told),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Told::Lost(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        self.hub.watchers.fetch_sub(1, Ordering::Relaxed);
        self.hub.settle();
    }
}

/// Never held across an await, nor by anything on the request path.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
