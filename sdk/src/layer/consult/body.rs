//! The beginning of a body, held until the authorizer has seen it.

use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::{HeaderName, Request, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::layer::{BoxError, MeshBody, Reason, Refusal};
use crate::snapshot::BodyCheck;

/// Says to the authorizer, and to nobody else, whether what it is told of a body is all of it, as Envoy does.
pub(super) const PARTIAL: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");

/// What an authorizer is told of a body.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    pub(super) raw: bool,
    whole: bool,
}

impl Held {
    /// The value of [`PARTIAL`]; `None` where there is no body.
    pub(super) fn partial(&self) -> Option<&'static str> {
        let says = if self.whole { "false" } else { "true" };
        (!self.bytes.is_empty()).then_some(says)
    }
}

/// Reads as much of the body as the authorizer is told; the request keeps all of it.
///
/// # Errors
/// If the body is longer and the authorizer must see the whole, or if the caller breaks off.
pub(super) async fn hold(
    request: &mut Request<MeshBody>,
    check: Option<BodyCheck>,
) -> Result<Option<Held>, Refusal> {
    let Some(BodyCheck { max, partial, raw }) = check else {
        return Ok(None);
    };
    let mut body = std::mem::take(request.body_mut());
    let (mut bytes, mut after) = (BytesMut::new(), None);
    while bytes.len() <= max {
        match body.frame().await {
            None => break,
            Some(Err(error)) => {
                let detail = "the caller broke off before the external authorizer could be asked";
                return Err(Refusal::new(Reason::BadRequest, detail).caused_by(error));
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => {
                    after = Some(frame);
                    break;
                }
            },
        }
    }
    let whole = bytes.len() <= max;
    if !whole && !partial {
        let detail = "the body is longer than what the external authorizer is told";
        let refusal = Refusal::new(Reason::Authorizer, detail).status(StatusCode::PAYLOAD_TOO_LARGE);
        return Err(refusal.body("Payload Too Large"));
    }
    let bytes = bytes.freeze();
    let seen = bytes.slice(..bytes.len().min(max));
    *request.body_mut() = match (whole, &after) {
        (true, None) => MeshBody::full(bytes),
        _ => MeshBody::new(Rejoined {
            first: (!bytes.is_empty()).then_some(bytes),
            after,
            rest: body,
        }),
    };
    Ok(Some(Held {
        bytes: seen,
        raw,
        whole,
    }))
}

/// A body of which the beginning was read ahead.
struct Rejoined {
    first: Option<Bytes>,
    after: Option<Frame<Bytes>>,
    rest: MeshBody,
}

impl Body for Rejoined {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(frame) = self.after.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.after.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}
