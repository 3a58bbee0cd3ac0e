//! One HTTP route.

use super::super::Faults;
use super::super::common::at_least_a_millisecond;
use super::super::lexical::is_header;
use super::fault;
use super::{common, destination, weights};
use crate::config::istio::virtual_service::{
    HTTPDirectResponse, HTTPMatchRequest, HTTPRedirect, HTTPRetry, HTTPRewrite, HTTPRoute, HeaderOperations,
    Headers, StringMatch,
};
use crate::matcher::FullRegex;

/// Longest expression, as upstream limits it.
const LONGEST_REGEX: usize = 1024;
/// Largest direct response.
const LARGEST_BODY: usize = 1 << 20;
/// What a name of a JWT claim in place of a header begins with.
const CLAIM: &str = "@request.auth.claims";

pub(super) fn route(route: &HTTPRoute, is_delegate: bool, on_gateway: bool, at: &str, faults: &mut Faults) {
    conflicts(route, is_delegate, at, faults);
    for (index, it) in route.matches.iter().enumerate() {
        http_match(it, on_gateway, &format!("{at}.match[{index}]"), faults);
    }
    if let Some(headers) = &route.headers {
        self::headers(headers, &format!("{at}.headers"), faults);
        authority_once(
            route.rewrite.as_ref(),
            headers,
            &format!("{at}.headers.request"),
            faults,
        );
    }
    if let Some(cors) = &route.cors_policy {
        fault::cors(cors, &format!("{at}.corsPolicy"), faults);
    }
    if let Some(written) = &route.fault {
        let at = format!("{at}.fault");
        if written.delay.is_none() && written.abort.is_none() {
            faults.error(&at, "a fault is a delay, an abort or both", "remove it");
        }
        if let Some(delay) = &written.delay {
            fault::delay(delay, &format!("{at}.delay"), faults);
        }
        if let Some(abort) = &written.abort {
            fault::abort(abort, &format!("{at}.abort"), faults);
        }
    }
    mirrors(route, at, faults);
    if let Some(redirect) = &route.redirect {
        self::redirect(redirect, &route.matches, &format!("{at}.redirect"), faults);
    }
    if let Some(response) = &route.direct_response {
        direct_response(response, &format!("{at}.directResponse"), faults);
    }
    if let Some(retries) = &route.retries {
        self::retries(retries, &format!("{at}.retries"), faults);
    }
    if let Some(rewrite) = &route.rewrite {
        self::rewrite(rewrite, &format!("{at}.rewrite"), faults);
    }
    let mut total = 0_u64;
    for (index, it) in route.route.iter().enumerate() {
        let at = format!("{at}.route[{index}]");
        total += u64::from(it.weight);
        match &it.destination {
            Some(to) => destination(to, &format!("{at}.destination"), faults),
            None => faults.error(format!("{at}.destination"), "is required", "name a host"),
        }
        if let Some(headers) = &it.headers {
            self::headers(headers, &format!("{at}.headers"), faults);
        }
    }
    weights(route.route.len(), total, at, faults);
    at_least_a_millisecond(route.timeout, || format!("{at}.timeout"), faults);
}

fn conflicts(route: &HTTPRoute, is_delegate: bool, at: &str, faults: &mut Faults) {
    let mut exclude = |field: &str, other: &str| {
        faults.error(
            format!("{at}.{field}"),
            format!("{field} and {other} exclude each other"),
            "keep one of them",
        );
    };
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        exclude("mirror", "mirrors");
    }
    if route.delegate.is_some() && !is_delegate {
        if route.redirect.is_some() {
            exclude("redirect", "delegate");
        }
        if !route.route.is_empty() {
            exclude("route", "delegate");
        }
        return;
    }
    let answer = match (&route.redirect, &route.direct_response) {
        (Some(_), other) => {
            if other.is_some() {
                exclude("directResponse", "redirect");
            }
            "redirect"
        }
        (None, Some(_)) => "directResponse",
        (None, None) => {
            if route.delegate.is_some() {
                faults.error(
                    format!("{at}.delegate"),
                    "a delegate does not delegate",
                    "write the routes here",
                );
            } else if route.route.is_empty() {
                faults.error(
                    at,
                    "a route has a destination or an answer",
                    "give route, redirect or directResponse",
                );
            }
            return;
        }
    };
    for (field, is_set) in [
        ("route", !route.route.is_empty()),
        ("fault", route.fault.is_some()),
        ("rewrite", route.rewrite.is_some()),
    ] {
        if is_set {
            exclude(field, answer);
        }
    }
}

