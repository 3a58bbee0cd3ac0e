//! An authorizer that is asked by gRPC.

use ::http::header::{CONTENT_TYPE, TE};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use prost::Message;

use super::answer::{Answer, Changes, How};
use super::message::{AppendAction, CheckRequest, CheckResponse, HeaderValueOption, HttpAnswer};
use super::status_of;
use crate::layer::{Asker, MeshBody};
use crate::snapshot::Authorizer;

const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// More is no answer.
const LARGEST: usize = 1 << 20;

/// Asks; what is not an answer is an error.
pub(super) async fn check(
    message: CheckRequest,
    authorizer: &Authorizer,
    asker: &Asker,
) -> Result<Answer, String> {
    let mut request = Request::new(MeshBody::full(framed(&message)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = format!("http://{}:{}{PATH}", authorizer.host, authorizer.port)
        .parse()
        .map_err(|error| format!("{error}"))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(timeout) = authorizer.timeout
        && let Ok(value) = HeaderValue::try_from(format!("{}m", timeout.as_millis().min(99_999_999)))
    {
        headers.insert("grpc-timeout", value);
    }
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
    let bytes = body.to_bytes();
    let message = unframed(&bytes).ok_or("the answer is no gRPC message")?;
    let response = CheckResponse::decode(message).map_err(|error| error.to_string())?;
    answer(response)
}

/// What a CheckResponse says (Envoy `grpc_client_impl`).
fn answer(response: CheckResponse) -> Result<Answer, String> {
    let allowed = response.status.as_ref().is_none_or(|status| status.code == 0);
    match (allowed, response.http_response) {
        (true, None) => Ok(Answer::Allowed(Changes::default())),
        (true, Some(HttpAnswer::Ok(ok))) => {
            let names = |names: Vec<String>| names.iter().filter_map(|name| name.parse().ok()).collect();
            let mut changes = Changes {
                headers: ok.headers.into_iter().filter_map(header).collect(),
                removed: names(ok.headers_to_remove),
                query_removed: ok.query_parameters_to_remove,
                query_set: ok
                    .query_parameters_to_set
                    .into_iter()
                    .map(|one| (one.key, one.value))
                    .collect(),
                response: HeaderMap::new(),
            };
            for (name, value, _) in ok.response_headers_to_add.into_iter().filter_map(header) {
                changes.response.append(name, value);
            }
            Ok(Answer::Allowed(changes))
        }
        (true, Some(HttpAnswer::Denied(_))) => Err("the answer allows and denies at once".into()),
        (false, Some(HttpAnswer::Denied(denied))) => {
            let mut headers = HeaderMap::new();
            for (name, value, how) in denied.headers.into_iter().filter_map(header) {
                match how {
                    How::Add | How::AddToPresent => drop(headers.append(name, value)),
                    _ => drop(headers.insert(name, value)),
                }
            }
            Ok(Answer::Denied {
                status: denied
                    .status
                    .map_or(StatusCode::FORBIDDEN, |status| status_of(status.code)),
                headers,
                body: denied.body,
            })
        }
        (false, _) => Ok(Answer::Denied {
            status: StatusCode::FORBIDDEN,
            headers: HeaderMap::new(),
            body: String::new(),
        }),
    }
}

/// A header, if it is one that may be written.
fn header(option: HeaderValueOption) -> Option<(HeaderName, HeaderValue, How)> {
    let how = match (AppendAction::try_from(option.append_action), option.append) {
        (Ok(AppendAction::AddIfAbsent), _) => How::IfAbsent,
        (Ok(AppendAction::OverwriteIfExistsOrAdd), _) => How::Set,
        (Ok(AppendAction::OverwriteIfExists), _) => How::IfPresent,
        // The older field, which says more where the newer is at its default.
        (_, Some(append)) if append.value => How::AddToPresent,
        _ => How::Set,
    };
    let header = option.header?;
    let value = match header.raw_value.is_empty() {
        true => HeaderValue::from_str(&header.value).ok()?,
        false => HeaderValue::from_maybe_shared(header.raw_value).ok()?,
    };
    let name: HeaderName = header.key.parse().ok()?;
    super::answer::may_change(&name).then_some((name, value, how))
}

/// A message with the prefix that gRPC gives it: not compressed, and its length.
pub(in crate::layer) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// The one message of an answer; `None` if it is compressed, cut off or not alone.
pub(in crate::layer) fn unframed(bytes: &Bytes) -> Option<Bytes> {
    let [0, a, b, c, d] = *bytes.first_chunk::<5>()? else {
        return None;
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    (bytes.len() == 5 + length).then(|| bytes.slice(5..))
}
