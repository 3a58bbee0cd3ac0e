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
    assert_eq!(failed.len(), 0, "see above");
    assert!(passed.len() >= 227, "has the corpus been found?");
}
