//! Faults, shares and cross-origin rules.

use super::super::Faults;
use super::super::common::at_least_a_millisecond;
use super::super::lexical::is_header;
use super::http::string_match;
use crate::config::istio::grpc_status;
use crate::config::istio::virtual_service::{CorsPolicy, FaultAbort, FaultDelay, Percent};

pub(super) fn cors(it: &CorsPolicy, at: &str, faults: &mut Faults) {
    const METHODS: [&str; 10] = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
    ];
    for (index, origin) in it.allow_origins.iter().enumerate() {
        let at = format!("{at}.allowOrigins[{index}]");
        let text = origin
            .exact
            .as_ref()
            .or(origin.prefix.as_ref())
            .or(origin.regex.as_ref());
        if text.is_none_or(String::is_empty) {
            faults.error(&at, "an origin is required", "write exact, prefix or regex");
        } else {
            string_match(origin, &at, faults);
        }
    }
    for (index, method) in it.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            faults.error(
                format!("{at}.allowMethods[{index}]"),
                format!("`{method}` is not a method"),
                "write GET, POST, … in capitals",
            );
        }
    }
    for (list, names) in [
        ("allowHeaders", &it.allow_headers),
        ("exposeHeaders", &it.expose_headers),
    ] {
        for (index, name) in names
            .iter()
            .enumerate()
            .filter(|(_, name)| *name != "*" && !is_header(name))
        {
            faults.error(
                format!("{at}.{list}[{index}]"),
                format!("`{name}` is not a header"),
                "use letters, digits and `-`",
            );
        }
    }
    at_least_a_millisecond(it.max_age, || format!("{at}.maxAge"), faults);
    if it.max_age.is_some_and(|it| it.0.subsec_nanos() > 0) {
        faults.error(
            format!("{at}.maxAge"),
            "counts whole seconds",
            "write whole seconds",
        );
    }
}

pub(super) fn percent(it: Option<Percent>, at: &str, faults: &mut Faults) {
    let Some(Percent { value }) = it else { return };
    if !(0.0..=100.0).contains(&value) {
        faults.error(
            format!("{at}.value"),
            format!("{value} is not a percentage"),
            "use 0 to 100",
        );
    }
}

/// As [`percent`]; a fault's share is counted in millionths.
pub(super) fn fine_percent(it: Option<Percent>, at: &str, faults: &mut Faults) {
    percent(it, at, faults);
    if it.is_some_and(|it| it.value > 0.0 && it.value < 0.0001) {
        faults.error(
            format!("{at}.value"),
            "smaller than a millionth",
            "use at least 0.0001, or 0",
        );
    }
}

pub(super) fn delay(it: &FaultDelay, at: &str, faults: &mut Faults) {
    fine_percent(it.percentage, &format!("{at}.percentage"), faults);
    at_least_a_millisecond(it.fixed_delay, || format!("{at}.fixedDelay"), faults);
    if it.exponential_delay.is_some() {
        faults.error(
            format!("{at}.exponentialDelay"),
            "is not implemented upstream either",
            "use fixedDelay",
        );
    }
}

pub(super) fn abort(it: &FaultAbort, at: &str, faults: &mut Faults) {
    fine_percent(it.percentage, &format!("{at}.percentage"), faults);
    let given = [
        it.http_status.is_some(),
        it.grpc_status.is_some(),
        it.http2_error.is_some(),
    ];
    match given.into_iter().filter(|it| *it).count() {
        0 => faults.warning(
            at,
            "says no status, so nothing is aborted",
            "give httpStatus or grpcStatus",
        ),
        1 => {}
        _ => faults.error(
            at,
            "httpStatus, grpcStatus and http2Error exclude each other",
            "keep one of them",
        ),
    }
    if it
        .http_status
        .is_some_and(|status| !(200..=599).contains(&status))
    {
        faults.error(
            format!("{at}.httpStatus"),
            "not from 200 to 599",
            "use a status an answer can have",
        );
    }
    if it
        .grpc_status
        .as_ref()
        .is_some_and(|name| grpc_status(name).is_none())
    {
        faults.error(
            format!("{at}.grpcStatus"),
            "not a status of gRPC",
            "write a name such as UNAVAILABLE",
        );
    }
    if it.http2_error.is_some() {
        faults.error(
            format!("{at}.http2Error"),
            "is not implemented upstream either",
            "use httpStatus",
        );
    }
}
