//! Cross-origin requests.

use http::{HeaderName, HeaderValue};

use super::matching::METHODS;
use crate::compile::findings::Findings;
use crate::config::Severity;
use crate::config::gateway::HTTPCors;
use crate::policy::route::{Cors, Listed, OriginPattern, UnmatchedPreflight};

/// What a browser may remember the answer for where nothing is said, in seconds.
const MAX_AGE: u64 = 5;

pub(super) fn compile(written: &HTTPCors, at: &str, findings: &mut Findings<'_>) -> Cors {
    let origins = origins(&written.allow_origins, &format!("{at}.allowOrigins"), findings);
    let is_method = |text: &str| METHODS.iter().any(|method| method.as_str() == text);
    let is_header = |text: &str| HeaderName::from_bytes(text.as_bytes()).is_ok();
    let max_age = match written.max_age.map(u64::try_from) {
        None => MAX_AGE,
        Some(Ok(seconds)) if seconds > 0 => seconds,
        Some(_) => {
            findings.error(
                &format!("{at}.maxAge"),
                "not a number of seconds to remember something for",
                "use 1 or more",
            );
            MAX_AGE
        }
    };
    let mut list = |written: &[String], field: &str, is_name: &dyn Fn(&str) -> bool| {
        listed(written, &format!("{at}.{field}"), is_name, findings)
    };
    Cors {
        origins,
        methods: list(&written.allow_methods, "allowMethods", &is_method),
        headers: list(&written.allow_headers, "allowHeaders", &is_header),
        expose: list(&written.expose_headers, "exposeHeaders", &is_header),
        credentials: written.allow_credentials.unwrap_or_default(),
        max_age: Some(max_age),
        unmatched: UnmatchedPreflight::Answer,
        exclusive: true,
    }
}

fn origins(written: &[String], at: &str, findings: &mut Findings<'_>) -> Box<[OriginPattern]> {
    if written.is_empty() {
        findings.report(
            Severity::Warning,
            at,
            "no other origin may use the rule",
            "name origins, or `*`",
        );
    }
    star_alone(written, at, findings);
    let origin = |(index, text): (usize, &String)| {
        let pattern = OriginPattern::web(text);
        if pattern.is_none() {
            findings.error(
                &format!("{at}[{index}]"),
                format!("`{text}` is not an origin"),
                "write `https://example.com`, `https://*.example.com:8443` or `*`",
            );
        }
        pattern
    };
    written.iter().enumerate().filter_map(origin).collect()
}

/// `exposeHeaders` may have a `*` beside other names, which then say nothing more.
fn listed(
    written: &[String],
    at: &str,
    is_name: &dyn Fn(&str) -> bool,
    findings: &mut Findings<'_>,
) -> Listed {
    if !at.ends_with("exposeHeaders") {
        star_alone(written, at, findings);
    }
    for (index, text) in written.iter().enumerate() {
        if text != "*" && !is_name(text) {
            findings.error(
                &format!("{at}[{index}]"),
                format!("`{}` cannot be in this list", text.escape_debug()),
                "write names of methods (in capitals) or headers, or `*` alone",
            );
        }
    }
    if written.iter().any(|text| text == "*") {
        return Listed::Any;
    }
    match HeaderValue::try_from(written.join(", ")) {
        Ok(names) if !names.is_empty() => Listed::Names(names),
        _ => Listed::None,
    }
}

fn star_alone(written: &[String], at: &str, findings: &mut Findings<'_>) {
    if written.len() > 1 && written.iter().any(|text| text == "*") {
        findings.error(at, "`*` beside others", "write `*` alone, or leave it out");
    }
}
