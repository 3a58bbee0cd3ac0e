//! Trace context in headers: W3C Trace Context, level 1, and Zipkin's B3.

use http::{HeaderMap, HeaderName};

/// The forms in which headers carry a trace context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Formats {
    /// `traceparent` and `tracestate`.
    pub w3c: bool,
    /// `b3`, all in one.
    pub b3_single: bool,
    /// `x-b3-traceid` and its siblings.
    pub b3_multi: bool,
}

/// Which headers carry the context of a trace: from callers, and to whom we call.
///
/// Where several forms are read, B3 comes first, as in Envoy's Zipkin tracer. Without feature `otel` there is W3C only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Propagation {
    /// What is read.
    pub read: Formats,
    /// What is written.
    pub write: Formats,
}

impl Formats {
    /// W3C Trace Context.
    pub const W3C: Self = Self {
        w3c: true,
        b3_single: false,
        b3_multi: false,
    };
    /// B3 in several headers.
    pub const B3: Self = Self {
        w3c: false,
        b3_single: false,
        b3_multi: true,
    };

    /// With another form.
    pub const fn and(self, other: Self) -> Self {
        Self {
            w3c: self.w3c || other.w3c,
            b3_single: self.b3_single || other.b3_single,
            b3_multi: self.b3_multi || other.b3_multi,
        }
    }

    #[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "asked by the propagators"))]
    fn has_b3(self) -> bool {
        self.b3_single || self.b3_multi
    }
}

impl Default for Propagation {
    fn default() -> Self {
        Self {
            read: Formats::W3C,
            write: Formats::W3C,
        }
    }
}

impl Propagation {
    /// As Istio's Zipkin provider has it: B3 in either form is read, several headers are written (`USE_B3`); and W3C
    /// beside it (`USE_B3_WITH_W3C_PROPAGATION`).
    pub const fn zipkin(with_w3c: bool) -> Self {
        let read = Formats {
            w3c: with_w3c,
            b3_single: true,
            b3_multi: true,
        };
        let write = match with_w3c {
            true => Formats::B3.and(Formats::W3C),
            false => Formats::B3,
        };
        Self { read, write }
    }

    /// As `OTEL_PROPAGATORS` has it, read and written alike: `tracecontext`, `b3`, `b3multi`, several with commas between, or
    /// `none`. `baggage` is the application's own and passes in any case.
    ///
    /// # Errors
    /// If one of them is not known here.
    pub fn named(names: &str) -> Result<Self, String> {
        let mut formats = Formats::default();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "tracecontext" => formats.w3c = true,
                "b3" => formats.b3_single = true,
                "b3multi" => formats.b3_multi = true,
                "baggage" | "none" => {}
                other => {
                    return Err(format!(
                        "`{other}` is none of tracecontext, baggage, b3, b3multi, none"
                    ));
                }
            }
        }
        Ok(Self {
            read: formats,
            write: formats,
        })
    }

    /// The same, without telling anybody (`disableContextPropagation`).
    pub const fn mute(mut self) -> Self {
        self.write = Formats {
            w3c: false,
            b3_single: false,
            b3_multi: false,
        };
        self
    }
}

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

// The crate is deprecated for its exporter's sake, which is not used here; the propagator has no successor.
#[cfg(feature = "otel")]
#[allow(deprecated)]
pub(super) mod otel {
    //! The same headers, read and written by OpenTelemetry's propagators.

    use http::{HeaderMap, HeaderName, HeaderValue};
    use opentelemetry::Context;
    use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
    use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_zipkin::{B3Encoding, Propagator as Zipkin};

    use super::Formats;

    /// B3 leaves it to us whether the trace is recorded. W3C's own second bit is never in a context: the propagator
    /// clears it.
    pub(in super::super) const DEFERRED: TraceFlags = TraceFlags::new(2);
    /// B3 asks for a trace in any case.
    const DEBUG: TraceFlags = TraceFlags::new(4);

