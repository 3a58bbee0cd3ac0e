//! Paths: exact, by whole segments, or by expression.

use std::fmt;

use super::FullRegex;

/// Which paths. The query is never part of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// This path, byte for byte.
    Exact(Box<str>),
    /// The path and everything below it, segment by segment. Kept without its trailing slash: `/` is `""`.
    Prefix(Box<str>),
    /// A gRPC method of whatever service: `/service/Method`.
    Method(Box<str>),
    /// The whole path matches the expression.
    Regex(FullRegex),
}

impl PathPattern {
    /// The pattern of a Gateway API `PathPrefix`, whose trailing slash does not matter.
    pub fn prefix(text: &str) -> Self {
        Self::Prefix(text.strip_suffix('/').unwrap_or(text).into())
    }

    /// Whether a path matches; if so, how many of its bytes were matched by the pattern. For a prefix that is its
    /// length, else the whole path: what `ReplacePrefixMatch` replaces.
    pub fn matches(&self, path: &str) -> Option<usize> {
        match self {
            Self::Exact(exact) => (**exact == *path).then_some(path.len()),
            Self::Prefix(prefix) => {
                let rest = path.strip_prefix(&**prefix)?;
                let whole = rest.starts_with('/') || (rest.is_empty() && !prefix.is_empty());
                (whole && path.starts_with('/')).then_some(prefix.len())
            }
            Self::Method(method) => (method_of(path)? == &**method).then_some(path.len()),
            Self::Regex(regex) => regex.is_match(path).then_some(path.len()),
        }
    }
}

/// The method that a path of gRPC names: the second and last of two segments.
pub fn method_of(path: &str) -> Option<&str> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!service.is_empty() && !method.is_empty() && !method.contains('/')).then_some(method)
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "{text}"),
            Self::Prefix(text) => write!(f, "{text}/*"),
            Self::Method(method) => write!(f, "/*/{method}"),
            Self::Regex(regex) => write!(f, "{regex:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gateway API, PathMatchPathPrefix.
    #[test]
    fn a_prefix_counts_whole_segments() {
        let table = [
            ("/abc", "/abc", Some(4)),
            ("/abc", "/abc/", Some(4)),
            ("/abc", "/abc/def", Some(4)),
            ("/abc/", "/abc", Some(4)),
            ("/abc/", "/abc/def", Some(4)),
            ("/abc", "/abcd", None),
            ("/abc", "/ABC", None),
            ("/", "/", Some(0)),
            ("/", "/abc", Some(0)),
            ("/", "*", None),
            ("/", "", None),
            ("/abc", "/abc//x", Some(4)),
        ];
        for (prefix, path, matched) in table {
            assert_eq!(
                PathPattern::prefix(prefix).matches(path),
                matched,
                "{prefix} {path}"
            );
        }
    }

    #[test]
    fn a_method_is_the_last_of_two_segments() {
        let method = PathPattern::Method("Get".into());
        for (path, matches) in [
            ("/a.B/Get", true),
            ("/Get", false),
            ("//Get", false),
            ("/a/Get/", false),
            ("/a/b/Get", false),
            ("/a.B/get", false),
            ("/a.B/Got", false),
        ] {
            assert_eq!(method.matches(path), matches.then_some(path.len()), "{path}");
        }
    }

    #[test]
    fn an_exact_path_is_exact() {
        let exact = PathPattern::Exact("/a".into());
        assert_eq!(exact.matches("/a"), Some(2));
        assert_eq!(exact.matches("/a/"), None);
        assert_eq!(exact.matches("/A"), None);
    }
}
