//! Redirects.

use http::{HeaderValue, StatusCode};

use super::PathRewrite;
use super::rewrite::with_query;
use crate::name::split_authority;
use crate::policy::RequestHead;

/// A redirect (Gateway API, HTTPRequestRedirectFilter).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The new scheme; the request's if absent.
    pub scheme: Option<Box<str>>,
    /// The new host; the request's if absent.
    pub host: Option<Box<str>>,
    /// The new port.
    pub port: Option<u16>,
    /// The new path; the request's if absent.
    pub path: Option<PathRewrite>,
    /// The status.
    pub status: StatusCode,
    /// The port of the listener, or of the service in a mesh: where the request was meant for.
    pub parent_port: u16,
}

impl Redirect {
    /// The status and the `Location`. `matched` is [`Found::matched`](super::Found::matched).
    ///
    /// Without a port of its own it takes the new scheme's well-known port, else the listener's (the service's in
    /// a mesh); a scheme's well-known port is not written. The query is kept.
    pub fn location(&self, head: &RequestHead<'_>, matched: usize) -> (StatusCode, HeaderValue) {
        let scheme = self.scheme.as_deref().unwrap_or(head.scheme);
        let host = self
            .host
            .as_deref()
            .unwrap_or_else(|| split_authority(head.authority).map_or(head.authority, |(host, _)| host));
        let well_known = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let of_scheme = self.scheme.as_ref().and(well_known);
        let port = self.port.or(of_scheme).unwrap_or(self.parent_port);
        let path = match &self.path {
            Some(rewrite) => rewrite.apply(head.path, matched),
            None => head.path.into(),
        };
        let target = with_query(path, head.query);
        let location = if well_known == Some(port) || port == 0 {
            format!("{scheme}://{host}{target}")
        } else {
            format!("{scheme}://{host}:{port}{target}")
        };
        // A head that came over the wire has no byte that a header value cannot hold; one made by hand might.
        let value = HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/"));
        (self.status, value)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    fn plain() -> Redirect {
        Redirect {
            scheme: None,
            host: None,
            port: None,
            path: None,
            status: StatusCode::FOUND,
            parent_port: 80,
        }
    }

    fn location(redirect: &Redirect, scheme: &str, authority: &str) -> String {
        let (method, headers) = (Method::GET, HeaderMap::new());
        let mut head = RequestHead::unsent(&method, authority, "/a/b", Some("q=1"), &headers);
        head.scheme = scheme;
        redirect.location(&head, 2).1.to_str().unwrap().into()
    }

    #[test]
    fn ports_follow_scheme_then_listener_and_defaults_are_not_written() {
        let with = |scheme: Option<&str>, port, parent_port| Redirect {
            scheme: scheme.map(Into::into),
            port,
            parent_port,
            ..plain()
        };
        let table = [
            (with(None, None, 80), "http://h/a/b?q=1"),
            (with(None, None, 8080), "http://h:8080/a/b?q=1"),
            (with(Some("https"), None, 8080), "https://h/a/b?q=1"),
            (with(Some("http"), None, 8080), "http://h/a/b?q=1"),
            (with(Some("https"), Some(443), 80), "https://h/a/b?q=1"),
            (with(Some("https"), Some(80), 80), "https://h:80/a/b?q=1"),
            (with(None, Some(8083), 80), "http://h:8083/a/b?q=1"),
            (with(None, Some(80), 8080), "http://h/a/b?q=1"),
        ];
        for (redirect, expected) in table {
            assert_eq!(location(&redirect, "http", "h:1234"), expected, "{redirect:?}");
        }
        assert_eq!(
            location(&with(None, None, 443), "https", "h"),
            "https://h/a/b?q=1"
        );
    }

    #[test]
    fn host_and_path_can_change() {
        let redirect = Redirect {
            host: Some("example.org".into()),
            path: Some(PathRewrite::prefix("/x")),
            ..plain()
        };
        assert_eq!(location(&redirect, "http", "h"), "http://example.org/x/b?q=1");
        let full = Redirect {
            path: Some(PathRewrite::Full("/new?own".into())),
            ..plain()
        };
        assert_eq!(location(&full, "http", "[::1]:80"), "http://[::1]/new?own");
    }

    #[test]
    fn a_head_that_no_header_can_hold_still_gets_an_answer() {
        assert_eq!(location(&plain(), "http", "a\nb"), "/");
    }
}
