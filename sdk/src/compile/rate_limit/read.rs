//! From Envoy's shapes to limits, and why not.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::envoy::{self, Action, GlobalRateLimit, HeaderMatcher, LocalRateLimit, Share};
use crate::matcher::{FullRegex, ValuePattern};
use crate::name::Host;
use crate::policy::fault::PerMillion;
use crate::policy::limit::{BucketPolicy, Describe, Field, FieldMatch, KindPolicy, LocalPolicy, Part};
use crate::snapshot::GlobalLimit;

/// Envoy's least interval.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);
/// For how many values there are buckets where nothing is said. Envoy has 20.
const VALUES: usize = 1_024;
/// Envoy's default for a service that is asked.
const TIMEOUT: Duration = Duration::from_millis(20);
/// The expression that names who calls.
const CALLER: &str = "connection.uri_san_peer_certificate";

/// A local limit; `None` where only routes say how much.
pub(super) fn local(written: &LocalRateLimit) -> Result<Option<LocalPolicy>, String> {
    if written.local_rate_limit_per_downstream_connection {
        return Err("a bucket for each connection is not supported: callers share tunnels".into());
    }
    if written.token_bucket.is_none() && written.descriptors.is_empty() {
        return Ok(None);
    }
    let all = written.token_bucket.as_ref().map(bucket).transpose()?;
    let mut kinds = Vec::with_capacity(written.descriptors.len());
    for descriptor in &written.descriptors {
        let bucket = bucket(&descriptor.token_bucket)?;
        // Envoy's arithmetic wants whole multiples; ours would not need them, and says so all the same.
        if let Some(all) = &all
            && !bucket
                .every
                .as_millis()
                .is_multiple_of(all.every.as_millis().max(1))
        {
            return Err("the fill_interval of a descriptor must be a multiple of that of the filter".into());
        }
        let entry = |it: &envoy::Pair| {
            let value = Some(&*it.value).filter(|it| !it.is_empty());
            (it.key.as_str().into(), value.map(Into::into))
        };
        kinds.push(KindPolicy {
            entries: descriptor.entries.iter().map(entry).collect(),
            bucket,
        });
    }
    let header = |it: &envoy::HeaderOption| {
        let name = HeaderName::from_bytes(it.header.key.as_bytes());
        let value = HeaderValue::from_str(&it.header.value);
        match (name, value) {
            (Ok(name), Ok(value)) => Ok((name, value)),
            _ => Err(format!("`{}` and its value are no header", it.header.key)),
        }
    };
    Ok(Some(LocalPolicy {
        enabled: share(written.filter_enabled.as_ref())?,
        enforced: share(written.filter_enforced.as_ref())?,
        all,
        kinds,
        counts_twice: written.always_consume_default_token_bucket.unwrap_or(true),
        values: written.max_dynamic_descriptors.unwrap_or(VALUES),
        status: status(written.status.as_ref(), StatusCode::TOO_MANY_REQUESTS)?,
        exhausted: written.rate_limited_as_resource_exhausted,
        headers: written
            .response_headers_to_add
            .iter()
            .map(header)
            .collect::<Result<_, _>>()?,
        tells: tells(written.enable_x_ratelimit_headers.as_deref())?,
        stage: written.stage,
    }))
}

fn bucket(written: &envoy::TokenBucket) -> Result<BucketPolicy, String> {
    let policy = BucketPolicy {
        max: written.max_tokens,
        fill: written.tokens_per_fill.unwrap_or(1),
        every: written.fill_interval.0,
    };
    if policy.max == 0 || policy.fill == 0 {
        return Err("a bucket that holds or is given nothing".into());
    }
    match policy.every < LEAST_INTERVAL {
        true => Err(format!(
            "fill_interval is {:?}, less than {LEAST_INTERVAL:?}",
            policy.every
        )),
        false => Ok(policy),
    }
}

