//! A unary call, and what its answer says.

use super::Answer;
use crate::conformance::echo::grpc::{STATUS, is_grpc, unframe};
use crate::conformance::ledger::Seen;

/// The status of a unary answer. What is no gRPC counts as gRPC clients count it ("HTTP to gRPC Status Code Mapping").
pub fn status(answer: &Answer) -> i32 {
    const INTERNAL: i32 = 13;
    const UNKNOWN: i32 = 2;
    match answer.status.as_u16() {
        200 if !is_grpc(&answer.headers) => UNKNOWN,
        200 => answer
            .trailers
            .get(STATUS)
            .or_else(|| answer.headers.get(STATUS))
            .and_then(|it| it.to_str().ok()?.parse().ok())
            .unwrap_or(INTERNAL),
        400 => INTERNAL,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => UNKNOWN,
    }
}

/// What the backend says that it saw.
pub fn echo(answer: &Answer) -> Option<Seen> {
    serde_json::from_str(&unframe(&answer.body)?).ok()
}
