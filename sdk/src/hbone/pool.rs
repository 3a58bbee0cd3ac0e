//! Tunnels, kept and shared.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout_at;
use tracing::debug;

use super::carrier::{Carrier, fail};
use super::connect::ConnectHead;
use super::dial::{Tunnel, dial};
use super::keepalive::Beat;
use super::open::{Opening, open};
use super::silence::{Silences, listen};
use super::{Error, Settings, TunnelStream};
use crate::identity::Credential;
use crate::name::SpiffeId;
use crate::telemetry::{Direction, TunnelMeter, tunnel_span};

/// Where a tunnel leads: an address, and who must prove to be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TunnelTarget {
    /// The TCP address of the other end, port included.
    pub addr: SocketAddr,
    /// Any one of these must be proved; if there is none, nobody can be.
    pub identities: Arc<[SpiffeId]>,
}

impl TunnelTarget {
    /// A target at the given address that must prove to be one of the given identities.
    pub fn new(addr: SocketAddr, identities: impl Into<Arc<[SpiffeId]>>) -> Self {
        Self {
            addr,
            identities: identities.into(),
        }
    }
}

/// What a pool holds at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Tunnels that take new streams.
    pub tunnels: usize,
    /// Streams open on those.
    pub streams: usize,
}

/// How often a stream that was refused unprocessed is tried again on another tunnel.
const ATTEMPTS: usize = 3;

/// Opens streams, on tunnels that it makes as they are needed and shares among all who may share them.
///
/// A tunnel is shared only by streams with the same credential of ours, the same expected identities and the same
/// address. Of several that need the same new tunnel, one dials and the others wait for it. A tunnel leaves the pool
/// when it is full of age (idle), when the peer says it goes away, when it does not answer pings, when our credential is
/// replaced, or when [`TunnelPool::retire`] says so; its streams are not touched by that.
///
/// Clones share the same tunnels.
#[derive(Clone)]
pub struct TunnelPool {
    inner: Arc<Inner>,
}

struct Inner {
    credential: watch::Receiver<Arc<Credential>>,
    settings: Settings,
    meter: Option<TunnelMeter>,
    state: Mutex<State>,
}

/// Under the lock, which is never held across an `.await`.
#[derive(Default)]
struct State {
    shelves: HashMap<Key, Shelf>,
    /// The newest epoch seen; shelves of older ones are gone.
    epoch: u64,
    closed: bool,
    silences: Silences,
    /// The tasks that dial and then drive; they end by themselves, and `drain` waits for that.
    tasks: JoinSet<()>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    epoch: u64,
    target: TunnelTarget,
}

/// The tunnels of one key.
#[derive(Default)]
struct Shelf {
    tunnels: Vec<Tunnel>,
    dialing: Option<watch::Receiver<Dialed>>,
}

/// How a dial ended; `None` while it has not.
type Dialed = Option<Result<(), Error>>;

impl Shelf {
    /// A seat on the first tunnel that has one free.
    fn take(&self) -> Option<Opening> {
        let tunnel = self
            .tunnels
            .iter()
            .find(|tunnel| tunnel.carrier.open() < tunnel.cap)?;
        Some(Opening {
            requests: tunnel.requests.clone(),
            seat: tunnel.carrier.enter(),
        })
    }
}

impl TunnelPool {
    /// A pool that connects as whatever credential is newest.
    pub fn new(credential: watch::Receiver<Arc<Credential>>, settings: Settings) -> Self {
        Self::make(credential, settings, None)
    }

    /// As [`TunnelPool::new`]; tunnels, their streams and handshakes are counted in `meter`.
    pub fn metered(
        credential: watch::Receiver<Arc<Credential>>,
        settings: Settings,
        meter: TunnelMeter,
    ) -> Self {
        Self::make(credential, settings, Some(meter))
    }

