//! The Gateway API conformance cases, every one of them, in both shapes.

use std::path::Path;

use anyhow::Result;
use inmesh_tests::conformance::args::{read, run_all};
use inmesh_tests::conformance::case::Test;
use inmesh_tests::conformance::gateway::Program;
use inmesh_tests::conformance::report::totals;
use inmesh_tests::conformance::shape::Shapes;
use inmesh_tests::conformance::town::Town;

/// How many tests run at a time.
const JOBS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn every_case_comes_out_as_the_suite_expects() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let both = |inside: &str| ["conformance", "conformance-own"].map(|it| root.join(it).join(inside));
    let waypoint = Program {
        path: env!("CARGO_BIN_EXE_test-waypoint").into(),
        args: Vec::new(),
    };
    let town = Town::new(both("manifests").into(), waypoint)?;
    let files = read(&both("cases"), &[])?;
    let reports = run_all(&town, &files, Shapes::Both, JOBS, |report| {
        print!("{}", report.text())
    })
    .await;
    let totals = totals(&reports);
    println!("{} passed, {} failed", totals.passed, totals.failed);
    assert_eq!(totals.failed, 0, "see above");
    assert!(
        totals.passed >= 300,
        "only {} cases were tried: have they been found?",
        totals.passed
    );
    Ok(())
}

#[test]
fn a_file_with_anything_unknown_in_it_is_not_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/cases/MeshTrafficSplit.yaml");
    let text = std::fs::read_to_string(path).expect("the case is there");
    assert!(Test::read(&text).is_ok());
    for (known, unknown) in [
        ("kind: http", "kind: smtp"),
        ("status:", "stature:"),
        ("mode: native", "mode: imagined"),
        ("case_count: 2", "case_count: 3"),
        (
            "format: gwapi-conformance-cases/1",
            "format: gwapi-conformance-cases/2",
        ),
        ("path: /v1", "path: /v1\n      unheard_of: 1"),
        ("comparator: mesh", "comparator: mesh\nunheard_of: 1"),
        (
            "service: gateway-conformance-mesh/echo",
            "service: gateway-conformance-mesh",
        ),
    ] {
        let changed = text.replacen(known, unknown, 1);
        assert_ne!(changed, text, "{known} is not in the file");
        assert!(Test::read(&changed).is_err(), "{unknown} was read");
    }
}
