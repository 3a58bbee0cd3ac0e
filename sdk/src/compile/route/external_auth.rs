//! The `ExternalAuth` filter (Gateway API, GEP-1494).

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::{Backends as Resolve, Unresolved};
use crate::compile::findings::Findings;
use crate::compile::mesh_config::names;
use crate::config::gateway::{HTTPAuthConfig, HTTPExternalAuth};
use crate::matcher::TextSet;
use crate::policy::authorizer::{Authorizer, BodyCheck, CheckProtocol, HttpCheck};

/// How long an authorizer may take; the API has no field for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The authorizer that a filter names; `None` if nobody can be asked as it says, which breaks the rule.
pub(super) fn compile(
    written: &HTTPExternalAuth,
    at: &str,
    resolve: &mut dyn Resolve,
    findings: &mut Findings<'_>,
) -> Option<Arc<Authorizer>> {
    let protocol = protocol(written, at, findings)?;
    let field = format!("{at}.backendRef");
    let cluster = match resolve.resolve(&findings.route(), &written.backend_ref) {
        Ok(cluster) => cluster,
        Err(Unresolved { reason, text }) => {
            findings.unresolved(&field, format!("{}: {text}", reason.as_str()), reason.remedy());
            return None;
        }
    };
    let Some((host, port)) = resolve.address(cluster) else {
        findings.unresolved(
            &field,
            "the service has no name by which it could be asked",
            "refer to a Service",
        );
        return None;
    };
    let max = written.forward_body.as_ref().map_or(0, |it| it.max_size);
    Some(Arc::new(Authorizer {
        name: format!("{host}:{port}").into(),
        host,
        port,
        timeout: Some(TIMEOUT),
        fail_open: false,
        status_on_error: StatusCode::FORBIDDEN,
        body: (max > 0).then_some(BodyCheck {
            max: max as usize,
            partial: false,
            raw: false,
        }),
        protocol,
    }))
}

fn protocol(written: &HTTPExternalAuth, at: &str, findings: &mut Findings<'_>) -> Option<CheckProtocol> {
    let other = match written.protocol.as_str() {
        "GRPC" => written.http.as_ref().map(|_| "http"),
        "HTTP" => written.grpc.as_ref().map(|_| "grpc"),
        protocol => {
            findings.error(
                &format!("{at}.protocol"),
                format!("`{protocol}` is no protocol by which authorizers are asked"),
                "use GRPC or HTTP",
            );
            return None;
        }
    };
    if let Some(other) = other {
        findings.error(
            &format!("{at}.{other}"),
            format!(
                "these are settings of another protocol than `{}`",
                written.protocol
            ),
            "remove them, or change the protocol",
        );
        return None;
    }
    if written.protocol == "GRPC" {
        let told = written.grpc.as_ref().map(|it| names(&it.allowed_headers));
        return Some(CheckProtocol::Grpc {
            told: told.unwrap_or_default(),
        });
    }
    let nothing = HTTPAuthConfig::default();
    let http = written.http.as_ref().unwrap_or(&nothing);
    let Some(prefix) = prefix(http.path.as_deref().unwrap_or_default()) else {
        findings.error(
            &format!("{at}.http.path"),
            "this is no beginning of a path",
            "write it like `/check`, without `.` and `..`, query or fragment",
        );
        return None;
    };
    Some(CheckProtocol::Http(Box::new(HttpCheck {
        prefix,
        told: names(&http.allowed_headers),
        upstream: match http.allowed_response_headers.as_slice() {
            [] => TextSet::parse(["*"]),
            listed => names(listed),
        },
        ..HttpCheck::default()
    })))
}

/// What is put in front of paths: it begins with a slash and ends without one, and leads nowhere else than it says.
fn prefix(text: &str) -> Option<Box<str>> {
    let trimmed = text.trim_matches('/');
    if trimmed.is_empty() {
        return Some("".into());
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%".contains(&byte);
    let strays =
        |segment: &str| matches!(segment, "" | "." | "..") || segment.to_ascii_lowercase().contains("%2e");
    let plain = trimmed.bytes().all(allowed) && !trimmed.split('/').any(strays);
    let escapes = trimmed.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    (plain && escapes).then(|| format!("/{trimmed}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_leads_nowhere_else() {
        for (text, expected) in [
            ("", Some("")),
            ("/", Some("")),
            ("check", Some("/check")),
            ("/check/v1/", Some("/check/v1")),
            ("/a%20b", Some("/a%20b")),
            ("/a?b", None),
            ("/a#b", None),
            ("/a/../b", None),
            ("/a/%2E%2e/b", None),
            ("/a//b", None),
            ("/a%2", None),
            ("/a b", None),
        ] {
            assert_eq!(prefix(text).as_deref(), expected, "{text:?}");
        }
    }
}
