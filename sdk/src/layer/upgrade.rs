//! Protocol upgrades in one form, whatever carries them.
//!
//! | carried by | the request | yes |
//! | --- | --- | --- |
//! | HTTP/1.1 (RFC 9110 §7.8) | `GET` with `Connection: upgrade` and `Upgrade: websocket` | 101 |
//! | HTTP/2 (RFC 8441) | `CONNECT` with `:protocol: websocket` | 200 |
//!
//! Between the two ends of the stack an upgrade always has the first form, so that routes and policies judge the same
//! method and headers however the caller came; Envoy's codecs do the same. The ends translate.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::{MeshBody, Reason, Refusal};
use crate::name::field;

/// Marks a request that came as an extended CONNECT, and so is answered as one.
#[derive(Clone, Copy, Debug)]
struct Extended;

/// What the other end of an upgrade was told, so that its answer can be understood.
#[derive(Debug)]
pub(crate) struct Offer {
    protocol: HeaderValue,
    key: Option<HeaderValue>,
}

/// The protocol that a request asks to change to, if it asks properly.
pub(crate) fn requested(headers: &HeaderMap) -> Option<&HeaderValue> {
    let protocol = field(headers, &UPGRADE)?;
    let asked = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    asked
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        .then_some(protocol)
}

// ===== on the way in =====

/// Brings an upgrade into its inner form, and makes an ordinary request of what must not be one.
///
/// An upgrade to another version of HTTP, or to TLS with HTTP in it, would carry requests past every policy: it is not
/// offered, and the request answered as if it had not been asked for (RFC 9110 §7.8 lets a server ignore it).
pub(super) fn receive(request: &mut Request<MeshBody>) -> Result<(), Refusal> {
    let refuse = |detail| Err(Refusal::new(Reason::BadRequest, detail));
    if request.method() == Method::CONNECT {
        let Some(protocol) = request.extensions_mut().remove::<Protocol>() else {
            return refuse("CONNECT inside a tunnel is not served");
        };
        let Ok(protocol) = HeaderValue::from_bytes(protocol.as_ref()) else {
            return refuse("the protocol of the extended CONNECT is no header value");
        };
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        request.extensions_mut().insert(Extended);
    }
    let Some(protocol) = requested(request.headers()) else {
        // hyper offers the bytes below to whoever holds this, were it only for an `Upgrade` that nobody asked for.
        request.extensions_mut().remove::<OnUpgrade>();
        return Ok(());
    };
    if is_http(protocol) {
        if is_extended(request) {
            return refuse("HTTP inside an extended CONNECT is not served");
        }
        let headers = request.headers_mut();
        for name in [UPGRADE, CONNECTION, HeaderName::from_static("http2-settings")] {
            headers.remove(name);
        }
        request.extensions_mut().remove::<OnUpgrade>();
        return Ok(());
    }
    if !request.body().is_end_stream() {
        // Whoever counts the bytes differently would take the rest for the new protocol, or for another request.
        return refuse("a request to change the protocol has a body");
    }
    Ok(())
}

/// Whether any of the protocols is HTTP, or TLS that may hold it. In doubt it is.
fn is_http(protocols: &HeaderValue) -> bool {
    let Ok(protocols) = protocols.to_str() else {
        return true;
    };
    protocols.split(',').any(|protocol| {
        let name = protocol.trim().split('/').next().unwrap_or_default();
        ["h2c", "h2", "h3", "http", "tls"]
            .iter()
            .any(|http| name.eq_ignore_ascii_case(http))
    })
}

/// What a caller has asked for, and so what it understands as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// No change of protocol, or none that it was offered.
    Nothing,
    /// In the form of HTTP/1.1.
    Upgrade,
    /// As an extended CONNECT.
    Extended,
}

impl Asked {
    /// What a request asks for that [`receive`] has seen.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        if is_extended(request) {
            Self::Extended
        } else if requested(request.headers()).is_some() {
            Self::Upgrade
        } else {
            Self::Nothing
        }
    }

    /// Gives an answer the form that the caller understands.
    pub(super) fn settle(self, response: &mut Response<MeshBody>) {
        let is_changed = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match self {
            // Nobody asked: whatever comes next would go past the policy.
            Self::Nothing if is_changed => *response = bad_gateway(),
            Self::Extended if is_changed => {
                *response.status_mut() = StatusCode::OK;
                for name in [UPGRADE, CONNECTION, SEC_WEBSOCKET_ACCEPT, CONTENT_LENGTH] {
                    response.headers_mut().remove(name);
                }
            }
            // Any success would tell the caller that the tunnel stands.
            Self::Extended if response.status().is_success() => *response = bad_gateway(),
            _ => {}
        }
    }
}

fn bad_gateway() -> Response<MeshBody> {
    let mut response = Response::new(MeshBody::empty());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

fn is_extended<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Extended>().is_some()
}

// ===== to an application =====

/// Gives an application the form that its server received: frameworks tell WebSockets over HTTP/2 by it.
pub(crate) fn restore<B>(request: &mut Request<B>) -> bool {
    if request.extensions_mut().remove::<Extended>().is_none() {
        return false;
    }
    request.headers_mut().remove(CONNECTION);
    if let Some(protocol) = request.headers_mut().remove(UPGRADE)
        && let Ok(protocol) = protocol.to_str()
    {
        request.extensions_mut().insert(Protocol::from(protocol));
    }
    *request.method_mut() = Method::CONNECT;
    true
}

