//! `security.istio.io/v1 RequestAuthentication`: whose tokens are believed, and where they are looked for.

use serde::Deserialize;

use super::{GoDuration, PolicyTargetReference, WorkloadSelector};
use crate::config::ObjectMeta;

/// `RequestAuthentication`. A field that is not declared here makes the policy invalid: its target denies.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestAuthentication {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: RequestAuthenticationSpec,
}

/// `spec` of a RequestAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestAuthenticationSpec {
    /// Workloads, by label.
    pub selector: Option<WorkloadSelector>,
    /// One target; counts only if `target_refs` is empty.
    pub target_ref: Option<PolicyTargetReference>,
    /// Targets.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Issuers; a token must be valid for one of them.
    pub jwt_rules: Vec<JwtRule>,
}

/// One issuer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JwtRule {
    /// What `iss` must be; any if empty.
    pub issuer: String,
    /// Of which `aud` must hold one; any if empty.
    pub audiences: Vec<String>,
    /// Where the keys are published.
    pub jwks_uri: String,
    /// The same, in the spelling of older releases.
    #[serde(rename = "jwks_uri")]
    pub jwks_uri_alias: String,
    /// The keys themselves; counts before `jwks_uri`.
    pub jwks: String,
    /// Headers with a token. These three lists replace the default locations.
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters with a token.
    pub from_params: Vec<String>,
    /// Cookies with a token.
    pub from_cookies: Vec<String>,
    /// Header in which the payload is passed on, in base64url.
    pub output_payload_to_header: String,
    /// Claims that are passed on as headers.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the token itself is passed on.
    pub forward_original_token: bool,
    /// Claims whose text is a list with spaces between, beside `scope` and `permission`.
    pub space_delimited_claims: Vec<String>,
    /// How long fetching the keys may take.
    pub timeout: Option<GoDuration>,
}

impl JwtRule {
    /// Where the keys are published, in whichever spelling.
    pub fn keys_at(&self) -> Option<&str> {
        [&self.jwks_uri, &self.jwks_uri_alias]
            .into_iter()
            .map(String::as_str)
            .find(|uri| !uri.is_empty())
    }
}

/// A header with a token in it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JwtHeader {
    /// The header.
    pub name: String,
    /// What stands before the token.
    pub prefix: String,
}

/// A claim that is passed on as a header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimToHeader {
    /// The header.
    pub header: String,
    /// The claim; dots lead into objects.
    pub claim: String,
}