/// Nothing where nothing is said: Envoy's filter does nothing until it is told to.
fn share(written: Option<&Share>) -> Result<PerMillion, String> {
    let Some(fraction) = written.and_then(|it| it.default_value.as_ref()) else {
        return Ok(PerMillion::NOBODY);
    };
    let hundred = match fraction.denominator.as_deref() {
        None | Some("HUNDRED") => 1.0,
        Some("TEN_THOUSAND") => 100.0,
        Some("MILLION") => 10_000.0,
        Some(other) => return Err(format!("`{other}` is no denominator")),
    };
    Ok(PerMillion::percent(f64::from(fraction.numerator) / hundred))
}

pub(super) fn status(written: Option<&envoy::HttpStatus>, default: StatusCode) -> Result<StatusCode, String> {
    let Some(written) = written else {
        return Ok(default);
    };
    let code = match &written.code {
        Value::Number(number) => number.as_u64(),
        Value::String(name) => match name.as_str() {
            "TooManyRequests" => Some(429),
            "ServiceUnavailable" => Some(503),
            "Forbidden" => Some(403),
            "InternalServerError" => Some(500),
            number => number.parse().ok(),
        },
        _ => None,
    };
    let code = code
        .and_then(|it| u16::try_from(it).ok())
        .filter(|it| (400..600).contains(it));
    code.and_then(|it| StatusCode::from_u16(it).ok())
        .ok_or_else(|| format!("{} is no status of a refusal", written.code))
}

fn tells(written: Option<&str>) -> Result<bool, String> {
    match written {
        None | Some("OFF") => Ok(false),
        Some("DRAFT_VERSION_03") => Ok(true),
        Some(other) => Err(format!("`{other}` is no version of x-ratelimit headers")),
    }
}

/// A limit that a service keeps; `clusters` are those that the same resources add.
pub(super) fn global(
    written: &GlobalRateLimit,
    clusters: &HashMap<String, (String, u16)>,
) -> Result<GlobalLimit, String> {
    let service = &written.rate_limit_service;
    match service.transport_api_version.as_deref() {
        None | Some("V3" | "AUTO") => {}
        Some(other) => return Err(format!("`{other}` of the protocol is not spoken")),
    }
    match written.request_type.as_deref() {
        None | Some("" | "both") => {}
        Some(other) => {
            return Err(format!(
                "request_type `{other}` is not supported: all requests are alike"
            ));
        }
    }
    let name = &service.grpc_service.envoy_grpc.cluster_name;
    let (host, port) = clusters
        .get(name)
        .cloned()
        .or_else(|| istios_cluster(name))
        .ok_or_else(|| format!("no CLUSTER patch adds `{name}` with one address, and it is no service's `outbound|port||host`"))?;
    let host = Host::parse(&host).map_err(|error| format!("`{host}` is no host: {error}"))?;
    let timeout = written.timeout.or(service.grpc_service.timeout);
    Ok(GlobalLimit {
        domain: written.domain.as_str().into(),
        host,
        port,
        timeout: timeout.map_or(TIMEOUT, |it| it.0),
        deny: written.failure_mode_deny,
        status: status(
            written.rate_limited_status.as_ref(),
            StatusCode::TOO_MANY_REQUESTS,
        )?,
        status_on_error: status(
            written.status_on_error.as_ref(),
            StatusCode::INTERNAL_SERVER_ERROR,
        )?,
        exhausted: written.rate_limited_as_resource_exhausted,
        marks: !written.disable_x_envoy_ratelimited_header,
        tells: tells(written.enable_x_ratelimit_headers.as_deref())?,
        stage: written.stage,
    })
}

/// Istio's name of a service's cluster.
fn istios_cluster(name: &str) -> Option<(String, u16)> {
    let mut parts = name.strip_prefix("outbound|")?.splitn(3, '|');
    let port = parts.next()?.parse().ok()?;
    let subset = parts.next()?;
    let host = parts.next()?;
    subset.is_empty().then(|| (host.to_owned(), port))
}