fn http_match(it: &HTTPMatchRequest, on_gateway: bool, at: &str, faults: &mut Faults) {
    if let Some(uri) = &it.uri {
        // An empty prefix of a path is every path.
        let uri = StringMatch {
            prefix: uri.prefix.clone().filter(|it| !it.is_empty()),
            ..uri.clone()
        };
        string_match(&uri, &format!("{at}.uri"), faults);
    }
    for (field, matcher) in [
        ("scheme", &it.scheme),
        ("method", &it.method),
        ("authority", &it.authority),
    ] {
        if let Some(matcher) = matcher {
            string_match(matcher, &format!("{at}.{field}"), faults);
        }
    }
    for (list, headers) in [("headers", &it.headers), ("withoutHeaders", &it.without_headers)] {
        for (name, matcher) in headers {
            let at = format!("{at}.{list}.{name}");
            let is_claim = name.starts_with(CLAIM);
            if is_claim && !on_gateway {
                faults.error(
                    &at,
                    "routes by JWT claim are for Gateways only",
                    "bind to a Gateway",
                );
            } else if !is_claim && !is_header(name.strip_prefix(':').unwrap_or(name)) {
                faults.error(
                    &at,
                    format!("`{name}` is not a header"),
                    "use letters, digits and `-`",
                );
            }
            // Presence, not an expression.
            if matcher.regex.as_deref() != Some("*") {
                string_match(matcher, &at, faults);
            }
        }
    }
    for (name, matcher) in &it.query_params {
        string_match(matcher, &format!("{at}.queryParams.{name}"), faults);
    }
    common(
        it.port,
        &it.source_labels,
        &it.gateways,
        it.source_namespace.as_deref(),
        at,
        faults,
    );
}

pub(super) fn string_match(it: &StringMatch, at: &str, faults: &mut Faults) {
    let given = [&it.exact, &it.prefix, &it.regex].into_iter().flatten().count();
    if given > 1 {
        faults.error(
            at,
            "exact, prefix and regex exclude each other",
            "keep one of them",
        );
    }
    if it.prefix.as_deref() == Some("") {
        faults.error(
            format!("{at}.prefix"),
            "an empty prefix says nothing",
            "use `regex: .*`, or remove it",
        );
    }
    if let Some(text) = &it.regex {
        regex(text, &format!("{at}.regex"), faults);
    }
}

fn regex(text: &str, at: &str, faults: &mut Faults) {
    if text.is_empty() || text.len() > LONGEST_REGEX {
        faults.error(at, "an expression has 1 to 1024 bytes", "write an RE2 expression");
    } else if let Err(error) = FullRegex::parse(text) {
        faults.error(at, error.to_string(), "write an RE2 expression");
    }
}

fn headers(it: &Headers, at: &str, faults: &mut Faults) {
    operations(&it.request, true, &format!("{at}.request"), faults);
    operations(&it.response, false, &format!("{at}.response"), faults);
}

fn operations(it: &HeaderOperations, is_request: bool, at: &str, faults: &mut Faults) {
    const REMEDY: &str = "use rewrite, or remove the entry";
    for (list, headers) in [("set", &it.set), ("add", &it.add)] {
        for (name, value) in headers {
            let at = format!("{at}.{list}.{name}");
            let is_internal = name.starts_with(':') || name.eq_ignore_ascii_case("host");
            if is_internal && !(is_request && is_authority(name)) {
                faults.error(&at, format!("`{name}` cannot be changed"), REMEDY);
            } else if !is_internal && !is_header(name) {
                faults.error(
                    &at,
                    format!("`{name}` is not a header"),
                    "use letters, digits and `-`",
                );
            }
            if http::HeaderValue::from_str(value).is_err() {
                faults.error(
                    &at,
                    "not a header's value",
                    "leave out line breaks and control characters",
                );
            }
        }
    }
    for (index, name) in it.remove.iter().enumerate() {
        let at = format!("{at}.remove[{index}]");
        if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
            faults.error(at, format!("`{name}` cannot be removed"), REMEDY);
        } else if !is_header(name) {
            faults.error(
                at,
                format!("`{name}` is not a header"),
                "use letters, digits and `-`",
            );
        }
    }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

fn authority_once(rewrite: Option<&HTTPRewrite>, headers: &Headers, at: &str, faults: &mut Faults) {
    let rewritten = rewrite.is_some_and(|it| it.authority.as_ref().is_some_and(|it| !it.is_empty()));
    let names = headers.request.set.keys().chain(headers.request.add.keys());
    let times = usize::from(rewritten) + names.filter(|it| is_authority(it)).count();
    if times > 1 {
        faults.error(
            at,
            "the authority is changed several times",
            "change it in one place",
        );
    }
}

