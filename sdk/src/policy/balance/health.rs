//! How priorities share the load, as Envoy computes it.

/// How many of a priority's endpoints there are, and how many are healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) healthy: usize,
    pub(super) total: usize,
}

/// What a priority gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Of a hundred requests.
    pub(super) percent: u32,
    /// Whether all its endpoints are used, the unhealthy too.
    pub(super) panic: bool,
}

/// A priority is given to others only when more than this part of it is gone: at 1.4, 71 % can bear all.
const OVERPROVISIONING: usize = 140;

impl Health {
    fn capacity(&self) -> usize {
        (OVERPROVISIONING * self.healthy)
            .checked_div(self.total)
            .unwrap_or(0)
            .min(100)
    }

    fn is_below(&self, percent: u32) -> bool {
        let share = match self.total {
            0 => 0.0,
            total => 100.0 * self.healthy as f64 / total as f64,
        };
        share < f64::from(percent)
    }
}

/// What each priority gets, the first of them as much as it can bear.
pub(super) fn loads(health: &[Health], panic_percent: u32) -> Vec<Load> {
    let capacity: Vec<usize> = health.iter().map(Health::capacity).collect();
    let all = capacity.iter().sum::<usize>().min(100);
    let panic_percent = panic_percent.min(100);
    // Where all priorities together can bear everything, none panics for itself.
    let panics: Vec<bool> = match all {
        100 => vec![false; health.len()],
        0 => vec![panic_percent > 0; health.len()],
        _ => health.iter().map(|it| it.is_below(panic_percent)).collect(),
    };
    let percent = if !panics.is_empty() && panics.iter().all(|panic| *panic) {
        by_size(health)
    } else if all == 0 {
        // Nobody can bear anything: the first is asked, and has nobody.
        let mut all_to_first = vec![0; health.len()];
        if let Some(first) = all_to_first.first_mut() {
            *first = 100;
        }
        all_to_first
    } else {
        by_capacity(&capacity, all)
    };
    let load = |(percent, panic): (usize, bool)| Load {
        percent: percent as u32,
        panic,
    };
    percent.into_iter().zip(panics).map(load).collect()
}

fn by_capacity(capacity: &[usize], all: usize) -> Vec<usize> {
    let mut left = 100;
    let mut loads: Vec<usize> = capacity
        .iter()
        .map(|capacity| {
            let load = (capacity * 100 / all).min(left);
            left -= load;
            load
        })
        .collect();
    // What rounding left over.
    if let Some(first) = loads
        .iter_mut()
        .zip(capacity)
        .find(|(_, capacity)| **capacity > 0)
    {
        *first.0 += left;
    }
    loads
}

fn by_size(health: &[Health]) -> Vec<usize> {
    let total: usize = health.iter().map(|it| it.total).sum();
    let mut left = 100;
    let mut loads: Vec<usize> = health
        .iter()
        .map(|it| {
            let load = (it.total * 100).checked_div(total).unwrap_or(0);
            left -= load;
            load
        })
        .collect();
    if let Some(first) = loads.iter_mut().zip(health).find(|(_, health)| health.total > 0) {
        *first.0 += left;
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(health: &[(usize, usize)], panic_percent: u32) -> Vec<(u32, bool)> {
        let health: Vec<_> = health
            .iter()
            .map(|(healthy, total)| Health {
                healthy: *healthy,
                total: *total,
            })
            .collect();
        loads(&health, panic_percent)
            .iter()
            .map(|load| (load.percent, load.panic))
            .collect()
    }

    /// The tables of Envoy's documentation, "Priority levels".
    #[test]
    fn what_the_first_cannot_bear_spills() {
        for (healthy, expected) in [
            (100, [100, 0]),
            (72, [100, 0]),
            (71, [99, 1]),
            (50, [70, 30]),
            (25, [35, 65]),
            (0, [0, 100]),
        ] {
            let loads = of(&[(healthy, 100), (100, 100)], 0);
            assert_eq!([loads[0].0, loads[1].0], expected, "{healthy}");
        }
        for (healthy, expected) in [
            ([100, 100, 100], [100, 0, 0]),
            ([72, 72, 100], [100, 0, 0]),
            ([71, 71, 100], [99, 1, 0]),
            ([50, 50, 100], [70, 30, 0]),
            ([25, 100, 100], [35, 65, 0]),
            ([25, 25, 100], [35, 35, 30]),
            ([25, 25, 20], [36, 35, 28]),
        ] {
            let loads = of(&healthy.map(|healthy| (healthy, 100)), 0);
            let shares: Vec<_> = loads.iter().map(|load| load.0).collect();
            // The documentation gives what rounding leaves over to nobody; the code to the first.
            let sum: u32 = shares.iter().sum();
            assert_eq!(sum, 100);
            for (share, expected) in shares.iter().zip(expected) {
                assert!(share.abs_diff(expected) <= 1, "{healthy:?}: {shares:?}");
            }
        }
    }

    #[test]
    fn too_few_healthy_is_a_panic() {
        assert_eq!(of(&[(3, 4)], 50), [(100, false)]);
        assert_eq!(of(&[(2, 4)], 50), [(100, false)]);
        assert_eq!(of(&[(1, 4)], 50), [(100, true)]);
        assert_eq!(of(&[(0, 4)], 50), [(100, true)]);
        assert_eq!(of(&[(0, 4)], 0), [(100, false)]);
        assert_eq!(
            of(&[(1, 4), (4, 4)], 50),
            [(35, false), (65, false)],
            "together they can bear it"
        );
        assert_eq!(of(&[(1, 4), (1, 4)], 50), [(50, true), (50, true)]);
        assert_eq!(of(&[], 50), []);
    }
}
