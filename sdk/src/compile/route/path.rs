//! Rewrites and redirects.

use http::StatusCode;
use http::uri::{Authority, PathAndQuery};

use crate::compile::findings::Findings;
use crate::config::gateway::{HTTPPathModifier, HTTPRequestRedirect, HTTPURLRewrite};
use crate::name::Host;
use crate::policy::route::{PathRewrite, Redirect, RedirectPort, Rewrite};

pub(super) fn rewrite(
    written: &HTTPURLRewrite,
    at: &str,
    only_prefixes: bool,
    findings: &mut Findings<'_>,
) -> Rewrite {
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

pub(super) fn redirect(
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
        port: written
            .port
            .map_or(RedirectPort::Parent(parent_port), RedirectPort::Fixed),
        path: path.and_then(|path| path_rewrite(path, &format!("{at}.path"), only_prefixes, findings)),
        status: StatusCode::from_u16(status).ok()?,
    })
}

pub(crate) fn authority(text: &str, at: &str, findings: &mut Findings<'_>) -> Option<Authority> {
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