    const SINGLE: HeaderName = HeaderName::from_static("b3");
    const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
    const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
    const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
    const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
    const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

    struct Found<'a> {
        parent: &'a str,
        state: Option<String>,
    }

    /// The headers of B3, each if there is one alone and it is text.
    struct B3<'a>(&'a HeaderMap);

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

    impl Extractor for B3<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            let mut values = self.0.get_all(key).iter();
            let value = values.next()?.to_str().ok()?;
            // The propagator's numbers may have signs; B3's may not.
            (values.next().is_none() && !value.contains('+')).then_some(value)
        }

        fn keys(&self) -> Vec<&str> {
            Vec::new()
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

    pub(in super::super) fn extract(headers: &HeaderMap, formats: Formats) -> Option<SpanContext> {
        let b3 = formats.has_b3().then(|| b3(headers, formats)).flatten();
        b3.or_else(|| formats.w3c.then(|| w3c(headers)).flatten())
    }

    fn w3c(headers: &HeaderMap) -> Option<SpanContext> {
        let found = Found {
            parent: super::traceparent(headers)?,
            state: super::tracestate(headers),
        };
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &found);
        let span = context.span().span_context().clone();
        span.is_valid().then_some(span)
    }

    fn b3(headers: &HeaderMap, formats: Formats) -> Option<SpanContext> {
        let single = formats.b3_single && headers.contains_key(SINGLE);
        if !single && !headers.contains_key(TRACE) {
            return None;
        }
        // In its single form `d` is a sampling state, in several headers `true` is one.
        let encoding = match single {
            true => B3Encoding::SingleHeader,
            false => B3Encoding::MultipleHeader,
        };
        let context = Zipkin::with_encoding(encoding).extract_with_context(&Context::new(), &B3(headers));
        let span = context.span().span_context().clone();
        let mut flags = span.trace_flags() & (TraceFlags::SAMPLED | DEFERRED | DEBUG);
        if flags & DEBUG == DEBUG {
            flags = flags | TraceFlags::SAMPLED;
        }
        let state = span.trace_state().clone();
        span.is_valid()
            .then(|| SpanContext::new(span.trace_id(), span.span_id(), flags, true, state))
    }

    /// What B3 says of sampling where it names no trace: `b3: 0`, or `x-b3-sampled` alone.
    #[cfg_attr(
        not(feature = "otlp"),
        allow(dead_code, reason = "asked by who records traces")
    )]
    pub(in super::super) fn hint(headers: &HeaderMap, formats: Formats) -> Option<bool> {
        let b3 = B3(headers);
        let single = formats.b3_single.then(|| b3.get("b3")).flatten();
        let multi = || formats.b3_multi.then(|| b3.get("x-b3-sampled")).flatten();
        match single.or_else(multi)? {
            "0" | "false" => Some(false),
            "1" | "true" | "d" => Some(true),
            _ => None,
        }
    }

    pub(in super::super) fn inject(span: &SpanContext, headers: &mut HeaderMap, formats: Formats) {
        let context = Context::new().with_remote_span_context(span.clone());
        if formats.has_b3() {
            // All that a caller said in B3 goes: half of it beside a new context would be another.
            for name in [SINGLE, TRACE, SPAN, PARENT, SAMPLED, FLAGS] {
                headers.remove(name);
            }
            let encoding = match formats {
                Formats {
                    b3_single: true,
                    b3_multi: true,
                    ..
                } => B3Encoding::SingleAndMultiHeader,
                Formats { b3_single: true, .. } => B3Encoding::SingleHeader,
                _ => B3Encoding::MultipleHeader,
            };
            Zipkin::with_encoding(encoding).inject_context(&context, &mut Into(headers));
        }
        if formats.w3c {
            TraceContextPropagator::new().inject_context(&context, &mut Into(headers));
        }
    }
}