/// The descriptors of requests.
pub(super) fn describes(written: &[envoy::RateLimit]) -> Result<Vec<Describe>, String> {
    let one = |it: &envoy::RateLimit| {
        let parts: Result<Vec<Part>, String> = it.actions.iter().map(part).collect();
        let parts = parts?;
        match parts.is_empty() {
            true => Err("rate_limits without actions".to_owned()),
            false => Ok(Describe {
                stage: it.stage,
                parts,
            }),
        }
    };
    written.iter().map(one).collect()
}

fn part(action: &Action) -> Result<Part, String> {
    let field = |name: &str| Field::parse(name).ok_or_else(|| format!("`{name}` is no header"));
    let key = |written: &Option<String>, default: &str| written.as_deref().unwrap_or(default).into();
    let mut parts = Vec::new();
    if let Some(it) = &action.generic_key {
        parts.push(Part::Fixed {
            key: key(&it.descriptor_key, "generic_key"),
            value: it.descriptor_value.as_str().into(),
        });
    }
    if let Some(it) = &action.request_headers {
        parts.push(Part::Header {
            name: field(&it.header_name)?,
            key: it.descriptor_key.as_str().into(),
            optional: it.skip_if_absent,
        });
    }
    if let Some(it) = &action.query_parameters {
        parts.push(Part::Query {
            name: it.query_parameter_name.as_str().into(),
            key: it.descriptor_key.as_str().into(),
            optional: it.skip_if_absent,
        });
    }
    if action.remote_address.is_some() {
        parts.push(Part::RemoteAddress);
    }
    if action.source_cluster.is_some() {
        parts.push(Part::SourceCluster);
    }
    if action.destination_cluster.is_some() {
        parts.push(Part::DestinationCluster);
    }
    if let Some(it) = &action.header_value_match {
        parts.push(Part::Matched {
            key: key(&it.descriptor_key, "header_match"),
            value: it.descriptor_value.as_str().into(),
            expect: it.expect_match.unwrap_or(true),
            headers: it.headers.iter().map(matcher).collect::<Result<_, _>>()?,
        });
    }
    if let Some(it) = &action.extension {
        let expression = it.expression()?;
        if expression.text.trim() != CALLER {
            return Err(format!(
                "the expression `{}` is not supported; `{CALLER}` is",
                expression.text
            ));
        }
        parts.push(Part::Caller {
            key: expression.descriptor_key.into(),
            optional: expression.skip_if_error,
        });
    }
    match parts.len() {
        1 => parts.pop().ok_or_else(String::new),
        count => Err(format!("an action is one thing, not {count}")),
    }
}

fn matcher(written: &HeaderMatcher) -> Result<FieldMatch, String> {
    let name = Field::parse(&written.name).ok_or_else(|| format!("`{}` is no header", written.name))?;
    let regex = |text: &str| {
        FullRegex::parse(text)
            .map(ValuePattern::Regex)
            .map_err(|error| error.to_string())
    };
    let string = written.string_match.as_ref();
    let mut values = Vec::new();
    let exact = written
        .exact_match
        .as_ref()
        .or_else(|| string.and_then(|it| it.exact.as_ref()));
    values.extend(exact.map(|it| ValuePattern::Exact(it.as_str().into())));
    let prefix = written
        .prefix_match
        .as_ref()
        .or_else(|| string.and_then(|it| it.prefix.as_ref()));
    values.extend(prefix.map(|it| ValuePattern::Prefix(it.as_str().into())));
    if let Some(it) = string.and_then(|it| it.safe_regex.as_ref()) {
        values.push(regex(&it.regex)?);
    }
    let mut invert = written.invert_match;
    if let Some(present) = written.present_match {
        values.push(ValuePattern::Any);
        invert ^= !present;
    }
    match (values.pop(), values.is_empty()) {
        // Nothing said asks for the header itself.
        (None, _) => Ok(FieldMatch {
            name,
            value: ValuePattern::Any,
            invert,
        }),
        (Some(value), true) => Ok(FieldMatch { name, value, invert }),
        (Some(_), false) => Err(format!("`{}` is compared in several ways", written.name)),
    }
}
