//! Trace context in headers: W3C Trace Context, level 1.

use http::{HeaderMap, HeaderName};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longer state than this may be left out (W3C Trace Context §3.3.1.5 asks for 512 at least).
const TRACESTATE_LIMIT: usize = 2_048;

/// The one well-formed `traceparent` of a request.
///
/// The check is stricter than the propagator's, which takes signs and short numbers. Several headers are as good as
/// none: nobody could say which of them the caller meant.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?.to_str().ok()?;
    (values.next().is_none() && is_traceparent(value)).then_some(value)
}

/// All `tracestate` headers as one, as W3C Trace Context §3.3.1 has it.
pub(super) fn tracestate(headers: &HeaderMap) -> Option<String> {
    let mut joined = String::new();
    for value in headers.get_all(TRACESTATE) {
        let value = value.to_str().ok()?.trim();
        if value.is_empty() {
            continue;
        }
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(value);
    }
    (!joined.is_empty() && joined.len() <= TRACESTATE_LIMIT).then_some(joined)
}

/// `version "-" trace-id "-" parent-id "-" flags`, and more only in versions to come.
fn is_traceparent(value: &str) -> bool {
    let mut parts = value.split('-');
    let mut hex = |digits: usize| {
        parts.next().filter(|part| {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            part.len() == digits && part.bytes().all(is_hex)
        })
    };
    let (Some(version), Some(trace), Some(parent), Some(_flags)) = (hex(2), hex(32), hex(16), hex(2)) else {
        return false;
    };
    let some = |id: &str| id.bytes().any(|byte| byte != b'0');
    version != "ff" && some(trace) && some(parent) && (version != "00" || parts.next().is_none())
}

#[cfg(feature = "otel")]
pub(super) mod otel {
    //! The same headers, read and written by OpenTelemetry's propagator.

    use http::{HeaderMap, HeaderName, HeaderValue};
    use opentelemetry::Context;
    use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
    use opentelemetry::trace::{SpanContext, TraceContextExt};
    use opentelemetry_sdk::propagation::TraceContextPropagator;

    struct Found<'a> {
        parent: &'a str,
        state: Option<String>,
    }

    struct Into<'a>(&'a mut HeaderMap);

    impl Extractor for Found<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            match key {
                "traceparent" => Some(self.parent),
                "tracestate" => self.state.as_deref(),
                _ => None,
            }
        }

        fn keys(&self) -> Vec<&str> {
            vec!["traceparent", "tracestate"]
        }
    }

    impl Injector for Into<'_> {
        fn set(&mut self, key: &str, value: String) {
            let Ok(name) = HeaderName::from_bytes(key.as_bytes()) else {
                return;
            };
            // An empty state is no state; what a caller sent before must not survive beside a new parent.
            match HeaderValue::try_from(value) {
                Ok(value) if !value.is_empty() => {
                    self.0.insert(name, value);
                }
                _ => {
                    self.0.remove(name);
                }
            }
        }
    }

    pub(in super::super) fn extract(headers: &HeaderMap) -> Option<SpanContext> {
        let found = Found {
            parent: super::traceparent(headers)?,
            state: super::tracestate(headers),
        };
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &found);
        let span = context.span().span_context().clone();
        span.is_valid().then_some(span)
    }

    pub(in super::super) fn inject(span: &SpanContext, headers: &mut HeaderMap) {
        let context = Context::new().with_remote_span_context(span.clone());
        TraceContextPropagator::new().inject_context(&context, &mut Into(headers));
    }
}
