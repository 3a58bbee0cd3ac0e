//! The matches of a route.

use http::HeaderName;

use crate::compile::findings::Findings;
use crate::config::istio::virtual_service::{HTTPMatchRequest, StringMatch};
use crate::matcher::{FullRegex, ValuePattern};
use crate::policy::route::listed::{Condition, Conditions, PathCondition, Subject};

/// What a match asks; `None`, as when there is no match, asks for a path.
pub(super) fn conditions(
    written: Option<&HTTPMatchRequest>,
    at: &str,
    findings: &mut Findings<'_>,
) -> Conditions {
    let slash = || PathCondition::new(ValuePattern::Prefix("/".into()), false);
    let Some(written) = written else {
        return Conditions {
            path: Some(slash()),
            others: Box::default(),
        };
    };
    let uri = written.uri.as_ref().filter(|it| **it != StringMatch::default());
    let path = match uri {
        Some(uri) => {
            let value = pattern(uri, &format!("{at}.uri"), findings);
            PathCondition::new(value, written.ignore_uri_case)
        }
        None => slash(),
    };
    let mut others = Vec::new();
    for (subject, field, matcher) in [
        (Subject::Method, "method", &written.method),
        (Subject::Authority, "authority", &written.authority),
        (Subject::Scheme, "scheme", &written.scheme),
    ] {
        if let Some(matcher) = matcher {
            others.push(Condition {
                subject,
                value: pattern(matcher, &format!("{at}.{field}"), findings),
                negated: false,
            });
        }
    }
    for (field, headers, negated) in [
        ("headers", &written.headers, false),
        ("withoutHeaders", &written.without_headers, true),
    ] {
        for (name, matcher) in headers {
            let at = format!("{at}.{field}.{name}");
            let Some(subject) = header(name, &at, findings) else {
                continue;
            };
            others.push(Condition {
                subject,
                value: pattern(matcher, &at, findings),
                negated,
            });
        }
    }
    for (name, matcher) in &written.query_params {
        others.push(Condition {
            subject: Subject::Query(name.as_str().into()),
            value: pattern(matcher, &format!("{at}.queryParams.{name}"), findings),
            negated: false,
        });
    }
    Conditions {
        path: Some(path),
        others: others.into(),
    }
}

/// A header, or what HTTP/2 writes among its headers.
fn header(name: &str, at: &str, findings: &mut Findings<'_>) -> Option<Subject> {
    let lower = name.to_ascii_lowercase();
    let subject = match lower.as_str() {
        ":method" => Subject::Method,
        ":scheme" => Subject::Scheme,
        ":authority" | "host" => Subject::Authority,
        ":path" => Subject::Target,
        claim if claim.starts_with("@request.auth.claims") => {
            findings.error(at, "routes by JWT claim are not supported", "match a header");
            return None;
        }
        name => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Subject::Header(name),
            Err(_) => {
                findings.error(
                    at,
                    format!("`{name}` is not a header"),
                    "use letters, digits and `-`",
                );
                return None;
            }
        },
    };
    Some(subject)
}

/// How text is compared. Nothing said, and the expression `*`, ask that there be text at all.
fn pattern(written: &StringMatch, at: &str, findings: &mut Findings<'_>) -> ValuePattern {
    match (&written.exact, &written.prefix, written.regex.as_deref()) {
        (Some(exact), _, _) => ValuePattern::Exact(exact.as_str().into()),
        (_, Some(prefix), _) => ValuePattern::Prefix(prefix.as_str().into()),
        (_, _, None | Some("*")) => ValuePattern::Any,
        (_, _, Some(regex)) => match FullRegex::parse(regex) {
            Ok(regex) => ValuePattern::Regex(regex),
            Err(error) => {
                findings.error(
                    &format!("{at}.regex"),
                    error.to_string(),
                    "write an RE2 expression",
                );
                ValuePattern::Any
            }
        },
    }
}
