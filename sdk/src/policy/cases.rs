//! How many random cases an engine and its naive twin are compared in.

use proptest::test_runner::Config;

/// `PROPTEST_CASES`, or else this many: enough to notice a mistake while working. CI asks for more.
pub(crate) fn cases(otherwise: u32) -> Config {
    let asked = std::env::var("PROPTEST_CASES").ok();
    Config::with_cases(asked.and_then(|text| text.parse().ok()).unwrap_or(otherwise))
}