fn mirrors(route: &HTTPRoute, at: &str, faults: &mut Faults) {
    if let Some(mirror) = &route.mirror {
        destination(mirror, &format!("{at}.mirror"), faults);
    }
    if let Some(share) = route.mirror_percent {
        faults.warning(
            format!("{at}.mirrorPercent"),
            "an older form",
            "use mirrorPercentage",
        );
        if share > 100 {
            faults.error(format!("{at}.mirrorPercent"), "not a percentage", "use 0 to 100");
        }
    }
    fault::percent(route.mirror_percentage, &format!("{at}.mirrorPercentage"), faults);
    for (index, mirror) in route.mirrors.iter().enumerate() {
        let at = format!("{at}.mirrors[{index}]");
        match &mirror.destination {
            Some(to) => destination(to, &format!("{at}.destination"), faults),
            None => faults.error(format!("{at}.destination"), "is required", "name a host"),
        }
        fault::percent(mirror.percentage, &format!("{at}.percentage"), faults);
    }
}

fn redirect(it: &HTTPRedirect, matches: &[HTTPMatchRequest], at: &str, faults: &mut Faults) {
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|it| !it.is_empty());
    if is_set(&it.uri) && is_set(&it.prefix_rewrite) {
        faults.error(
            format!("{at}.prefixRewrite"),
            "uri and prefixRewrite exclude each other",
            "keep one of them",
        );
    }
    let other = |it: &HTTPMatchRequest| it.uri.as_ref().is_some_and(|uri| uri.prefix.is_none());
    if is_set(&it.prefix_rewrite) && matches.iter().any(other) {
        faults.error(
            format!("{at}.prefixRewrite"),
            "needs matches by prefix only",
            "match a prefix, or use uri",
        );
    }
    if it.port.is_some() && it.derive_port.is_some() {
        faults.error(
            format!("{at}.derivePort"),
            "port and derivePort exclude each other",
            "keep one of them",
        );
    }
    let says = is_set(&it.uri)
        || is_set(&it.prefix_rewrite)
        || is_set(&it.authority)
        || is_set(&it.scheme)
        || it.port.is_some()
        || it.derive_port.is_some();
    if !says {
        faults.error(at, "says not where to", "give uri, authority, scheme or port");
    }
    if it
        .redirect_code
        .is_some_and(|code| code != 0 && !(300..400).contains(&code))
    {
        faults.error(
            format!("{at}.redirectCode"),
            "not a redirect",
            "use 301, 302, 303, 307 or 308",
        );
    }
    if !matches!(it.scheme.as_deref(), None | Some("" | "http" | "https")) {
        faults.error(
            format!("{at}.scheme"),
            "not a scheme to redirect to",
            "use http or https",
        );
    }
}

fn direct_response(it: &HTTPDirectResponse, at: &str, faults: &mut Faults) {
    if !(200..=599).contains(&it.status) {
        faults.error(
            format!("{at}.status"),
            "not from 200 to 599",
            "use a status an answer can have",
        );
    }
    let Some(body) = &it.body else { return };
    if body.string.is_some() && body.bytes.is_some() {
        faults.error(
            format!("{at}.body"),
            "string and bytes exclude each other",
            "keep one of them",
        );
    }
    let text = body.string.as_ref().map_or(0, String::len);
    let bytes = body.bytes.as_ref().map_or(0, |it| it.len() / 4 * 3);
    if text.max(bytes) > LARGEST_BODY {
        faults.error(format!("{at}.body"), "larger than 1 MiB", "answer with less");
    }
}

fn retries(it: &HTTPRetry, at: &str, faults: &mut Faults) {
    let says = it.per_try_timeout.is_some()
        || it.retry_on.as_ref().is_some_and(|it| !it.is_empty())
        || it.retry_remote_localities.is_some();
    if it.attempts == 0 && says {
        faults.error(
            format!("{at}.attempts"),
            "0 switches retries off, but they are configured",
            "give attempts",
        );
    }
    at_least_a_millisecond(it.per_try_timeout, || format!("{at}.perTryTimeout"), faults);
    at_least_a_millisecond(it.backoff, || format!("{at}.backoff"), faults);
}

fn rewrite(it: &HTTPRewrite, at: &str, faults: &mut Faults) {
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|it| !it.is_empty());
    if is_set(&it.uri) && it.uri_regex_rewrite.is_some() {
        faults.error(
            format!("{at}.uriRegexRewrite"),
            "uri and uriRegexRewrite exclude each other",
            "keep one of them",
        );
    }
    if !is_set(&it.uri) && !is_set(&it.authority) && it.uri_regex_rewrite.is_none() {
        faults.error(at, "says nothing", "give uri, uriRegexRewrite or authority");
    }
    if let Some(by) = &it.uri_regex_rewrite {
        let at = format!("{at}.uriRegexRewrite");
        if by.rewrite.is_empty() {
            faults.error(
                format!("{at}.rewrite"),
                "is required",
                "write what takes its place",
            );
        }
        regex(&by.matches, &format!("{at}.match"), faults);
    }
}