    fn make(
        credential: watch::Receiver<Arc<Credential>>,
        settings: Settings,
        meter: Option<TunnelMeter>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                credential,
                settings,
                meter,
                state: Mutex::default(),
            }),
        }
    }

    /// Opens a stream to `head.authority` through a tunnel to `target`.
    ///
    /// Returns when the peer has answered 200, which from a ztunnel means that the application's connection stands, and
    /// from a waypoint that its own end does. A stream that a peer refuses unprocessed is tried on another tunnel.
    ///
    /// # Errors
    /// If there is no tunnel, or the peer does not answer 200; see [`Error`] for what may be tried again.
    ///
    /// # Cancel safety
    /// Dropping the future ends the stream, if there was one already; a dial under way goes on for those who also
    /// wait for it.
    pub async fn open(&self, target: &TunnelTarget, head: ConnectHead) -> Result<TunnelStream, Error> {
        let mut attempt = 1;
        loop {
            let opening = self.reserve(target).await?;
            let carrier = opening.seat.carrier().clone();
            match open(opening, &head, self.inner.settings.answer_timeout).await {
                Err(Error::RefusedStream { .. }) if attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
            debug!(addr = %target.addr, "stream refused, leaving the tunnel");
            self.inner.forget(&carrier, target);
        }
    }

    /// Finds or makes a tunnel with a free seat.
    async fn reserve(&self, target: &TunnelTarget) -> Result<Opening, Error> {
        loop {
            let mut dialed = match self.inner.find(target)? {
                Found::Seat(opening) => return Ok(opening),
                Found::Dialing(dialed) => dialed,
            };
            // An error here means that the dialling task was aborted, which only `drain` does.
            let outcome = dialed
                .wait_for(Option::is_some)
                .await
                .map_err(|_| Error::Closed)?
                .clone();
            if let Some(Err(error)) = outcome {
                return Err(error);
            }
        }
    }

    /// Lets go of the tunnels for which `keep` says no: they take no new streams, and close when the last one ends.
    pub fn retire(&self, keep: impl Fn(&TunnelTarget) -> bool) {
        let mut state = self.inner.lock();
        state.shelves.retain(|key, _| keep(&key.target));
        state.silences.retain(keep);
    }

    /// Tells from now on whether a target is silent: its last tunnel was given up because pings were not answered, or it did
    /// not answer a dial in time. The pool dials it then until it answers, or is [retired](TunnelPool::retire); whoever
    /// opens a stream to it meanwhile waits for that dial.
    pub fn silence(&self, target: &TunnelTarget) -> Arc<AtomicBool> {
        self.inner.lock().silences.of(target)
    }

    /// Opens nothing more, waits for the streams to end, and cuts off those that have not after `deadline`.
    ///
    /// # Cancel safety
    /// Dropping the future cuts them off at once.
    pub async fn drain(&self, deadline: Duration) {
        let mut tasks = {
            let mut state = self.inner.lock();
            state.closed = true;
            state.shelves.clear();
            state.silences = Silences::default();
            std::mem::take(&mut state.tasks)
        };
        let deadline = tokio::time::Instant::now() + deadline;
        while let Ok(Some(_)) = timeout_at(deadline, tasks.join_next()).await {}
        // Whoever is cut off is waited for, so that what a tunnel has to tell at its end is told.
        tasks.shutdown().await;
    }

    /// What the pool holds.
    pub fn stats(&self) -> PoolStats {
        let state = self.inner.lock();
        let tunnels = state.shelves.values().flat_map(|shelf| &shelf.tunnels);
        tunnels.fold(PoolStats::default(), |sum, tunnel| PoolStats {
            tunnels: sum.tunnels + 1,
            streams: sum.streams + tunnel.carrier.open(),
        })
    }
}

enum Found {
    Seat(Opening),
    Dialing(watch::Receiver<Dialed>),
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(self: &Arc<Self>, target: &TunnelTarget) -> Result<Found, Error> {
        let credential = self.credential.borrow().clone();
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        if credential.epoch() > state.epoch {
            state.epoch = credential.epoch();
            state.shelves.retain(|key, _| key.epoch >= credential.epoch());
        }
        let key = Key {
            epoch: credential.epoch(),
            target: target.clone(),
        };
        let shelf = state.shelves.entry(key.clone()).or_default();
        if let Some(opening) = shelf.take() {
            return Ok(Found::Seat(opening));
        }
        if let Some(dialed) = &shelf.dialing {
            return Ok(Found::Dialing(dialed.clone()));
        }
        let (report, dialed) = watch::channel(None);
        shelf.dialing = Some(dialed.clone());
        while state.tasks.try_join_next().is_some() {} // forgets the tasks that are over
        let settings = self.settings.clone();
        state
            .tasks
            .spawn(work(Arc::downgrade(self), key, credential, settings, report));
        Ok(Found::Dialing(dialed))
    }

    /// Puts a dialled tunnel on its shelf, if that is still there.
    fn shelve(&self, key: &Key, tunnel: Tunnel) {
        let mut state = self.lock();
        state.silences.heard(&key.target);
        if let Some(shelf) = state.shelves.get_mut(key) {
            shelf.dialing = None;
            shelf.tunnels.push(tunnel);
        }
    }

