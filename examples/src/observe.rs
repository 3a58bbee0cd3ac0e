//! Logs and traces.

use inmesh::telemetry::export::{self, Guard, OtlpSettings};

/// Sends log lines to stderr, and spans to the collector that OpenTelemetry's variables name, if they name one.
///
/// # Errors
/// If the variables do not say what they should, or the process observes itself already.
pub fn telemetry() -> anyhow::Result<Option<Guard>> {
    Ok(match OtlpSettings::from_env()? {
        Some(settings) => Some(export::install(&settings)?),
        None => {
            export::install_logs()?;
            None
        }
    })
}
