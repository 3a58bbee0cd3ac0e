//! The head of a `CONNECT`.

use http::header::{Entry, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, Version};

use super::Authority;

/// Who the sender says it is: labels.
pub(super) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest header value that is kept; a longer one is as if it were not there.
const LONGEST: usize = 8 * 1024;

/// Where a stream goes and what its sender says of it (RFC 9113 §8.5, with the header fields of ambient mesh).
///
/// All but the authority are hints for telemetry. A peer can write into them what it likes, so a receiver decides
/// nothing by them; a field that is too long or malformed is treated as absent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectHead {
    /// The destination.
    pub authority: Authority,
    /// The sender's labels; see [`super::Baggage`].
    pub baggage: Option<HeaderValue>,
    /// `for="<client>";host=<service>`: on whose behalf, and for which service.
    pub forwarded: Option<HeaderValue>,
    /// The trace that the stream belongs to.
    pub traceparent: Option<HeaderValue>,
}

impl ConnectHead {
    /// A head without hints.
    pub fn new(authority: impl Into<Authority>) -> Self {
        Self {
            authority: authority.into(),
            baggage: None,
            forwarded: None,
            traceparent: None,
        }
    }

    /// The head as a request: method and authority only, neither scheme nor path.
    pub(super) fn to_request(&self) -> Result<Request<()>, http::Error> {
        let uri = Uri::builder().authority(self.authority.to_string()).build()?;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        let hints = [
            (BAGGAGE, &self.baggage),
            (FORWARDED, &self.forwarded),
            (TRACEPARENT, &self.traceparent),
        ];
        for (name, value) in hints {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        Ok(request)
    }

    /// Reads a request's head; what it reads of the headers it takes out of them.
    ///
    /// # Errors
    /// With the status to refuse the request with.
    pub fn from_request(method: &Method, uri: &Uri, headers: &mut HeaderMap) -> Result<Self, StatusCode> {
        if method != Method::CONNECT {
            return Err(StatusCode::BAD_REQUEST);
        }
        let authority = uri.authority().ok_or(StatusCode::BAD_REQUEST)?;
        let authority = Authority::parse(authority.as_str()).map_err(|_| StatusCode::BAD_REQUEST)?;
        Ok(Self {
            authority,
            baggage: take(headers, BAGGAGE),
            forwarded: take(headers, FORWARDED),
            traceparent: take(headers, TRACEPARENT).filter(is_traceparent),
        })
    }

    /// The service that the sender meant, from the `host=` of `forwarded`. A hint, like all of it.
    pub fn forwarded_host(&self) -> Option<&str> {
        let text = self.forwarded.as_ref()?.to_str().ok()?;
        text.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim()
                .eq_ignore_ascii_case("host")
                .then(|| value.trim().trim_matches('"'))
        })
    }
}

/// Takes all lines of a header field as one value, joined by commas as RFC 9110 §5.3 allows.
fn take(headers: &mut HeaderMap, name: HeaderName) -> Option<HeaderValue> {
    let Entry::Occupied(lines) = headers.entry(name) else {
        return None;
    };
    let (_, mut lines) = lines.remove_entry_mult();
    let first = lines.next()?;
    let rest: Vec<_> = lines.collect();
    let length = first.len() + rest.iter().map(|line| line.len() + 1).sum::<usize>();
    if length > LONGEST {
        return None;
    }
    if rest.is_empty() {
        return Some(first);
    }
    let mut joined = first.as_bytes().to_vec();
    for line in &rest {
        joined.push(b',');
        joined.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok()
}

/// Whether the value has the shape of W3C Trace Context §3.2.
fn is_traceparent(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let dash = |at: usize| bytes.get(at) == Some(&b'-');
    bytes.len() == 55
        && dash(2)
        && dash(35)
        && dash(52)
        && bytes
            .iter()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> ConnectHead {
        ConnectHead::new(Authority::parse("reviews.default.svc.cluster.local:9080").unwrap())
    }

    fn decode(request: Request<()>) -> Result<ConnectHead, StatusCode> {
        let (mut parts, ()) = request.into_parts();
        ConnectHead::from_request(&parts.method, &parts.uri, &mut parts.headers)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut sent = head();
        sent.baggage = Some(HeaderValue::from_static("service.name=a"));
        sent.forwarded = Some(HeaderValue::from_static(
            "for=\"10.0.0.1:5\";host=reviews.default",
        ));
        sent.traceparent = Some(HeaderValue::from_static(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        ));
        let request = sent.to_request().unwrap();
        assert_eq!(
            request.uri().to_string(),
            "reviews.default.svc.cluster.local:9080"
        );
        let read = decode(request).unwrap();
        assert_eq!(read, sent);
        assert_eq!(read.forwarded_host(), Some("reviews.default"));
    }

    #[test]
    fn several_baggage_lines_are_one_and_bad_hints_are_none() {
        let mut request = head().to_request().unwrap();
        let headers = request.headers_mut();
        headers.append(BAGGAGE, HeaderValue::from_static("a=1"));
        headers.append(BAGGAGE, HeaderValue::from_static("b=2"));
        headers.insert(TRACEPARENT, HeaderValue::from_static("00-zz"));
        headers.insert(FORWARDED, HeaderValue::try_from("x".repeat(LONGEST + 1)).unwrap());
        let read = decode(request).unwrap();
        assert_eq!(read.baggage.unwrap(), "a=1,b=2");
        assert_eq!(read.traceparent, None);
        assert_eq!(read.forwarded, None);
    }

    #[test]
    fn another_method_is_a_bad_request() {
        let mut request = head().to_request().unwrap();
        *request.method_mut() = Method::GET;
        assert_eq!(decode(request), Err(StatusCode::BAD_REQUEST));
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(value in proptest::collection::vec(0u8..=255, 0..120), uri in "\\PC{0,60}") {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                for name in [BAGGAGE, FORWARDED, TRACEPARENT] {
                    headers.append(name, value.clone());
                }
            }
            if let Ok(uri) = uri.parse::<Uri>()
                && let Ok(head) = ConnectHead::from_request(&Method::CONNECT, &uri, &mut headers)
            {
                let _ = head.forwarded_host();
                let _ = head.to_request();
            }
        }
    }
}
