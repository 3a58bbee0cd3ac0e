//! What Istio's admission would say of a RequestAuthentication.

use http::{HeaderName, Uri};
use serde_json::Value;

use crate::compile::authz::Check;
use crate::config::istio::{JwtRule, RequestAuthentication};
use crate::config::{Entry, Problem};

/// What to do about a header that cannot be one.
const HEADER_NAME: &str = "use letters, digits and dashes";

/// Everything that is wrong with a policy. An error means that the policy is refused: its targets deny.
pub fn validate(policy: &RequestAuthentication, entry: &Entry) -> Vec<Problem> {
    let mut check = Check::new(entry);
    check.targets(policy, policy.spec.target_refs.is_empty());
    for (index, rule) in policy.spec.jwt_rules.iter().enumerate() {
        check.jwt_rule(&format!("spec.jwtRules[{index}]"), rule);
    }
    check.problems
}

impl Check<'_> {
    fn jwt_rule(&mut self, field: &str, rule: &JwtRule) {
        let at = |name: &str| format!("{field}.{name}");
        if rule.issuer.is_empty() && rule.keys_at().is_none() {
            self.error(
                &at("issuer"),
                "issuer or jwksUri must be non-empty",
                "name the issuer",
            );
        }
        for (index, audience) in rule.audiences.iter().enumerate() {
            if audience.is_empty() {
                let field = format!("{field}.audiences[{index}]");
                self.error(&field, "an audience must be non-empty", "remove it");
            }
        }
        self.keys(field, rule);
        self.places(field, rule);
        for (index, one) in rule.output_claim_to_headers.iter().enumerate() {
            let field = format!("{field}.outputClaimToHeaders[{index}]");
            if one.header.is_empty() || one.claim.is_empty() {
                self.error(&field, "header and claim must be non-empty", "name both");
            } else if !is_header(&one.header) {
                self.error(
                    &field,
                    &format!("`{}` is not a header name", one.header),
                    HEADER_NAME,
                );
            }
        }
        let payload = &rule.output_payload_to_header;
        if !payload.is_empty() && !is_header(payload) {
            let text = format!("`{payload}` is not a header name");
            self.error(&at("outputPayloadToHeader"), &text, HEADER_NAME);
        }
    }

    fn keys(&mut self, field: &str, rule: &JwtRule) {
        let at = |name: &str| format!("{field}.{name}");
        let is_web = |text: &str| {
            text.parse::<Uri>().is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.host().is_some_and(|host| !host.is_empty())
            })
        };
        if let Some(url) = rule.keys_at()
            && !is_web(url)
        {
            let text = format!("`{url}` is not supported: keys are fetched by http or https");
            self.error(&at("jwksUri"), &text, "write an absolute URL");
        }
        if !rule.jwks.is_empty() {
            match serde_json::from_str::<Value>(&rule.jwks) {
                Ok(set) if keys_of(&set).is_some() => {
                    let private = keys_of(&set).unwrap_or_default();
                    if private
                        .iter()
                        .any(|key| key.get("d").is_some() || key.get("k").is_some())
                    {
                        let text = "the key set holds private keys: whoever can read it can make tokens";
                        self.warn(&at("jwks"), text, "publish only the public keys");
                    }
                }
                _ => self.error(
                    &at("jwks"),
                    "jwks parse error: it is no JSON Web Key Set",
                    "write `{\"keys\": [...]}` as the issuer publishes it",
                ),
            }
        } else if rule.keys_at().is_none() && !rule.issuer.is_empty() && !is_web(&rule.issuer) {
            let text =
                "there are no keys: the issuer is no URL to discover them at, so every token is refused";
            self.warn(&at("issuer"), text, "write `jwks` or `jwksUri`");
        }
    }

    fn places(&mut self, field: &str, rule: &JwtRule) {
        for (index, header) in rule.from_headers.iter().enumerate() {
            let field = format!("{field}.fromHeaders[{index}].name");
            if header.name.is_empty() {
                self.error(&field, "header name must be non-empty", "name the header");
            } else if !is_header(&header.name) {
                self.error(
                    &field,
                    &format!("`{}` is not a header name", header.name),
                    HEADER_NAME,
                );
            }
        }
        for (list, names, what) in [
            ("fromParams", &rule.from_params, "query parameter"),
            ("fromCookies", &rule.from_cookies, "cookie"),
        ] {
            for (index, name) in names.iter().enumerate() {
                if name.is_empty() {
                    let text = format!("the name of a {what} must be non-empty");
                    self.error(&format!("{field}.{list}[{index}]"), &text, "name it");
                }
            }
        }
    }
}

/// The keys of a set, or a single one.
fn keys_of(set: &Value) -> Option<&[Value]> {
    match set.get("keys") {
        Some(keys) => keys.as_array().map(Vec::as_slice),
        None => set.get("kty").map(|_| std::slice::from_ref(set)),
    }
}

fn is_header(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}
