//! gRPC's own health check, `grpc.health.v1.Health/Check`: one message in, one out, and the status in the trailers.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Full};

/// The path of its one method that is answered.
pub const CHECK: &str = "/grpc.health.v1.Health/Check";
/// A `HealthCheckRequest` that asks for the whole server, framed.
pub const REQUEST: [u8; 5] = [0; 5];
/// A `HealthCheckResponse` that says SERVING, framed.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 0x08, 0x01];

/// Answers that all is well.
pub(super) async fn check() -> Response {
    let trailers = HeaderMap::from_iter([(
        header::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(Bytes::from_static(&SERVING));
    let body = body.with_trailers(async { Some(Ok::<_, Infallible>(trailers)) });
    let kind = [(header::CONTENT_TYPE, "application/grpc")];
    (kind, Body::new(body)).into_response()
}
