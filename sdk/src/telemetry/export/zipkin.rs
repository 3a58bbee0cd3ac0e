//! Spans as Zipkin's collectors take them: JSON of its API v2.

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Map, Value, json};

/// A list of spans, as `POST /api/v2/spans` takes it.
pub(super) fn spans(batch: &[Span], resource: &Resource) -> Bytes {
    let service = resource.attributes.iter().find(|it| it.key == "service.name");
    let service = service
        .and_then(|it| it.value.as_ref())
        .map(text)
        .unwrap_or_default();
    let spans: Vec<Value> = batch.iter().map(|one| span(one, &service)).collect();
    // A list of JSON values is JSON.
    serde_json::to_vec(&spans).unwrap_or_default().into()
}

fn span(span: &Span, service: &str) -> Value {
    let mut told = Map::new();
    let mut put = |key: &str, value: Value| drop(told.insert(key.to_owned(), value));
    put("traceId", hex(&span.trace_id).into());
    put("id", hex(&span.span_id).into());
    if !span.parent_span_id.is_empty() {
        put("parentId", hex(&span.parent_span_id).into());
    }
    put("name", span.name.as_str().into());
    match SpanKind::try_from(span.kind) {
        Ok(SpanKind::Server) => put("kind", "SERVER".into()),
        Ok(SpanKind::Client) => put("kind", "CLIENT".into()),
        _ => {}
    }
    put("timestamp", (span.start_time_unix_nano / 1_000).into());
    // Zero means "not known" to Zipkin.
    let nanos = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    put("duration", (nanos / 1_000).max(1).into());
    put("localEndpoint", json!({"serviceName": service}));
    put("tags", tags(&span.attributes));
    Value::Object(told)
}

fn tags(attributes: &[KeyValue]) -> Value {
    let tag = |it: &KeyValue| {
        (
            it.key.clone(),
            it.value.as_ref().map(text).unwrap_or_default().into(),
        )
    };
    Value::Object(attributes.iter().map(tag).collect())
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::BoolValue(value)) => value.to_string(),
        Some(Any::IntValue(value)) => value.to_string(),
        Some(Any::DoubleValue(value)) => value.to_string(),
        // We write no others.
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
