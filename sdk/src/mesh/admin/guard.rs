//! Who may ask the admin endpoint for what.
//!
//! Readiness and metrics are for whoever can reach it: the kubelet and Prometheus do. All else is for this machine, and there
//! for people and programs, not for web pages that a browser on it happens to have open.

use std::net::IpAddr;

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};

use crate::name::split_authority;

/// Who may ask for more than readiness and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Whether those may that are not on this machine.
    pub(crate) remote: bool,
}

/// Why somebody may not.
pub(super) type Refused = (StatusCode, &'static str);

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Whether everybody may ask for it.
pub(super) fn is_public(path: &str) -> bool {
    matches!(
        path,
        "/ready" | "/healthz/ready" | "/readyz" | "/metrics" | "/stats/prometheus"
    )
}

impl Access {
    /// Lets a request pass, or says why not.
    pub(super) fn check<B>(&self, request: &Request<B>, peer: IpAddr) -> Result<(), Refused> {
        let headers = request.headers();
        if is_public(request.uri().path()) {
            return match *request.method() {
                Method::GET | Method::HEAD => Ok(()),
                _ => Err((StatusCode::METHOD_NOT_ALLOWED, "only GET\n")),
            };
        }
        if !peer.is_loopback() && !self.remote {
            return Err((
                StatusCode::FORBIDDEN,
                "only from this machine: for instance by `kubectl port-forward`, or start with --admin-remote\n",
            ));
        }
        if !self.knows(headers) {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "ask by address or as localhost: another name may be anybody's\n",
            ));
        }
        if is_foreign(request) {
            return Err((StatusCode::FORBIDDEN, "not for other web pages\n"));
        }
        match *request.method() {
            Method::GET | Method::HEAD => Ok(()),
            // A page of another origin cannot send this type without asking first, and is not answered then.
            Method::POST if !is_json(headers) => Err((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content-type must be application/json\n",
            )),
            Method::POST if !is_same_origin(headers) => {
                Err((StatusCode::FORBIDDEN, "not for other web pages\n"))
            }
            Method::POST => Ok(()),
            _ => Err((
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET, and POST where something is changed\n",
            )),
        }
    }

    /// Whether the request names us by a name that is ours for certain. A page whose host name was made to point here
    /// (DNS rebinding) would be of our origin otherwise. Browsers always say; other programs need not.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return headers.get(HOST).is_none();
        };
        let Some(Ok((name, _))) = host.to_str().ok().map(split_authority) else {
            return false;
        };
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        literal.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || name.to_ascii_lowercase().ends_with(".localhost")
    }
}

/// Whether a page of another site has a browser ask; to be led here from one is all right.
fn is_foreign<B>(request: &Request<B>) -> bool {
    let text = |name| request.headers().get(name).map(http::HeaderValue::as_bytes);
    let site: Option<&[u8]> = text(SEC_FETCH_SITE);
    let led = text(SEC_FETCH_MODE) == Some(b"navigate") && request.uri().path() == "/";
    matches!(site, Some(b"cross-site" | b"same-site")) && !led
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.is_some_and(|kind| kind.starts_with(b"application/json"))
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let own = headers
        .get(HOST)
        .map(|host| [b"http://", host.as_bytes()].concat());
    own.is_some_and(|own| own.eq_ignore_ascii_case(origin.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 1, 2, 3));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    fn status(method: Method, path: &str, headers: &[(&str, &str)], peer: IpAddr, remote: bool) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let access = Access { remote };
        match access.check(&request.body(()).unwrap(), peer) {
            Ok(()) => 200,
            Err((status, _)) => status.as_u16(),
        }
    }

    #[test]
    fn metrics_are_for_everybody_and_the_rest_for_this_machine() {
        let get = |path, peer, remote| status(Method::GET, path, &[], peer, remote);
        for path in ["/ready", "/metrics", "/stats/prometheus"] {
            assert_eq!(get(path, THERE, false), 200, "{path}");
        }
        for path in [
            "/",
            "/live/requests",
            "/config_dump",
            "/status",
            "/logging",
            "/nothing",
        ] {
            assert_eq!(get(path, THERE, false), 403, "{path}");
            assert_eq!(get(path, HERE, false), 200, "{path}");
            assert_eq!(get(path, THERE, true), 200, "{path}");
        }
    }

    #[test]
    fn a_name_that_may_be_anybodys_is_not_ours() {
        for (host, expected) in [
            ("127.0.0.1:15000", 200),
            ("[::1]:15000", 200),
            ("localhost:15000", 200),
            ("LOCALHOST", 200),
            ("waypoint.localhost:8080", 200),
            ("evil.example:15000", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("", 421),
        ] {
            let found = status(Method::GET, "/live/graph", &[("host", host)], HERE, false);
            assert_eq!(found, expected, "{host}");
        }
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(status(Method::GET, "/live/graph", &twice, HERE, false), 421);
        assert_eq!(
            status(
                Method::GET,
                "/metrics",
                &[("host", "wp.mesh:15020")],
                THERE,
                false
            ),
            200
        );
    }

    #[test]
    fn nothing_is_changed_or_read_for_other_pages() {
        let json = ("content-type", "application/json");
        let host = ("host", "127.0.0.1:15000");
        let post = |headers: &[(&str, &str)]| status(Method::POST, "/logging", headers, HERE, false);
        assert_eq!(post(&[json, host]), 200);
        assert_eq!(post(&[json, host, ("origin", "http://127.0.0.1:15000")]), 200);
        assert_eq!(post(&[json, host, ("origin", "http://evil.example")]), 403);
        assert_eq!(post(&[json, host, ("origin", "null")]), 403);
        assert_eq!(post(&[host]), 415);
        assert_eq!(post(&[host, ("content-type", "text/plain")]), 415);
        assert_eq!(status(Method::DELETE, "/logging", &[host], HERE, false), 405);
        let from = |site, mode, path| {
            let headers = [host, ("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            status(Method::GET, path, &headers, HERE, false)
        };
        assert_eq!(from("same-origin", "cors", "/live/stream"), 200);
        assert_eq!(from("none", "navigate", "/"), 200);
        assert_eq!(from("cross-site", "navigate", "/"), 200);
        assert_eq!(from("cross-site", "cors", "/live/stream"), 403);
        assert_eq!(from("same-site", "no-cors", "/live/requests"), 403);
    }
}
