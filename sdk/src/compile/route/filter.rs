//! Filters of rules and backends.

use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, StatusCode};

use super::rule::Findings;
use crate::config::Severity;
use crate::config::gateway::{
    HTTPHeader, HTTPHeaderFilter, HTTPPathModifier, HTTPRequestRedirect, HTTPRouteFilter, HTTPURLRewrite,
};
use crate::name::Host;
use crate::policy::route::{HeaderEdits, PathRewrite, Redirect, Rewrite};

/// Headers that say how a message is framed on one connection: an edit of them could smuggle requests.
const FRAMING: [&str; 6] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// What filters are for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// A rule.
    Rule {
        /// Port of listener or service, for redirects.
        parent_port: u16,
        /// Whether all matches are prefixes, which `ReplacePrefixMatch` needs.
        only_prefixes: bool,
    },
    /// One backend of a rule.
    Backend {
        /// As for a rule.
        only_prefixes: bool,
    },
}

/// What a list of filters comes to.
#[derive(Default)]
pub(super) struct Filters {
    pub(super) request: HeaderEdits,
    pub(super) response: HeaderEdits,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) redirect: Option<Redirect>,
}

impl Filters {
    /// Reads filters. What is not supported breaks the rule: Gateway API forbids to skip it.
    pub(super) fn compile(
        written: &[HTTPRouteFilter],
        purpose: Purpose,
        findings: &mut Findings<'_>,
    ) -> Self {
        let mut filters = Self::default();
        // The host that a header filter sets; a URLRewrite wins over it.
        let mut header_host = None;
        for (index, filter) in written.iter().enumerate() {
            let at = format!("filters[{index}]");
            if written[..index].iter().any(|earlier| earlier.kind == filter.kind) {
                findings.error(
                    &format!("{at}.type"),
                    format!("`{}` is given twice", filter.kind),
                    "put everything into one filter",
                );
                continue;
            }
            filters.one(filter, &at, purpose, &mut header_host, findings);
        }
        if filters.redirect.is_some() && filters.rewrite.is_some() {
            findings.error(
                "filters",
                "RequestRedirect and URLRewrite exclude each other",
                "remove one of them",
            );
        }
        if let Some(host) = header_host {
            let rewrite = filters.rewrite.get_or_insert(Rewrite {
                host: None,
                path: None,
            });
            rewrite.host.get_or_insert(host);
        }
        filters
    }

    fn one(
        &mut self,
        filter: &HTTPRouteFilter,
        at: &str,
        purpose: Purpose,
        header_host: &mut Option<Authority>,
        findings: &mut Findings<'_>,
    ) {
        let only_prefixes = match purpose {
            Purpose::Rule { only_prefixes, .. } | Purpose::Backend { only_prefixes } => only_prefixes,
        };
        let body = match (filter.kind.as_str(), purpose) {
            ("RequestHeaderModifier", _) => filter.request_header_modifier.as_ref().map(|written| {
                let at = format!("{at}.requestHeaderModifier");
                self.request = edits(written, &at, Some(header_host), findings);
            }),
            ("ResponseHeaderModifier", _) => filter.response_header_modifier.as_ref().map(|written| {
                let at = format!("{at}.responseHeaderModifier");
                self.response = edits(written, &at, None, findings);
            }),
            ("URLRewrite", _) => filter.url_rewrite.as_ref().map(|written| {
                self.rewrite = Some(rewrite(
                    written,
                    &format!("{at}.urlRewrite"),
                    only_prefixes,
                    findings,
                ));
            }),
            ("RequestRedirect", Purpose::Rule { parent_port, .. }) => {
                filter.request_redirect.as_ref().map(|written| {
                    let at = format!("{at}.requestRedirect");
                    self.redirect = redirect(written, &at, parent_port, only_prefixes, findings);
                })
            }
            (other, _) => {
                let place = match purpose {
                    Purpose::Rule { .. } => "here",
                    Purpose::Backend { .. } => "on a backend",
                };
                findings.error(
                    &format!("{at}.type"),
                    format!("the filter `{other}` is not supported {place}"),
                    "remove it; a filter is never skipped",
                );
                return;
            }
        };
        if body.is_none() {
            findings.error(
                at,
                format!("`{}` says nothing", filter.kind),
                "give the filter its settings",
            );
        }
    }
}

/// Header edits. With a place for it, setting `host` is a rewrite of the authority, as in Istio.
fn edits(
    written: &HTTPHeaderFilter,
    at: &str,
    mut host: Option<&mut Option<Authority>>,
    findings: &mut Findings<'_>,
) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    let lists = [
        ("set", &written.set, &mut edits.set),
        ("add", &written.add, &mut edits.add),
    ];
    for (list, written, edits) in lists {
        for (index, header) in written.iter().enumerate() {
            let at = format!("{at}.{list}[{index}]");
            match (&mut host, header.name.eq_ignore_ascii_case("host")) {
                (Some(host), true) => {
                    let authority = authority(&header.value, &format!("{at}.value"), findings);
                    **host = host.take().or(authority);
                }
                _ => edits.extend(edit(header, &at, findings)),
            }
        }
    }
    for (index, text) in written.remove.iter().enumerate() {
        let at = format!("{at}.remove[{index}]");
        if text.eq_ignore_ascii_case("host") {
            findings.report(
                Severity::Ignored,
                &at,
                "`host` cannot be removed",
                "remove the entry",
            );
        } else {
            edits.remove.extend(name(text, &at, findings));
        }
    }
    edits
}

