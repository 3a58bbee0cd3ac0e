//! Host names with an optional leading wildcard, as Gateway API hostnames are.

use std::cmp::Reverse;
use std::fmt;

use crate::name::{Host, HostError};

/// Which hosts: all, the subdomains of one, or one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// `*.example.com`, kept as `.example.com`: any number of labels in front, at least one.
    Suffix(Box<str>),
    /// One host.
    Exact(Host),
}

impl HostPattern {
    /// Reads `example.com` or `*.example.com`; `*` and the empty text are every host.
    ///
    /// # Errors
    /// If it is not a host, or has a `*` anywhere but as its first label.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() || text == "*" {
            return Ok(Self::Any);
        }
        let (wild, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(HostError::Character);
        }
        let host = Host::parse(name)?;
        Ok(if wild {
            Self::Suffix(format!(".{host}").into())
        } else {
            Self::Exact(host)
        })
    }

    /// Whether the pattern covers a host, given in lower case and without its port.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Exact(exact) => exact.as_str() == host,
        }
    }

    /// The hosts that both patterns cover, or `None` if there are none. Of two patterns one always contains the
    /// other or they are disjoint, so the answer is the narrower.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let covers = |wide: &Self, narrow: &Self| match (wide, narrow) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (_, Self::Exact(host)) => wide.matches(host.as_str()),
            (Self::Suffix(wide), Self::Suffix(narrow)) => narrow.ends_with(&**wide),
            (Self::Exact(_), Self::Suffix(_)) => false,
        };
        if covers(self, other) {
            Some(other.clone())
        } else if covers(other, self) {
            Some(self.clone())
        } else {
            None
        }
    }

    /// Sorts more specific patterns first: exact before wildcard before any, longer before shorter
    /// (Gateway API, HTTPRouteSpec.hostnames).
    pub fn order(&self) -> (u8, Reverse<usize>) {
        match self {
            Self::Exact(host) => (0, Reverse(host.as_str().len())),
            Self::Suffix(suffix) => (1, Reverse(suffix.len())),
            Self::Any => (2, Reverse(0)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Exact(host) => fmt::Display::fmt(host, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    #[test]
    fn a_wildcard_needs_at_least_one_label() {
        let wild = pattern("*.Example.com");
        assert!(wild.matches("a.example.com"));
        assert!(wild.matches("a.b.example.com"));
        assert!(!wild.matches("example.com"));
        assert!(!wild.matches("badexample.com"));
        assert!(!wild.matches(".example.com"));
    }

    #[test]
    fn a_star_stands_for_whole_leading_labels_only() {
        for text in ["a.*.com", "*a.com", "*.*.com", "a*"] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_intersect_to_the_narrower() {
        let table = [
            ("*", "a.com", Some("a.com")),
            ("a.com", "a.com", Some("a.com")),
            ("*.com", "a.com", Some("a.com")),
            ("*.com", "*.a.com", Some("*.a.com")),
            ("*.a.com", "a.com", None),
            ("*.a.com", "*.b.com", None),
            ("a.com", "b.com", None),
            ("*", "*", Some("*")),
        ];
        for (left, right, both) in table {
            let (left, right) = (pattern(left), pattern(right));
            assert_eq!(left.intersect(&right), both.map(pattern), "{left} {right}");
            assert_eq!(right.intersect(&left), both.map(pattern), "{right} {left}");
        }
    }
}
