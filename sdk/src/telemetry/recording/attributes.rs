//! What a span says of its request.

use std::borrow::Cow;

use http::HeaderName;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use super::span::{Recording, Told};
use crate::telemetry::PartyLabels;
use crate::telemetry::access::{Entry, lossy};

impl Recording {
    /// As Envoy's tracer tags a request's span (Envoy `http_tracer_impl`).
    pub(super) fn envoy(&self, entry: &Entry<'_>, tags: &mut Tags) {
        let header = |name: &'static str| entry.request.get(&HeaderName::from_static(name)).map(lossy);
        tags.text("component", "proxy");
        tags.text("http.method", entry.method);
        let path = clipped(entry.path, self.plan.longest);
        tags.text(
            "http.url",
            format!("{}://{}{path}", entry.scheme, entry.authority),
        );
        tags.text("http.protocol", entry.protocol.unwrap_or_default());
        tags.text("http.status_code", entry.code.to_string());
        tags.text("request_size", entry.received.to_string());
        tags.text("response_size", entry.sent.to_string());
        tags.text("response_flags", entry.flags);
        tags.text("user_agent", header("user-agent").unwrap_or_default());
        let cluster = header("x-envoy-downstream-service-cluster");
        tags.text("downstream_cluster", cluster.unwrap_or(Cow::Borrowed("-")));
        tags.text("guid:x-request-id", header("x-request-id").unwrap_or_default());
        tags.text(
            "guid:x-client-trace-id",
            header("x-client-trace-id").unwrap_or_default(),
        );
        if let Some(peer) = entry.direct {
            tags.text("peer.address", peer.ip().to_string());
        }
        let cluster = entry.cluster.map(|name| name.text()).unwrap_or_default();
        tags.text("upstream_cluster", &*cluster);
        tags.text("upstream_cluster.name", cluster);
        if let Some(upstream) = entry.upstream {
            tags.text("upstream_address", upstream.to_string());
        }
        if has_failed(entry) {
            tags.text("error", "true");
        }
        if entry.attempts > 1 {
            tags.text("retry.count", (entry.attempts - 1).to_string());
        }
        let kind = header("content-type").unwrap_or_default();
        if kind.starts_with("application/grpc") {
            tags.text("grpc.path", entry.path);
            tags.text("grpc.authority", entry.authority);
            tags.text("grpc.content_type", kind);
            tags.text("grpc.timeout", header("grpc-timeout").unwrap_or_default());
            if let Some(status) = entry.grpc_status {
                tags.text("grpc.status_code", status.to_string());
            }
        }
    }

    /// As OpenTelemetry's semantic conventions for HTTP have it, and what is our own.
    pub(super) fn conventions(&self, entry: &Entry<'_>, told: &Told<'_>, tags: &mut Tags) {
        tags.text("http.request.method", entry.method);
        tags.number("http.response.status_code", entry.code.into());
        tags.text(
            "url.path",
            clipped(
                entry.path.split('?').next().unwrap_or_default(),
                self.plan.longest,
            ),
        );
        tags.text("url.scheme", entry.scheme);
        match entry.authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => {
                tags.text("server.address", host);
                tags.number("server.port", port.parse().unwrap_or_default());
            }
            _ => tags.text("server.address", entry.authority),
        }
        tags.text(
            "network.protocol.version",
            match entry.protocol {
                Some("HTTP/2") => "2",
                Some("HTTP/1.1") => "1.1",
                Some("HTTP/1.0") => "1.0",
                _ => "",
            },
        );
        if let Some(peer) = entry.direct {
            tags.text("network.peer.address", peer.ip().to_string());
        }
        tags.number("http.request.body.size", entry.received);
        tags.number("http.response.body.size", entry.sent);
        if entry.attempts > 1 {
            tags.number("http.request.resend_count", u64::from(entry.attempts - 1));
        }
        if let Some(status) = entry.grpc_status {
            tags.number("rpc.grpc.status_code", status.into());
        }
        match told.reason {
            Some(reason) => tags.text("error.type", reason),
            None if has_failed(entry) => tags.text("error.type", entry.code.to_string()),
            None => {}
        }
        tags.text("http.route", told.path.unwrap_or_default());
        tags.text(
            "mesh.rule",
            entry.route.map(|name| name.text()).unwrap_or_default(),
        );
        tags.text("mesh.peer", entry.peer.unwrap_or_default());
        tags.number("mesh.generation", told.generation);
    }

    /// Who called and who was called, as Istio tags it on waypoints; and who we are, unless that was switched off.
    pub(super) fn istio(&self, told: &Told<'_>, tags: &mut Tags) {
        for (name, value) in &*self.plan.own {
            tags.text(&**name, &**value);
        }
        for (end, party) in [
            ("source", &told.labels.source),
            ("destination", &told.labels.destination),
        ] {
            let PartyLabels {
                workload,
                namespace,
                app,
                version,
                canonical_service,
                canonical_revision,
                cluster,
                ..
            } = party;
            for (what, value) in [
                ("workload", workload),
                ("namespace", namespace),
                ("cluster_id", cluster),
                ("canonical_service", canonical_service),
                ("canonical_revision", canonical_revision),
                ("app", app),
                ("app_version", version),
            ] {
                if !value.is_empty() {
                    tags.text(format!("istio.{end}_{what}"), &**value);
                }
            }
            if !workload.is_empty() {
                // What istiod says of all of them.
                tags.text(format!("istio.{end}_workload_type"), "pod");
            }
        }
    }
}

/// Whether a request failed as Envoy sees it: 5xx, no answer, or a gRPC status of that kind.
pub(super) fn has_failed(entry: &Entry<'_>) -> bool {
    // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    entry.code == 0 || entry.code >= 500 || matches!(entry.grpc_status, Some(2 | 4 | 12..=15))
}

/// The beginning of a text, at most so many bytes of it.
fn clipped(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// The attributes of a span. What is empty is left out.
pub(super) struct Tags(Vec<KeyValue>);

impl Tags {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(48))
    }

    pub(super) fn text<'t>(&mut self, name: impl Into<String>, value: impl Into<Cow<'t, str>>) {
        let value = value.into();
        if !value.is_empty() {
            self.put(name.into(), Value::StringValue(value.into_owned()));
        }
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.put(
            name.to_owned(),
            Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)),
        );
    }

    /// A tag of the user's own: it takes the place of ours.
    pub(super) fn replace(&mut self, name: &str, value: Cow<'_, str>) {
        self.0.retain(|it| it.key != name);
        self.text(name, value);
    }

    fn put(&mut self, key: String, value: Value) {
        self.0.push(KeyValue {
            key,
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }

    pub(super) fn sorted(mut self) -> Vec<KeyValue> {
        self.0.sort_by(|a, b| a.key.cmp(&b.key));
        self.0
    }
}
