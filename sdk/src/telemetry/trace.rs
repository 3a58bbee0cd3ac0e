//! The trace that a request belongs to.

use http::{HeaderMap, HeaderValue};
use tracing::Span;

#[cfg(feature = "otel")]
use opentelemetry::trace::TraceContextExt;
#[cfg(feature = "otel")]
use opentelemetry::trace::{SpanContext, TraceFlags};
#[cfg(feature = "otlp")]
use opentelemetry::trace::{SpanId, TraceId, TraceState};
#[cfg(feature = "otel")]
use tracing_opentelemetry::OpenTelemetrySpanExt;

#[cfg(feature = "otel")]
use super::Formats;
use super::Propagation;
use super::propagate;
#[cfg(feature = "otlp")]
use super::recording::LocalTrace;
#[cfg(feature = "otlp")]
use std::sync::Arc;

tokio::task_local! {
    static SCOPE: TraceContext;
}

/// The trace context of one request, or none.
///
/// With feature `otel` OpenTelemetry's propagators read and write it. Without, the caller's headers are passed on
/// as they came, once found well-formed.
#[derive(Clone, Debug, Default)]
pub struct TraceContext {
    #[cfg(feature = "otel")]
    span: Option<SpanContext>,
    /// Where spans of calls wait until it is known whether the trace is worth keeping.
    #[cfg(feature = "otlp")]
    local: Option<Arc<LocalTrace>>,
    #[cfg(not(feature = "otel"))]
    headers: Option<(HeaderValue, Option<HeaderValue>)>,
}

impl TraceContext {
    /// Runs a future within this context, so that [`current`] finds it though nobody collects spans.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        SCOPE.scope(self, future)
    }

    /// As [`TraceContext::scope`], for one poll of a future that is polled by hand.
    pub fn in_scope<T>(&self, poll: impl FnOnce() -> T) -> T {
        if self.is_none() {
            poll()
        } else {
            SCOPE.sync_scope(self.clone(), poll)
        }
    }

    /// The context that a `traceparent` alone tells; none if it is malformed.
    pub fn of_parent(traceparent: &HeaderValue) -> Self {
        let mut headers = HeaderMap::with_capacity(1);
        headers.insert(propagate::TRACEPARENT, traceparent.clone());
        Self::extract(&headers)
    }

    /// The context for the `traceparent` of a CONNECT, which joins a tunnel's stream to its request.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        self.inject(&mut headers);
        headers.remove(propagate::TRACEPARENT)
    }
}

#[cfg(feature = "otel")]
impl TraceContext {
    /// The context that a request's headers carry; none if they carry none, or a malformed one.
    pub fn extract(headers: &HeaderMap) -> Self {
        Self::extract_by(headers, &Propagation::default())
    }

    /// As [`TraceContext::extract`], from the headers that are read.
    pub fn extract_by(headers: &HeaderMap, propagation: &Propagation) -> Self {
        Self::of(propagate::otel::extract(headers, propagation.read))
    }

    fn of(span: Option<SpanContext>) -> Self {
        Self {
            span,
            ..Self::default()
        }
    }

    /// Writes this context over whatever the headers carried; leaves them alone if there is none.
    pub fn inject(&self, headers: &mut HeaderMap) {
        self.inject_by(headers, &Propagation::default());
    }

    /// As [`TraceContext::inject`], into the headers that are written.
    pub fn inject_by(&self, headers: &mut HeaderMap, propagation: &Propagation) {
        if let Some(span) = self
            .span
            .as_ref()
            .filter(|_| propagation.write != Formats::default())
        {
            propagate::otel::inject(span, headers, propagation.write);
        }
    }

    /// What the caller has decided about the trace: to record it or not. `None` if there is none, or that is left to us.
    pub fn decided(&self) -> Option<bool> {
        let span = self.span.as_ref()?;
        let deferred = propagate::otel::DEFERRED;
        (span.trace_flags() & deferred != deferred).then(|| span.is_sampled())
    }

    /// The same trace, but not to be recorded from here on.
    pub fn unsampled(&self) -> Self {
        Self::of(self.span.as_ref().map(|span| flagged(span, false)))
    }

    /// The same trace, recorded or not.
    #[cfg(feature = "otlp")]
    pub(crate) fn flagged(&self, sampled: bool) -> Self {
        Self::of(self.span.as_ref().map(|span| flagged(span, sampled)))
    }

