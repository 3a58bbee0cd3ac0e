//! Spans to an OpenTelemetry collector: OTLP, http/protobuf.
//!
//! A finished span is put into a bounded queue, and dropped and counted if that is full; a thread of the
//! exporter's own empties it. So a slow or absent collector costs spans, never a request:
//!
//! ```text
//! request thread ── push ──▶ [queue 2048] ── batches ──▶ exporter thread ── POST /v1/traces ──▶ collector
//! ```
//!
//! A program calls [`install`]; an application that composes its own subscriber takes [`layer`].

mod collector;
mod queue;
mod settings;

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use self::collector::Collector;
use self::queue::{Courier, Queue};
use super::SpanCounts;

pub use self::settings::{OtlpSettings, Sampling};

/// How long dropping a [`Guard`] may take.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The collector's address is none that we can speak to.
    #[error("collector endpoint `{endpoint}`: {reason}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An `OTEL_…` variable does not say what it should.
    #[error("{name}=`{value}`: {reason}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The exporter could not be built.
    #[error("span exporter: {0}")]
    Exporter(String),
    /// The exporter's thread could not be started.
    #[error("thread of the span exporter: {0}")]
    Thread(#[from] std::io::Error),
    /// The process has a `tracing` subscriber already.
    #[error("a tracing subscriber is installed already")]
    Installed,
}

/// Keeps the exporter alive. Dropping it flushes for two seconds at most.
#[derive(Debug)]
#[must_use = "dropping the guard ends the export of spans"]
pub struct Guard {
    queue: Queue,
}

impl Guard {
    /// Sends what is queued and stops; `true` if all of that arrived in time. What was lost before is in
    /// [`Guard::counts`].
    ///
    /// Blocks its thread for `deadline` at most, however slow the collector is. What is left is counted as dropped, and
    /// so is every span that ends later.
    pub fn shutdown(&self, deadline: Duration) -> bool {
        self.queue.close(deadline)
    }

    /// What became of the spans so far; give it to [`Meter::watch_spans`](super::Meter::watch_spans).
    pub fn counts(&self) -> SpanCounts {
        self.queue.counts()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.queue.close(LAST_MOMENT);
    }
}

/// Makes log lines on stderr (filtered by `RUST_LOG`, else from `info`) and the export of spans the process's
/// `tracing` subscriber.
///
/// # Errors
///
/// If the settings are unusable or the process has a subscriber already.
pub fn install(settings: &OtlpSettings) -> Result<Guard, Error> {
    let (spans, guard) = layer(settings)?;
    tracing_subscriber::registry()
        .with(spans)
        .with(logs())
        .try_init()
        .map_err(|_| Error::Installed)?;
    Ok(guard)
}

/// Like [`install`], but with nothing to export to.
///
/// # Errors
///
/// If the process has a subscriber already.
pub fn install_logs() -> Result<(), Error> {
    let registry = tracing_subscriber::registry().with(logs());
    registry.try_init().map_err(|_| Error::Installed)
}

/// A layer that exports the spans of an application's own subscriber, from level `info`.
///
/// # Errors
///
/// If the settings are unusable or the exporter's thread cannot be started.
pub fn layer<S>(settings: &OtlpSettings) -> Result<(impl Layer<S> + Send + Sync + use<S>, Guard), Error>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let (provider, queue) = provider(settings)?;
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("inmesh"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(
            Targets::new()
                .with_default(LevelFilter::INFO)
                .with_target("inmesh::access", LevelFilter::OFF),
        );
    Ok((layer, Guard { queue }))
}

/// What is logged unless `RUST_LOG` says otherwise: not each request. `inmesh::access=info` is one line for each.
const LOGGED: &str = "info,inmesh::span=off,inmesh::access=off";

fn logs<S>() -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(filter)
}

fn provider(settings: &OtlpSettings) -> Result<(SdkTracerProvider, Queue), Error> {
    let collector = Collector::new(&settings.endpoint)?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(collector)
        .with_endpoint(&settings.endpoint)
        .with_timeout(settings.timeout)
        // Its back-off puts the thread to sleep, beyond the reach of a deadline. The queue buffers instead.
        .with_retry_policy(RetryPolicy::disabled())
        .build()
        .map_err(|error| Error::Exporter(error.to_string()))?;
    let resource = resource(settings);
    opentelemetry_sdk::trace::SpanExporter::set_resource(&mut exporter, &resource);
    let queue = Queue::start(exporter, settings)?;
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Courier::new(queue.clone()))
        .with_sampler(sampler(settings.sampling))
        .with_resource(resource)
        .build();
    Ok((provider, queue))
}

fn resource(settings: &OtlpSettings) -> Resource {
    let attributes = settings
        .attributes
        .iter()
        .map(|(key, value)| KeyValue::new(Key::new(key.clone()), value.clone()));
    let resource = Resource::builder().with_attributes(attributes);
    match &settings.service_name {
        Some(name) => resource.with_service_name(name.clone()).build(),
        None => resource.build(),
    }
}

fn sampler(sampling: Sampling) -> Sampler {
    let root = if sampling.ratio >= 1.0 {
        Sampler::AlwaysOn
    } else if sampling.ratio > 0.0 {
        Sampler::TraceIdRatioBased(sampling.ratio)
    } else {
        Sampler::AlwaysOff
    };
    if sampling.parent_based {
        Sampler::ParentBased(Box::new(root))
    } else {
        root
    }
}

#[cfg(test)]
mod tests;
