//! One span, from its request's head to the end of its answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};

use super::attributes::{Tags, has_failed};
use super::keep::LocalTrace;
use super::plan::{Keep, TracePlan};
use crate::telemetry::access::Entry;
use crate::telemetry::{Meter, RequestLabels, TraceContext};

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
    pub(super) plan: Arc<TracePlan>,
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
    /// The paths that the route is for; `None` if it is for all, or there is none.
    pub(crate) path: Option<&'a str>,
    /// What became of each attempt, where there were several.
    pub(crate) attempts: Vec<Tried<'a>>,
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

/// One attempt to have the request answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried<'a> {
    /// After how long it began.
    pub(crate) began: Duration,
    /// How long it took; `None` if it was given up.
    pub(crate) took: Option<Duration>,
    /// Who was asked.
    pub(crate) endpoint: SocketAddr,
    /// As whom.
    pub(crate) peer: Option<&'a str>,
    /// The status of the answer; 0 if there was none.
    pub(crate) status: u16,
    /// Why there was none.
    pub(crate) failed: Option<&'a str>,
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
    pub(crate) fn trace_id(&self) -> [u8; 16] {
        self.context.trace_id().to_bytes()
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
        let attempts = (0..).zip(&told.attempts);
        let attempts = attempts.map(|(index, tried)| self.attempt(index, tried, entry));
        match &self.fate {
            Fate::Sampled => {
                attempts.for_each(|span| outlet.send(span, meter));
                outlet.send(self.span(entry, told, None), meter);
            }
            Fate::Part(local) => {
                // The request's own comes first: if there is no room for all, that is the one to have.
                for span in std::iter::once(self.span(entry, told, None)).chain(attempts) {
                    if !local.put(span) {
                        outlets.lost(1);
                    }
                }
            }
            Fate::Root(local) => {
                let waiting = local.end();
                let keep = self.plan.keep.unwrap_or_default();
                if let Some(why) = keep.why(entry, told.denied) {
                    waiting
                        .into_iter()
                        .chain(attempts)
                        .for_each(|span| outlet.send(span, meter));
                    outlet.send(self.span(entry, told, Some(why)), meter);
                }
            }
        }
    }

    fn span(&self, entry: &Entry<'_>, told: &Told<'_>, kept: Option<&'static str>) -> Span {
        let mut tags = Tags::new();
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

    /// The span of an attempt: a child of the request's, made when that is over. Nobody further on knows it.
    fn attempt(&self, index: u64, tried: &Tried<'_>, entry: &Entry<'_>) -> Span {
        let mut tags = Tags::new();
        tags.number("http.request.resend_count", index);
        tags.text("mesh.endpoint", tried.endpoint.to_string());
        tags.text("mesh.peer", tried.peer.unwrap_or_default());
        if tried.status != 0 {
            tags.number("http.response.status_code", tried.status.into());
        }
        if let Some(why) = tried.failed {
            tags.text("mesh.reason", why);
        }
        let began = entry.start + tried.began;
        let rest = entry.duration.saturating_sub(tried.began);
        let code = match tried.failed.is_some() || tried.took.is_none() || tried.status >= 500 {
            true => StatusCode::Error,
            false => StatusCode::Unset,
        };
        Span {
            trace_id: self.context.trace_id().to_bytes().to_vec(),
            span_id: fastrand::u64(1..).to_be_bytes().to_vec(),
            trace_state: self.context.trace_state().header(),
            parent_span_id: self.context.span_id().to_bytes().to_vec(),
            // The parent is here.
            flags: 0x101,
            name: "mesh.attempt".to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: nanos(began),
            end_time_unix_nano: nanos(began + tried.took.unwrap_or(rest)),
            attributes: tags.sorted(),
            status: Some(Status {
                code: code.into(),
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

/// Since 1970 began.
fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A span below `above`, or a trace that begins here.
fn fresh(above: Option<&SpanContext>, sampled: bool) -> SpanContext {
    let trace = above.map_or_else(|| TraceId::from(fastrand::u128(1..)), SpanContext::trace_id);
    let state = above.map_or_else(TraceState::default, |above| above.trace_state().clone());
    let flags = TraceFlags::default().with_sampled(sampled);
    SpanContext::new(trace, SpanId::from(fastrand::u64(1..)), flags, false, state)
}
