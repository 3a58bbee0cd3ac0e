//! The rules of one target, out of the policies that attach to it.

use std::time::Duration;

use http::HeaderName;

use super::{KeyCells, validate};
use crate::compile::authz::{PolicyInput, broken};
use crate::config::istio::{JwtRule, RequestAuthentication};
use crate::config::{Problem, Severity};
use crate::policy::authz::RuleRef;
use crate::policy::token::{ClaimHeader, Location, TokenRule, TokenRules};
use crate::snapshot::{KeySource, TokenGuard};

/// How long fetching keys may take where the rule does not say (Istio `JWTRule.timeout`).
const TIMEOUT: Duration = Duration::from_secs(5);

/// The rules of a target; `None` if no policy attaches to it.
///
/// # Errors
/// Why the target must deny, if a policy is broken or invalid.
pub(in crate::compile) fn rules<'a>(
    policies: impl Iterator<Item = PolicyInput<'a, RequestAuthentication>>,
    cells: &mut KeyCells,
    problems: &mut Vec<Problem>,
) -> Result<Option<TokenGuard>, String> {
    let (mut rules, mut keys) = (Vec::new(), Vec::new());
    for PolicyInput { policy, entry } in policies {
        let invalid = |text: &str| format!("{} at {} is invalid: {text}", entry.reference(), entry.place);
        if let Some(why) = broken(entry) {
            return Err(invalid(why));
        }
        let found = validate(policy, entry);
        let error = found.iter().find(|problem| problem.severity == Severity::Error);
        let error = error.map(|problem| invalid(&format!("{}: {}", problem.field, problem.text)));
        problems.extend(found);
        if let Some(error) = error {
            return Err(error);
        }
        for (index, rule) in (0_u32..).zip(&policy.spec.jwt_rules) {
            let by = RuleRef {
                policy: entry.reference(),
                rule: index,
            };
            let rule = convert(rule, by, keys.len())
                .ok_or_else(|| invalid(&format!("spec.jwtRules[{index}]: a name is no header's")))?;
            rules.push(rule);
            keys.push(cells.of(source(&policy.spec.jwt_rules[index as usize])));
        }
    }
    let guard = TokenGuard {
        rules: TokenRules::new(rules),
        keys,
    };
    Ok((!guard.keys.is_empty()).then_some(guard))
}

/// Where the rule's keys come from: inline ones count before a URL, a URL before discovery.
fn source(rule: &JwtRule) -> KeySource {
    let timeout = rule.timeout.map_or(TIMEOUT, |timeout| timeout.0);
    match (rule.jwks.as_str(), rule.keys_at()) {
        ("", Some(url)) => KeySource::Url {
            url: url.into(),
            timeout,
        },
        ("", None) => KeySource::Discovery {
            issuer: rule.issuer.as_str().into(),
            timeout,
        },
        (text, _) => KeySource::Inline(text.into()),
    }
}

fn convert(rule: &JwtRule, by: RuleRef, keys: usize) -> Option<TokenRule> {
    let header = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
    let boxed = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
    let payload_header = match rule.output_payload_to_header.as_str() {
        "" => None,
        name => Some(header(name)?),
    };
    let claim_headers = rule.output_claim_to_headers.iter().map(|one| {
        Some(ClaimHeader {
            header: header(&one.header)?,
            claim: one.claim.split('.').map(Into::into).collect(),
        })
    });
    Some(TokenRule {
        by,
        issuer: rule.issuer.as_str().into(),
        audiences: boxed(&rule.audiences),
        locations: locations(rule)?,
        forward: rule.forward_original_token,
        payload_header,
        claim_headers: claim_headers.collect::<Option<_>>()?,
        spaced: boxed(&rule.space_delimited_claims),
        keys,
    })
}

fn locations(rule: &JwtRule) -> Option<Vec<Location>> {
    let headers = rule.from_headers.iter().map(|one| {
        Some(Location::Header {
            name: HeaderName::from_bytes(one.name.as_bytes()).ok()?,
            prefix: one.prefix.as_str().into(),
        })
    });
    let params = rule
        .from_params
        .iter()
        .map(|name| Some(Location::Param(name.as_str().into())));
    let cookies = rule
        .from_cookies
        .iter()
        .map(|name| Some(Location::Cookie(name.as_str().into())));
    let all: Vec<_> = headers.chain(params).chain(cookies).collect::<Option<_>>()?;
    Some(if all.is_empty() { Location::defaults() } else { all })
}
