//! A service that keeps limits for many, asked by gRPC.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::Answer;
use super::message::{
    self, DescriptorStatus, Entry, RateLimitDescriptor, RateLimitRequest, RateLimitResponse,
};
use crate::layer::Asker;
use crate::layer::consult::few;
use crate::layer::unary::{self, Target};
use crate::policy::limit::Taken;
use crate::snapshot::GlobalLimit;

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
    let target = Target {
        host: &limit.host,
        port: limit.port,
        path: "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
        timeout: Some(limit.timeout),
    };
    answer(unary::call(target, &message, asker).await?)
}

/// What a response says; one that says neither is an error (Envoy).
fn answer(response: RateLimitResponse) -> Result<Answer, String> {
    let over = match response.overall_code {
        OK => false,
        OVER_LIMIT => true,
        code => return Err(format!("the answer's overall code is {code}")),
    };
    few(response.request_headers_to_add.len() + response.response_headers_to_add.len())?;
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
