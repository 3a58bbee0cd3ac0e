//! The texts inside policies: keys of conditions, ports, service accounts.

use crate::matcher::{PathTemplate, parse_block};
use crate::policy::authz::HeaderKey;

/// The attribute that a condition names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WhenKey {
    Header(HeaderKey),
    SourceIp,
    RemoteIp,
    SourceNamespace,
    SourceServiceAccount,
    SourceTrustDomain,
    SourcePrincipal,
    RequestPrincipal,
    /// `request.auth.audiences`, `.presenter`, `.claims[…]…`, as the path to the claim.
    Claim(Vec<Box<str>>),
    DestinationIp,
    DestinationPort,
    Sni,
}

impl WhenKey {
    /// Reads the key of a condition (Istio "authorization policy conditions").
    pub(super) fn parse(key: &str) -> Result<Self, String> {
        Ok(match key {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::SourceNamespace,
            "source.serviceAccount" => Self::SourceServiceAccount,
            "source.trustDomain" => Self::SourceTrustDomain,
            "source.principal" => Self::SourcePrincipal,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::Claim(vec!["aud".into()]),
            "request.auth.presenter" => Self::Claim(vec!["azp".into()]),
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::Sni,
            "" => return Err("the key must not be empty".into()),
            "destination.name" | "destination.user" | "destination.namespace" => {
                return Err(format!("deprecated attribute `{key}`: use the workload selector"));
            }
            _ => return Self::parse_bracketed(key),
        })
    }

    fn parse_bracketed(key: &str) -> Result<Self, String> {
        let named = |prefix: &str| key.strip_prefix(prefix);
        if let Some(rest) = named("request.headers") {
            let name = match brackets(rest).as_deref() {
                Some([name]) => HeaderKey::parse(name),
                _ => return Err(format!("`{key}` should have format a[b]")),
            };
            return name
                .map(Self::Header)
                .ok_or_else(|| format!("`{key}` names no header"));
        }
        if let Some(rest) = named("request.auth.claims") {
            return brackets(rest)
                .map(|path| Self::Claim(path.into_iter().map(Into::into).collect()))
                .ok_or_else(|| format!("`{key}` should have format a[b]"));
        }
        if named("destination.labels").is_some() {
            return Err(format!("`{key}` is replaced by the workload selector"));
        }
        if named("experimental.envoy.filters.").is_some() {
            return Err(format!("`{key}`: metadata of Envoy filters does not exist here"));
        }
        Err(format!("unknown attribute `{key}`"))
    }
}

/// The texts in `[a][b]…`; none of them empty, nothing between or after.
fn brackets(text: &str) -> Option<Vec<&str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let parts: Vec<_> = inner.split("][").collect();
    parts
        .iter()
        .all(|part| !part.is_empty() && !part.contains(['[', ']']))
        .then_some(parts)
}

/// A port as policies write it: 0 to 65535, digits only.
pub(super) fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// `namespace/account`, or an account of the policy's namespace.
pub(super) fn service_account<'t>(text: &'t str, namespace: &'t str) -> (&'t str, &'t str) {
    text.split_once('/').unwrap_or((namespace, text))
}

/// What is wrong with a value, if anything.
pub(super) type Judge = fn(&str) -> Option<String>;

pub(super) fn nothing_bad(_: &str) -> Option<String> {
    None
}

pub(super) fn bad_block(text: &str) -> Option<String> {
    parse_block(text).err().map(|error| error.to_string())
}

pub(super) fn bad_port(text: &str) -> Option<String> {
    port(text).is_none().then(|| format!("bad port `{text}`"))
}

pub(super) fn bad_path(text: &str) -> Option<String> {
    // Braces mean templates, also those that are none: `/users/{id}` would never match what its author expects.
    let template = text.contains(['{', '}']);
    let error = template.then(|| PathTemplate::parse(text).err()).flatten();
    error.map(|error| error.to_string())
}

pub(super) fn bad_service_account(text: &str) -> Option<String> {
    if text.contains('*') {
        return Some(format!("wildcard not allowed in `{text}`"));
    }
    let parts: Vec<_> = text.split('/').collect();
    let fits = parts.len() <= 2 && parts.iter().all(|part| !part.is_empty()) && text.len() <= 320;
    (!fits).then(|| format!("expected format `namespace/account` or `account`, got `{text}`"))
}

pub(super) fn bad_trust_domain(text: &str) -> Option<String> {
    if text.contains('/') {
        return Some(format!("`{text}` must not contain `/`"));
    }
    let inner = text
        .strip_prefix('*')
        .or_else(|| text.strip_suffix('*'))
        .unwrap_or(text);
    inner
        .contains('*')
        .then(|| format!("`{text}`: a wildcard is only allowed at the start or end, and once"))
}
