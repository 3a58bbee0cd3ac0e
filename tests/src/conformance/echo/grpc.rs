//! gRPC as far as the suite needs it: unary calls without content, answered with what the backend saw.
//!
//! The answer is a `google.protobuf.StringValue` that holds the same JSON as over HTTP.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use inmesh::Body;
use prost::Message;

use crate::conformance::ledger::Seen;

/// The suite's own service.
pub const SERVICE: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";
/// The media type.
pub const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
/// Where the status is, in headers or trailers.
pub const STATUS: &str = "grpc-status";
/// `UNIMPLEMENTED`.
pub const UNIMPLEMENTED: i32 = 12;

/// Whether a message is gRPC, by its content type.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

/// A message with its length prefix, uncompressed.
pub fn frame(message: &str) -> Bytes {
    let message = message.to_owned().encode_to_vec();
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}

/// The message of a unary answer.
pub fn unframe(body: &[u8]) -> Option<String> {
    let length = u32::from_be_bytes(body.get(1..5)?.try_into().ok()?) as usize;
    String::decode(body.get(5..5 + length)?).ok()
}

/// The answer to a call of `path`.
pub(super) fn answer(path: &str, any_method: bool, seen: &Seen) -> Response<Body> {
    let method = path.strip_prefix('/').and_then(|it| it.rsplit_once('/'));
    let implemented = match method {
        Some((SERVICE, method)) => matches!(method, "Echo" | "EchoTwo"),
        _ => any_method,
    };
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE);
    if !implemented {
        response
            .headers_mut()
            .insert(STATUS, HeaderValue::from(UNIMPLEMENTED));
        return response;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from(0));
    let frames = [
        Ok::<_, std::convert::Infallible>(Frame::data(frame(
            &serde_json::to_string(seen).unwrap_or_default(),
        ))),
        Ok(Frame::trailers(trailers)),
    ];
    *response.body_mut() = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
    response
}
