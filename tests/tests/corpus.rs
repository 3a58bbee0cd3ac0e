//! The corpora, every case of them.

use std::path::Path;

use inmesh_tests::corpus;

#[test]
fn every_authorization_case_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/authz");
    let outcomes = corpus::run(&folder).expect("the corpus can be read");
    let (passed, failed): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.passed);
    for outcome in &failed {
        println!("{outcome}");
    }
    println!("{} passed, {} failed", passed.len(), failed.len());
    assert_eq!(failed.len(), 0, "see above");
    assert!(passed.len() >= 546, "has the corpus been found?");
}

#[test]
fn every_row_about_traffic_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/traffic");
    let outcomes = corpus::run(&folder).expect("the corpus can be read");
    let (passed, failed): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.passed);
    for outcome in &failed {
        println!("{outcome}");
    }
    println!("{} passed, {} failed", passed.len(), failed.len());
    let wrong = failed.iter().filter(|outcome| !is_open(&outcome.observed));
    assert_eq!(wrong.count(), 0, "see above");
    assert!(passed.len() >= 180, "has the corpus been found?");
}

/// Rows that wait for another engine.
fn is_open(observed: &str) -> bool {
    observed.starts_with("not done yet") || observed.starts_with("nobody knows rows of")
}
