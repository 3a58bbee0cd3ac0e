//! The corpus of authorization cases, every one of them.

use std::path::Path;

use inmesh_tests::corpus::{Verdict, authz};

#[test]
fn every_authorization_case_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/authz");
    let outcomes = authz::run_folder(&folder).expect("the corpus can be read");
    let count =
        |wanted: fn(&Verdict) -> bool| outcomes.iter().filter(|outcome| wanted(&outcome.verdict)).count();
    for outcome in outcomes
        .iter()
        .filter(|outcome| outcome.verdict != Verdict::Passed)
    {
        println!("{outcome}");
    }
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let skipped = count(|verdict| matches!(verdict, Verdict::Skipped(_)));
    let passed = count(|verdict| *verdict == Verdict::Passed);
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    assert_eq!(failed, 0, "see above");
    assert!(
        passed >= 500,
        "only {passed} checks could be tried: has the corpus been found?"
    );
}
