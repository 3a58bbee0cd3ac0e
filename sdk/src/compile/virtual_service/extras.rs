//! What a route does beside sending requests on: copies, other origins, further attempts.

use std::time::Duration;

use http::HeaderValue;

use super::rule::Resolver;
use crate::compile::findings::Findings;
use crate::compile::traffic;
use crate::config::Severity;
use crate::config::istio::virtual_service::{
    CorsPolicy, Destination, HTTPFaultInjection, HTTPRetry, HTTPRoute, Percent, StringMatch,
    UnmatchedPreflights,
};
use crate::matcher::FullRegex;
use crate::policy::fault::FaultPolicy;
use crate::policy::retry::{RetryOn, RetryPolicy};
use crate::policy::route::{Cors, Listed, Mirror, OriginPattern, Share, UnmatchedPreflight};

/// Who gets copies. Nobody there to get one does not concern the requests themselves.
pub(super) fn mirrors(
    route: &HTTPRoute,
    resolver: &Resolver<'_>,
    findings: &mut Findings<'_>,
) -> Box<[Mirror]> {
    let mut mirrors = Vec::new();
    if let Some(to) = &route.mirror {
        let older = route.mirror_percent.map(|it| Percent { value: f64::from(it) });
        let percent = route.mirror_percentage.or(older);
        mirrors.extend(mirror(to, percent, "mirror", resolver, findings));
    }
    for (index, written) in route.mirrors.iter().enumerate() {
        if let Some(to) = &written.destination {
            let at = format!("mirrors[{index}].destination");
            mirrors.extend(mirror(to, written.percentage, &at, resolver, findings));
        }
    }
    mirrors.into()
}

fn mirror(
    to: &Destination,
    percent: Option<Percent>,
    at: &str,
    resolver: &Resolver<'_>,
    findings: &mut Findings<'_>,
) -> Option<Mirror> {
    // Istio counts in millionths, and cuts what is finer.
    let share = percent.map_or(Share::ALL, |it| Share::per_million((it.value * 10_000.0) as u32));
    if share.is_empty() {
        return None;
    }
    Some(Mirror {
        to: resolver.resolve(to, at, findings).ok()?,
        share,
        shadow_host: true,
    })
}

/// What is done to requests for the sake of a test; `by_header` is whether callers may ask for it themselves.
pub(super) fn faults(written: Option<&HTTPFaultInjection>, by_header: bool) -> Option<FaultPolicy> {
    let faults = written.and_then(traffic::fault);
    match by_header {
        true => Some(FaultPolicy {
            by_header,
            ..faults.unwrap_or_default()
        }),
        false => faults,
    }
}

pub(super) fn cors(written: &CorsPolicy, findings: &mut Findings<'_>) -> Cors {
    let mut origins = Vec::new();
    if written.allow_origins.is_empty() {
        let exact = written
            .allow_origin
            .iter()
            .map(|it| OriginPattern::Exact(it.as_str().into()));
        origins.extend(exact.map(starred));
    }
    for (index, origin) in written.allow_origins.iter().enumerate() {
        origins.extend(self::origin(
            origin,
            &format!("corsPolicy.allowOrigins[{index}].regex"),
            findings,
        ));
    }
    let unmatched = match written.unmatched_preflights {
        Some(UnmatchedPreflights::Ignore) => UnmatchedPreflight::Answer,
        None | Some(UnmatchedPreflights::Unspecified | UnmatchedPreflights::Forward) => {
            UnmatchedPreflight::Forward
        }
    };
    Cors {
        origins: origins.into(),
        methods: listed(&written.allow_methods),
        headers: listed(&written.allow_headers),
        expose: listed(&written.expose_headers),
        credentials: written.allow_credentials.unwrap_or(false),
        max_age: written.max_age.map(|it| it.0.as_secs()),
        unmatched,
        exclusive: false,
    }
}

fn origin(written: &StringMatch, at: &str, findings: &mut Findings<'_>) -> Option<OriginPattern> {
    if let Some(exact) = &written.exact {
        return Some(starred(OriginPattern::Exact(exact.as_str().into())));
    }
    if let Some(prefix) = &written.prefix {
        return Some(starred(OriginPattern::Prefix(prefix.as_str().into())));
    }
    match FullRegex::parse(written.regex.as_deref()?) {
        Ok(regex) => Some(starred(OriginPattern::Regex(regex))),
        Err(error) => {
            findings.error(at, error.to_string(), "write an RE2 expression");
            None
        }
    }
}

/// Envoy lets every origin in where a matcher, of whatever kind, accepts the text `*`.
fn starred(pattern: OriginPattern) -> OriginPattern {
    match pattern.matches("*") {
        true => OriginPattern::Any,
        false => pattern,
    }
}

/// Names joined by commas, as they are written: a star too.
fn listed(names: &[String]) -> Listed {
    match HeaderValue::try_from(names.join(",")) {
        Ok(names) if !names.is_empty() => Listed::Names(names),
        _ => Listed::None,
    }
}

/// When to try again, and how long one attempt may take.
pub(super) fn retries(
    written: Option<&HTTPRetry>,
    findings: &mut Findings<'_>,
) -> (RetryPolicy, Option<Duration>) {
    let text = written.and_then(|it| it.retry_on.as_deref()).unwrap_or_default();
    for unknown in RetryOn::parse(text).unknown {
        let what = format!("`{unknown}` is no condition and no status; it is passed over, as Envoy does");
        findings.report(Severity::Warning, "retries.retryOn", what, "check its spelling");
    }
    traffic::retries(written)
}
