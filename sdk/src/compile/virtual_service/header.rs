//! Edits of headers.

use std::collections::BTreeMap;

use http::uri::Authority;
use http::{HeaderName, HeaderValue};

use crate::compile::findings::Findings;
use crate::compile::route::header::name;
use crate::compile::route::path::authority;
use crate::config::istio::virtual_service::{HeaderOperations, Headers};
use crate::policy::route::HeaderEdits;

/// What `headers` of a route or a destination come to.
#[derive(Default)]
pub(super) struct Edits {
    pub(super) request: HeaderEdits,
    pub(super) response: HeaderEdits,
    /// Setting or adding `host` is a rewrite of the authority.
    pub(super) authority: Option<Authority>,
}

pub(super) fn edits(written: Option<&Headers>, findings: &mut Findings<'_>) -> Edits {
    let Some(written) = written else {
        return Edits::default();
    };
    let mut host = None;
    let request = operations(&written.request, Some(&mut host), "headers.request", findings);
    let response = operations(&written.response, None, "headers.response", findings);
    Edits {
        request,
        response,
        authority: host,
    }
}

fn operations(
    written: &HeaderOperations,
    mut host: Option<&mut Option<Authority>>,
    at: &str,
    findings: &mut Findings<'_>,
) -> HeaderEdits {
    let mut list = |list: &str, headers: &BTreeMap<String, String>| {
        let mut edits = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let at = format!("{at}.{list}.{name}");
            if is_internal(name) {
                // `set` is read first and counts.
                if let Some(host) = host
                    .as_deref_mut()
                    .filter(|host| host.is_none() && is_authority(name))
                {
                    *host = authority(value, &at, findings);
                }
            } else {
                edits.extend(edit(name, value, &at, findings));
            }
        }
        edits
    };
    let (set, add) = (list("set", &written.set), list("add", &written.add));
    let mut remove = Vec::with_capacity(written.remove.len());
    for (index, text) in written
        .remove
        .iter()
        .enumerate()
        .filter(|(_, text)| !is_internal(text))
    {
        remove.extend(name(text, &format!("{at}.remove[{index}]"), findings));
    }
    HeaderEdits { set, add, remove }
}

fn edit(text: &str, value: &str, at: &str, findings: &mut Findings<'_>) -> Option<(HeaderName, HeaderValue)> {
    let name = name(text, at, findings)?;
    let plain = value.replace("%%", "");
    if plain.contains('%') {
        findings.error(
            at,
            "values that Envoy would fill in (`%…%`) are not supported",
            "write the value itself; a percent sign is `%%`",
        );
        return None;
    }
    match HeaderValue::from_str(&value.replace("%%", "%")) {
        Ok(value) => Some((name, value)),
        Err(_) => {
            findings.error(
                at,
                "not a header value",
                "leave out line breaks and control characters",
            );
            None
        }
    }
}

/// What cannot be edited as a header.
fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}
