//! The corpora, every case of them, and cases of our own in their formats.

use std::path::Path;

use inmesh_tests::corpus;

/// Runs a folder, which has at least so many cases.
fn all_pass(folder: &str, least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let outcomes = corpus::run(&folder).expect("the corpus can be read");
    let (passed, failed): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.passed);
    for outcome in &failed {
        println!("{outcome}");
    }
    println!("{} passed, {} failed", passed.len(), failed.len());
    assert_eq!(failed.len(), 0, "see above");
    assert!(passed.len() >= least, "has the corpus been found?");
}

#[test]
fn every_authorization_case_comes_out_as_written() {
    all_pass("corpus/authz", 546);
}

#[test]
fn every_row_about_traffic_comes_out_as_written() {
    all_pass("corpus/traffic", 227);
}

#[test]
fn every_case_of_our_own_comes_out_as_written() {
    all_pass("corpus-own", 360);
}
