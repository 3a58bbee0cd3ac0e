//! The choice among a cluster's endpoints, prepared for who is healthy now.

use std::sync::Arc;

use super::group::Group;
use super::health::{Health, loads};
use super::{Algorithm, BalancePolicy, Draw, Endpoint, mix, reduce};

/// What a choice reads. Immutable; another takes its place when somebody is ejected or comes back.
#[derive(Debug)]
pub(super) struct Picks {
    /// The state of health that it was prepared for.
    pub(super) health: u64,
    levels: Box<[Level]>,
    /// Each level's share of a hundred requests.
    loads: Box<[u32]>,
    /// Whether all goes to the first level.
    simple: bool,
}

/// A state of health that there never is.
const UNPREPARED: u64 = u64::MAX;

/// The endpoints of one priority that are used.
#[derive(Debug, Default)]
struct Level {
    groups: Box<[Group]>,
    /// Running sums of the groups' weights; empty where there is only one.
    ends: Box<[u64]>,
}

impl Picks {
    /// No choice at all, and for no state of health that there will be.
    pub(super) fn unprepared() -> Self {
        Self {
            health: UNPREPARED,
            levels: Box::default(),
            loads: Box::default(),
            simple: true,
        }
    }

    /// Whether it is no choice at all.
    pub(super) fn is_unprepared(&self) -> bool {
        self.health == UNPREPARED
    }

    pub(super) fn new(endpoints: &[Arc<Endpoint>], policy: &BalancePolicy, health: u64) -> Self {
        let count = endpoints.iter().map(|it| it.rank.priority + 1).max().unwrap_or(0);
        let mut by_priority: Vec<Vec<&Arc<Endpoint>>> = vec![Vec::new(); count as usize];
        for endpoint in endpoints {
            by_priority[endpoint.rank.priority as usize].push(endpoint);
        }
        let healthy = |it: &&&Arc<Endpoint>| !it.cell.outlier().is_ejected();
        let states: Vec<Health> = by_priority
            .iter()
            .map(|members| Health {
                healthy: members.iter().filter(healthy).count(),
                total: members.len(),
            })
            .collect();
        let loads = loads(&states, policy.panic_percent);
        let levels = by_priority.iter().zip(&loads).map(|(members, load)| {
            let used = |it: &&&Arc<Endpoint>| load.panic || healthy(it);
            let used = members.iter().filter(used).map(|it| Arc::clone(it)).collect();
            Level::new(policy.algorithm, used, members)
        });
        Self {
            health,
            levels: levels.collect(),
            simple: loads.first().is_none_or(|load| load.percent == 100),
            loads: loads.iter().map(|load| load.percent).collect(),
        }
    }

    /// How large the first level's ring or table is.
    pub(super) fn points(&self) -> Option<usize> {
        self.levels.first()?.groups.first()?.points()
    }

    /// The group that a request is for; `excluded` are priorities, as bits, that it has been to.
    pub(super) fn group(&self, draw: &Draw, excluded: u64) -> Option<&Group> {
        let level = if self.simple && excluded == 0 {
            self.levels.first()?
        } else {
            self.levels.get(self.priority(draw, excluded))?
        };
        level.group(draw.random)
    }

    /// All groups, the nearest first.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.levels.iter().flat_map(|level| &level.groups)
    }

    fn priority(&self, draw: &Draw, excluded: u64) -> usize {
        let open = |at: usize| excluded & 1_u64.checked_shl(at as u32).unwrap_or(0) == 0;
        let sum: u32 = (0..self.loads.len())
            .filter(|at| open(*at))
            .map(|at| self.loads[at])
            .sum();
        let from = match (excluded, sum) {
            // Of a hundred, as Envoy counts: which of like hashes spill must be as predictable as where they go.
            (0, _) => draw.hash.unwrap_or_else(|| mix(!draw.random)) % 100 + 1,
            // What is left has no share of its own: the first that is not empty takes it.
            (_, 0) => {
                let usable = |at: &usize| open(*at) && self.levels[*at].group(0).is_some();
                return (0..self.levels.len()).find(usable).unwrap_or(0);
            }
            (_, sum) => draw.hash.unwrap_or_else(|| mix(!draw.random)) % u64::from(sum) + 1,
        };
        let mut end = 0;
        for at in (0..self.loads.len()).filter(|at| open(*at)) {
            end += u64::from(self.loads[at]);
            if from <= end {
                return at;
            }
        }
        0
    }
}

impl Level {
    /// `used` are those of `members` that are asked.
    fn new(algorithm: Algorithm, used: Vec<Arc<Endpoint>>, members: &[&Arc<Endpoint>]) -> Self {
        let shared = members.iter().any(|it| it.rank.share > 0);
        if !shared {
            return Self::of_one(algorithm, with_shares(used, 1.0));
        }
        let mut groups: Vec<(u32, Vec<Arc<Endpoint>>)> = Vec::new();
        for endpoint in used {
            match groups.iter_mut().find(|(id, _)| *id == endpoint.rank.group) {
                Some((_, list)) => list.push(endpoint),
                None => groups.push((endpoint.rank.group, vec![endpoint])),
            }
        }
        // A locality that lost more than it can bear gives up as much of its weight.
        let weight = |id: u32, used: &[Arc<Endpoint>]| {
            let total = members.iter().filter(|it| it.rank.group == id).count();
            let share = used.first().map_or(0, |it| it.rank.share);
            f64::from(share) * (1.4 * used.len() as f64 / total.max(1) as f64).min(1.0)
        };
        let weights: Vec<f64> = groups.iter().map(|(id, used)| weight(*id, used)).collect();
        let sum: f64 = weights.iter().sum();
        if sum <= 0.0 {
            return Self::default();
        }
        if algorithm.is_consistent() {
            // One ring or table for all: a locality's weight is divided among its endpoints.
            let all = groups.into_iter().zip(weights);
            let all = all.flat_map(|((_, used), weight)| with_shares(used, weight / sum));
            return Self::of_one(algorithm, all.collect());
        }
        let mut end = 0_u64;
        let mut ends = Vec::with_capacity(groups.len());
        for weight in &weights {
            // In thousandths, so that what a sick locality gives up does not vanish in rounding.
            end += (weight * 1_000.0) as u64;
            ends.push(end);
        }
        let groups = groups
            .into_iter()
            .map(|(_, used)| Group::new(algorithm, with_shares(used, 1.0)));
        Self {
            groups: groups.collect(),
            ends: ends.into(),
        }
    }

    fn of_one(algorithm: Algorithm, members: Vec<(Arc<Endpoint>, f64)>) -> Self {
        if members.is_empty() {
            return Self::default();
        }
        Self {
            groups: Box::new([Group::new(algorithm, members)]),
            ends: Box::default(),
        }
    }

    fn group(&self, random: u64) -> Option<&Group> {
        let Some(total) = self.ends.last() else {
            return self.groups.first();
        };
        let point = reduce((mix(random) >> 32) as u32, *total as usize) as u64;
        self.groups.get(self.ends.partition_point(|end| *end <= point))
    }
}

/// Divides a share by weight.
fn with_shares(members: Vec<Arc<Endpoint>>, share: f64) -> Vec<(Arc<Endpoint>, f64)> {
    let sum: u64 = members.iter().map(|it| u64::from(it.weight)).sum();
    let of = |it: Arc<Endpoint>| {
        let part = f64::from(it.weight) * share / sum.max(1) as f64;
        (it, part)
    };
    members.into_iter().map(of).collect()
}