    /// That of a trace that nobody records.
    #[cfg(feature = "otlp")]
    pub(crate) fn unrecorded() -> Self {
        let (trace, span) = (
            TraceId::from(fastrand::u128(1..)),
            SpanId::from(fastrand::u64(1..)),
        );
        let (flags, none) = (TraceFlags::default(), TraceState::default());
        Self::of(Some(SpanContext::new(trace, span, flags, false, none)))
    }

    /// The span of ours that it leads to.
    #[cfg(feature = "otlp")]
    pub(crate) fn of_span(span: SpanContext, local: Option<Arc<LocalTrace>>) -> Self {
        Self {
            span: Some(span),
            local,
        }
    }

    /// This context, or that of a trace that begins here and has no span yet.
    #[cfg(feature = "otlp")]
    pub(crate) fn or_fresh(self) -> Self {
        if self.span.is_some() {
            return self;
        }
        let trace = TraceId::from(fastrand::u128(1..));
        let none = TraceState::default();
        let span = SpanContext::new(trace, SpanId::INVALID, propagate::otel::DEFERRED, false, none);
        Self {
            span: Some(span),
            ..self
        }
    }

    /// What B3 says of sampling where it names no trace.
    #[cfg(feature = "otlp")]
    pub(crate) fn hint(headers: &HeaderMap, propagation: &Propagation) -> Option<bool> {
        match propagation.read.b3_single || propagation.read.b3_multi {
            true => propagate::otel::hint(headers, propagation.read),
            false => None,
        }
    }

    /// The lower half of the trace's id, by which it can be decided.
    #[cfg(feature = "otlp")]
    pub(crate) fn trace_share(&self) -> u64 {
        let id = self
            .span
            .as_ref()
            .map(|span| u128::from_be_bytes(span.trace_id().to_bytes()));
        id.unwrap_or_default() as u64
    }

    /// The same, with a decision, and with the spans that wait for another.
    #[cfg(feature = "otlp")]
    pub(crate) fn settled(self, sampled: bool) -> Self {
        Self {
            span: self.span.as_ref().map(|span| flagged(span, sampled)),
            ..self
        }
    }

    /// The span that it leads to.
    #[cfg(feature = "otlp")]
    pub(crate) fn span(&self) -> Option<&SpanContext> {
        self.span.as_ref()
    }

    /// Where spans of calls wait.
    #[cfg(feature = "otlp")]
    pub(crate) fn local(&self) -> Option<&Arc<LocalTrace>> {
        self.local.as_ref()
    }

    /// Whether there is no trace.
    pub fn is_none(&self) -> bool {
        self.span.is_none()
    }

    /// Whether the caller records this trace.
    pub fn is_sampled(&self) -> bool {
        self.span.as_ref().is_some_and(SpanContext::is_sampled)
    }

    /// The trace's id, if the trace is recorded.
    pub(crate) fn sampled(&self) -> Option<[u8; 16]> {
        let span = self.span.as_ref().filter(|span| span.is_sampled())?;
        Some(span.trace_id().to_bytes())
    }

    /// The trace's id, whoever records it.
    pub(crate) fn id(&self) -> Option<[u8; 16]> {
        self.span.as_ref().map(|span| span.trace_id().to_bytes())
    }

    /// The trace's id in 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<String> {
        self.span.as_ref().map(|span| span.trace_id().to_string())
    }
}

#[cfg(not(feature = "otel"))]
impl TraceContext {
    /// The context that a request's headers carry; none if they carry none, or a malformed one.
    pub fn extract(headers: &HeaderMap) -> Self {
        let value = |text: String| HeaderValue::try_from(text).ok();
        let state = propagate::tracestate(headers).and_then(value);
        Self {
            headers: propagate::traceparent(headers).map(|(parent, _)| (parent.clone(), state)),
        }
    }

    /// As [`TraceContext::extract`]: there is but one form of it.
    pub fn extract_by(headers: &HeaderMap, propagation: &Propagation) -> Self {
        match propagation.read.w3c {
            true => Self::extract(headers),
            false => Self::default(),
        }
    }

    /// As [`TraceContext::inject`]: there is but one form of it.
    pub fn inject_by(&self, headers: &mut HeaderMap, propagation: &Propagation) {
        if propagation.write.w3c {
            self.inject(headers);
        }
    }

