//! Redirects.

use http::{HeaderValue, StatusCode};

use super::PathRewrite;
use super::rewrite::with_query;
use crate::name::split_authority;
use crate::policy::RequestHead;

/// A redirect (Gateway API, HTTPRequestRedirectFilter; Istio, HTTPRedirect).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The new scheme; the request's if absent.
    pub scheme: Option<Box<str>>,
    /// The new host; the request's if absent.
    pub host: Option<Box<str>>,
    /// The new port.
    pub port: RedirectPort,
    /// The new path; the request's if absent.
    pub path: Option<PathRewrite>,
    /// The status.
    pub status: StatusCode,
}

/// The port that a redirect names. A scheme's well-known port is never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectPort {
    /// This one.
    Fixed(u16),
    /// The new scheme's well-known port; without a new scheme that of the listener, or of the service in a mesh: where
    /// the request was meant for (Gateway API).
    Parent(u16),
    /// What the host says; but the old scheme's well-known port does not go along to a new scheme (Envoy).
    Kept,
}

impl Redirect {
    /// The status and the `Location`. `matched` is [`Found::matched`](super::Found::matched). The query is kept, unless
    /// the new path brings its own.
    pub fn location(&self, head: &RequestHead<'_>, matched: usize) -> (StatusCode, HeaderValue) {
        let scheme = self.scheme.as_deref().unwrap_or(head.scheme);
        let authority = self.host.as_deref().unwrap_or(head.authority);
        let (host, written) = split_authority(authority).unwrap_or((authority, None));
        let port = match self.port {
            RedirectPort::Fixed(port) => Some(port).filter(|port| well_known(scheme) != Some(*port)),
            RedirectPort::Parent(parent) => {
                let of_scheme = self.scheme.as_ref().and_then(|_| well_known(scheme));
                let port = of_scheme.unwrap_or(parent);
                Some(port).filter(|port| well_known(scheme) != Some(*port) && *port != 0)
            }
            RedirectPort::Kept => {
                let moves = self.host.is_none() && scheme != head.scheme;
                written.filter(|port| !(moves && well_known(head.scheme) == Some(*port)))
            }
        };
        let path = match &self.path {
            Some(rewrite) => rewrite.apply(head.path, matched),
            None => head.path.into(),
        };
        let target = with_query(path, head.query);
        let location = match port {
            Some(port) => format!("{scheme}://{host}:{port}{target}"),
            None => format!("{scheme}://{host}{target}"),
        };
        // A head that came over the wire has no byte that a header value cannot hold; one made by hand might.
        let value = HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/"));
        (self.status, value)
    }
}

fn well_known(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
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
            port: RedirectPort::Parent(80),
            path: None,
            status: StatusCode::FOUND,
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
        use RedirectPort::{Fixed, Parent};
        let with = |scheme: Option<&str>, port| Redirect {
            scheme: scheme.map(Into::into),
            port,
            ..plain()
        };
        let table = [
            (with(None, Parent(80)), "http://h/a/b?q=1"),
            (with(None, Parent(8080)), "http://h:8080/a/b?q=1"),
            (with(Some("https"), Parent(8080)), "https://h/a/b?q=1"),
            (with(Some("http"), Parent(8080)), "http://h/a/b?q=1"),
            (with(Some("https"), Fixed(443)), "https://h/a/b?q=1"),
            (with(Some("https"), Fixed(80)), "https://h:80/a/b?q=1"),
            (with(None, Fixed(8083)), "http://h:8083/a/b?q=1"),
            (with(None, Fixed(80)), "http://h/a/b?q=1"),
        ];
        for (redirect, expected) in table {
            assert_eq!(location(&redirect, "http", "h:1234"), expected, "{redirect:?}");
        }
        assert_eq!(
            location(&with(None, Parent(443)), "https", "h"),
            "https://h/a/b?q=1"
        );
    }

    #[test]
    fn a_kept_port_is_the_hosts_own() {
        let with = |scheme: Option<&str>, host: Option<&str>| Redirect {
            scheme: scheme.map(Into::into),
            host: host.map(Into::into),
            port: RedirectPort::Kept,
            ..plain()
        };
        for (redirect, scheme, authority, expected) in [
            (with(None, None), "http", "h", "http://h/a/b?q=1"),
            (with(None, None), "http", "h:1234", "http://h:1234/a/b?q=1"),
            (with(None, None), "http", "h:80", "http://h:80/a/b?q=1"),
            (with(Some("https"), None), "http", "h:80", "https://h/a/b?q=1"),
            (
                with(Some("https"), None),
                "http",
                "h:8080",
                "https://h:8080/a/b?q=1",
            ),
            (
                with(Some("http"), None),
                "https",
                "[::1]:443",
                "http://[::1]/a/b?q=1",
            ),
            (with(None, Some("n")), "http", "h:1234", "http://n/a/b?q=1"),
            (
                with(Some("https"), Some("n:80")),
                "http",
                "h",
                "https://n:80/a/b?q=1",
            ),
        ] {
            assert_eq!(location(&redirect, scheme, authority), expected, "{redirect:?}");
        }
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
