//! Waiting for what can be observed, never for time to pass.

use std::time::Duration;

/// How long anything may take before a test gives up; only failing tests wait this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look.
const PACE: Duration = Duration::from_millis(15);

/// Looks until `holds` is true.
///
/// # Panics
/// If it does not become true in time: that is the test's failure.
pub async fn until<F, R>(what: &str, mut holds: F)
where
    F: FnMut() -> R,
    R: Future<Output = bool>,
{
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < end,
            "waited {PATIENCE:?} in vain until {what}"
        );
        tokio::time::sleep(PACE).await;
    }
}
