//! Telemetry to a collector: OTLP over http/protobuf or gRPC, spans to Zipkin too.
//!
//! A finished span is put into a bounded queue, and dropped and counted if that is full; somebody who serves no
//! request empties it. So a slow or absent collector costs spans, never a request:
//!
//! ```text
//! request ── push ──▶ Queue [2048] ── batches ──▶ Worker ── Destination::request ──▶ Carrier ──▶ collector
//! ```
//!
//! Records of logs and metrics go the same way, each in a queue of their own. What a collector may take later is sent
//! again, with back-off and a bound; what it says that it rejected counts as lost.
//!
//! A program calls [`install`]; an application that composes its own subscriber takes [`layer`]. Where the mesh
//! configuration names a collector, the mesh itself opens the queue, and its worker asks through the mesh.

mod collector;
mod courier;
mod destination;
mod metrics;
mod outlets;
mod parcel;
mod queue;
mod settings;
mod tls;
mod variables;
mod zipkin;

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource as Told;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use self::collector::Collector;
use self::courier::Courier;
use super::{LogFilter, SpanCounts};

pub(crate) use self::destination::{Carrier, Destination, Protocol};
pub use self::metrics::{MetricsGuard, MetricsSettings, metrics};
pub(crate) use self::outlets::Outlets;
pub(crate) use self::queue::{Pace, Queue, Tally, queue};
pub use self::settings::{OtlpProtocol, OtlpSettings, Sampling};

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
    /// A certificate or key for a collector cannot be used.
    #[error("{}: {why}", file.display())]
    Certificate {
        /// Where it was read.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
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
    queue: Queue<SpanData>,
    counts: SpanCounts,
    filter: Option<LogFilter>,
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

    /// What is logged, where [`install`] has set that up.
    pub fn log_filter(&self) -> Option<LogFilter> {
        self.filter.clone()
    }

    /// What became of the spans so far. A mesh that starts where the exporter listens counts them among its metrics;
    /// one that does not is told by [`Meter::watch_spans`](super::Meter::watch_spans).
    pub fn counts(&self) -> SpanCounts {
        self.counts.clone()
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
    let (spans, mut guard) = layer(settings)?;
    let (logs, filter) = logs();
    tracing_subscriber::registry()
        .with(spans)
        .with(logs)
        .try_init()
        .map_err(|_| Error::Installed)?;
    tell_unread();
    guard.filter = Some(filter);
    Ok(guard)
}

/// Like [`install`], but with nothing to export to; returns what changes what is logged.
///
/// # Errors
///
/// If the process has a subscriber already.
pub fn install_logs() -> Result<LogFilter, Error> {
    let (logs, filter) = logs();
    let registry = tracing_subscriber::registry().with(logs);
    registry.try_init().map_err(|_| Error::Installed)?;
    tell_unread();
    Ok(filter)
}

/// Says which of OpenTelemetry's variables are set and have no effect.
fn tell_unread() {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for variable in variables::unread(names) {
        tracing::warn!(variable, "it is set, and has no effect here");
    }
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
    let (provider, guard) = provider(settings)?;
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("inmesh"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .and_then(Counting(guard.counts()))
        .with_filter(
            Targets::new()
                .with_default(LevelFilter::INFO)
                .with_target("inmesh::access", LevelFilter::OFF),
        );
    Ok((layer, guard))
}

/// A part of the subscriber that exports, by which a mesh that starts later finds the counts: nobody has to hand them on,
/// and there is no global of ours.
struct Counting(SpanCounts);

impl<S: Subscriber> Layer<S> for Counting {}

/// The counts of the exporter that listens here, if one of ours does.
pub(crate) fn counts_in_force() -> Option<SpanCounts> {
    tracing::dispatcher::get_default(|listens| {
        let counting = listens.downcast_ref::<Counting>();
        counting.map(|counting| counting.0.clone())
    })
}

/// A subscriber that exports spans and does nothing else, for whoever sets one for a part of a program.
///
/// # Errors
///
/// If the settings are unusable or the exporter's thread cannot be started.
pub fn subscriber(settings: &OtlpSettings) -> Result<(impl Subscriber + Send + Sync + use<>, Guard), Error> {
    let (spans, guard) = layer(settings)?;
    Ok((tracing_subscriber::registry().with(spans), guard))
}

/// What is logged unless `RUST_LOG` says otherwise: not each request. `inmesh::access=info` is one line for each.
const LOGGED: &str = "info,inmesh::span=off,inmesh::access=off";

fn logs<S>() -> (impl Layer<S> + Send + Sync, LogFilter)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let written = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let read = written.and_then(|text| Some((EnvFilter::try_new(&text).ok()?, text)));
    let (filter, directives) = read.unwrap_or_else(|| (EnvFilter::new(LOGGED), LOGGED.to_owned()));
    let (filter, handle) = reload::Layer::new(filter);
    let apply = move |directives: &str| {
        let filter = EnvFilter::try_new(directives).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(filter);
    (layer, LogFilter::new(directives, apply))
}

fn provider(settings: &OtlpSettings) -> Result<(SdkTracerProvider, Guard), Error> {
    let (to, carrier) = destination(settings)?;
    let resource = resource(settings);
    let told = told(&resource);
    let pace = Pace {
        queue: settings.queue,
        batch: settings.batch,
        interval: settings.interval,
    };
    let counts = SpanCounts::default();
    let (queue, worker) = queue(to, carrier, told, pace, counts.clone());
    worker.spawn_thread("mesh-spans")?;
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Courier::new(queue.clone()))
        .with_sampler(sampler(settings.sampling))
        .with_resource(resource)
        .build();
    let filter = None;
    Ok((
        provider,
        Guard {
            queue,
            counts,
            filter,
        },
    ))
}

/// The service, as it is told to a collector.
fn told(resource: &Resource) -> Told {
    Told {
        attributes: ResourceAttributesWithSchema::from(resource).attributes.0,
        ..Told::default()
    }
}

/// The collector that the settings name, and the way to it.
fn destination(settings: &OtlpSettings) -> Result<(Destination, Carrier), Error> {
    let carrier = Collector::new(settings)?.carrier();
    let uri: Uri = settings.endpoint.parse().unwrap_or_default();
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let header = |(name, value): &(String, String)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value).ok()?))
    };
    let to = Destination {
        protocol: match settings.protocol {
            OtlpProtocol::Http => Protocol::Http,
            OtlpProtocol::Grpc => Protocol::Grpc,
        },
        base: format!(
            "{}://{}",
            uri.scheme_str().unwrap_or("http"),
            uri.authority().map_or("", |it| it.as_str())
        ),
        path: path.to_owned(),
        headers: settings.headers.iter().filter_map(header).collect(),
        timeout: settings.timeout,
        gzip: settings.gzip,
    };
    Ok((to, carrier))
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
