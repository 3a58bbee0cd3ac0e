//! What the mesh says about itself: metrics, spans, and the trace a request belongs to.
//!
//! * [`Meter`] counts. Label sets are resolved once into a [`RequestSeries`] or [`TcpSeries`], kept by whoever
//!   counts (the snapshot, a connection); recording is then a look into a short table and an add.
//! * [`TraceContext`] is the W3C trace context of one request, and [`server_span`] and its siblings are the
//!   `tracing` spans that the mesh opens. With feature `otel` they are joined to OpenTelemetry.
//! * [`access`] writes a line per request in Istio's formats.
//! * [`recording`] decides which requests are traced where Telemetries or the mesh configuration say so, and records them.
//! * With feature `otlp`, [`export`] sends spans to a collector.

pub mod access;
pub mod cel;
mod civil;
mod digits;
#[cfg(feature = "otlp")]
pub mod export;
pub mod field;
mod filter;
mod flow;
mod labels;
mod meter;
mod metric;
mod own;
mod page;
mod plan;
mod propagate;
pub mod recording;
mod semantic;
mod series;
mod sets;
mod span;
mod tcp;
mod trace;

pub(crate) use digits::hex;
pub use filter::{FilterError, LogFilter};
pub(crate) use flow::{Durations, Flow, TcpFlow};
pub use labels::{PartyLabels, Protocol, Reporter, RequestLabels, Security, ServiceLabels};
pub use meter::{CONTENT_TYPE, Meter, MetricLimits};
pub use metric::Exposition;
pub use own::{ConfigMeter, Direction, SpanCounts, TunnelMeter};
pub use plan::{Metric, MetricPlan, Tags, is_standard_label};
pub use propagate::{Formats, Propagation};
pub use semantic::HttpFacts;
pub use series::{Messages, RequestSeries, Sample};
pub use span::{RequestSpan, attempt_span, client_span, compile_span, server_span, tunnel_span};
pub use tcp::{Counted, TcpAccount, TcpSeries};
#[cfg(feature = "otlp")]
pub(crate) use trace::tag;
pub use trace::{TraceContext, adopt, context_of, current, follow};

#[cfg(test)]
mod tests;
