//! Envoy's `adaptive_concurrency` filter, as far as it goes: all of it.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use serde::Deserialize;

use super::envoy::HttpStatus;
use super::read;
use crate::compile::labels::{CRITICALITY, CRITICALITY_HEADER};
use crate::config::Labels;
use crate::config::istio::GoDuration;
use crate::policy::limit::{Criticality, GradientPolicy};
use crate::snapshot::{Importance, SheddingPolicy};

/// `type.googleapis.com/` and this.
pub(super) const ADAPTIVE: &str = "envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdaptiveConcurrency {
    gradient_controller_config: Gradient,
    #[serde(default)]
    enabled: Option<Flag>,
    #[serde(default)]
    concurrency_limit_exceeded_status: Option<HttpStatus>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gradient {
    #[serde(default)]
    sample_aggregate_percentile: Option<Percent>,
    concurrency_limit_params: Limits,
    min_rtt_calc_params: Floor,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    #[serde(default)]
    max_concurrency_limit: Option<u32>,
    concurrency_update_interval: GoDuration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Floor {
    #[serde(default)]
    interval: Option<GoDuration>,
    #[serde(default)]
    fixed_value: Option<GoDuration>,
    #[serde(default)]
    request_count: Option<u32>,
    #[serde(default)]
    jitter: Option<Percent>,
    #[serde(default)]
    min_concurrency: Option<u32>,
    #[serde(default)]
    buffer: Option<Percent>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Percent {
    value: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flag {
    #[serde(default)]
    #[allow(dead_code)] // there is no runtime to ask
    runtime_key: String,
    default_value: bool,
}

/// Envoy's bounds and defaults.
const MOST: u32 = 1_000;
const LEAST: u32 = 3;
const REQUESTS: u32 = 50;
const LEAST_INTERVAL: Duration = Duration::from_millis(1);

impl AdaptiveConcurrency {
    /// What it comes to; `None` where it is switched off.
    pub(super) fn policy(&self, annotations: &Labels) -> Result<Option<SheddingPolicy>, String> {
        let Gradient {
            sample_aggregate_percentile,
            concurrency_limit_params: limits,
            min_rtt_calc_params: floor,
        } = &self.gradient_controller_config;
        if floor.interval.is_none() == floor.fixed_value.is_none() {
            return Err("min_rtt_calc_params says either an interval or a fixed_value".into());
        }
        let long_enough = |name: &str, it: Duration| match it < LEAST_INTERVAL {
            true => Err(format!("{name} is {it:?}, less than {LEAST_INTERVAL:?}")),
            false => Ok(it),
        };
        let every = limits.concurrency_update_interval.0;
        let interval = floor.interval.map_or(Duration::MAX, |it| it.0);
        let fixed = floor.fixed_value.map(|it| long_enough("fixed_value", it.0));
        let positive = |name: &str, it: Option<u32>, default: u32| match it.unwrap_or(default) {
            0 => Err(format!("{name} is 0")),
            it => Ok(it),
        };
        let gradient = GradientPolicy {
            most: positive("max_concurrency_limit", limits.max_concurrency_limit, MOST)?,
            least: positive("min_concurrency", floor.min_concurrency, LEAST)?,
            every: long_enough("concurrency_update_interval", every)?,
            percentile: part(
                "sample_aggregate_percentile",
                sample_aggregate_percentile.as_ref(),
                50.0,
            )?,
            measure_every: long_enough("interval", interval)?,
            jitter: part("jitter", floor.jitter.as_ref(), 15.0)?,
            requests: positive("request_count", floor.request_count, REQUESTS)?,
            buffer: part("buffer", floor.buffer.as_ref(), 25.0)?,
            fixed_floor: fixed.transpose()?,
        };
        let status = read::status(
            self.concurrency_limit_exceeded_status.as_ref(),
            StatusCode::SERVICE_UNAVAILABLE,
        )?;
        let policy = SheddingPolicy {
            gradient,
            status,
            importance: importance(annotations)?,
        };
        let enabled = self.enabled.as_ref().is_none_or(|it| it.default_value);
        Ok(enabled.then_some(policy))
    }
}

fn part(name: &str, written: Option<&Percent>, default: f64) -> Result<f64, String> {
    let percent = written.map_or(default, |it| it.value);
    match (0.0..=100.0).contains(&percent) {
        true => Ok(percent / 100.0),
        false => Err(format!("{name} is {percent} %")),
    }
}

/// How important requests are, as the filter's annotations say.
fn importance(annotations: &Labels) -> Result<Importance, String> {
    let header = annotations.get(CRITICALITY_HEADER).map(|it| {
        HeaderName::from_bytes(it.trim().as_bytes())
            .map_err(|_| format!("{CRITICALITY_HEADER}: `{it}` is no header"))
    });
    let default = annotations.get(CRITICALITY).map(|it| {
        Criticality::parse(it).ok_or_else(|| {
            let words = Criticality::ALL.map(Criticality::as_str).join(", ");
            format!("{CRITICALITY}: `{it}` is none of {words}")
        })
    });
    Ok(Importance {
        header: header.transpose()?,
        default: default.transpose()?.unwrap_or_default(),
    })
}
