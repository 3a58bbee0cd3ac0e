//! The matches of a route.

use http::HeaderName;

use crate::compile::findings::Findings;
use crate::config::Severity;
use crate::config::istio::virtual_service::{HTTPMatchRequest, StringMatch};
use crate::matcher::{FullRegex, ValuePattern};
use crate::policy::route::listed::{Condition, Conditions, PathCondition, Subject};

/// What a match asks; `None`, as when there is no match, asks for a path. `knows_claims` is whether tokens are verified
/// before routes are looked up: in a waypoint and on a Gateway, not in the process that sends a request.
pub(super) fn conditions(
    written: Option<&HTTPMatchRequest>,
    knows_claims: bool,
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
            if !knows_claims && matches!(subject, Subject::Claim(_)) {
                findings.report(
                    Severity::Ignored,
                    &at,
                    "whoever sends a request knows no claims of its token; to it there are none",
                    "let a waypoint or a Gateway route by claims, or match a header",
                );
            }
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
        // Claims tell upper case from lower.
        prefixed if prefixed.starts_with(CLAIMS) => match claim(name.get(CLAIMS.len()..).unwrap_or_default())
        {
            Some(path) => Subject::Claim(path),
            None => {
                findings.error(
                    at,
                    format!("`{name}` names no claim"),
                    "write `@request.auth.claims.name` or `@request.auth.claims[name]`",
                );
                return None;
            }
        },
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

/// How Istio writes that a claim is meant.
const CLAIMS: &str = "@request.auth.claims";

/// The path of a claim: `.a.b` or `[a][b]`.
fn claim(text: &str) -> Option<Box<[Box<str>]>> {
    let path: Vec<&str> = match (text.strip_prefix('.'), text.strip_prefix('[')) {
        (Some(dotted), _) => dotted.split('.').collect(),
        (None, Some(rest)) => rest.strip_suffix(']')?.split("][").collect(),
        (None, None) => return None,
    };
    let whole = path.iter().all(|it| !it.is_empty() && !it.contains(['[', ']']));
    whole.then(|| path.into_iter().map(Box::from).collect())
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

#[cfg(test)]
mod tests {
    use super::claim;

    #[test]
    fn claims_are_named_with_dots_or_brackets() {
        let path = |text: &str| claim(text).map(|it| it.join("/"));
        assert_eq!(path(".sub").as_deref(), Some("sub"));
        assert_eq!(path(".nested.Key").as_deref(), Some("nested/Key"));
        assert_eq!(
            path("[https://example.com/a.b][c]").as_deref(),
            Some("https://example.com/a.b/c")
        );
        for text in ["", "sub", ".", ".a.", "[]", "[a", "a]", "[a]b]", "[a][]"] {
            assert_eq!(path(text), None, "{text}");
        }
    }
}
