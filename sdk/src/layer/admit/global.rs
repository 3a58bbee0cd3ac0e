//! A service that keeps limits for many, asked by gRPC.

use http::{HeaderName, HeaderValue};

use super::message::{
    self, DescriptorStatus, Entry, RateLimitDescriptor, RateLimitRequest, RateLimitResponse,
};
use super::{Answer, Quota};
use crate::layer::Asker;
use crate::layer::consult::few;
use crate::layer::unary::{self, Target};
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
    Ok(Answer {
        over,
        quota: quota(&response.statuses),
        request: headers(response.request_headers_to_add),
        response: headers(response.response_headers_to_add),
        body: String::from_utf8_lossy(&response.raw_body).into_owned(),
    })
}

/// What is left of the limit of which least is, and which limits there are: each as `;w=` the seconds that it is for.
fn quota(statuses: &[DescriptorStatus]) -> Option<Quota> {
    let limits = || {
        statuses
            .iter()
            .filter_map(|it| Some((it, it.current_limit.as_ref()?)))
    };
    let (least, limit) = limits().min_by_key(|(status, _)| status.limit_remaining)?;
    let mut told = limit.requests_per_unit.to_string();
    for (_, limit) in limits() {
        let Some(window) = seconds_of(limit.unit) else {
            continue;
        };
        told += &format!(", {};w={window}", limit.requests_per_unit);
        if !limit.name.is_empty() {
            told += &format!(";name=\"{}\"", limit.name);
        }
    }
    let reset = least.duration_until_reset.as_ref();
    Some(Quota {
        // A name may be anything; what cannot be written leaves the number.
        limit: HeaderValue::try_from(told).unwrap_or_else(|_| limit.requests_per_unit.into()),
        remaining: least.limit_remaining,
        reset: reset.map_or(0, |it| u64::try_from(it.seconds).unwrap_or(0)),
        over: least.code == OVER_LIMIT,
    })
}

/// How many seconds a unit of limits has (`RateLimitResponse.RateLimit.Unit`).
fn seconds_of(unit: i32) -> Option<u32> {
    const DAY: u32 = 24 * 60 * 60;
    Some(match unit {
        1 => 1,
        2 => 60,
        3 => 60 * 60,
        4 => DAY,
        5 => 30 * DAY,
        6 => 365 * DAY,
        7 => 7 * DAY,
        _ => return None,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Envoy, `enable_x_ratelimit_headers`: `10, 10;w=1;name="per-ip", 1000;w=3600`.
    #[test]
    fn callers_are_told_of_all_limits_and_of_what_is_left_of_the_least() {
        let status = |code, limit: Option<(u32, i32, &str)>, remaining| DescriptorStatus {
            code,
            current_limit: limit.map(|(requests_per_unit, unit, name)| message::RateLimit {
                requests_per_unit,
                unit,
                name: name.to_owned(),
            }),
            limit_remaining: remaining,
            duration_until_reset: Some(message::Duration {
                seconds: 7,
                nanos: 900_000_000,
            }),
        };
        assert!(quota(&[]).is_none());
        assert!(quota(&[status(OK, None, 0)]).is_none());
        let all = [
            status(OK, None, 0),
            status(OK, Some((1_000, 3, "")), 900),
            status(OVER_LIMIT, Some((10, 1, "per-ip")), 0),
            status(OK, Some((5, 0, "without a unit")), 1),
        ];
        let told = quota(&all).unwrap();
        assert_eq!(told.limit, r#"10, 1000;w=3600, 10;w=1;name="per-ip""#);
        assert_eq!((told.remaining, told.reset, told.over), (0, 7, true));
        let unwritable = [status(OK, Some((3, 2, "a\nb")), 2)];
        assert_eq!(quota(&unwritable).unwrap().limit, "3");
    }
}
