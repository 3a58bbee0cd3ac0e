//! The choice as a whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};

use super::*;
use crate::policy::Outcome;
use crate::policy::outlier::OutlierPolicy;
use crate::policy::traffic::{ClusterCell, TrafficPolicy};

fn endpoint(n: usize, weight: u32, rank: Rank) -> Arc<Endpoint> {
    let dial = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80));
    Arc::new(Endpoint {
        key: EndpointKey {
            dial,
            authority: None,
        },
        addr: dial,
        tls: crate::policy::tls::Origination::None,
        identities: Arc::new([]),
        weight,
        rank,
        workload: Arc::new(Workload::default()),
        cell: Arc::new(EndpointCell::default()),
    })
}

fn endpoints(weights: &[u32]) -> Vec<Arc<Endpoint>> {
    let made = weights.iter().enumerate();
    made.map(|(n, weight)| endpoint(n + 1, *weight, Rank::default()))
        .collect()
}

fn set(weights: &[u32], algorithm: Algorithm) -> EndpointSet {
    with(endpoints(weights), |policy| policy.balance.algorithm = algorithm)
}

fn with(endpoints: Vec<Arc<Endpoint>>, change: impl FnOnce(&mut TrafficPolicy)) -> EndpointSet {
    let mut policy = TrafficPolicy::default();
    change(&mut policy);
    EndpointSet::with(endpoints, Arc::new(policy), Arc::default())
}

/// How often each is chosen of so many.
fn shares(set: &EndpointSet, picks: usize, now: Instant) -> Vec<usize> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut hits = vec![0; set.endpoints().len()];
    for _ in 0..picks {
        let Some(chosen) = set.pick(&Draw::new(rng.u64(..), now), &Tried::default()) else {
            continue;
        };
        hits[index(set, &chosen)] += 1;
    }
    hits
}

fn index(set: &EndpointSet, endpoint: &Endpoint) -> usize {
    set.endpoints()
        .iter()
        .position(|it| it.key == endpoint.key)
        .unwrap()
}

fn any() -> Draw {
    Draw::new(fastrand::u64(..), Instant::now())
}

fn failing(outlier: OutlierPolicy) -> impl FnOnce(&mut TrafficPolicy) {
    move |policy| policy.outlier = Some(outlier)
}

fn error() -> Outcome {
    Outcome::response(StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new())
}

/// Ejects by one error each.
fn touchy(max_ejection_percent: u32) -> OutlierPolicy {
    OutlierPolicy {
        consecutive_errors: 1,
        max_ejection_percent,
        ..OutlierPolicy::default()
    }
}

#[test]
fn nobody_is_not_chosen() {
    assert!(EndpointSet::default().pick(&any(), &Tried::default()).is_none());
}

#[test]
fn the_less_loaded_of_two_wins() {
    let set = set(&[1, 1], Algorithm::LeastRequest);
    let _busy = set.endpoints()[0].cell.enter();
    assert_eq!(shares(&set, 200, Instant::now()), [0, 200]);
}

#[test]
fn shares_are_even_where_weights_are() {
    for algorithm in [
        Algorithm::LeastRequest,
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::RING,
        Algorithm::MAGLEV,
    ] {
        let hits = shares(&set(&[3; 5], algorithm), 10_000, Instant::now());
        // The points of a ring of 1,024 are not spread as evenly as a table's slots.
        let slack = if algorithm == Algorithm::RING { 800 } else { 300 };
        assert!(
            hits.iter().all(|hit| hit.abs_diff(2_000) < slack),
            "{algorithm:?}: {hits:?}"
        );
    }
}

