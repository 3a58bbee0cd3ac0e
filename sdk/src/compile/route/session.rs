//! Session persistence.

use std::time::Duration;

use http::HeaderName;

use super::header;
use super::rule::duration;
use crate::compile::findings::Findings;
use crate::config::gateway::SessionPersistence;
use crate::policy::digest;
use crate::policy::route::{Carrier, CookiePath, Session};

/// How the requests of a session are kept together. Whatever cannot be read breaks the rule: requests that belong
/// together must not be spread in silence. A cookie is for `path` where it does not say.
pub(crate) fn compile(
    written: &SessionPersistence,
    scope: &str,
    path: CookiePath,
    findings: &mut Findings<'_>,
) -> Option<Session> {
    let at = "sessionPersistence";
    let absolute = limit(written.absolute_timeout.as_deref(), "absoluteTimeout", findings);
    let idle = limit(written.idle_timeout.as_deref(), "idleTimeout", findings);
    let carrier = match written.kind.as_deref().unwrap_or("Cookie") {
        "Cookie" => cookie(written, scope, path, absolute, findings)?,
        "Header" => Carrier::Header(header(written, scope, findings)?),
        other => {
            findings.error(
                &format!("{at}.type"),
                format!("`{other}` cannot carry a session"),
                "use Cookie or Header",
            );
            return None;
        }
    };
    Some(Session::new(carrier, scope).lasting(absolute, idle))
}

fn limit(text: Option<&str>, field: &str, findings: &mut Findings<'_>) -> Option<Duration> {
    duration(text, &format!("sessionPersistence.{field}"), findings)
}

fn cookie(
    written: &SessionPersistence,
    scope: &str,
    otherwise: CookiePath,
    absolute: Option<Duration>,
    findings: &mut Findings<'_>,
) -> Option<Carrier> {
    if written.header.is_some() {
        excluded("header", "Cookie", findings);
    }
    let (field, config) = match (&written.cookie, &written.cookie_config) {
        (Some(config), _) => ("cookie", Some(config)),
        (None, config) => ("cookieConfig", config.as_ref()),
    };
    let at = format!("sessionPersistence.{field}");
    let permanent = match config
        .and_then(|config| config.lifetime_type.as_deref())
        .unwrap_or("Session")
    {
        "Session" => false,
        "Permanent" => {
            if absolute.is_none() {
                findings.error(
                    "sessionPersistence.absoluteTimeout",
                    "a permanent cookie needs to know for how long",
                    "set absoluteTimeout, or use lifetimeType Session",
                );
            }
            true
        }
        other => {
            findings.error(
                &format!("{at}.lifetimeType"),
                format!("`{other}` is no lifetime of a cookie"),
                "use Session or Permanent",
            );
            return None;
        }
    };
    let own = config.and_then(|config| config.name.as_deref());
    let name = own.or(written.session_name.as_deref());
    let name = match name.filter(|name| !name.is_empty()) {
        None => made_up("mesh-session", scope),
        // RFC 6265 §4.1.1: a cookie's name is a token, as a header's is.
        Some(name) if HeaderName::from_bytes(name.as_bytes()).is_ok() => name.to_owned(),
        Some(name) => {
            findings.error(
                "sessionPersistence.sessionName",
                format!("`{}` cannot be the name of a cookie", name.escape_debug()),
                "use letters, digits, `-` and `_`",
            );
            return None;
        }
    };
    let path = config.and_then(|config| config.path.as_deref());
    let usable = |path: &str| {
        let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b';';
        path.starts_with('/') && path.bytes().all(plain)
    };
    if path.is_some_and(|path| !usable(path)) {
        findings.error(
            &format!("{at}.path"),
            "not a path for a cookie",
            "start with `/` and leave out `;`",
        );
    }
    Some(Carrier::Cookie {
        name: name.into(),
        path: path.map_or(otherwise, |path| CookiePath::Own(path.into())),
        permanent,
    })
}

fn header(written: &SessionPersistence, scope: &str, findings: &mut Findings<'_>) -> Option<HeaderName> {
    for (field, given) in [
        ("cookie", written.cookie.is_some()),
        ("cookieConfig", written.cookie_config.is_some()),
    ] {
        if given {
            excluded(field, "Header", findings);
        }
    }
    let own = written.header.as_ref().map(|config| config.name.as_str());
    match own
        .or(written.session_name.as_deref())
        .filter(|name| !name.is_empty())
    {
        None => HeaderName::try_from(made_up("x-mesh-session", scope)).ok(),
        Some(name) => header::name(name, "sessionPersistence.sessionName", findings),
    }
}

fn excluded(field: &str, kind: &str, findings: &mut Findings<'_>) {
    findings.error(
        &format!("sessionPersistence.{field}"),
        format!("does not go with type {kind}"),
        "remove it, or change the type",
    );
}

/// A name that no other rule has: rules must not share sessions.
fn made_up(prefix: &str, scope: &str) -> String {
    format!("{prefix}-{:08x}", digest([scope.as_bytes()]) >> 32)
}
