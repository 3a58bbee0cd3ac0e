//! Rewrites of path and host.

use std::borrow::Cow;

use http::uri::{Authority, InvalidUri, PathAndQuery};

use crate::matcher::Substitution;

/// A rewrite of what the backend sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The new `Host`/`:authority`.
    pub host: Option<Authority>,
    /// The new path.
    pub path: Option<PathRewrite>,
}

impl Rewrite {
    /// The path and query that the backend sees; `None` if they stay as they are. `matched` is
    /// [`Found::matched`](super::Found::matched).
    ///
    /// # Errors
    /// If the result is no valid request target (longer than 65,534 bytes).
    pub fn target(
        &self,
        path: &str,
        query: Option<&str>,
        matched: usize,
    ) -> Result<Option<PathAndQuery>, InvalidUri> {
        let Some(rewrite) = &self.path else {
            return Ok(None);
        };
        with_query(rewrite.apply(path, matched), query).parse().map(Some)
    }
}

/// How a path changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// The whole path is replaced.
    Full(Box<str>),
    /// The matched prefix is replaced. Kept without its trailing slash.
    Prefix(Box<str>),
    /// What the match covered is replaced to the letter: a prefix, else the whole path (Istio, HTTPRewrite.uri).
    Matched(Box<str>),
    /// Whatever an expression finds is replaced (Istio, HTTPRewrite.uriRegexRewrite).
    Substituted(Substitution),
}

impl PathRewrite {
    /// Replaces the matched prefix; a trailing slash of the replacement does not matter.
    pub fn prefix(replacement: &str) -> Self {
        Self::Prefix(replacement.strip_suffix('/').unwrap_or(replacement).into())
    }

    /// The new path. `matched` is how many bytes of the path the rule's prefix matched.
    ///
    /// Whatever is replaced by what, the path begins with a slash: without one it would run into the authority that it is
    /// written behind. (`*`, the path of an `OPTIONS` for the whole server, has none and may stay.)
    pub fn apply(&self, path: &str, matched: usize) -> String {
        let mut new = match self {
            Self::Full(path) => String::from(&**path),
            Self::Prefix(replacement) | Self::Matched(replacement) => {
                let rest = path.get(matched..).unwrap_or("");
                format!("{replacement}{rest}")
            }
            Self::Substituted(rule) => rule.apply(path).into_owned(),
        };
        let is_of_server = new == "*" && path == "*";
        if !is_of_server && !new.starts_with('/') {
            new.insert(0, '/');
        }
        new
    }
}

/// Appends the request's query, unless the new path brings its own.
pub(super) fn with_query(path: impl Into<String>, query: Option<&str>) -> String {
    let path = path.into();
    match query.map(Cow::from) {
        Some(query) if !path.contains('?') => format!("{path}?{query}"),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::PathPattern;

    #[test]
    fn a_path_begins_with_a_slash_whatever_it_is_made_of() {
        let matched = |to: &str, path: &str, matched| PathRewrite::Matched(to.into()).apply(path, matched);
        assert_eq!(matched("v2", "/v1/a", 3), "/v2/a");
        assert_eq!(matched("@evil.example", "/v1", 3), "/@evil.example");
        assert_eq!(matched("/", "/v1/", 4), "/");
        assert_eq!(PathRewrite::Full("a".into()).apply("/b", 0), "/a");
        let cut = PathRewrite::Substituted(Substitution::parse("^/", "").unwrap());
        assert_eq!(cut.apply("/a/b", 0), "/a/b");
        assert_eq!(cut.apply("/", 0), "/");
        assert_eq!(cut.apply("*", 0), "*");
    }

    /// Gateway API, HTTPPathModifier.replacePrefixMatch.
    #[test]
    fn a_replaced_prefix_keeps_the_rest() {
        let table = [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo", "/foo", "/xyz/", "/xyz"),
            ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
            ("/", "/", "/xyz", "/xyz/"),
        ];
        for (path, prefix, replacement, expected) in table {
            let matched = PathPattern::prefix(prefix).matches(path).unwrap();
            assert_eq!(
                PathRewrite::prefix(replacement).apply(path, matched),
                expected,
                "{path} {prefix} {replacement}"
            );
        }
    }

    /// Istio replaces letters, not segments: whoever writes `/` for `/v1` gets two slashes.
    #[test]
    fn what_was_matched_is_replaced_to_the_letter() {
        for (path, matched, new, expected) in [
            ("/v1/a", 3, "/v2", "/v2/a"),
            ("/v1a", 3, "/v2", "/v2a"),
            ("/v1/a", 3, "/", "//a"),
            ("/v1/a", 4, "/", "/a"),
            ("/v1/a", 5, "/v2", "/v2"),
            ("/a", 0, "/x", "/x/a"),
        ] {
            assert_eq!(PathRewrite::Matched(new.into()).apply(path, matched), expected);
        }
        let rule = Substitution::parse("^/service/([^/]+)(/.*)$", r"\2/instance/\1").unwrap();
        let rewrite = PathRewrite::Substituted(rule);
        assert_eq!(rewrite.apply("/service/foo/v1/api", 19), "/v1/api/instance/foo");
    }

    #[test]
    fn the_query_stays() {
        let rewrite = |path| Rewrite {
            host: None,
            path: Some(path),
        };
        let full = rewrite(PathRewrite::Full("/one".into()));
        let target = full.target("/a/b", Some("q=1"), 0).unwrap().unwrap();
        assert_eq!(target, "/one?q=1");
        let prefix = rewrite(PathRewrite::prefix("/v2"));
        assert_eq!(prefix.target("/v1/a", Some("b"), 3).unwrap().unwrap(), "/v2/a?b");
        assert!(prefix.target(&"/a".repeat(40_000), None, 0).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_rewrite_never_panics_and_is_never_empty(path in ".{0,20}", matched in 0_usize..30, new in "/?[a-z/]{0,8}") {
            let path = PathRewrite::prefix(&new).apply(&path, matched);
            proptest::prop_assert!(!path.is_empty());
        }
    }
}
