//! A service that keeps limits for many, asked by gRPC.

use std::time::Duration;

use http::header::{CONTENT_TYPE, TE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Limited};
use prost::Message;

use super::Answer;
use super::message::{
    self, DescriptorStatus, Entry, RateLimitDescriptor, RateLimitRequest, RateLimitResponse,
};
use crate::layer::consult::{framed, unframed};
use crate::layer::{Asker, MeshBody};
use crate::policy::limit::Taken;
use crate::snapshot::GlobalLimit;

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// More is no answer.
const LARGEST: usize = 1 << 20;

const OK: i32 = 1;
const OVER_LIMIT: i32 = 2;

/// Asks; what is not an answer is an error.
pub(super) async fn ask(
    limit: &GlobalLimit,
    descriptors: &[Vec<(String, String)>],
    asker: &Asker,
) -> Result<Answer, String> {
    let entry = |(key, value): &(String, String)| Entry {
        key: key.clone(),
        value: value.clone(),
    };
    let descriptor = |it: &Vec<(String, String)>| RateLimitDescriptor {
        entries: it.iter().map(entry).collect(),
    };
    let message = RateLimitRequest {
        domain: limit.domain.to_string(),
        descriptors: descriptors.iter().map(descriptor).collect(),
        hits_addend: 0,
    };
    let mut request = Request::new(MeshBody::full(framed(&message)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = format!("http://{}:{}{PATH}", limit.host, limit.port)
        .parse()
        .map_err(|error| format!("{error}"))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
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
    if status.map(HeaderValue::as_bytes) != Some(b"0") {
        let status = status.map_or_else(|| "missing".into(), |it| String::from_utf8_lossy(it.as_bytes()));
        return Err(format!("grpc-status is {status}"));
    }
    let bytes = unframed(&body.to_bytes()).ok_or("the answer is no gRPC message")?;
    answer(RateLimitResponse::decode(bytes).map_err(|error| error.to_string())?)
}

/// What a response says; one that says neither is an error (Envoy).
fn answer(response: RateLimitResponse) -> Result<Answer, String> {
    let over = match response.overall_code {
        OK => false,
        OVER_LIMIT => true,
        code => return Err(format!("the answer's overall code is {code}")),
    };
    let headers = |list: Vec<message::HeaderValue>| list.into_iter().filter_map(header).collect();
    let taken = response.statuses.iter().filter_map(taken);
    Ok(Answer {
        over,
        taken: taken.min_by_key(|it| it.remaining),
        request: headers(response.request_headers_to_add),
        response: headers(response.response_headers_to_add),
        body: String::from_utf8_lossy(&response.raw_body).into_owned(),
    })
}

fn taken(status: &DescriptorStatus) -> Option<Taken> {
    let limit = status.current_limit.as_ref()?;
    let reset = status.duration_until_reset.as_ref();
    let reset = reset.map_or(Duration::ZERO, |it| {
        Duration::new(
            u64::try_from(it.seconds).unwrap_or(0),
            u32::try_from(it.nanos).unwrap_or(0).min(999_999_999),
        )
    });
    Some(Taken {
        allowed: status.code != OVER_LIMIT,
        limit: limit.requests_per_unit,
        remaining: status.limit_remaining,
        reset,
    })
}

/// A header, if it is one that may be written.
fn header(written: message::HeaderValue) -> Option<(HeaderName, HeaderValue)> {
    let name: HeaderName = written.key.parse().ok()?;
    let value = match written.raw_value.is_empty() {
        true => HeaderValue::from_str(&written.value).ok()?,
        false => HeaderValue::from_bytes(&written.raw_value).ok()?,
    };
    crate::layer::consult::may_change(&name).then_some((name, value))
}
