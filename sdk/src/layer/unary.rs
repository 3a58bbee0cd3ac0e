//! A gRPC call of a policy point to a service that decides: one message there, one back.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Limited};
use prost::Message;

use super::{Asker, MeshBody};
use crate::name::Host;

/// More is no answer.
const LARGEST: usize = 1 << 20;

/// Which method of which service is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) host: &'a Host,
    pub(super) port: u16,
    /// As gRPC writes it: `/package.Service/Method`.
    pub(super) path: &'a str,
    /// What the service is told of how long it has.
    pub(super) timeout: Option<Duration>,
}

/// Calls; what is not an answer is an error.
pub(super) async fn call<A: Message + Default>(
    target: Target<'_>,
    message: &impl Message,
    asker: &Asker,
) -> Result<A, String> {
    let request = target.request(message)?;
    let response = asker.ask(request).await.map_err(|refusal| refusal.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("the answer was {}", response.status()));
    }
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, LARGEST)
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    let trailers = body.trailers().unwrap_or(&parts.headers);
    let status = trailers
        .get("grpc-status")
        .or_else(|| parts.headers.get("grpc-status"));
    match status.map(HeaderValue::as_bytes) {
        Some(b"0") => {}
        status => {
            let status = status.map_or_else(|| "missing".into(), String::from_utf8_lossy);
            return Err(format!("grpc-status is {status}"));
        }
    }
    let message = unframed(&body.to_bytes()).ok_or("the answer is no gRPC message")?;
    A::decode(message).map_err(|error| error.to_string())
}

impl Target<'_> {
    fn request(&self, message: &impl Message) -> Result<Request<MeshBody>, String> {
        let mut request = Request::new(MeshBody::full(framed(message)));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = format!("http://{}:{}{}", self.host, self.port, self.path)
            .parse()
            .map_err(|error| format!("{error}"))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(timeout) = self.timeout
            && let Ok(value) = HeaderValue::try_from(format!("{}m", timeout.as_millis().min(99_999_999)))
        {
            headers.insert("grpc-timeout", value);
        }
        Ok(request)
    }
}

/// A message with the prefix that gRPC gives it: not compressed, and its length.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// The one message of an answer; `None` if it is compressed, cut off or not alone.
pub(super) fn unframed(bytes: &Bytes) -> Option<Bytes> {
    let [0, a, b, c, d] = *bytes.first_chunk::<5>()? else {
        return None;
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    (bytes.len() == 5 + length).then(|| bytes.slice(5..))
}
