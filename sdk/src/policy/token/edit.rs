//! What a rule changes in a request before it goes on.

use http::header::COOKIE;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};
use serde_json::Value;

use super::location::{cookies, decoded, pair};
use super::{Claims, Location, Token, TokenRule, TokenRules};

impl TokenRules {
    /// Removes the headers that only rules may set: a caller must not be able to claim what no token says.
    pub fn sanitize(&self, headers: &mut HeaderMap) {
        for rule in self.rules() {
            for header in rule.payload_header.iter() {
                headers.remove(header);
            }
            for claim in &rule.claim_headers {
                headers.remove(&claim.header);
            }
        }
    }
}

impl TokenRule {
    /// Passes on what the rule says of an accepted token, and takes the token away unless it is to be forwarded.
    pub fn edit(&self, token: &Token, parts: &mut Parts) {
        if let Some(header) = &self.payload_header
            && let Ok(value) = HeaderValue::from_str(token.payload())
        {
            parts.headers.insert(header.clone(), value);
        }
        for claim in &self.claim_headers {
            if let Some(value) = find(token.claims(), &claim.claim).and_then(header_text) {
                parts.headers.insert(claim.header.clone(), value);
            }
        }
        if !self.forward {
            for location in &self.locations {
                location.remove(parts);
            }
        }
    }
}

impl Location {
    /// Removes whatever stands there.
    fn remove(&self, parts: &mut Parts) {
        match self {
            // Credentials of another kind are not ours to remove.
            Self::Header { name, prefix } => {
                let held = |line: &HeaderValue| {
                    std::str::from_utf8(line.as_bytes()).is_ok_and(|text| text.contains(&**prefix))
                };
                if parts.headers.get_all(name).iter().any(held) {
                    let kept: Vec<_> = parts
                        .headers
                        .get_all(name)
                        .iter()
                        .filter(|line| !held(line))
                        .cloned()
                        .collect();
                    parts.headers.remove(name);
                    for line in kept {
                        parts.headers.append(name.clone(), line);
                    }
                }
            }
            Self::Param(wanted) => {
                if let Some(uri) = without_param(&parts.uri, wanted) {
                    parts.uri = uri;
                }
            }
            Self::Cookie(wanted) => {
                if cookies(&parts.headers).any(|(name, _)| name == &**wanted) {
                    remove_cookie(&mut parts.headers, wanted);
                }
            }
        }
    }
}

/// The URI without a query parameter; `None` if it has none of that name.
fn without_param(uri: &Uri, wanted: &str) -> Option<Uri> {
    let query = uri.query()?;
    let is_wanted = |text: &&str| decoded(pair(text).0) == *wanted;
    if !query.split('&').any(|text| is_wanted(&text)) {
        return None;
    }
    let kept: Vec<_> = query.split('&').filter(|text| !is_wanted(text)).collect();
    let text = match kept.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), kept.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

fn remove_cookie(headers: &mut HeaderMap, wanted: &str) {
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let Ok(text) = std::str::from_utf8(line.as_bytes()) else {
            headers.append(COOKIE, line);
            continue;
        };
        let kept: Vec<_> = text
            .split(';')
            .map(str::trim)
            .filter(|cookie| pair(cookie).0.trim() != wanted)
            .collect();
        if let Ok(line) = HeaderValue::try_from(kept.join("; "))
            && !line.is_empty()
        {
            headers.append(COOKIE, line);
        }
    }
}

/// The claim at the end of a path.
fn find<'c>(claims: &'c Claims, path: &[Box<str>]) -> Option<&'c Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(claims.get(&**first)?, |value, key| value.as_object()?.get(&**key))
}

/// A claim as a header: text, numbers and truth values; nothing else is passed on.
fn header_text(value: &Value) -> Option<HeaderValue> {
    let text = match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        _ => return None,
    };
    HeaderValue::try_from(text).ok()
}
