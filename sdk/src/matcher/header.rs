//! Headers and query parameters by name and value.

use std::fmt;

use http::{HeaderMap, HeaderName};

use super::FullRegex;

/// Which values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValuePattern {
    /// Every value.
    Any,
    /// This value.
    Exact(Box<str>),
    /// Values that begin so.
    Prefix(Box<str>),
    /// The whole value matches the expression.
    Regex(FullRegex),
}

impl ValuePattern {
    /// Whether a value matches.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *value,
            Self::Prefix(prefix) => value.starts_with(&**prefix),
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    /// The expression, if it is one.
    pub fn expression_mut(&mut self) -> Option<&mut FullRegex> {
        match self {
            Self::Regex(regex) => Some(regex),
            _ => None,
        }
    }

    /// As [`ValuePattern::matches`], for bytes that may be no UTF-8, which no expression matches.
    pub fn matches_bytes(&self, value: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            Self::Regex(regex) => std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value)),
        }
    }
}

/// As Istio writes it: `= value`, `value*`, `/expression/`, or `*`.
impl fmt::Display for ValuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(value) => write!(f, "= {value}"),
            Self::Prefix(value) => write!(f, "{value}*"),
            Self::Regex(regex) => write!(f, "{regex:?}"),
        }
    }
}

/// A header that must be present with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPattern {
    /// The header; compares case-insensitively.
    pub name: HeaderName,
    /// Its value.
    pub value: ValuePattern,
}

impl HeaderPattern {
    /// Whether the headers match. A header given several times is judged as one list joined by `,`, as RFC 9110
    /// §5.3 lets any intermediary do; only that case allocates. A value that is not UTF-8 never matches.
    pub fn matches(&self, headers: &HeaderMap) -> bool {
        with_joined(headers, &self.name, |value| self.value.matches(value)).unwrap_or(false)
    }
}

/// Calls with a header's value: with the list joined by `,` if it was sent several times. `None` if it is missing
/// or one of its values is no UTF-8.
fn with_joined<R>(headers: &HeaderMap, name: &HeaderName, then: impl FnOnce(&str) -> R) -> Option<R> {
    let mut values = headers.get_all(name).iter();
    let first = std::str::from_utf8(values.next()?.as_bytes()).ok()?;
    let Some(second) = values.next() else {
        return Some(then(first));
    };
    let mut joined = String::from(first);
    for value in std::iter::once(second).chain(values) {
        joined.push(',');
        joined.push_str(std::str::from_utf8(value.as_bytes()).ok()?);
    }
    Some(then(&joined))
}

/// As [`with_joined`], whatever the bytes. `None` if it is missing.
pub(crate) fn with_joined_bytes<R>(
    headers: &HeaderMap,
    name: &HeaderName,
    then: impl FnOnce(&[u8]) -> R,
) -> Option<R> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let Some(second) = values.next() else {
        return Some(then(first.as_bytes()));
    };
    let mut joined = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    Some(then(&joined))
}

/// A query parameter that must be present with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryPattern {
    /// The parameter; case-sensitive.
    pub name: Box<str>,
    /// Its value.
    pub value: ValuePattern,
}

impl QueryPattern {
    /// Whether a query matches. The first parameter of the name counts. Names and values are compared as sent:
    /// percent escapes and `+` are not decoded, which is what Envoy-based implementations do.
    pub fn matches(&self, query: Option<&str>) -> bool {
        parameter(query, &self.name).is_some_and(|value| self.value.matches(value))
    }
}

/// The parameters of a query in the order sent, as sent.
pub(crate) fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query
        .unwrap_or("")
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The first value of a query parameter.
pub(crate) fn parameter<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    parameters(query)
        .find(|(it, _)| *it == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn header(value: &str) -> HeaderPattern {
        HeaderPattern {
            name: HeaderName::from_static("x-color"),
            value: ValuePattern::Exact(value.into()),
        }
    }

    #[test]
    fn repeated_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        assert!(!header("a").matches(&headers));
        headers.append("X-Color", HeaderValue::from_static("a"));
        assert!(header("a").matches(&headers));
        headers.append("x-color", HeaderValue::from_static("b"));
        assert!(!header("a").matches(&headers));
        assert!(header("a,b").matches(&headers));
    }

    #[test]
    fn a_value_that_is_no_text_never_matches() {
        let mut headers = HeaderMap::new();
        headers.append("x-color", HeaderValue::from_bytes(b"\xff").unwrap());
        let any = HeaderPattern {
            name: HeaderName::from_static("x-color"),
            value: ValuePattern::Regex(FullRegex::parse(".*").unwrap()),
        };
        assert!(!any.matches(&headers));
        headers.append("x-color", HeaderValue::from_static("a"));
        assert!(!any.matches(&headers));
    }

    #[test]
    fn the_first_parameter_counts() {
        let pattern = |value: &str| QueryPattern {
            name: "a".into(),
            value: ValuePattern::Exact(value.into()),
        };
        assert!(pattern("1").matches(Some("a=1&b=2")));
        assert!(pattern("1").matches(Some("b=2&a=1")));
        assert!(!pattern("1").matches(Some("a=2&a=1")));
        assert!(!pattern("1").matches(Some("A=1")));
        assert!(!pattern("1").matches(None));
        assert!(pattern("").matches(Some("a")));
        assert!(pattern("%31").matches(Some("a=%31")));
        assert!(!pattern("1").matches(Some("a=%31")));
    }
}