fn edit(header: &HTTPHeader, at: &str, findings: &mut Findings<'_>) -> Option<(HeaderName, HeaderValue)> {
    let name = name(&header.name, &format!("{at}.name"), findings)?;
    let Ok(value) = HeaderValue::from_str(&header.value) else {
        findings.error(
            &format!("{at}.value"),
            "not a header value",
            "leave out line breaks and control characters",
        );
        return None;
    };
    Some((name, value))
}

fn name(text: &str, at: &str, findings: &mut Findings<'_>) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        findings.error(
            at,
            format!("`{text}` is not a header name"),
            "use letters, digits and `-`",
        );
        return None;
    };
    if FRAMING.contains(&name.as_str()) {
        findings.error(
            at,
            format!("`{name}` belongs to the connection and cannot be edited"),
            "remove the entry",
        );
        return None;
    }
    Some(name)
}

fn authority(text: &str, at: &str, findings: &mut Findings<'_>) -> Option<Authority> {
    let authority = Host::parse_authority(text).ok().and_then(|_| text.parse().ok());
    if authority.is_none() || text.contains('*') {
        findings.error(
            at,
            format!("`{text}` is not a host"),
            "write a host name without wildcards",
        );
        return None;
    }
    authority
}

fn rewrite(written: &HTTPURLRewrite, at: &str, only_prefixes: bool, findings: &mut Findings<'_>) -> Rewrite {
    Rewrite {
        host: written
            .hostname
            .as_deref()
            .and_then(|host| authority(host, &format!("{at}.hostname"), findings)),
        path: written
            .path
            .as_ref()
            .and_then(|path| path_rewrite(path, &format!("{at}.path"), only_prefixes, findings)),
    }
}

fn path_rewrite(
    written: &HTTPPathModifier,
    at: &str,
    only_prefixes: bool,
    findings: &mut Findings<'_>,
) -> Option<PathRewrite> {
    let (field, value) = match written.kind.as_str() {
        "ReplaceFullPath" => ("replaceFullPath", &written.replace_full_path),
        "ReplacePrefixMatch" => ("replacePrefixMatch", &written.replace_prefix_match),
        other => {
            findings.error(
                &format!("{at}.type"),
                format!("`{other}` is not a way to change a path"),
                "use ReplaceFullPath or ReplacePrefixMatch",
            );
            return None;
        }
    };
    let is_prefix = written.kind == "ReplacePrefixMatch";
    let Some(value) = value else {
        findings.error(at, format!("{field} is missing"), "give the new path");
        return None;
    };
    let usable = value.is_empty() || (value.starts_with('/') && value.parse::<PathAndQuery>().is_ok());
    if !usable || value.contains('#') || (is_prefix && value.contains('?')) {
        findings.error(
            &format!("{at}.{field}"),
            format!("`{value}` is not a path"),
            "start with `/` and escape what a path cannot hold",
        );
        return None;
    }
    if is_prefix && !only_prefixes {
        findings.error(
            &format!("{at}.type"),
            "ReplacePrefixMatch needs a rule that matches by PathPrefix only",
            "use ReplaceFullPath, or match a PathPrefix",
        );
        return None;
    }
    Some(if is_prefix {
        PathRewrite::prefix(value)
    } else {
        PathRewrite::Full(value.as_str().into())
    })
}

fn redirect(
    written: &HTTPRequestRedirect,
    at: &str,
    parent_port: u16,
    only_prefixes: bool,
    findings: &mut Findings<'_>,
) -> Option<Redirect> {
    let scheme = written.scheme.as_deref();
    if scheme.is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        findings.error(
            &format!("{at}.scheme"),
            "not a scheme to redirect to",
            "use http or https",
        );
    }
    let host = written
        .hostname
        .as_deref()
        .and_then(|host| authority(host, &format!("{at}.hostname"), findings));
    let status = written.status_code.unwrap_or(302);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        findings.error(
            &format!("{at}.statusCode"),
            format!("{status} is not a redirect"),
            "use 301, 302, 303, 307 or 308",
        );
    }
    if written.port == Some(0) {
        findings.error(
            &format!("{at}.port"),
            "0 is not a port",
            "use a port from 1 to 65535",
        );
    }
    let path = written.path.as_ref();
    Some(Redirect {
        scheme: scheme.map(Into::into),
        host: host.map(|host| host.host().into()),
        port: written.port,
        path: path.and_then(|path| path_rewrite(path, &format!("{at}.path"), only_prefixes, findings)),
        status: StatusCode::from_u16(status).ok()?,
        parent_port,
    })
}
