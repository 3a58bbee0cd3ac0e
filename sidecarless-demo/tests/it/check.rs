//! The demo, walked through unattended: separate processes, real sockets, and one product page as one trace without
//! orphans, received as real OTLP.

use std::process::Command;

#[test]
fn every_act_of_the_guide_holds() {
    let _one = crate::town::ONE.blocking_lock();
    let output = Command::new(env!("CARGO_BIN_EXE_sidecarless-demo"))
        .arg("--check")
        .output()
        .expect("the demo starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let acts = said.lines().filter(|line| line.starts_with("act ")).count();
    assert_eq!(acts, 6, "{said}");
}