    /// What the caller has decided about the trace: to record it or not. `None` if there is none.
    pub fn decided(&self) -> Option<bool> {
        (!self.is_none()).then(|| self.is_sampled())
    }

    /// Writes this context over whatever the headers carried; leaves them alone if there is none.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let Some((parent, state)) = &self.headers else {
            return;
        };
        headers.insert(propagate::TRACEPARENT, parent.clone());
        match state {
            Some(state) => headers.insert(propagate::TRACESTATE, state.clone()),
            None => headers.remove(propagate::TRACESTATE),
        };
    }

    /// The same trace, but not to be recorded from here on.
    pub fn unsampled(&self) -> Self {
        let unsampled = |(parent, state): &(HeaderValue, Option<HeaderValue>)| {
            let (rest, _) = parent.to_str().ok()?.rsplit_once('-')?;
            let parent = HeaderValue::try_from(format!("{rest}-00")).ok()?;
            Some((parent, state.clone()))
        };
        Self {
            headers: self.headers.as_ref().and_then(unsampled),
        }
    }

    /// Whether there is no trace.
    pub fn is_none(&self) -> bool {
        self.headers.is_none()
    }

    /// Whether the caller records this trace.
    pub fn is_sampled(&self) -> bool {
        let flags = self.part(3).and_then(|flags| u8::from_str_radix(flags, 16).ok());
        flags.is_some_and(|flags| flags & 1 == 1)
    }

    /// The trace's id, if the trace is recorded.
    pub(crate) fn sampled(&self) -> Option<[u8; 16]> {
        self.id().filter(|_| self.is_sampled())
    }

    /// The trace's id, whoever records it.
    pub(crate) fn id(&self) -> Option<[u8; 16]> {
        let id = self.part(1)?;
        u128::from_str_radix(id, 16).ok().map(u128::to_be_bytes)
    }

    /// The trace's id in 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<String> {
        self.part(1).map(str::to_owned)
    }

    fn part(&self, index: usize) -> Option<&str> {
        let (parent, _) = self.headers.as_ref()?;
        parent.to_str().ok()?.split('-').nth(index)
    }
}

#[cfg(feature = "otel")]
fn flagged(span: &SpanContext, sampled: bool) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(sampled);
    let state = span.trace_state().clone();
    SpanContext::new(span.trace_id(), span.span_id(), flags, span.is_remote(), state)
}

/// Gives a span an attribute that it does not declare, if an OpenTelemetry layer knows it.
#[cfg(feature = "otlp")]
pub(crate) fn tag(span: &Span, name: &str, value: &str) {
    span.set_attribute(name.to_owned(), value.to_owned());
}

/// The context that a call made right now continues: the current span's, else that of the enclosing
/// [`TraceContext::scope`].
pub fn current() -> TraceContext {
    let context = context_of(&Span::current());
    if context.is_none() {
        SCOPE.try_with(TraceContext::clone).unwrap_or_default()
    } else {
        context
    }
}

/// Makes a remote context the parent of a span.
///
/// Must come before the span is entered or asked for its context, because that fixes its parent.
pub fn adopt(span: &Span, context: &TraceContext) {
    #[cfg(feature = "otel")]
    if let Some(remote) = context.span.as_ref().filter(|_| !span.is_disabled()) {
        let parent = opentelemetry::Context::new().with_remote_span_context(remote.clone());
        // Fails only where nobody listens or the span has begun, and then there is nothing to be done.
        let _ = span.set_parent(parent);
    }
    #[cfg(not(feature = "otel"))]
    let _ = (span, context);
}

/// Links a span to another trace without becoming part of it, as a request is to the tunnel that carries it.
pub fn follow(span: &Span, context: &TraceContext) {
    #[cfg(feature = "otel")]
    if let Some(remote) = context.span.as_ref().filter(|_| !span.is_disabled()) {
        span.add_link(remote.clone());
    }
    #[cfg(not(feature = "otel"))]
    let _ = (span, context);
}

/// The context that a span's children on other machines continue; none if no OpenTelemetry layer knows the span.
pub fn context_of(span: &Span) -> TraceContext {
    #[cfg(feature = "otel")]
    if !span.is_disabled() {
        let context = span.context();
        let span = context.span().span_context().clone();
        return TraceContext::of(span.is_valid().then_some(span));
    }
    #[cfg(not(feature = "otel"))]
    let _ = span;
    TraceContext::default()
}
