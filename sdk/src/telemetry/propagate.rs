//! Trace context in headers: W3C Trace Context, level 1, and Zipkin's B3.

use http::{HeaderMap, HeaderName, HeaderValue};

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

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    trace: u128,
    span: u64,
    flags: u8,
}

/// The one well-formed `traceparent` of a request.
///
/// Several headers are as good as none: nobody could say which of them the caller meant.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<(&HeaderValue, Parent)> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?;
    let parent = Parent::parse(value.as_bytes()).filter(|_| values.next().is_none())?;
    Some((value, parent))
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

impl Parent {
    /// `version "-" trace-id "-" parent-id "-" flags`, and more only in versions to come. By hand: each request has one, and
    /// OpenTelemetry's propagator allocates eight times for it and takes signs and short numbers.
    fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(55)?;
        if [2, 35, 52].iter().any(|at| known[*at] != b'-') {
            return None;
        }
        let version = hex(&known[..2])?;
        let parent = Self {
            trace: hex(&known[3..35])?,
            span: hex(&known[36..52])? as u64,
            flags: hex(&known[53..])? as u8,
        };
        let goes_on = match more {
            [] => true,
            [b'-', rest @ ..] => version > 0 && rest.iter().all(|byte| (b' '..=b'~').contains(byte)),
            _ => false,
        };
        (version != 0xff && parent.trace != 0 && parent.span != 0 && goes_on).then_some(parent)
    }
}

/// What each byte is as a lower-case hexadecimal digit; 0xff if it is none. A table, because which of them is a letter nobody
/// can predict, least of all a processor.
const DIGITS: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut digit = 0;
    while digit < 16 {
        digits[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digit += 1;
    }
    digits
};

/// A number of lower-case digits, of which 32 have room.
fn hex(digits: &[u8]) -> Option<u128> {
    let (mut number, mut seen) = (0, 0);
    for digit in digits {
        let digit = DIGITS[usize::from(*digit)];
        number = number << 4 | u128::from(digit & 0xf);
        seen |= digit;
    }
    (seen < 16).then_some(number)
}

// The crate is deprecated for its exporter's sake, which is not used here; the propagator has no successor.
#[cfg(feature = "otel")]
#[allow(deprecated)]
pub(super) mod otel {
    //! The same headers as OpenTelemetry's contexts; those of B3 are read and written by its propagator.

    use std::str::FromStr as _;

    use http::{HeaderMap, HeaderName, HeaderValue};
    use opentelemetry::Context;
    use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
    use opentelemetry_zipkin::{B3Encoding, Propagator as Zipkin};

    use super::Formats;
    use crate::telemetry::{hex, page};

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

    /// The headers of B3, each if there is one alone and it is text.
    struct B3<'a>(&'a HeaderMap);

    struct Into<'a>(&'a mut HeaderMap);

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

    /// Of the flags "sampled" is ours, and what is no state is none (W3C Trace Context §3.2.2.5, §3.3).
    fn w3c(headers: &HeaderMap) -> Option<SpanContext> {
        let (_, parent) = super::traceparent(headers)?;
        let state = super::tracestate(headers).and_then(|state| TraceState::from_str(&state).ok());
        Some(SpanContext::new(
            TraceId::from(parent.trace),
            SpanId::from(parent.span),
            TraceFlags::new(parent.flags) & TraceFlags::SAMPLED,
            true,
            state.unwrap_or_default(),
        ))
    }

    /// `00-<trace>-<parent>-<flags>`.
    fn write_w3c(span: &SpanContext, headers: &mut HeaderMap) {
        if !span.is_valid() {
            return;
        }
        let mut parent = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(&span.trace_id().to_bytes(), &mut parent[3..35]);
        hex(&span.span_id().to_bytes(), &mut parent[36..52]);
        hex(
            &[(span.trace_flags() & TraceFlags::SAMPLED).to_u8()],
            &mut parent[53..],
        );
        if let Ok(parent) = HeaderValue::from_maybe_shared(page::value(&parent)) {
            headers.insert(super::TRACEPARENT, parent);
        }
        // An empty state is no state; what a caller sent before must not survive beside a new parent.
        match HeaderValue::try_from(span.trace_state().header()) {
            Ok(state) if !state.is_empty() => drop(headers.insert(super::TRACESTATE, state)),
            _ => drop(headers.remove(super::TRACESTATE)),
        }
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
            let context = Context::new().with_remote_span_context(span.clone());
            Zipkin::with_encoding(encoding).inject_context(&context, &mut Into(headers));
        }
        if formats.w3c {
            write_w3c(span, headers);
        }
    }
}
