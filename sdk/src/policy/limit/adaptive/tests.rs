//! The limit as a whole, at times that the tests choose.

use super::*;

fn policy() -> GradientPolicy {
    GradientPolicy {
        most: 1_000,
        least: 3,
        every: Duration::from_millis(100),
        percentile: 0.5,
        measure_every: Duration::from_secs(60),
        jitter: 0.15,
        requests: 50,
        buffer: 0.25,
        fixed_floor: None,
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Requests one after another, each of which takes so long.
fn pass(limit: &Arc<AdaptiveLimit>, at: &mut Instant, took: Duration, count: usize) {
    for _ in 0..count {
        let entered = limit
            .enter(Criticality::Critical, *at)
            .expect("nothing is under way");
        *at += took;
        entered.answered(*at);
    }
}

#[test]
fn a_limit_follows_the_gradient() {
    let policy = policy();
    for (limit, took, expected) in [
        // As fast as when nothing waits: the buffer, and room for a burst.
        (100, 10, 136),
        // Half as fast: 62.5 and its root.
        (100, 20, 70),
        // Ten times as slow: never less than a half at once.
        (100, 100, 57),
        // Ten times as fast: never more than twice.
        (100, 1, 214),
        (3, 1_000, 3),
        (1_000, 1, 1_000),
    ] {
        assert_eq!(policy.next(limit, ms(10), ms(took)), expected, "{limit} {took}");
    }
}

#[test]
fn it_begins_by_measuring_with_little_under_way() {
    let (limit, mut now) = (Arc::new(AdaptiveLimit::new(policy())), Instant::now());
    let _held: Vec<_> = (0..3)
        .map(|_| limit.enter(Criticality::Critical, now).unwrap())
        .collect();
    assert!(limit.enter(Criticality::Critical, now).is_none());
    drop(_held);
    pass(&limit, &mut now, ms(10), 49);
    assert_eq!(limit.floor(), None);
    pass(&limit, &mut now, ms(10), 1);
    let floor = limit.floor().unwrap();
    assert!(floor.abs_diff(ms(10)) < ms(1), "{floor:?}");
    // As long as nothing gets slower it grows from window to window.
    pass(&limit, &mut now, ms(10), 400);
    assert!(limit.limit() > 100, "{}", limit.limit());
    // And shrinks when it does.
    pass(&limit, &mut now, ms(200), 20);
    assert!(limit.limit() < 10, "{}", limit.limit());
}

#[test]
fn the_floor_is_measured_again_at_its_time_and_when_it_is_doubtful() {
    let (limit, mut now) = (Arc::new(AdaptiveLimit::new(policy())), Instant::now());
    pass(&limit, &mut now, ms(10), 1_000);
    let before = limit.limit();
    now += Duration::from_secs(70);
    pass(&limit, &mut now, ms(10), 1);
    assert_eq!(limit.limit(), 3, "measuring");
    pass(&limit, &mut now, ms(10), 50);
    assert!(limit.limit() >= before);
    // Slow for good: the least limit, and after a while a new floor.
    pass(&limit, &mut now, ms(100), 100);
    let floor = limit.floor().unwrap();
    assert!(floor.abs_diff(ms(100)) < ms(8), "{floor:?}");
}

#[test]
fn what_began_before_a_measurement_is_none_of_it() {
    let (limit, mut now) = (Arc::new(AdaptiveLimit::new(policy())), Instant::now());
    pass(&limit, &mut now, ms(10), 60);
    let old: Vec<_> = (0..60)
        .map_while(|_| limit.enter(Criticality::Critical, now))
        .collect();
    now += Duration::from_secs(70);
    let more = limit.enter(Criticality::Critical, now);
    drop(more);
    let mut old = old.into_iter();
    // The first sees that the time has come; the others began too early.
    for entered in old.by_ref() {
        entered.answered(now);
    }
    pass(&limit, &mut now, ms(10), 50);
    let floor = limit.floor().unwrap();
    assert!(floor < ms(20), "{floor:?}");
}

#[test]
fn times_that_are_never_do_no_harm() {
    let policy = GradientPolicy {
        every: Duration::MAX,
        measure_every: Duration::MAX,
        ..policy()
    };
    let (limit, mut now) = (Arc::new(AdaptiveLimit::new(policy)), Instant::now());
    pass(&limit, &mut now, ms(10), 200);
    assert_eq!(limit.limit(), 3);
}

#[test]
fn a_known_floor_is_not_measured() {
    let policy = GradientPolicy {
        fixed_floor: Some(ms(10)),
        ..policy()
    };
    let (limit, mut now) = (Arc::new(AdaptiveLimit::new(policy)), Instant::now());
    pass(&limit, &mut now, ms(10), 100);
    assert_eq!(limit.floor(), Some(ms(10)));
    assert!(limit.limit() > 10);
}

#[test]
fn what_is_less_important_goes_first() {
    let policy = GradientPolicy {
        least: 10,
        ..policy()
    };
    let (limit, now) = (Arc::new(AdaptiveLimit::new(policy)), Instant::now());
    let mut held = Vec::new();
    let mut let_in = |criticality| {
        let before = held.len();
        held.extend(std::iter::from_fn(|| limit.enter(criticality, now)).take(100));
        held.len() - before
    };
    assert_eq!(let_in(Criticality::Sheddable), 5);
    assert_eq!(let_in(Criticality::SheddablePlus), 3);
    assert_eq!(let_in(Criticality::Critical), 2);
    drop(held);
    assert_eq!(limit.in_flight(), 0);
    for least in Criticality::ALL {
        assert!(
            least.part(1) == 1 && least.part(3) >= 2,
            "there is always some room"
        );
    }
}

#[test]
fn importance_is_read_as_it_is_written() {
    for it in Criticality::ALL {
        assert_eq!(Criticality::parse(&it.as_str().to_uppercase()), Some(it));
    }
    assert_eq!(Criticality::parse("urgent"), None);
}

#[test]
fn from_many_threads_the_limit_is_exact() {
    let limit = Arc::new(AdaptiveLimit::new(policy()));
    let most = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let now = Instant::now();
                    if let Some(entered) = limit.enter(Criticality::Critical, now) {
                        most.fetch_max(limit.in_flight(), Ordering::Relaxed);
                        entered.answered(now + Duration::from_micros(1));
                    }
                }
            });
        }
    });
    assert_eq!(limit.in_flight(), 0);
    assert!(limit.limit() >= 3 && limit.limit() <= 1_000);
}

proptest::proptest! {
    /// Whatever comes, the limit stays within its bounds and changes by no more than the gradient allows.
    #[test]
    fn it_stays_within_bounds(
        steps in proptest::collection::vec((1_u64..3_000, 1_usize..80), 1..40), least in 1_u32..20, more in 0_u32..500
    ) {
        let policy = GradientPolicy { least, most: least + more, ..policy() };
        let (limit, mut now) = (Arc::new(AdaptiveLimit::new(policy.clone())), Instant::now());
        for (took, count) in steps {
            pass(&limit, &mut now, ms(took), count);
            proptest::prop_assert!((policy.least..=policy.most).contains(&limit.limit()));
            proptest::prop_assert_eq!(limit.in_flight(), 0);
        }
    }
}
