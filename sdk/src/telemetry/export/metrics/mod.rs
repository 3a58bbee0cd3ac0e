//! Metrics to an OpenTelemetry collector, at intervals: OTLP, cumulative.
//!
//! A thread of its own reads the cells that requests count in, at its own pace, and sends what it read. Requests know nothing
//! of it: a collector that is slow, absent or failing costs exports, which are counted in `mesh_metric_exports_total`, and
//! nothing else. What one export did not bring the next one does, since all values are totals; so there is no queue and
//! nothing is sent again. There is at most one under way, of a size that the limits of the [`Meter`] bound.

mod encode;

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::time::timeout;

use super::destination::{Carrier, Destination, Verdict};
use super::parcel::{Parcel, Signal};
use super::{Error, OtlpSettings};
use crate::telemetry::Meter;

const METRICS: &str = "/v1/metrics";

/// Where metrics go. Made by [`MetricsSettings::new`] or [`MetricsSettings::from_env`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MetricsSettings {
    /// The collector, and how it is spoken to; what concerns spans has no meaning here.
    pub collector: OtlpSettings,
    /// How often they are sent.
    pub interval: Duration,
}

/// Keeps the export alive. Dropping it sends once more, for two seconds at most.
#[derive(Debug)]
#[must_use = "dropping the guard ends the export of metrics"]
pub struct MetricsGuard {
    /// Says by when all has to be over.
    stop: SyncSender<Instant>,
    thread: Option<JoinHandle<()>>,
}

/// The thread.
struct Worker {
    meter: Meter,
    to: Destination,
    carrier: Carrier,
    resource: Resource,
    since: SystemTime,
}

impl MetricsSettings {
    /// Settings for the collector at a base URL such as `http://127.0.0.1:4318`; `/v1/metrics` is added.
    pub fn new(base: &str) -> Self {
        let base = base.trim_end_matches('/');
        let base = base.strip_suffix(METRICS).unwrap_or(base);
        Self::at(OtlpSettings::new(base), &format!("{base}{METRICS}"))
    }

    fn at(mut collector: OtlpSettings, endpoint: &str) -> Self {
        endpoint.clone_into(&mut collector.endpoint);
        Self {
            collector,
            interval: Duration::from_secs(60),
        }
    }

    /// The same at another interval.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// What the environment asks for by OpenTelemetry's variables; `None` if it does not ask for metrics.
    ///
    /// It asks by `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`, or by `OTEL_METRICS_EXPORTER=otlp` beside
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: the latter alone means traces, because metrics are mostly fetched already. Also read are
    /// `OTEL_METRIC_EXPORT_INTERVAL` (milliseconds) and what [`OtlpSettings::from_env`] reads, in their forms for metrics.
    ///
    /// # Errors
    ///
    /// If a variable does not say what it should.
    pub fn from_env() -> Result<Option<Self>, Error> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let var = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let chosen = var("OTEL_METRICS_EXPORTER");
        let has = |name: &str| {
            chosen
                .iter()
                .flat_map(|it| it.split(','))
                .any(|it| it.trim() == name)
        };
        let exact = var("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
        let is_asked = match chosen {
            Some(_) => has("otlp"),
            None => exact.is_some(),
        };
        if !is_asked {
            return Ok(None);
        }
        // The same variables by other names.
        let of_traces = |name: &str| match name.strip_prefix("OTEL_EXPORTER_OTLP_TRACES_") {
            Some(rest) => var(&format!("OTEL_EXPORTER_OTLP_METRICS_{rest}")),
            None if name.starts_with("OTEL_TRACES_") || name.starts_with("OTEL_BSP_") => None,
            None => var(name),
        };
        let Some(collector) = OtlpSettings::from_vars(of_traces).map_err(renamed)? else {
            return Ok(None);
        };
        let endpoint = match exact {
            Some(exact) => exact,
            None => {
                Self::new(&var("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap_or_default())
                    .collector
                    .endpoint
            }
        };
        let mut settings = Self::at(collector, &endpoint);
        let name = "OTEL_METRIC_EXPORT_INTERVAL";
        if let Some(value) = var(name) {
            let reason = "not a number of milliseconds above zero";
            match value.trim().parse().ok().filter(|number| *number > 0) {
                Some(number) => settings.interval = Duration::from_millis(number),
                None => return Err(Error::Variable { name, value, reason }),
            }
        }
        Ok(Some(settings))
    }
}

/// An error by the name of the variable that was read.
fn renamed(error: Error) -> Error {
    match error {
        Error::Variable { name, value, reason } => Error::Variable {
            name: match name {
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" => "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS" => "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
                "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT" => "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
                "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION" => "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" => "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
                other => other,
            },
            value,
            reason,
        },
        other => other,
    }
}

/// Sends the metrics of a mesh to a collector until the guard is dropped.
///
/// # Errors
///
/// If the settings are unusable or the thread cannot be started.
pub fn metrics(settings: &MetricsSettings, meter: Meter) -> Result<MetricsGuard, Error> {
    let (to, carrier) = super::destination(&settings.collector)?;
    let worker = Worker {
        meter,
        to,
        carrier,
        resource: super::told(&super::resource(&settings.collector)),
        since: SystemTime::now(),
    };
    let interval = settings.interval;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = sync_channel::<Instant>(1);
    let thread = std::thread::Builder::new()
        .name("mesh-metrics".to_owned())
        .spawn(move || {
            // Exporting must not itself leave spans to export.
            tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::new(), || {
                loop {
                    match stopped.recv_timeout(interval) {
                        Err(RecvTimeoutError::Timeout) => {
                            runtime.block_on(worker.export(worker.to.timeout));
                        }
                        Ok(until) => {
                            let left = until.saturating_duration_since(Instant::now());
                            runtime.block_on(worker.export(left.min(worker.to.timeout)));
                            return;
                        }
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            });
        })?;
    Ok(MetricsGuard {
        stop,
        thread: Some(thread),
    })
}

impl Worker {
    async fn export(&self, within: Duration) {
        let metrics = encode::all(&self.meter, self.since);
        let body = Metric::pack(metrics, &self.resource, self.to.encoding());
        let answer = match self.to.request(Signal::Metrics, body) {
            Ok(request) => timeout(within, self.carrier.carry(request)).await,
            Err(_) => return self.meter.exported("failed"),
        };
        let taken = match answer {
            Ok(Ok(answer)) => matches!(self.to.judge(&answer), Verdict::Taken { rejected: 0, .. }),
            _ => false,
        };
        self.meter.exported(if taken { "sent" } else { "failed" });
    }
}

impl MetricsGuard {
    /// Sends once more and stops. Blocks its thread for `deadline` at most, however slow the collector is.
    pub fn shutdown(mut self, deadline: Duration) {
        self.close(deadline);
    }

    fn close(&mut self, deadline: Duration) {
        let Some(thread) = self.thread.take() else { return };
        let until = Instant::now() + deadline;
        // Full only if it was told already.
        let _ = self.stop.try_send(until);
        // An export under way has its own timeout, which may be longer than we can wait.
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for MetricsGuard {
    fn drop(&mut self) {
        self.close(super::LAST_MOMENT);
    }
}

#[cfg(test)]
mod tests;
