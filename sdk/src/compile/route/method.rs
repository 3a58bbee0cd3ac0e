//! The matches of a GRPCRoute.

use super::matching::headers;
use crate::compile::findings::Findings;
use crate::config::gateway::{GRPCMethodMatch, GRPCRouteMatch};
use crate::matcher::{FullRegex, PathPattern};
use crate::policy::route::Predicates;

/// What a match asks of a call: the path of gRPC is `/service/method`.
pub(super) fn predicates(
    written: &GRPCRouteMatch,
    at: &str,
    findings: &mut Findings<'_>,
) -> Option<Predicates> {
    let path = match &written.method {
        Some(method) => path(method, &format!("{at}.method"), findings),
        None => Some(PathPattern::prefix("/")),
    };
    let headers = headers(&written.headers, &format!("{at}.headers"), findings);
    Some(Predicates {
        path: path?,
        headers: headers?,
        ..Predicates::default()
    })
}

fn path(written: &GRPCMethodMatch, at: &str, findings: &mut Findings<'_>) -> Option<PathPattern> {
    let given = |text: &'_ Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    let (service, method) = (given(&written.service), given(&written.method));
    if service.is_none() && method.is_none() {
        findings.error(
            at,
            "neither a service nor a method is named",
            "name one of them, or leave out `method` for every call",
        );
        return None;
    }
    match written.kind.as_deref().unwrap_or("Exact") {
        "Exact" => {
            let readable = [
                ("service", &service, is_service as fn(&str) -> bool),
                ("method", &method, is_name),
            ];
            for (field, text, is_valid) in readable {
                if let Some(text) = text.as_deref().filter(|text| !is_valid(text)) {
                    findings.error(
                        &format!("{at}.{field}"),
                        format!("`{}` is not the name of a {field}", text.escape_debug()),
                        "write it as in the .proto file, the service with its package",
                    );
                    return None;
                }
            }
            Some(match (service, method) {
                (Some(service), Some(method)) => PathPattern::Exact(format!("/{service}/{method}").into()),
                (Some(service), None) => PathPattern::Prefix(format!("/{service}").into()),
                (None, method) => PathPattern::Method(method.unwrap_or_default().into()),
            })
        }
        "RegularExpression" => {
            let part = |text: Option<String>| text.unwrap_or_else(|| "[^/]+".to_owned());
            let text = format!("/(?:{})/(?:{})", part(service), part(method));
            match FullRegex::parse(&text) {
                Ok(regex) => Some(PathPattern::Regex(regex)),
                Err(error) => {
                    findings.error(at, error.to_string(), "write an RE2 expression");
                    None
                }
            }
        }
        other => {
            findings.error(
                &format!("{at}.type"),
                format!("`{other}` is not a type of method match"),
                "use Exact or RegularExpression",
            );
            None
        }
    }
}

/// `package.Service`; Gateway API also admits a leading dot.
fn is_service(text: &str) -> bool {
    text.strip_prefix('.').unwrap_or(text).split('.').all(is_name)
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
