//! Request path hygiene: what makes a request unambiguous before anybody judges it.
//!
//! | what | answered with |
//! | --- | --- |
//! | no `Host`, several, one that is no host or contradicts the URI (RFC 9112 §3.2, RFC 9113 §8.3.1) | 400 |
//! | a path without a leading slash, with `%00`, or read differently by different servers ([`PathNormalization`]) | 400 |
//! | `Content-Length` beside `Transfer-Encoding`, several that differ, one that is no number (RFC 9112 §6.3) | 400 |
//! | `CONNECT`, an upgrade with a body, an upgrade to HTTP ([`super::upgrade`]) | 400, 400, ignored |
//! | an expectation other than `100-continue` (RFC 9110 §10.1.1) | 417 |
//! | more than [`MOST_FIELDS`] header fields | 431 |
//!
//! What is left has one authority, one path and one length, and travels on as it was judged. Two things are settled
//! below, by the HTTP implementation: a fragment is cut off, and of `Content-Length` beside `Transfer-Encoding` in one
//! HTTP/1.1 head only the latter is kept and the connection closed afterwards.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri, Version};

use super::{MeshBody, Reason, Refusal, upgrade};
use crate::name::{check_authority, field, split_authority};
use crate::policy::normalize::{PathNormalization, normalize};

/// How many header fields a request may have. Envoy's default is 100; a few callers of bigger clusters exceed that.
pub(crate) const MOST_FIELDS: usize = 200;

/// Checks a request and brings it into its canonical form, so that every engine, and whoever the request is forwarded
/// to, sees the same bytes.
pub(super) fn clean(request: &mut Request<MeshBody>, paths: PathNormalization) -> Result<(), Refusal> {
    check_fields(request)?;
    upgrade::receive(request)?;
    settle_authority(request)?;
    settle_path(request, paths)
}

fn refuse<T>(detail: impl Into<Cow<'static, str>>) -> Result<T, Refusal> {
    Err(Refusal::new(Reason::BadRequest, detail))
}

/// Looks at every header field once.
fn check_fields(request: &mut Request<MeshBody>) -> Result<(), Refusal> {
    let headers = request.headers();
    if headers.len() > MOST_FIELDS {
        let detail = format!("the request has {} header fields", headers.len());
        return Err(
            Refusal::new(Reason::BadRequest, detail).status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        );
    }
    let mut hosts = 0;
    let mut length: Option<&HeaderValue> = None;
    let mut is_chunked = false;
    let mut expects = false;
    for (name, value) in headers {
        if *name == HOST {
            hosts += 1;
        } else if *name == CONTENT_LENGTH {
            if length.is_some_and(|other| other != value) || !is_number(value) {
                return refuse("the request's Content-Length is not one number");
            }
            length = Some(value);
        } else if *name == TRANSFER_ENCODING {
            is_chunked = true;
        } else if *name == EXPECT {
            if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::new(
                    Reason::BadRequest,
                    "the request expects something other than 100-continue",
                )
                .status(StatusCode::EXPECTATION_FAILED));
            }
            expects = true;
        }
    }
    if hosts > 1 {
        return refuse("the request has more than one Host header");
    }
    if is_chunked && length.is_some() {
        return refuse("the request has both Content-Length and Transfer-Encoding");
    }
    if expects {
        // It is for the next hop, which is here: the server says 100 when the body is first asked for.
        request.headers_mut().remove(EXPECT);
    }
    Ok(())
}

