//! A collector of OpenTelemetry's, over HTTP/1.1 and HTTP/2 in the clear, that keeps whatever it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::net::TcpListener;

/// What a collector does with what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It takes it.
    Takes,
    /// It answers with this status.
    Refuses(u16),
    /// It is not there: nobody listens at its address.
    Absent,
    /// It never answers.
    Silent,
}

/// A span that was told.
#[derive(Clone, Debug)]
pub struct HeardSpan {
    /// Its name.
    pub name: String,
    /// The service that told it.
    pub service: String,
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The id of its parent; empty if there is none.
    pub parent: String,
    /// Whether it is one of a server.
    pub server: bool,
    /// Its attributes, as text.
    pub tags: BTreeMap<String, String>,
}

/// A record of a log that was told.
#[derive(Clone, Debug)]
pub struct HeardRecord {
    /// Its text.
    pub body: String,
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Its attributes, as text.
    pub tags: BTreeMap<String, String>,
    /// The attributes of whoever told it.
    pub resource: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Heard {
    spans: Vec<HeardSpan>,
    records: Vec<HeardRecord>,
    zipkin: Vec<serde_json::Value>,
    metrics: BTreeSet<String>,
    asked: usize,
}

/// A collector.
#[derive(Clone, Debug)]
pub struct Collector {
    addr: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

impl Collector {
    /// Starts one at a free port of this address.
    pub async fn start(ip: Ipv4Addr, mood: Mood) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await?;
        let collector = Self {
            addr: listener.local_addr()?,
            heard: Arc::default(),
        };
        if mood == Mood::Absent {
            return Ok(collector);
        }
        let own = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = own.clone();
                let answer = service_fn(move |request| own.clone().answer(request, mood));
                tokio::spawn(async move {
                    let http = auto::Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Ok(collector)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<HeardSpan> {
        self.lock().spans.clone()
    }

    /// The records of logs so far.
    pub fn records(&self) -> Vec<HeardRecord> {
        self.lock().records.clone()
    }

    /// The spans of Zipkin's so far.
    pub fn zipkin(&self) -> Vec<serde_json::Value> {
        self.lock().zipkin.clone()
    }

    /// The names of the metrics so far.
    pub fn metrics(&self) -> BTreeSet<String> {
        self.lock().metrics.clone()
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.lock().asked
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        mood: Mood,
    ) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
        let path = request.uri().path().to_owned();
        let is_grpc = path.ends_with("/Export");
        let body = request.into_body().collect().await;
        self.lock().asked += 1;
        match mood {
            Mood::Silent => std::future::pending().await,
            Mood::Takes => {
                let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                self.hear(
                    &path,
                    if is_grpc {
                        body.slice(5.min(body.len())..)
                    } else {
                        body
                    },
                );
            }
            Mood::Refuses(_) | Mood::Absent => {}
        }
        let mut response = match is_grpc {
            true => {
                let trailers = HeaderMap::from_iter([(
                    HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                )]);
                let body = Full::new(Bytes::from_static(b"\0\0\0\0\0"));
                let body = body.with_trailers(async { Some(Ok(trailers)) });
                let mut response = Response::new(body.boxed());
                response
                    .headers_mut()
                    .insert("content-type", HeaderValue::from_static("application/grpc"));
                response
            }
            false => Response::new(Full::new(Bytes::new()).boxed()),
        };
        if let Mood::Refuses(status) = mood {
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        }
        Ok(response)
    }

    fn hear(&self, path: &str, body: Bytes) {
        let mut heard = self.lock();
        if path.contains("zipkin") || path.ends_with("/api/v2/spans") {
            let spans: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap_or_default();
            heard.zipkin.extend(spans);
        } else if path.contains("ogs") {
            let export = ExportLogsServiceRequest::decode(body).unwrap_or_default();
            for told in export.resource_logs {
                let resource = fields(told.resource.unwrap_or_default().attributes);
                for record in told.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                    heard.records.push(HeardRecord {
                        body: record.body.map(text).unwrap_or_default(),
                        trace: hex(&record.trace_id),
                        tags: fields(record.attributes),
                        resource: resource.clone(),
                    });
                }
            }
        } else if path.contains("etrics") {
            let export = ExportMetricsServiceRequest::decode(body).unwrap_or_default();
            let scopes = export
                .resource_metrics
                .into_iter()
                .flat_map(|it| it.scope_metrics);
            let metrics = scopes.flat_map(|scope| scope.metrics);
            heard.metrics.extend(metrics.map(|metric| metric.name));
        } else {
            let export = ExportTraceServiceRequest::decode(body).unwrap_or_default();
            for told in export.resource_spans {
                let resource = fields(told.resource.unwrap_or_default().attributes);
                for span in told.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    heard.spans.push(HeardSpan {
                        name: span.name,
                        service: resource.get("service.name").cloned().unwrap_or_default(),
                        trace: hex(&span.trace_id),
                        id: hex(&span.span_id),
                        parent: hex(&span.parent_span_id),
                        server: span.kind == SpanKind::Server as i32,
                        tags: fields(span.attributes),
                    });
                }
            }
        }
    }
}

fn fields(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let field = |it: KeyValue| Some((it.key, text(it.value?)));
    attributes.into_iter().filter_map(field).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
