//! Requests and answers in the form of the HTTP version that is spoken to the upstream.

use http::header::{self, HeaderName};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};

use crate::layer::upgrade::{self, Offer};
use crate::layer::{MeshBody, Reason, Refusal};
use crate::name::field;

/// Brings a request into the form that an HTTP/1.1 connection to an origin takes (RFC 9112 §3.2.1).
pub(super) fn to_http1(request: &mut Request<MeshBody>) -> Result<(), Refusal> {
    upgrade::complete(request);
    let upgrade = upgrade::requested(request.headers()).cloned();
    strip_hop_by_hop(request.headers_mut());
    if let Some(protocol) = upgrade {
        request
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(header::UPGRADE, protocol);
    }
    *request.version_mut() = http::Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        // The URI's authority is what was judged, or what a rewrite made of it (RFC 9112 §3.2.2).
        if request
            .headers()
            .get(header::HOST)
            .is_none_or(|host| host != authority.as_str())
        {
            let host = HeaderValue::from_str(authority.as_str())
                .map_err(|_| Refusal::new(Reason::BadRequest, "the authority is no header value"))?;
            request.headers_mut().insert(header::HOST, host);
        }
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
    Ok(())
}

/// Brings a request into the form that HTTP/2 takes: everything in the URI (with the scheme of the connection), and an upgrade as an extended CONNECT.
pub(super) fn to_http2(request: &mut Request<MeshBody>, scheme: Scheme) -> Result<Option<Offer>, Refusal> {
    let offer = upgrade::extend(request);
    strip_hop_by_hop(request.headers_mut());
    *request.version_mut() = http::Version::HTTP_2;
    let host = request.headers_mut().remove(header::HOST);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if parts.authority.is_none() {
        parts.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    }
    parts.scheme = Some(scheme);
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    match Uri::from_parts(parts) {
        Ok(uri) => {
            *request.uri_mut() = uri;
            Ok(offer)
        }
        Err(_) => Err(Refusal::new(Reason::BadRequest, "the request names no authority")),
    }
}

/// Removes from an answer what concerned the connection to the upstream only.
pub(super) fn from_upstream(response: &mut Response<MeshBody>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        strip_hop_by_hop(response.headers_mut());
    }
}

/// Removes what concerns one connection only (RFC 9110 §7.6.1). Only the standard names are removed: a caller must not
/// be able to have other headers stripped by naming them in `Connection`.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    const NAMES: [HeaderName; 5] = [
        header::CONNECTION,
        header::UPGRADE,
        header::TRANSFER_ENCODING,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    // Comparing the few names that are there costs less than looking for each that should not be.
    if headers.keys().any(|name| NAMES.contains(name)) {
        for name in NAMES {
            headers.remove(name);
        }
    }
    if field(headers, &header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CWE-444, hardening row 35: the policy saw `x-role`, so the application must see it too.
    #[test]
    fn a_header_named_in_connection_is_not_stripped() {
        let mut request = Request::get("http://a/")
            .header("connection", "close, x-role")
            .header("x-role", "guest")
            .header("te", "gzip")
            .body(MeshBody::empty())
            .unwrap();
        to_http1(&mut request).unwrap();
        assert_eq!(request.headers()["x-role"], "guest");
        assert_eq!(request.headers()["host"], "a");
        assert!(!request.headers().contains_key("connection") && !request.headers().contains_key("te"));
    }

    #[test]
    fn the_authority_that_was_judged_is_the_host_that_is_sent() {
        let mut request = Request::get("http://a:80/x")
            .header("host", "A")
            .body(MeshBody::empty())
            .unwrap();
        to_http1(&mut request).unwrap();
        assert_eq!(request.headers()["host"], "a:80");
        assert_eq!(request.uri(), "/x");
    }

    #[test]
    fn http2_takes_everything_in_the_uri() {
        let mut request = Request::get("/x?y")
            .header("host", "a:80")
            .header("connection", "keep-alive")
            .body(MeshBody::empty())
            .unwrap();
        assert!(to_http2(&mut request, Scheme::HTTP).unwrap().is_none());
        assert_eq!(request.uri(), "http://a:80/x?y");
        assert!(request.headers().is_empty());
    }
}