/// The inner form of an application's answer to what [`restore`] gave it.
pub(crate) fn answer_restored<B>(response: &mut Response<B>) {
    if response.status().is_success() {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
}

// ===== to an upstream =====

/// Completes a request that goes out over HTTP/1.1. An extended CONNECT has no key (RFC 8441 §5.1), a server of HTTP/1.1
/// wants one (RFC 6455 §4.2.1).
pub(crate) fn complete<B>(request: &mut Request<B>) {
    let is_websocket = |protocol: &HeaderValue| protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    if is_extended(request)
        && requested(request.headers()).is_some_and(is_websocket)
        && !request.headers().contains_key(SEC_WEBSOCKET_KEY)
        && let Some(key) = base64(&fastrand::u128(..).to_be_bytes())
    {
        // Nobody checks the answer to it: the nonce is against caches that take an upgrade for a request.
        request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
    }
}

/// Makes an extended CONNECT of an upgrade that goes out over HTTP/2; `None` if it is none.
pub(crate) fn extend<B>(request: &mut Request<B>) -> Option<Offer> {
    let protocol = requested(request.headers())?.clone();
    let name = Protocol::from(protocol.to_str().ok()?);
    let headers = request.headers_mut();
    headers.remove(UPGRADE);
    headers.remove(CONNECTION);
    let key = headers.remove(SEC_WEBSOCKET_KEY);
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(name);
    Some(Offer { protocol, key })
}

/// The inner form of an upstream's answer to what [`extend`] made.
pub(crate) fn answer_offered<B>(response: &mut Response<B>, offer: Offer) {
    if response.status() != StatusCode::OK {
        return;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, offer.protocol);
    if let Some(accept) = offer.key.as_ref().and_then(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
}

/// What proves that a server has understood a key (RFC 6455 §4.2.2).
fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(digest.finish().as_ref())
}

fn base64(bytes: &[u8]) -> Option<HeaderValue> {
    use base64::Engine;
    HeaderValue::try_from(base64::engine::general_purpose::STANDARD.encode(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade(protocol: &str) -> Request<MeshBody> {
        Request::get("/chat")
            .header("host", "a")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", protocol)
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(MeshBody::empty())
            .unwrap()
    }

    fn extended(protocol: &str) -> Request<MeshBody> {
        let mut request = Request::connect("http://a/chat").body(MeshBody::empty()).unwrap();
        request.extensions_mut().insert(Protocol::from(protocol));
        request
    }

    fn response(status: u16) -> Response<MeshBody> {
        Response::builder()
            .status(status)
            .body(MeshBody::empty())
            .unwrap()
    }

    #[test]
    fn an_extended_connect_is_judged_as_the_get_that_it_stands_for() {
        let mut request = extended("websocket");
        receive(&mut request).unwrap();
        assert_eq!(request.method(), Method::GET);
        assert_eq!(requested(request.headers()).unwrap(), "websocket");
        assert!(is_extended(&request));
        // An application sees what its server received.
        assert!(restore(&mut request));
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(
            request.extensions().get::<Protocol>().unwrap().as_ref(),
            b"websocket"
        );
        assert!(request.headers().is_empty());
    }

    #[test]
    fn a_bare_connect_is_refused() {
        let mut request = extended("websocket");
        request.extensions_mut().clear();
        assert!(receive(&mut request).is_err());
    }

    /// Request smuggling by `Upgrade: h2c`: what is inside would meet no policy.
    #[test]
    fn http_is_never_tunnelled_in_an_upgrade() {
        for protocol in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.0", "\u{e9}"] {
            let mut request = upgrade("x");
            let value = HeaderValue::from_bytes(protocol.as_bytes()).unwrap();
            request.headers_mut().insert(UPGRADE, value);
            receive(&mut request).unwrap();
            assert!(requested(request.headers()).is_none(), "{protocol}");
        }
        assert!(receive(&mut extended("h2c")).is_err());
    }

    #[test]
    fn an_upgrade_with_a_body_is_refused() {
        let mut request = upgrade("websocket").map(|_| MeshBody::full("GET /admin HTTP/1.1\r\n\r\n"));
        assert!(receive(&mut request).is_err());
    }

    #[test]
    fn without_the_connection_token_nothing_is_asked_for() {
        let mut request = upgrade("websocket");
        request
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        assert!(requested(request.headers()).is_none());
    }

    /// The key and answer of RFC 6455 §1.3.
    #[test]
    fn an_upgrade_over_http2_is_answered_as_http1_callers_expect() {
        let mut request = upgrade("websocket");
        receive(&mut request).unwrap();
        let offer = extend(&mut request).unwrap();
        assert_eq!(request.method(), Method::CONNECT);
        assert!(!request.headers().contains_key(SEC_WEBSOCKET_KEY));
        let mut yes = response(200);
        answer_offered(&mut yes, offer);
        assert_eq!(yes.status(), 101);
        assert_eq!(
            yes.headers()[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(yes.headers()[UPGRADE], "websocket");
    }

    #[test]
    fn an_answer_is_given_as_it_was_asked_for() {
        for (asked, inner, outer) in [
            (Asked::Extended, 101, 200),
            (Asked::Extended, 200, 502),
            (Asked::Extended, 204, 502),
            (Asked::Extended, 403, 403),
            (Asked::Upgrade, 101, 101),
            (Asked::Upgrade, 200, 200),
            (Asked::Nothing, 101, 502),
            (Asked::Nothing, 200, 200),
        ] {
            let mut response = response(inner);
            asked.settle(&mut response);
            assert_eq!(response.status(), outer, "{asked:?}");
        }
    }

    #[test]
    fn a_server_of_http1_gets_a_key() {
        let mut request = extended("websocket");
        receive(&mut request).unwrap();
        complete(&mut request);
        assert_eq!(request.headers()[SEC_WEBSOCKET_KEY].len(), 24);
        let mut own = upgrade("websocket");
        complete(&mut own);
        assert_eq!(own.headers()[SEC_WEBSOCKET_KEY], "dGhlIHNhbXBsZSBub25jZQ==");
    }
}