    /// Clears a shelf of a dial that failed.
    fn give_up(self: &Arc<Self>, key: &Key, error: &Error) {
        if error.is_timeout() {
            self.fell_silent(&key.target);
        }
        let mut state = self.lock();
        if let Some(shelf) = state.shelves.get_mut(key) {
            shelf.dialing = None;
            if shelf.tunnels.is_empty() {
                state.shelves.remove(key);
            }
        }
    }

    /// Marks a target as silent until it answers a dial.
    fn fell_silent(self: &Arc<Self>, target: &TunnelTarget) {
        let (pool, to) = (Arc::downgrade(self), target.clone());
        let pause = self.settings.ping_every;
        let listener = async move {
            listen(pause, || dial_again(&pool, &to)).await;
            if let Some(inner) = pool.upgrade() {
                inner.lock().silences.heard(&to);
            }
        };
        self.lock().silences.fell(target, listener);
    }

    /// Takes a tunnel out of the pool.
    fn forget(&self, carrier: &Arc<Carrier>, target: &TunnelTarget) {
        let key = Key {
            epoch: carrier.epoch,
            target: target.clone(),
        };
        self.remove(&key, |tunnel| Arc::ptr_eq(&tunnel.carrier, carrier));
    }

    /// Takes the tunnels out of a shelf for which `gone` says so, while nobody can take a seat on them.
    fn remove(&self, key: &Key, gone: impl Fn(&Tunnel) -> bool) {
        let mut state = self.lock();
        if let Some(shelf) = state.shelves.get_mut(key) {
            shelf.tunnels.retain(|tunnel| !gone(tunnel));
            if shelf.tunnels.is_empty() && shelf.dialing.is_none() {
                state.shelves.remove(key);
            }
        }
    }
}

/// How a dial ends that nobody asked for; `None` if the pool is gone, or takes no more streams. One that others wait for is
/// as good as another.
async fn dial_again(pool: &Weak<Inner>, target: &TunnelTarget) -> Option<Result<(), Error>> {
    let found = pool.upgrade()?.find(target);
    match found.ok()? {
        Found::Seat(_) => Some(Ok(())),
        Found::Dialing(mut dialed) => dialed.wait_for(Option::is_some).await.ok()?.clone(),
    }
}

/// One tunnel's life: dial, tell those who wait, drive, leave the pool.
async fn work(
    pool: Weak<Inner>,
    key: Key,
    credential: Arc<Credential>,
    settings: Settings,
    report: watch::Sender<Dialed>,
) {
    let meter = pool.upgrade().and_then(|inner| inner.meter.clone());
    let span = tunnel_span(Direction::Outbound, key.target.addr);
    let dialed = dial(&credential, &key.target, &settings, meter.as_ref(), &span).await;
    drop(credential);
    let Some(inner) = pool.upgrade() else { return };
    let (carrier, driver) = match dialed {
        Ok((tunnel, driver)) => {
            debug!(addr = %key.target.addr, peer = ?tunnel.carrier.peer.identity, cap = tunnel.cap, "tunnel made");
            let carrier = tunnel.carrier.clone();
            inner.shelve(&key, tunnel);
            report.send_replace(Some(Ok(())));
            (carrier, driver)
        }
        Err(error) => {
            debug!(addr = %key.target.addr, %error, "no tunnel");
            fail(&span, "handshake", &error);
            if let Some(meter) = &meter {
                meter.handshake_failed();
            }
            inner.give_up(&key, &error);
            report.send_replace(Some(Err(error)));
            return;
        }
    };
    drop((inner, report)); // a tunnel must not keep its pool alive
    let idle = settings.idle_release;
    let ended = driver
        .run(|beat| match pool.upgrade() {
            Some(inner) if *beat == Beat::Dead => {
                inner.forget(&carrier, &key.target);
                inner.fell_silent(&key.target);
            }
            Some(inner) if carrier.is_idle(idle) => inner.remove(&key, |tunnel| {
                Arc::ptr_eq(&tunnel.carrier, &carrier) && carrier.is_idle(idle)
            }),
            _ => {}
        })
        .await;
    debug!(addr = %key.target.addr, error = ?ended.as_ref().err(), "tunnel ended");
    if let Err(error) = &ended {
        fail(&span, "broken", error);
    }
    if let Some(inner) = pool.upgrade() {
        inner.forget(&carrier, &key.target);
        // What was written was not acknowledged, which may be seen before a ping is missed.
        if ended.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            inner.fell_silent(&key.target);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Streams outlive the pool; their tunnels close with the last of them.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.tasks.detach_all();
    }
}

impl fmt::Debug for TunnelPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelPool")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
