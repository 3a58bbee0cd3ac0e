//! Who may ask: a page of ours in a browser on this machine, and nobody's else.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Who asks what of whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    /// Where we listen.
    pub(crate) own: SocketAddr,
    /// The type of what may be sent to us; none that a page of another origin may send without asking first.
    pub(crate) takes: &'static str,
    /// What our pages may load and do, as a Content-Security-Policy.
    pub(crate) policy: &'static str,
}

/// Lets a request pass or refuses it, and says to browsers what the answer may do.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.judge(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", guard.policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

impl Guard {
    fn judge(&self, method: &Method, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let host = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        // A page whose host name was made to point here would be of our origin otherwise.
        let ours = [self.own.to_string(), format!("localhost:{}", self.own.port())];
        if !ours.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "ask by the address that the demo printed\n",
            ));
        }
        if *method == Method::GET || *method == Method::HEAD {
            return Ok(());
        }
        let is_ours = headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(self.takes.as_bytes()));
        if !is_ours {
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "this type is not taken\n"));
        }
        // Browsers always say where a page that changes something comes from; other programs on this machine need not.
        let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes);
        if origin.is_some_and(|origin| !origin.eq_ignore_ascii_case(format!("http://{host}").as_bytes())) {
            return Err((StatusCode::FORBIDDEN, "not for other pages\n"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: Guard = Guard {
        own: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4000),
        takes: "application/json",
        policy: "default-src 'none'",
    };

    fn status(method: Method, headers: &[(HeaderName, &str)]) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()));
        match GUARD.judge(&method, &headers.collect()) {
            Ok(()) => 200,
            Err((status, _)) => status.as_u16(),
        }
    }

    #[test]
    fn a_name_that_may_be_anybodys_is_not_ours() {
        for (host, expected) in [
            ("127.0.0.1:4000", 200),
            ("localhost:4000", 200),
            ("127.0.0.1:4001", 421),
            ("rebound.example:4000", 421),
            ("", 421),
        ] {
            assert_eq!(status(Method::GET, &[(HOST, host)]), expected, "{host}");
        }
        assert_eq!(status(Method::GET, &[]), 421);
    }

    #[test]
    fn nothing_is_changed_for_other_pages() {
        let (host, json) = ((HOST, "127.0.0.1:4000"), (CONTENT_TYPE, "application/json"));
        let from = |origin| status(Method::POST, &[host.clone(), json.clone(), (ORIGIN, origin)]);
        assert_eq!(from("http://127.0.0.1:4000"), 200);
        assert_eq!(from("http://evil.example"), 403);
        assert_eq!(from("http://localhost:4000"), 403);
        assert_eq!(from("null"), 403);
        assert_eq!(status(Method::POST, &[host.clone(), json.clone()]), 200);
        assert_eq!(
            status(Method::POST, &[host.clone(), (CONTENT_TYPE, "text/plain")]),
            415
        );
        assert_eq!(status(Method::POST, &[host]), 415);
    }
}
