use std::time::Duration;

use super::*;

fn after(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn status(code: u16) -> Outcome {
    Outcome::response(StatusCode::from_u16(code).unwrap(), &http::HeaderMap::new())
}

#[test]
fn each_ejection_lasts_longer_up_to_a_limit() {
    let policy = OutlierPolicy::default();
    let lasts: Vec<_> = (1..=12).map(|times| policy.ejection(times).as_secs()).collect();
    assert_eq!(lasts, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    let long = OutlierPolicy {
        base_ejection: after(400),
        ..policy
    };
    assert_eq!(long.ejection(3), after(400));
}

#[test]
fn the_multiplier_grows_with_ejections_and_shrinks_with_sweeps() {
    let policy = OutlierPolicy::default();
    let cell = OutlierCell::default();
    cell.eject(&policy, after(1));
    assert!(!cell.sweep(&policy, after(30), 3));
    assert!(cell.sweep(&policy, after(40), 1), "31 s have passed");
    assert_eq!(cell.times(), 1);
    cell.eject(&policy, after(41));
    assert!(!cell.sweep(&policy, after(100), 6), "the second takes 60 s");
    assert!(cell.sweep(&policy, after(110), 1));
    assert_eq!(cell.times(), 2);
    assert!(!cell.sweep(&policy, after(120), 1));
    assert_eq!(cell.times(), 1);
    assert!(!cell.sweep(&policy, after(190), 7));
    assert_eq!(cell.times(), 0);
}

#[test]
fn sweeps_that_were_missed_count_as_if_they_had_been_made() {
    let policy = OutlierPolicy::default();
    let cells = [OutlierCell::default(), OutlierCell::default()];
    for cell in &cells {
        cell.eject(&policy, after(1));
        cell.eject(&policy, after(2));
        cell.eject(&policy, after(3));
    }
    // One looked after every ten seconds, the other once.
    let returned: Vec<_> = (1..=12)
        .map(|tick| cells[0].sweep(&policy, after(tick * 10), 1))
        .collect();
    assert_eq!(
        returned.iter().position(|returned| *returned),
        Some(9),
        "3 + 90 s, hence at 100 s"
    );
    assert!(cells[1].sweep(&policy, after(120), 12));
    assert_eq!(cells[0].times(), cells[1].times());
    assert_eq!(cells[0].times(), 1);
}

#[test]
fn the_multiplier_has_a_ceiling() {
    let policy = OutlierPolicy::default();
    let cell = OutlierCell::default();
    for _ in 0..50 {
        cell.eject(&policy, after(1));
    }
    assert_eq!(cell.times(), 11, "11 x 30 s is no less than 300 s + 30 s");
}

#[test]
fn a_row_that_ended_in_an_ejection_starts_again() {
    let policy = OutlierPolicy {
        consecutive_errors: 2,
        ..OutlierPolicy::default()
    };
    let cell = OutlierCell::default();
    let seen: Vec<_> = (0..6).map(|_| cell.observe(&policy, &status(500))).collect();
    assert_eq!(
        seen,
        [false, true, false, true, false, true],
        "whether or not it could be ejected"
    );
}

#[test]
fn what_is_refused_here_says_nothing_of_the_endpoint() {
    let policy = OutlierPolicy {
        consecutive_errors: 1,
        ..OutlierPolicy::default()
    };
    let cell = OutlierCell::default();
    assert!(!cell.observe(&policy, &Outcome::Overflow));
    assert!(!cell.observe(&policy, &Outcome::NoEndpoint));
    assert!(cell.observe(&policy, &Outcome::Reset));
}

#[test]
fn only_connections_that_fail_make_a_row_of_local_failures() {
    let policy = OutlierPolicy {
        consecutive_local_failures: Some(2),
        ..OutlierPolicy::default()
    };
    use Outcome::{ConnectFailure, Reset, Timeout};
    for (row, ejects) in [
        ([ConnectFailure, ConnectFailure], true),
        ([Timeout, ConnectFailure], true),
        ([Timeout, Timeout], false),
        ([Reset, Reset], false),
        ([ConnectFailure, Reset], false),
    ] {
        let cell = OutlierCell::default();
        let found = row
            .iter()
            .fold(false, |_, outcome| cell.observe(&policy, outcome));
        assert_eq!(found, ejects, "{row:?}");
    }
    let one = OutlierPolicy {
        consecutive_local_failures: Some(1),
        ..policy
    };
    assert!(OutlierCell::default().observe(&one, &Timeout));
}
