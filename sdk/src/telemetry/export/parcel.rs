//! What is sent to a collector, and how a batch of it becomes one request.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use opentelemetry_sdk::trace::SpanData;
use prost::Message;

use super::zipkin;

/// A kind of telemetry: each has an address of its own at a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Spans.
    Traces,
    /// Records of logs.
    Logs,
    /// Metrics.
    Metrics,
}

/// How a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Encoding {
    /// An OTLP request, as protobuf.
    Otlp,
    /// A JSON list of Zipkin's v2 spans.
    Zipkin,
}

/// Something of which many are sent at once.
pub(crate) trait Parcel: Send + Sized + 'static {
    /// What it is.
    const SIGNAL: Signal;

    /// One request with all of these, as told by `resource`.
    fn pack(batch: Vec<Self>, resource: &Resource, encoding: Encoding) -> Bytes;
}

impl Signal {
    /// Its path below an OTLP/HTTP endpoint.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }

    /// Its method of OTLP/gRPC.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "inmesh".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    })
}

impl Parcel for Span {
    const SIGNAL: Signal = Signal::Traces;

    fn pack(batch: Vec<Self>, resource: &Resource, encoding: Encoding) -> Bytes {
        if encoding == Encoding::Zipkin {
            return zipkin::spans(&batch, resource);
        }
        let scope_spans = vec![ScopeSpans {
            scope: scope(),
            spans: batch,
            ..ScopeSpans::default()
        }];
        let resource_spans = vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans,
            ..ResourceSpans::default()
        }];
        ExportTraceServiceRequest { resource_spans }
            .encode_to_vec()
            .into()
    }
}

/// Of OpenTelemetry's own SDK; made into what is sent by the exporter, not by the request.
impl Parcel for SpanData {
    const SIGNAL: Signal = Signal::Traces;

    fn pack(batch: Vec<Self>, resource: &Resource, encoding: Encoding) -> Bytes {
        Span::pack(batch.into_iter().map(Span::from).collect(), resource, encoding)
    }
}

impl Parcel for LogRecord {
    const SIGNAL: Signal = Signal::Logs;

    fn pack(batch: Vec<Self>, resource: &Resource, _: Encoding) -> Bytes {
        let scope_logs = vec![ScopeLogs {
            scope: scope(),
            log_records: batch,
            ..ScopeLogs::default()
        }];
        let resource_logs = vec![ResourceLogs {
            resource: Some(resource.clone()),
            scope_logs,
            ..ResourceLogs::default()
        }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
    }
}

impl Parcel for Metric {
    const SIGNAL: Signal = Signal::Metrics;

    fn pack(batch: Vec<Self>, resource: &Resource, _: Encoding) -> Bytes {
        let scope_metrics = vec![ScopeMetrics {
            scope: scope(),
            metrics: batch,
            ..ScopeMetrics::default()
        }];
        let resource_metrics = vec![ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics,
            ..ResourceMetrics::default()
        }];
        ExportMetricsServiceRequest { resource_metrics }
            .encode_to_vec()
            .into()
    }
}
