//! The endpoints of one destination and the choice among them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::group::{Group, Slot};
use super::picks::Picks;
use super::{Endpoint, EndpointKey};
use crate::policy::Outcome;
use crate::policy::outlier::OutlierPolicy;
use crate::policy::traffic::{ClusterCell, TrafficPolicy};

/// What a choice is made by, beside the endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Uniform over all values.
    pub random: u64,
    /// What the request is hashed to; `None`: any endpoint will do.
    pub hash: Option<u64>,
    /// The time.
    pub now: Instant,
}

impl Draw {
    /// A choice without a hash.
    pub fn new(random: u64, now: Instant) -> Self {
        Self {
            random,
            hash: None,
            now,
        }
    }
}

/// Where a request has been before.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Endpoints to avoid.
    pub endpoints: Vec<EndpointKey>,
    /// Priorities to leave out, as bits.
    pub priorities: u64,
}

/// The endpoints of one cluster, in the order of their keys, and who is chosen.
#[derive(Debug)]
pub struct EndpointSet {
    endpoints: Vec<Arc<Endpoint>>,
    policy: Arc<TrafficPolicy>,
    cell: Arc<ClusterCell>,
    picks: ArcSwap<Picks>,
    /// Held by whoever prepares the next choice; nobody waits for it but for the first.
    preparing: Mutex<()>,
    /// Made when a session first asks.
    by_digest: OnceLock<HashMap<u64, usize>>,
}

impl Default for EndpointSet {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// How often another endpoint is drawn to avoid those already tried: Istio's `host_selection_retry_max_attempts`.
const RESELECTIONS: usize = 5;

impl EndpointSet {
    /// A set of the given endpoints, chosen by Istio's defaults.
    pub fn new(endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self::with(endpoints, Arc::default(), Arc::default())
    }

    /// A set of the given endpoints, chosen by the policy; `cell` is the destination's live state.
    pub fn with(
        mut endpoints: Vec<Arc<Endpoint>>,
        policy: Arc<TrafficPolicy>,
        cell: Arc<ClusterCell>,
    ) -> Self {
        endpoints.sort_by(|a, b| a.key.cmp(&b.key));
        // Who was ejected and is no longer listed does not count.
        let ejected = endpoints
            .iter()
            .filter(|it| it.cell.outlier().is_ejected())
            .count();
        cell.set_ejected(ejected);
        Self {
            endpoints,
            policy,
            cell,
            // Prepared by the first choice, unless somebody does before.
            picks: ArcSwap::from_pointee(Picks::unprepared()),
            preparing: Mutex::new(()),
            by_digest: OnceLock::new(),
        }
    }