#[test]
fn shares_follow_the_weights() {
    for algorithm in [
        Algorithm::LeastRequest,
        Algorithm::RoundRobin,
        Algorithm::RingHash { min: 100_000 },
        Algorithm::MAGLEV,
    ] {
        let hits = shares(&set(&[1, 3, 6], algorithm), 10_000, Instant::now());
        for (hit, expected) in hits.iter().zip([1_000, 3_000, 6_000]) {
            assert!(hit.abs_diff(expected) < 300, "{algorithm:?}: {hits:?}");
        }
    }
    let random = shares(&set(&[1, 9], Algorithm::Random), 10_000, Instant::now());
    assert!(random[0].abs_diff(5_000) < 300, "{random:?}");
}

#[test]
fn heavier_ones_may_have_more_under_way() {
    let set = set(&[1, 4], Algorithm::LeastRequest);
    let _little: Vec<_> = (0..2).map(|_| set.endpoints()[0].cell.enter()).collect();
    let _more: Vec<_> = (0..4).map(|_| set.endpoints()[1].cell.enter()).collect();
    let hits = shares(&set, 1_000, Instant::now());
    assert!(
        hits[1] > 950,
        "2 of weight 1 are more than 4 of weight 4: {hits:?}"
    );
}

#[test]
fn who_has_fallen_silent_is_left_out_while_there_are_others() {
    for algorithm in [
        Algorithm::LeastRequest,
        Algorithm::PeakEwma,
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::RING,
        Algorithm::MAGLEV,
    ] {
        let set = set(&[1; 3], algorithm);
        let marks: [Arc<AtomicBool>; 3] = Default::default();
        for (endpoint, mark) in set.endpoints().iter().zip(&marks) {
            endpoint.cell.heed(|| Arc::clone(mark));
        }
        let silent = |n: usize, is: bool| marks[n].store(is, Ordering::Relaxed);
        silent(1, true);
        let hits = shares(&set, 300, Instant::now());
        assert!(
            hits[0] > 0 && hits[1] == 0 && hits[2] > 0,
            "{algorithm:?}: {hits:?}"
        );
        silent(0, true);
        assert_eq!(shares(&set, 300, Instant::now())[2], 300, "{algorithm:?}");
        silent(2, true);
        let hits = shares(&set, 300, Instant::now());
        assert_eq!(hits.iter().sum::<usize>(), 300, "{algorithm:?}: all are silent");
        // Who has failed this request before comes before who would be waited for.
        silent(2, false);
        let tried = Tried {
            endpoints: vec![set.endpoints()[2].key.clone()],
            priorities: 0,
        };
        let chosen = set.pick(&any(), &tried).unwrap();
        assert_eq!(index(&set, &chosen), 2, "{algorithm:?}");
    }
}

#[test]
fn where_all_that_are_near_are_silent_those_farther_away_are_asked() {
    let far = Rank {
        priority: 1,
        ..Rank::default()
    };
    let all = vec![
        endpoint(1, 1, Rank::default()),
        endpoint(2, 1, Rank::default()),
        endpoint(3, 1, far),
        endpoint(4, 1, far),
    ];
    let set = with(all, |_| {});
    let mark = Arc::new(AtomicBool::new(false));
    for near in &set.endpoints()[..2] {
        near.cell.heed(|| Arc::clone(&mark));
    }
    let hits = shares(&set, 200, Instant::now());
    assert_eq!(hits[2] + hits[3], 0, "{hits:?}");
    mark.store(true, Ordering::Relaxed);
    let hits = shares(&set, 200, Instant::now());
    assert!(hits[0] + hits[1] == 0 && hits[2] > 50 && hits[3] > 50, "{hits:?}");
}

#[test]
fn turns_are_taken_one_after_another() {
    let set = set(&[1; 4], Algorithm::RoundRobin);
    let next = || index(&set, &set.pick(&any(), &Tried::default()).unwrap());
    let first = next();
    for step in 1..20 {
        assert_eq!(next(), (first + step) % 4);
    }
}

