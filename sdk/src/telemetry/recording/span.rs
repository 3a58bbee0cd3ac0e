//! One span, from its request's head to the end of its answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};

use super::keep::LocalTrace;
use super::plan::{Keep, TracePlan};
use crate::telemetry::access::Entry;
use crate::telemetry::{Meter, PartyLabels, RequestLabels, TraceContext};

/// Which end of a request a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// We received it.
    Server,
    /// We sent it.
    Client,
}

/// A span that is being recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    plan: Arc<TracePlan>,
    context: SpanContext,
    parent: Option<SpanContext>,
    side: Side,
    fate: Fate,
}

/// What becomes of a span at its end.
#[derive(Debug)]
enum Fate {
    /// It is sent.
    Sampled,
    /// It decides whether the local part of its trace is sent.
    Root(Arc<LocalTrace>),
    /// It waits for what that decides.
    Part(Arc<LocalTrace>),
}

/// What a span tells beside what an access log would.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    /// The operation: `<host>:<port><path>`.
    pub(crate) name: String,
    /// Who called and who was called.
    pub(crate) labels: &'a RequestLabels,
    /// Why the request was refused, if it was.
    pub(crate) reason: Option<&'a str>,
    /// Whether that was policy.
    pub(crate) denied: bool,
    /// Further attributes: of what was decided, and by what.
    pub(crate) more: Vec<(&'static str, String)>,
    /// The generation of the configuration that judged.
    pub(crate) generation: u64,
}

impl Recording {
    /// The context that a request has from here on, and the span that is recorded of it, if one is.
    ///
    /// `caller` is the context that it came with, and `sampled` what was decided of it.
    pub(crate) fn begin(
        plan: &Arc<TracePlan>,
        caller: &TraceContext,
        sampled: bool,
        side: Side,
        meter: &Meter,
    ) -> (TraceContext, Option<Self>) {
        // A trace that begins here has an id already, because that may have decided.
        let trace = caller.span();
        let above = trace.filter(|span| span.span_id() != SpanId::INVALID);
        let fate = match (sampled, caller.local()) {
            _ if plan.outlet.is_none() => None,
            (true, _) => Some(Fate::Sampled),
            (false, Some(local)) => Some(Fate::Part(Arc::clone(local))),
            (false, None) if plan.keep.is_some() => {
                let local = LocalTrace::begin(meter.outlets().room());
                if local.is_none() {
                    meter.outlets().lost(1);
                }
                local.map(Fate::Root)
            }
            (false, None) => None,
        };
        let Some(fate) = fate else {
            // Nothing of ours stands between the caller and whom we call.
            let context = match above {
                Some(_) => caller.flagged(sampled),
                None => TraceContext::of_span(fresh(trace, sampled), None),
            };
            return (context, None);
        };
        let context = fresh(trace, sampled);
        let local = match &fate {
            Fate::Sampled => None,
            Fate::Root(local) | Fate::Part(local) => Some(Arc::clone(local)),
        };
        let recording = Self {
            plan: Arc::clone(plan),
            context: context.clone(),
            parent: above.cloned(),
            side,
            fate,
        };
        (TraceContext::of_span(context, local), Some(recording))
    }

    /// The trace's id.
    pub(crate) fn trace_id(&self) -> String {
        self.context.trace_id().to_string()
    }

    /// Whether it has anything to tell, now that the request has ended; `denied` says whether that was policy.
    pub(crate) fn tells(&self, entry: &Entry<'_>, denied: bool) -> bool {
        match self.fate {
            Fate::Sampled | Fate::Part(_) => true,
            Fate::Root(_) => self
                .plan
                .keep
                .is_some_and(|keep| keep.why(entry, denied).is_some()),
        }
    }

    /// Ends it.
    pub(crate) fn finish(self, entry: &Entry<'_>, told: &Told<'_>, meter: &Meter) {
        let outlets = meter.outlets();
        let Some(outlet) = self.plan.outlet.clone() else {
            return;
        };
        match &self.fate {
            Fate::Sampled => outlet.send(self.span(entry, told, None), meter),
            Fate::Part(local) => {
                if !local.put(self.span(entry, told, None)) {
                    outlets.lost(1);
                }
            }
            Fate::Root(local) => {
                let waiting = local.end();
                let keep = self.plan.keep.unwrap_or_default();
                if let Some(why) = keep.why(entry, told.denied) {
                    for span in waiting {
                        outlet.send(span, meter);
                    }
                    outlet.send(self.span(entry, told, Some(why)), meter);
                }
            }
        }
    }

