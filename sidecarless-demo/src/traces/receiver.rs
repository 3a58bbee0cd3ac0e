//! OTLP over HTTP in, pages out.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Span, Store, page};
use crate::guard::{Guard, guard};

/// The largest batch of spans.
const MAX_BATCH: usize = 16 << 20;

/// What OTLP is sent as.
const PROTOBUF: &str = "application/x-protobuf";
/// The pages are text and the style that stands in them.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Listens on a free port.
pub(super) async fn start(store: Arc<Store>) -> anyhow::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let protection = Guard {
        own: address,
        takes: PROTOBUF,
        policy: POLICY,
    };
    let router = Router::new()
        .route("/v1/traces", post(receive))
        .route("/v1/metrics", post(swallow))
        .route("/traces", get(list))
        .route("/traces/{id}", get(show))
        .layer(DefaultBodyLimit::max(MAX_BATCH))
        .layer(middleware::from_fn_with_state(protection, guard))
        .with_state(store);
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            eprintln!("traces: {error}");
        }
    });
    Ok((address, server))
}

async fn receive(State(store): State<Arc<Store>>, body: Bytes) -> Response {
    let Ok(batch) = ExportTraceServiceRequest::decode(body) else {
        return (StatusCode::BAD_REQUEST, "not an ExportTraceServiceRequest").into_response();
    };
    for resource in batch.resource_spans {
        let attributes = resource
            .resource
            .map(|resource| resource.attributes)
            .unwrap_or_default();
        let service = attribute(&attributes, "service.name");
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let trace = hex(&span.trace_id);
            store.add(trace, read(span, &service));
        }
    }
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    ([(header::CONTENT_TYPE, PROTOBUF)], answer).into_response()
}

/// Takes metrics, which Prometheus has already: that they can be sent is counted by whoever sends them.
async fn swallow(body: Bytes) -> Response {
    match ExportMetricsServiceRequest::decode(body) {
        Ok(_) => (
            [(header::CONTENT_TYPE, PROTOBUF)],
            ExportMetricsServiceResponse::default().encode_to_vec(),
        )
            .into_response(),
        Err(_) => (StatusCode::BAD_REQUEST, "not an ExportMetricsServiceRequest").into_response(),
    }
}

fn read(span: opentelemetry_proto::tonic::trace::v1::Span, service: &str) -> Span {
    let kind = match span.kind() {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        _ => "internal",
    };
    Span {
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        service: service.to_owned(),
        kind,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: span
            .attributes
            .iter()
            .map(|pair| (pair.key.clone(), text(pair.value.as_ref())))
            .collect(),
        name: span.name,
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let pair = attributes.iter().find(|pair| pair.key == key);
    text(pair.and_then(|pair| pair.value.as_ref()))
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn list(State(store): State<Arc<Store>>) -> Html<String> {
    Html(page::list(&store.newest(page::LISTED)))
}

async fn show(State(store): State<Arc<Store>>, Path(id): Path<String>) -> Html<String> {
    Html(page::one(&id, &store.trace(&id)))
}