fn is_number(value: &HeaderValue) -> bool {
    let digits = value.as_bytes();
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Leaves the request with one authority, however it was given.
fn settle_authority(request: &mut Request<MeshBody>) -> Result<(), Refusal> {
    let host = field(request.headers(), &HOST);
    let Ok(named) = host.map(HeaderValue::to_str).transpose() else {
        return refuse("the Host header is not text");
    };
    let authority = request.uri().authority();
    let text = match (authority, named) {
        (Some(authority), Some(host)) if !is_same(authority.as_str(), host, request.uri()) => {
            return refuse("the Host header contradicts the authority");
        }
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host,
        (None, None) if request.version() >= Version::HTTP_11 => return refuse("the request names no host"),
        (None, None) => return Ok(()),
    };
    if let Err(error) = check_authority(text) {
        return refuse(format!("the authority is unusable: {error}"));
    }
    // Policies judge the URI's authority, an HTTP/1.1 server reads `Host`: they must not differ in a dot or a case.
    if let (Some(authority), Some(host)) = (authority, named)
        && authority.as_str() != host
    {
        let Ok(value) = HeaderValue::from_str(authority.as_str()) else {
            return refuse("the authority is no header value");
        };
        request.headers_mut().insert(HOST, value);
    }
    Ok(())
}

/// Whether two authorities are one: by host without case and root dot, and by port, the scheme's if there is none.
fn is_same(one: &str, other: &str, uri: &Uri) -> bool {
    if one == other {
        return true;
    }
    let default = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let (Ok((one, one_port)), Ok((other, other_port))) = (split_authority(one), split_authority(other))
    else {
        return false;
    };
    let name = |host: &'_ str| host.strip_suffix('.').unwrap_or(host).len();
    one[..name(one)].eq_ignore_ascii_case(&other[..name(other)])
        && one_port.unwrap_or(default) == other_port.unwrap_or(default)
}

fn settle_path(request: &mut Request<MeshBody>, paths: PathNormalization) -> Result<(), Refusal> {
    let uri = request.uri();
    if uri.path() == "*" && request.method() != Method::OPTIONS {
        return refuse("only OPTIONS is about the server as a whole");
    }
    // `http://a?x` and the `:path` `?x` mean the root, and are to say so.
    let is_bare_query = uri
        .path_and_query()
        .is_some_and(|target| target.as_str().starts_with('?'));
    let normal = match normalize(uri.path(), paths) {
        Ok(Cow::Borrowed(_)) if !is_bare_query => return Ok(()),
        Ok(path) => path.into_owned(),
        Err(error) => return refuse(format!("the path is unusable: {error}")),
    };
    let target = match uri.query() {
        Some(query) => format!("{normal}?{query}"),
        None => normal,
    };
    let Ok(target) = PathAndQuery::try_from(target) else {
        return refuse("the normalized path is no path");
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target);
    let Ok(uri) = Uri::from_parts(parts) else {
        return refuse("the normalized request has no URI");
    };
    *request.uri_mut() = uri;
    Ok(())
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

    fn cleaned(request: &mut Request<MeshBody>) -> Result<(), Refusal> {
        clean(request, PathNormalization::default())
    }

    fn status(uri: &str, headers: &[(&str, &str)]) -> u16 {
        match cleaned(&mut request(uri, headers)) {
            Ok(()) => 200,
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn the_path_is_brought_into_normal_form() {
        let mut dots = request("/public/../admin?x=1", &[("host", "a")]);
        cleaned(&mut dots).unwrap();
        assert_eq!(dots.uri().to_string(), "/admin?x=1");

        let mut encoded = request("http://a:80/%61dmin/%2e%2e/b", &[]);
        cleaned(&mut encoded).unwrap();
        assert_eq!(encoded.uri().to_string(), "http://a:80/b");
    }

    #[test]
    fn a_query_alone_is_the_roots() {
        let mut request = request("http://a?x=1", &[]);
        cleaned(&mut request).unwrap();
        assert_eq!(request.uri().path_and_query().unwrap(), "/?x=1");
    }

    #[test]
    fn the_mesh_says_how_far_a_path_is_normalized() {
        for (mode, expected) in [
            (PathNormalization::None, "/a/..//%2fb"),
            (PathNormalization::Base, "//%2fb"),
            (PathNormalization::MergeSlashes, "/%2fb"),
            (PathNormalization::DecodeAndMergeSlashes, "/b"),
        ] {
            let mut request = request("/a/..//%2fb", &[("host", "a")]);
            clean(&mut request, mode).unwrap();
            assert_eq!(request.uri().path(), expected, "{mode:?}");
        }
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let cases: [(&str, &[(&str, &str)]); 12] = [
            ("/", &[]),
            ("/", &[("host", "a"), ("host", "b")]),
            ("/", &[("host", "a"), ("host", "a")]),
            ("http://a/", &[("host", "b")]),
            ("http://a/", &[("host", "a:81")]),
            ("/", &[("host", "u@a")]),
            ("/", &[("host", "*.a")]),
            (
                "/",
                &[
                    ("host", "a"),
                    ("content-length", "1"),
                    ("transfer-encoding", "chunked"),
                ],
            ),
            (
                "/",
                &[("host", "a"), ("content-length", "1"), ("content-length", "2")],
            ),
            ("/", &[("host", "a"), ("content-length", "1, 1")]),
            ("/%00", &[("host", "a")]),
            ("*", &[("host", "a")]),
        ];
        for (uri, headers) in cases {
            assert_eq!(status(uri, headers), 400, "{uri} {headers:?}");
        }
        assert_eq!(
            status(
                "/",
                &[("host", "a"), ("content-length", "1"), ("content-length", "1")]
            ),
            200
        );
    }

    #[test]
    fn a_host_that_says_the_same_in_other_words_gives_way_to_the_authority() {
        for host in ["reviews", "Reviews:80", "reviews.", "REVIEWS.:80"] {
            let mut request = request("http://reviews/", &[("host", host)]);
            cleaned(&mut request).unwrap();
            assert_eq!(request.headers()[HOST], "reviews", "{host}");
        }
    }

    #[test]
    fn expectations_end_here() {
        let mut request = request("/", &[("host", "a"), ("expect", "100-Continue")]);
        cleaned(&mut request).unwrap();
        assert!(!request.headers().contains_key(EXPECT));
        assert_eq!(status("/", &[("host", "a"), ("expect", "200-ok")]), 417);
    }

    #[test]
    fn there_is_an_end_to_header_fields() {
        let mut many = request("/", &[("host", "a")]);
        for _ in 0..MOST_FIELDS {
            many.headers_mut().append("x", HeaderValue::from_static("y"));
        }
        assert_eq!(cleaned(&mut many).unwrap_err().status, 431);
    }
}