    /// The endpoint that [`Endpoint::digest`] stands for.
    pub fn by_digest(&self, digest: u64) -> Option<&Arc<Endpoint>> {
        let index = self.by_digest.get_or_init(|| {
            let digests = self.endpoints.iter().map(|endpoint| endpoint.digest());
            digests.enumerate().map(|(at, digest)| (digest, at)).collect()
        });
        self.endpoints.get(*index.get(&digest)?)
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Whether there is nobody to ask.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// How the destination wants to be called.
    pub fn policy(&self) -> &Arc<TrafficPolicy> {
        &self.policy
    }

    /// What is under way to the destination.
    pub fn cell(&self) -> &Arc<ClusterCell> {
        &self.cell
    }

    /// How many points the ring has, or slots the table, that hashes are looked up in; `None` where there is neither.
    pub fn points(&self) -> Option<usize> {
        self.prepare();
        self.picks.load().points()
    }

    /// Chooses an endpoint. Those tried before, or silent, are taken only if no other is left; `None` if nobody is healthy.
    pub fn pick(&self, draw: &Draw, tried: &Tried) -> Option<Arc<Endpoint>> {
        if let Some(outlier) = &self.policy.outlier {
            self.sweep(outlier, draw.now);
        }
        let health = self.cell.health();
        let mut picks = self.picks.load();
        if picks.health != health {
            drop(picks);
            self.prepare();
            picks = self.picks.load();
        }
        let group = match picks.group(draw, tried.priorities) {
            Some(group) => group,
            // Whoever is left is better than nobody.
            None if tried.priorities != 0 => picks.group(draw, 0)?,
            None => return None,
        };
        let warmup = self.policy.balance.warmup.as_ref();
        let first = group.pick(draw, 0, &self.cell, warmup)?;
        if tried.endpoints.is_empty() && !first.cell.is_silent() {
            return Some(Arc::clone(&first.endpoint));
        }
        let tried_before = |it: &Slot| tried.endpoints.contains(&it.endpoint.key);
        let avoided = |it: &Slot| it.cell.is_silent() || tried_before(it);
        let mut draw = *draw;
        for attempt in 0..=RESELECTIONS {
            match group.pick(&draw, attempt, &self.cell, warmup) {
                Some(slot) if !avoided(slot) => return Some(Arc::clone(&slot.endpoint)),
                _ => draw.random = super::mix(draw.random),
            }
        }
        // Luck has failed: one of the others, if there is one; rather one that has failed than one that would be waited for,
        // and rather one that is farther away.
        let any_of = |group: &Group, fits: &dyn Fn(&Slot) -> bool| {
            let slots = group.slots();
            let start = super::reduce(draw.random as u32, slots.len());
            let found = (start..slots.len())
                .chain(0..start)
                .find(|at| fits(&slots[*at]))?;
            Some(Arc::clone(&slots[found].endpoint))
        };
        any_of(group, &|it| !avoided(it))
            .or_else(|| (!first.cell.is_silent()).then(|| Arc::clone(&first.endpoint)))
            .or_else(|| any_of(group, &|it| !it.cell.is_silent()))
            .or_else(|| picks.groups().find_map(|group| any_of(group, &|it| !avoided(it))))
            .or_else(|| any_of(group, &|it| !tried_before(it)))
            .or_else(|| Some(Arc::clone(&first.endpoint)))
    }

    /// Tells how long an attempt at an endpoint took, where the choice goes by that.
    pub fn took(&self, endpoint: &Endpoint, time: Duration, failed: bool, now: Instant) {
        if self.policy.balance.algorithm.is_timed() {
            endpoint.cell.took(time, failed, now);
        }
    }

    /// Tells how an attempt at an endpoint ended; true if the endpoint was ejected for it.
    pub fn report(&self, endpoint: &Endpoint, outcome: &Outcome, now: Instant) -> bool {
        let Some(outlier) = &self.policy.outlier else {
            return false;
        };
        self.sweep(outlier, now);
        endpoint.cell.outlier().observe(outlier, outcome) && self.eject(endpoint, outlier, now)
    }

    fn eject(&self, endpoint: &Endpoint, outlier: &OutlierPolicy, now: Instant) -> bool {
        let _one_at_a_time = self.cell.change();
        let ejected = self.cell.ejected() as usize;
        let state = endpoint.cell.outlier();
        if state.is_ejected() || !outlier.may_eject(ejected, self.endpoints.len()) {
            return false;
        }
        state.eject(outlier, self.cell.since(now));
        self.cell.set_ejected(ejected + 1);
        self.cell.health_changed();
        true
    }

    /// Carries out the sweeps that have become due.
    fn sweep(&self, outlier: &OutlierPolicy, now: Instant) {
        let Some((sweeps, last)) = self.cell.sweeps(now, outlier.interval) else {
            return;
        };
        let _one_at_a_time = self.cell.change();
        let mut back = false;
        let mut ejected = 0;
        for endpoint in &self.endpoints {
            let state = endpoint.cell.outlier();
            back |= state.sweep(outlier, last, sweeps);
            ejected += usize::from(state.is_ejected());
        }
        self.cell.set_ejected(ejected);
        if back {
            self.cell.health_changed();
        }
    }

    /// Prepares the choice, if it is not; a request would do it otherwise.
    pub fn prepare(&self) {
        let _one_at_a_time = match self.preparing.try_lock() {
            Ok(first) => first,
            // Whoever comes second chooses by what was known before, unless that is nothing: nobody would be found.
            Err(_) if !self.picks.load().is_unprepared() => return,
            Err(_) => self.preparing.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let health = self.cell.health();
        if self.picks.load().health != health {
            let picks = Picks::new(&self.endpoints, &self.policy.balance, health);
            self.picks.store(Arc::new(picks));
        }
    }
}
