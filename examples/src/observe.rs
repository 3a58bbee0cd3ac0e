//! Logs and traces.

use inmesh::MeshBuilder;
use inmesh::telemetry::LogFilter;
use inmesh::telemetry::export::{self, Guard, OtlpSettings};

/// What observes this process, for as long as it is held.
#[derive(Debug)]
pub struct Telemetry {
    /// Sends spans, if a collector is named.
    _spans: Option<Guard>,
    filter: Option<LogFilter>,
}

/// Sends log lines to stderr, and spans to the collector that OpenTelemetry's variables name, if they name one.
///
/// # Errors
/// If the variables do not say what they should, or the process observes itself already.
pub fn telemetry() -> anyhow::Result<Telemetry> {
    Ok(match OtlpSettings::from_env()? {
        Some(settings) => {
            let guard = export::install(&settings)?;
            Telemetry {
                filter: guard.log_filter(),
                _spans: Some(guard),
            }
        }
        None => Telemetry {
            filter: Some(export::install_logs()?),
            _spans: None,
        },
    })
}

impl Telemetry {
    /// A mesh whose admin endpoint can say and change what this process logs: `waypoint log`, and the live view.
    pub fn changeable(&self, mesh: MeshBuilder) -> MeshBuilder {
        match &self.filter {
            Some(filter) => mesh.log_filter(filter.clone()),
            None => mesh,
        }
    }
}
