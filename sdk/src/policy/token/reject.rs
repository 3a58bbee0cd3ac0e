//! Why a token is not believed, in Envoy's words.

use http::StatusCode;

/// Why a token is not believed. The texts are the bodies that Envoy's `jwt_authn` answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum Reject {
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Format,
    #[error("Jwt header is an invalid Base64url encoded")]
    HeaderEncoding,
    #[error("Jwt header is an invalid JSON")]
    HeaderJson,
    #[error("Jwt header [alg] field is required and must be a string")]
    HeaderAlgorithm,
    #[error("Jwt header [alg] is not supported")]
    UnknownAlgorithm,
    #[error("Jwt header [kid] field is not a string")]
    HeaderKey,
    #[error("Jwt payload is an invalid Base64url encoded")]
    PayloadEncoding,
    #[error("Jwt payload is an invalid JSON")]
    PayloadJson,
    #[error("Jwt payload [iss] field is not a string")]
    IssuerType,
    #[error("Jwt payload [sub] field is not a string")]
    SubjectType,
    #[error("Jwt payload [iat] field is not an integer")]
    IssuedAtType,
    #[error("Jwt payload [nbf] field is not an integer")]
    NotBeforeType,
    #[error("Jwt payload [exp] field is not an integer")]
    ExpiryType,
    #[error("Jwt payload [jti] field is not a string")]
    IdType,
    #[error("Jwt payload [aud] field is not a string or string list")]
    AudienceType,
    #[error("Jwt signature is an invalid Base64url encoded")]
    SignatureEncoding,
    #[error("Jwt issuer is not configured")]
    UnknownIssuer,
    #[error("Jwt not yet valid")]
    NotYetValid,
    #[error("Jwt is expired")]
    Expired,
    #[error("Audiences in Jwt are not allowed")]
    Audience,
    #[error("Jwks doesn't have any valid public key")]
    NoKeys,
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoMatchingKey,
    #[error("Jwt verification fails")]
    Signature,
    #[error("Jwks remote fetch is failed")]
    Fetch,
}

impl Reject {
    /// The status of the answer: 403 for an audience that is not wanted, otherwise 401.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Audience => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// Envoy's `response_code_details`.
    pub fn details(self) -> String {
        format!(
            "jwt_authn_access_denied{{{}}}",
            self.to_string().replace(' ', "_")
        )
    }
}