    fn span(&self, entry: &Entry<'_>, told: &Told<'_>, kept: Option<&'static str>) -> Span {
        let mut tags = Tags(Vec::with_capacity(48));
        self.envoy(entry, &mut tags);
        self.conventions(entry, told, &mut tags);
        self.istio(told, &mut tags);
        for (name, value) in &told.more {
            tags.text(*name, value);
        }
        if let Some(why) = kept {
            tags.text("mesh.kept", why);
        }
        for tag in &self.plan.tags {
            if let Some(value) = tag.value(entry) {
                tags.replace(tag.name(), value);
            }
        }
        let failed = has_failed(entry);
        let nanos = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let nanos = |at: SystemTime| u64::try_from(nanos(at)).unwrap_or(u64::MAX);
        Span {
            trace_id: self.context.trace_id().to_bytes().to_vec(),
            span_id: self.context.span_id().to_bytes().to_vec(),
            trace_state: self.context.trace_state().header(),
            parent_span_id: self
                .parent
                .as_ref()
                .map(|parent| parent.span_id().to_bytes().to_vec())
                .unwrap_or_default(),
            flags: self.flags(),
            name: told.name.clone(),
            kind: match self.side {
                Side::Server => SpanKind::Server,
                Side::Client => SpanKind::Client,
            }
            .into(),
            start_time_unix_nano: nanos(entry.start),
            end_time_unix_nano: nanos(entry.start + entry.duration),
            attributes: tags.sorted(),
            status: Some(Status {
                code: match failed {
                    true => StatusCode::Error,
                    false => StatusCode::Unset,
                }
                .into(),
                message: String::new(),
            }),
            ..Span::default()
        }
    }

    /// W3C's flags, and whether the parent is in another process (OTLP `SpanFlags`). What is kept counts as sampled: it is
    /// there.
    fn flags(&self) -> u32 {
        const HAS_IS_REMOTE: u32 = 0x100;
        const IS_REMOTE: u32 = 0x200;
        let remote = self.parent.as_ref().is_some_and(SpanContext::is_remote);
        1 | HAS_IS_REMOTE | if remote { IS_REMOTE } else { 0 }
    }

    /// As Envoy's tracer tags a request's span (Envoy `http_tracer_impl`).
    fn envoy(&self, entry: &Entry<'_>, tags: &mut Tags) {
        let header = |name: &str| {
            entry
                .request
                .get(name)
                .map(|it| String::from_utf8_lossy(it.as_bytes()))
        };
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
        tags.text("upstream_cluster", entry.cluster.unwrap_or_default());
        tags.text("upstream_cluster.name", entry.cluster.unwrap_or_default());
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
    fn conventions(&self, entry: &Entry<'_>, told: &Told<'_>, tags: &mut Tags) {
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
        tags.text("mesh.rule", entry.route.unwrap_or_default());
        tags.text("mesh.peer", entry.peer.unwrap_or_default());
        tags.number("mesh.generation", told.generation);
    }

    /// Who called and who was called, as Istio tags it on waypoints; and who we are, unless that was switched off.
    fn istio(&self, told: &Told<'_>, tags: &mut Tags) {
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

impl Keep {
    /// Why a trace is kept, if it is.
    fn why(&self, entry: &Entry<'_>, denied: bool) -> Option<&'static str> {
        if self.denied && denied {
            return Some("denied");
        }
        if self.failed && has_failed(entry) && !denied {
            return Some("failed");
        }
        let slow = self.slow.is_some_and(|limit| entry.duration >= limit);
        slow.then_some("slow")
    }
}

/// Whether a request failed as Envoy sees it: 5xx, no answer, or a gRPC status of that kind.
fn has_failed(entry: &Entry<'_>) -> bool {
    // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    entry.code == 0 || entry.code >= 500 || matches!(entry.grpc_status, Some(2 | 4 | 12..=15))
}

/// A span below `above`, or a trace that begins here.
fn fresh(above: Option<&SpanContext>, sampled: bool) -> SpanContext {
    let trace = above.map_or_else(|| TraceId::from(fastrand::u128(1..)), SpanContext::trace_id);
    let state = above.map_or_else(TraceState::default, |above| above.trace_state().clone());
    let flags = TraceFlags::default().with_sampled(sampled);
    SpanContext::new(trace, SpanId::from(fastrand::u64(1..)), flags, false, state)
}

/// The beginning of a text, at most so many bytes of it.
fn clipped(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// The attributes of a span. What is empty is left out.
struct Tags(Vec<KeyValue>);

impl Tags {
    fn text<'t>(&mut self, name: impl Into<String>, value: impl Into<Cow<'t, str>>) {
        let value = value.into();
        if !value.is_empty() {
            self.put(name.into(), Value::StringValue(value.into_owned()));
        }
    }

    fn number(&mut self, name: &str, value: u64) {
        self.put(
            name.to_owned(),
            Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)),
        );
    }

    /// A tag of the user's own: it takes the place of ours.
    fn replace(&mut self, name: &str, value: Cow<'_, str>) {
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

    fn sorted(mut self) -> Vec<KeyValue> {
        self.0.sort_by(|a, b| a.key.cmp(&b.key));
        self.0
    }
}
