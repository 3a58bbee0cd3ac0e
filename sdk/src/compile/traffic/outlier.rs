//! `outlierDetection`.

use http::StatusCode;

use crate::config::istio::destination_rule::OutlierDetection;
use crate::policy::outlier::OutlierPolicy;

/// When an endpoint is an outlier. The block alone switches detection on, whatever is in it.
pub fn outlier(written: &OutlierDetection) -> OutlierPolicy {
    let default = OutlierPolicy::default();
    let split = written.split_external_local_origin_errors.unwrap_or(false);
    // Upstream cannot tell 0 from nothing here.
    let local = written
        .consecutive_local_origin_failures
        .filter(|it| *it > 0)
        .unwrap_or(5);
    let codes = &written.outlier_detection_http_error_codes;
    let code = |it: &u32| StatusCode::from_u16(u16::try_from(*it).ok()?).ok();
    OutlierPolicy {
        consecutive_errors: written
            .consecutive_5xx_errors
            .unwrap_or(default.consecutive_errors),
        consecutive_gateway_errors: written.consecutive_gateway_errors.unwrap_or(0),
        consecutive_local_failures: split.then_some(local),
        error_codes: codes.iter().filter_map(code).collect(),
        interval: written.interval.map_or(default.interval, |it| it.0),
        base_ejection: written
            .base_ejection_time
            .map_or(default.base_ejection, |it| it.0),
        max_ejection_percent: written
            .max_ejection_percent
            .filter(|it| *it > 0)
            .unwrap_or(default.max_ejection_percent),
    }
}
