//! Request path hygiene: what makes a request unambiguous before anybody judges it.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};

use super::{MeshBody, Reason, Refusal};
use crate::name::Host;
use crate::policy::normalize::{PathNormalization, normalize};

/// Checks a request and brings its path into normal form, so that every engine, and whoever the request is forwarded
/// to, sees the same bytes.
///
/// Refused with 400: a missing, repeated or malformed `Host`; a `Host` that contradicts the URI's authority
/// (RFC 9112 §3.2, RFC 9113 §8.3.1); a path without a leading slash; `%00`; `Content-Length` beside
/// `Transfer-Encoding`.
pub(super) fn clean(request: &mut Request<MeshBody>) -> Result<(), Refusal> {
    let refuse = |detail: Cow<'static, str>| Err(Refusal::new(Reason::BadRequest, detail));
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return refuse("the request has more than one Host header".into());
    }
    let Ok(host) = host.map(|host| host.to_str()).transpose() else {
        return refuse("the Host header is not text".into());
    };
    let authority = request.uri().authority().map(|authority| authority.as_str());
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return refuse("the Host header contradicts the authority".into());
        }
        (None, None) if request.version() >= Version::HTTP_11 => {
            return refuse("the request names no host".into());
        }
        (Some(named), _) | (None, Some(named)) => {
            if let Err(error) = Host::parse_authority(named) {
                return refuse(format!("the authority is unusable: {error}").into());
            }
        }
        (None, None) => {}
    }
    if request.headers().contains_key(TRANSFER_ENCODING) && request.headers().contains_key(CONTENT_LENGTH) {
        return refuse("the request has both Content-Length and Transfer-Encoding".into());
    }
    if request.method() == Method::CONNECT {
        return refuse("CONNECT inside a tunnel is not served".into());
    }
    let uri = request.uri();
    let path = uri.path();
    let normal = match normalize(path, PathNormalization::Base) {
        Ok(Cow::Borrowed(_)) => return Ok(()),
        Ok(Cow::Owned(path)) => path,
        Err(error) => return refuse(format!("the path is unusable: {error}").into()),
    };
    let target = match uri.query() {
        Some(query) => format!("{normal}?{query}"),
        None => normal,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(match PathAndQuery::try_from(target) {
        Ok(target) => target,
        Err(_) => return refuse("the normalized path is no path".into()),
    });
    match Uri::from_parts(parts) {
        Ok(uri) => {
            *request.uri_mut() = uri;
            Ok(())
        }
        Err(_) => refuse("the normalized request has no URI".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<MeshBody> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(MeshBody::empty()).unwrap()
    }

    #[test]
    fn the_path_is_brought_into_normal_form() {
        let mut dots = request("/public/../admin?x=1", &[("host", "a")]);
        clean(&mut dots).unwrap();
        assert_eq!(dots.uri().to_string(), "/admin?x=1");

        let mut encoded = request("http://a:80/%61dmin/%2e%2e/b", &[]);
        clean(&mut encoded).unwrap();
        assert_eq!(encoded.uri().to_string(), "http://a:80/b");
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let cases: [(&str, &[(&str, &str)]); 7] = [
            ("/", &[]),
            ("/", &[("host", "a"), ("host", "b")]),
            ("/", &[("host", "a"), ("host", "a")]),
            ("http://a/", &[("host", "b")]),
            ("/", &[("host", "u@a")]),
            (
                "/",
                &[
                    ("host", "a"),
                    ("content-length", "1"),
                    ("transfer-encoding", "chunked"),
                ],
            ),
            ("/%00", &[("host", "a")]),
        ];
        for (uri, headers) in cases {
            let refusal = clean(&mut request(uri, headers)).unwrap_err();
            assert_eq!(refusal.reason, Reason::BadRequest, "{uri} {headers:?}");
        }
    }

    #[test]
    fn a_host_may_repeat_the_authority_in_other_case() {
        clean(&mut request("http://Reviews:9080/", &[("host", "reviews:9080")])).unwrap();
    }
}