#[test]
fn like_requests_find_the_same_endpoint() {
    for algorithm in [Algorithm::RING, Algorithm::MAGLEV] {
        let set = set(&[1; 7], algorithm);
        for key in 0..100 {
            let mut draw = any();
            draw.hash = Some(hash_of(format!("user-{key}")));
            let first = set.pick(&draw, &Tried::default()).unwrap();
            draw.random = fastrand::u64(..);
            assert_eq!(set.pick(&draw, &Tried::default()).unwrap().key, first.key);
        }
    }
}

#[test]
fn those_tried_before_come_last() {
    for algorithm in [
        Algorithm::LeastRequest,
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::RING,
        Algorithm::MAGLEV,
    ] {
        let set = set(&[1; 9], algorithm);
        let mut tried = Tried {
            endpoints: set.endpoints()[..8].iter().map(|it| it.key.clone()).collect(),
            ..Tried::default()
        };
        assert_eq!(set.pick(&any(), &tried).unwrap().key, set.endpoints()[8].key);
        tried.endpoints.push(set.endpoints()[8].key.clone());
        assert!(set.pick(&any(), &tried).is_some());
    }
}

#[test]
fn the_first_priority_takes_all_it_can_bear() {
    let rank = |priority| Rank {
        priority,
        ..Rank::default()
    };
    let members = (0..10).map(|n| endpoint(n, 1, rank(n as u32 / 5))).collect();
    let set = with(members, failing(touchy(100)));
    let now = Instant::now();
    let near = |hits: &[usize]| hits[..5].iter().sum::<usize>();
    assert_eq!(near(&shares(&set, 1_000, now)), 1_000);
    for at in 0..3 {
        assert!(set.report(&set.endpoints()[at].clone(), &error(), now));
    }
    // Two of five are left: 56 % at 1.4.
    let hits = shares(&set, 10_000, now);
    assert_eq!(hits[..3], [0, 0, 0]);
    assert!(near(&hits).abs_diff(5_600) < 200, "{hits:?}");
    // Having tried the first priority, another is next.
    let tried = Tried {
        priorities: 1,
        ..Tried::default()
    };
    for _ in 0..50 {
        assert_eq!(set.pick(&any(), &tried).unwrap().rank.priority, 1);
    }
    let everywhere = Tried {
        priorities: 3,
        ..Tried::default()
    };
    assert!(set.pick(&any(), &everywhere).is_some());
}

#[test]
fn localities_share_by_weight_and_by_health() {
    let rank = |group: u32, share: u32| Rank {
        priority: 0,
        group,
        share,
    };
    let members: Vec<_> = (0..10)
        .map(|n| endpoint(n, 1, if n < 5 { rank(0, 80) } else { rank(1, 20) }))
        .collect();
    let now = Instant::now();
    for algorithm in [Algorithm::LeastRequest, Algorithm::RoundRobin, Algorithm::MAGLEV] {
        let fresh = members.iter().map(|it| {
            endpoint(
                it.addr
                    .ip()
                    .to_string()
                    .rsplit('.')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap(),
                1,
                it.rank,
            )
        });
        let set = with(fresh.collect(), |policy| {
            policy.balance.algorithm = algorithm;
            policy.outlier = Some(touchy(100));
        });
        let first = |set: &EndpointSet| shares(set, 10_000, now)[..5].iter().sum::<usize>();
        assert!(first(&set).abs_diff(8_000) < 300, "{algorithm:?}");
        for at in 0..4 {
            set.report(&set.endpoints()[at].clone(), &error(), now);
        }
        // A fifth is left: 28 % of 80 against 20.
        let expected = (10_000.0 * 22.4 / 42.4) as usize;
        assert!(
            first(&set).abs_diff(expected) < 300,
            "{algorithm:?}: {}",
            first(&set)
        );
    }
}

