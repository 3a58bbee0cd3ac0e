//! The matches of a rule.

use http::{HeaderName, Method};

use super::input::Matches;
use super::method;
use crate::compile::findings::Findings;
use crate::config::Severity;
use crate::config::gateway::{HTTPPathMatch, HTTPRouteMatch, HTTPValueMatch};
use crate::matcher::{FullRegex, HeaderPattern, PathPattern, QueryPattern, ValuePattern};
use crate::policy::route::Predicates;

/// What paths of Gateway API may not hold: a normalized path never has it.
const NOT_IN_PATHS: [&str; 7] = ["//", "/./", "/../", "%2f", "%2F", "#", "?"];

/// The methods of Gateway API (HTTPMethod).
pub(super) const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// The matches that can be read, with their index. No match at all is the prefix `/`.
pub(super) fn compile(matches: Matches<'_>, findings: &mut Findings<'_>) -> Vec<(u32, Predicates)> {
    let read: Vec<_> = match matches {
        Matches::Http([]) | Matches::Grpc([]) => vec![Some(Predicates::default())],
        Matches::Http(matches) => {
            let each = matches.iter().enumerate();
            each.map(|(index, written)| predicates(written, &at(index), findings))
                .collect()
        }
        Matches::Grpc(matches) => {
            let each = matches.iter().enumerate();
            each.map(|(index, written)| method::predicates(written, &at(index), findings))
                .collect()
        }
    };
    let numbered = read.into_iter().enumerate();
    numbered
        .filter_map(|(index, predicates)| Some((index as u32, predicates?)))
        .collect()
}

fn at(index: usize) -> String {
    format!("matches[{index}]")
}

fn predicates(written: &HTTPRouteMatch, at: &str, findings: &mut Findings<'_>) -> Option<Predicates> {
    let path = match &written.path {
        Some(path) => self::path(path, &format!("{at}.path"), findings),
        None => Some(PathPattern::prefix("/")),
    };
    let method = written.method.as_deref().map(|text| {
        let method = METHODS.iter().find(|method| method.as_str() == text).cloned();
        if method.is_none() {
            findings.error(
                &format!("{at}.method"),
                format!("`{text}` is not a method"),
                "write GET, POST, … in capitals",
            );
        }
        method
    });
    let headers = headers(&written.headers, &format!("{at}.headers"), findings);
    let query = query(&written.query_params, &format!("{at}.queryParams"), findings);
    Some(Predicates {
        path: path?,
        method: match method {
            Some(method) => Some(method?),
            None => None,
        },
        headers: headers?,
        query,
    })
}

fn path(written: &HTTPPathMatch, at: &str, findings: &mut Findings<'_>) -> Option<PathPattern> {
    let value = written.value.as_deref().unwrap_or("/");
    let kind = written.kind.as_deref().unwrap_or("PathPrefix");
    match kind {
        "Exact" | "PathPrefix" => {
            let dots = value.ends_with("/.") || value.ends_with("/..");
            if !value.starts_with('/') || dots || NOT_IN_PATHS.iter().any(|part| value.contains(part)) {
                findings.error(
                    &format!("{at}.value"),
                    format!("no request has a path like `{value}`"),
                    "start with `/` and leave out `//`, `.` and `..` segments, `%2f`, `?` and `#`",
                );
                return None;
            }
            Some(match kind {
                "Exact" => PathPattern::Exact(value.into()),
                _ => PathPattern::prefix(value),
            })
        }
        "RegularExpression" => match FullRegex::parse(value) {
            Ok(regex) => Some(PathPattern::Regex(regex)),
            Err(error) => {
                findings.error(
                    &format!("{at}.value"),
                    error.to_string(),
                    "write an RE2 expression",
                );
                None
            }
        },
        other => {
            findings.error(
                &format!("{at}.type"),
                format!("`{other}` is not a type of path match"),
                "use Exact, PathPrefix or RegularExpression",
            );
            None
        }
    }
}

/// `None` if a name cannot be read, so that nobody can tell what was meant.
pub(super) fn headers(
    written: &[HTTPValueMatch],
    at: &str,
    findings: &mut Findings<'_>,
) -> Option<Box<[HeaderPattern]>> {
    let mut patterns: Vec<HeaderPattern> = Vec::with_capacity(written.len());
    let mut readable = true;
    for (index, written) in written.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let Ok(name) = HeaderName::from_bytes(written.name.as_bytes()) else {
            findings.error(
                &format!("{at}.name"),
                format!("`{}` is not a header name", written.name),
                "use letters, digits and `-`",
            );
            readable = false;
            continue;
        };
        let value = value(written, &at, findings);
        if patterns.iter().any(|pattern| pattern.name == name) {
            twice(&at, &written.name, findings);
            continue;
        }
        patterns.push(HeaderPattern { name, value });
    }
    readable.then(|| patterns.into())
}

fn query(written: &[HTTPValueMatch], at: &str, findings: &mut Findings<'_>) -> Box<[QueryPattern]> {
    let mut patterns: Vec<QueryPattern> = Vec::with_capacity(written.len());
    for (index, written) in written.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let value = value(written, &at, findings);
        let name: Box<str> = written.name.as_str().into();
        if patterns.iter().any(|pattern| pattern.name == name) {
            twice(&at, &written.name, findings);
            continue;
        }
        patterns.push(QueryPattern { name, value });
    }
    patterns.into()
}

/// Gateway API: of several entries with one name only the first counts.
fn twice(at: &str, name: &str, findings: &mut Findings<'_>) {
    findings.report(
        Severity::Ignored,
        at,
        format!("`{name}` is matched twice; only the first counts"),
        "remove one, or write one expression",
    );
}

/// A value that cannot be read is any value: the rule is broken, and answers 500 to whoever sends the header.
fn value(written: &HTTPValueMatch, at: &str, findings: &mut Findings<'_>) -> ValuePattern {
    match written.kind.as_deref().unwrap_or("Exact") {
        "Exact" => return ValuePattern::Exact(written.value.as_str().into()),
        "RegularExpression" => match FullRegex::parse(&written.value) {
            Ok(regex) => return ValuePattern::Regex(regex),
            Err(error) => {
                findings.error(
                    &format!("{at}.value"),
                    error.to_string(),
                    "write an RE2 expression",
                );
            }
        },
        other => findings.error(
            &format!("{at}.type"),
            format!("`{other}` is not a type of match"),
            "use Exact or RegularExpression",
        ),
    }
    ValuePattern::Any
}
