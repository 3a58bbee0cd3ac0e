//! One choice among endpoints that are alike.

use std::sync::Arc;
use std::time::Instant;

use super::alias::Alias;
use super::maglev::Maglev;
use super::ring::Ring;
use super::stride::Stride;
use super::{Algorithm, Draw, Endpoint, EndpointCell, Warmup, mix, reduce};
use crate::policy::traffic::ClusterCell;

/// Endpoints, prepared for one rule of choice.
#[derive(Debug)]
pub(super) struct Group {
    slots: Box<[Slot]>,
    rule: Rule,
}

/// An endpoint with its cell beside it: a choice compares cells and needs one endpoint.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) cell: Arc<EndpointCell>,
    pub(super) endpoint: Arc<Endpoint>,
}

#[derive(Debug)]
enum Rule {
    LeastRequest(Option<Alias>),
    PeakEwma(Option<Alias>),
    RoundRobin(Option<Stride>),
    Random,
    Ring(Ring),
    Maglev(Maglev),
}

/// How often somebody else is drawn when who was drawn is still being broken in.
const REDRAWS: u32 = 16;

impl Group {
    /// Prepares the choice. `shares` are what hashing gives each; they sum up to 1.
    pub(super) fn new(algorithm: Algorithm, members: Vec<(Arc<Endpoint>, f64)>) -> Self {
        let weights = || members.iter().map(|(it, _)| it.weight).collect::<Vec<_>>();
        let names = || {
            let name = |(it, share): &(Arc<Endpoint>, f64)| (it.addr.to_string(), *share);
            members.iter().map(name).collect::<Vec<_>>()
        };
        let rule = match algorithm {
            Algorithm::LeastRequest => Rule::LeastRequest(Alias::new(&weights())),
            Algorithm::PeakEwma => Rule::PeakEwma(Alias::new(&weights())),
            Algorithm::RoundRobin => Rule::RoundRobin(Stride::new(&weights())),
            Algorithm::Random => Rule::Random,
            Algorithm::RingHash { min } => Rule::Ring(Ring::new(&names(), min)),
            Algorithm::Maglev { size } => Rule::Maglev(Maglev::new(&names(), size)),
        };
        let slot = |(endpoint, _): (Arc<Endpoint>, f64)| Slot {
            cell: Arc::clone(&endpoint.cell),
            endpoint,
        };
        Self {
            slots: members.into_iter().map(slot).collect(),
            rule,
        }
    }

    /// All of them.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How large its ring or table is.
    pub(super) fn points(&self) -> Option<usize> {
        match &self.rule {
            Rule::Ring(ring) => Some(ring.len()),
            Rule::Maglev(table) => Some(table.len()),
            _ => None,
        }
    }

    /// Chooses one; `attempt` counts the choices made for one request.
    pub(super) fn pick(
        &self,
        draw: &Draw,
        attempt: usize,
        cluster: &ClusterCell,
        warmup: Option<&Warmup>,
    ) -> Option<&Slot> {
        let random = draw.random;
        let at = match &self.rule {
            _ if self.slots.len() < 2 => 0,
            Rule::LeastRequest(alias) => {
                let two = self.two(alias.as_ref(), draw, warmup);
                self.least(two, alias.is_some())
            }
            Rule::PeakEwma(alias) => self.soonest(self.two(alias.as_ref(), draw, warmup), draw.now),
            Rule::RoundRobin(stride) => self.next(stride.as_ref(), draw, cluster, warmup),
            Rule::Random => reduce(random as u32, self.slots.len()),
            Rule::Ring(ring) => ring.pick(draw.hash.unwrap_or(random), attempt)?,
            Rule::Maglev(table) => table.pick(draw.hash.unwrap_or(random), attempt)?,
        };
        let slot = self.slots.get(at)?;
        // The request will be counted in there: what that needs is fetched beside the endpoint, not after it.
        slot.cell.in_flight();
        Some(slot)
    }

    /// Two to choose between, heavier ones more often.
    fn two(&self, alias: Option<&Alias>, draw: &Draw, warmup: Option<&Warmup>) -> (usize, usize) {
        let count = self.slots.len();
        match (alias, warmup) {
            (None, None) => {
                let first = reduce(draw.random as u32, count);
                // The second draw is over the others, so that the two always differ.
                (
                    first,
                    (first + 1 + reduce((draw.random >> 32) as u32, count - 1)) % count,
                )
            }
            _ => {
                let any = |random: u64| match alias {
                    Some(alias) => alias.draw(random),
                    None => reduce(random as u32, count),
                };
                let drawn = |random| self.drawn(any, random, draw.now, warmup);
                (drawn(mix(draw.random)), drawn(mix(!draw.random)))
            }
        }
    }

    /// Of two the one with less to do; the first if both have as much.
    fn least(&self, (first, second): (usize, usize), weighted: bool) -> usize {
        // Heavier ones are drawn more often and may have more under way; compared without division.
        let (one, other) = (&self.slots[first], &self.slots[second]);
        let load = |slot: &Slot, other: &Slot| {
            u64::from(slot.cell.in_flight()) * u64::from(other.endpoint.weight.max(1))
        };
        let lighter = match weighted {
            false => other.cell.in_flight() < one.cell.in_flight(),
            true => load(other, one) < load(one, other),
        };
        if lighter { second } else { first }
    }

    /// Of two the one that is expected to answer sooner; the first if both are.
    fn soonest(&self, (first, second): (usize, usize), now: Instant) -> usize {
        let (one, other) = (&self.slots[first], &self.slots[second]);
        let cost = |slot: &Slot, other: &Slot| slot.cell.cost(now) * other.endpoint.weight.max(1) as f32;
        if cost(other, one) < cost(one, other) {
            second
        } else {
            first
        }
    }

    /// Draws until somebody is drawn who takes it, or patience ends.
    fn drawn(&self, any: impl Fn(u64) -> usize, random: u64, now: Instant, warmup: Option<&Warmup>) -> usize {
        let mut random = random;
        for _ in 0..REDRAWS {
            let at = any(random);
            random = mix(random);
            if warmup.is_none_or(|warmup| warmup.accepts(&self.slots[at].cell, now, random)) {
                return at;
            }
            random = mix(random);
        }
        any(random)
    }

    /// Whose turn it is.
    fn next(
        &self,
        stride: Option<&Stride>,
        draw: &Draw,
        cluster: &ClusterCell,
        warmup: Option<&Warmup>,
    ) -> usize {
        let mut random = draw.random;
        let mut redraws = REDRAWS;
        loop {
            let turn = cluster.turn(draw.random);
            let at = match stride {
                None => (turn % self.slots.len() as u64) as usize,
                // Somebody has the greatest weight and takes every turn: the loop ends within a round.
                Some(stride) => match stride.at(turn) {
                    Some(at) => at,
                    None => continue,
                },
            };
            random = mix(random);
            redraws -= 1;
            if redraws == 0
                || warmup.is_none_or(|warmup| warmup.accepts(&self.slots[at].cell, draw.now, random))
            {
                return at;
            }
        }
    }
}