#[test]
fn the_ejected_are_left_alone_until_a_sweep_after_their_time() {
    let set = with(endpoints(&[1; 10]), failing(touchy(10)));
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let bad = set.endpoints()[3].clone();
    assert_eq!(shares(&set, 100, start).len(), 10);
    assert!(set.report(&bad, &error(), after(1)));
    assert_eq!(set.cell().ejected(), 1);
    assert!(
        !set.report(&set.endpoints()[4].clone(), &error(), after(1)),
        "10 % is one"
    );
    assert_eq!(shares(&set, 1_000, after(2))[3], 0);
    assert_eq!(
        shares(&set, 1_000, after(39))[3],
        0,
        "its 30 s are over, but no sweep was due"
    );
    assert!(shares(&set, 1_000, after(40))[3] > 0);
    assert_eq!(set.cell().ejected(), 0);
}

#[test]
fn whoever_is_in_a_new_set_stays_ejected() {
    let members = endpoints(&[1; 4]);
    let cell = Arc::new(ClusterCell::default());
    let policy = Arc::new(TrafficPolicy {
        outlier: Some(touchy(50)),
        ..TrafficPolicy::default()
    });
    let old = EndpointSet::with(members.clone(), Arc::clone(&policy), Arc::clone(&cell));
    let now = Instant::now();
    assert!(old.report(&members[0], &error(), now));
    let new = EndpointSet::with(members.clone(), Arc::clone(&policy), Arc::clone(&cell));
    assert_eq!(shares(&new, 100, now)[0], 0);
    assert!(new.report(&members[1], &error(), now));
    assert_eq!(
        shares(&old, 100, now)[..2],
        [0, 0],
        "requests that pinned the old one see it too"
    );
    let without = EndpointSet::with(members[1..].to_vec(), policy, cell);
    assert_eq!(without.cell().ejected(), 1, "who is gone does not count");
}

#[test]
fn with_nobody_healthy_nobody_is_chosen_unless_that_is_a_panic() {
    for (panic_percent, chosen) in [(0, 0), (50, 100)] {
        let set = with(endpoints(&[1; 4]), |policy| {
            policy.outlier = Some(touchy(100));
            policy.balance.panic_percent = panic_percent;
        });
        let now = Instant::now();
        for at in 0..4 {
            assert!(set.report(&set.endpoints()[at].clone(), &error(), now));
        }
        assert_eq!(shares(&set, 100, now).iter().sum::<usize>(), chosen);
    }
}

#[test]
fn a_newcomer_is_broken_in() {
    for algorithm in [Algorithm::LeastRequest, Algorithm::RoundRobin] {
        let old = endpoints(&[1; 2]);
        let warm = |policy: &mut TrafficPolicy| {
            policy.balance.algorithm = algorithm;
            policy.balance.warmup = Some(Warmup::new(Duration::from_secs(100)));
        };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        shares(&with(old.clone(), warm), 100, start);
        let set = with(
            old.into_iter().chain([endpoint(9, 1, Rank::default())]).collect(),
            warm,
        );
        let newcomer = |now| shares(&set, 21_000, now)[2];
        assert!(
            newcomer(after(1_000)).abs_diff(1_000) < 250,
            "{algorithm:?}: a tenth of a share"
        );
        assert!(
            newcomer(after(1_050)).abs_diff(4_200) < 500,
            "{algorithm:?}: half a share"
        );
        assert!(
            newcomer(after(1_100)).abs_diff(7_000) < 500,
            "{algorithm:?}: its share"
        );
    }
}

#[test]
fn choices_and_ejections_from_many_threads_agree() {
    let set = with(endpoints(&[1; 20]), failing(touchy(25)));
    let now = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let set = &set;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                for _ in 0..5_000 {
                    let chosen = set.pick(&Draw::new(rng.u64(..), now), &Tried::default()).unwrap();
                    let _busy = chosen.cell.enter();
                    set.report(&chosen, &error(), now);
                }
            });
        }
    });
    let ejected = set
        .endpoints()
        .iter()
        .filter(|it| it.cell.outlier().is_ejected())
        .count();
    assert_eq!((ejected, set.cell().ejected()), (5, 5));
    assert_eq!(
        shares(&set, 1_000, now).iter().filter(|hit| **hit == 0).count(),
        5
    );
}
