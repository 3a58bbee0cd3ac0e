//! A token: a compact JWS (RFC 7515 §3.1) whose payload is a set of claims (RFC 7519).

use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::keys::Algorithm;
use super::{KeySet, Reject, json};

/// The claims of a token.
pub type Claims = Map<String, Value>;

/// How long a token may be. Longer ones are refused unread; no server takes headers of that size.
pub const MAX_TOKEN: usize = 64 << 10;

/// How far clocks may disagree, in seconds: Envoy's default, which Istio leaves alone.
const CLOCK_SKEW: u64 = 60;

/// A token that has the form of one. That it is genuine is known only of what [`Token::verify`] has passed.
#[derive(Clone, PartialEq)]
pub struct Token {
    text: Box<str>,
    payload: Range<usize>,
    signature: Box<[u8]>,
    /// `None` for one that nobody verifies here.
    algorithm: Option<Algorithm>,
    kid: Option<Box<str>>,
    claims: Arc<Claims>,
    not_before: u64,
    expires: u64,
}

impl Token {
    /// Takes a token apart.
    ///
    /// # Errors
    /// If it has not the form of one.
    pub fn parse(text: &str) -> Result<Self, Reject> {
        let mut parts = text.split('.');
        let (Some(head), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reject::Format);
        };
        if text.len() > MAX_TOKEN || [head, payload, signature].contains(&"") {
            return Err(Reject::Format);
        }
        let (algorithm, kid) = header(head)?;
        let claims = decode(payload, Reject::PayloadEncoding)
            .and_then(|text| json::object(&text).ok_or(Reject::PayloadJson))?;
        let (not_before, expires) = check_types(&claims)?;
        let start = head.len() + 1;
        Ok(Self {
            signature: decode(signature, Reject::SignatureEncoding)?.into(),
            text: text.into(),
            payload: start..start + payload.len(),
            algorithm,
            kid,
            claims: Arc::new(claims),
            not_before,
            expires,
        })
    }

    /// Verifies the signature.
    ///
    /// # Errors
    /// If no key of the set is for this token, or none verifies it.
    pub fn verify(&self, keys: &KeySet) -> Result<(), Reject> {
        let message = &self.text.as_bytes()[..self.payload.end];
        keys.verify(self.algorithm, self.kid.as_deref(), message, &self.signature)
    }

    /// Whether the token is valid at a time, in seconds since 1970, give or take a minute.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_time(&self, now: u64) -> Result<(), Reject> {
        if self.not_before > now.saturating_add(CLOCK_SKEW) {
            return Err(Reject::NotYetValid);
        }
        // Zero, as none, is "never" (as Envoy reads it).
        if self.expires != 0 && now > self.expires.saturating_add(CLOCK_SKEW) {
            return Err(Reject::Expired);
        }
        Ok(())
    }

    /// The token as it was sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The payload as it was sent, in base64url.
    pub fn payload(&self) -> &str {
        &self.text[self.payload.clone()]
    }

    /// The claims.
    pub fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// `iss`, empty if there is none.
    pub fn issuer(&self) -> &str {
        self.claims.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// `aud`: one text or several.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self.claims.get("aud") {
            Some(Value::Array(many)) => (None, many.as_slice()),
            Some(one) => (Some(one), &[][..]),
            None => (None, &[][..]),
        };
        one.into_iter().chain(many).filter_map(Value::as_str)
    }
}

/// Never shows the token itself: whoever reads logs must not be able to use it.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("issuer", &self.issuer())
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Algorithm and key of a header.
fn header(text: &str) -> Result<(Option<Algorithm>, Option<Box<str>>), Reject> {
    let header = decode(text, Reject::HeaderEncoding)
        .and_then(|text| json::object(&text).ok_or(Reject::HeaderJson))?;
    let name = header
        .get("alg")
        .and_then(Value::as_str)
        .ok_or(Reject::HeaderAlgorithm)?;
    let algorithm = Algorithm::parse(name);
    // Symmetric ones exist for Envoy; it is our key sets that have no key for them.
    if algorithm.is_none() && !matches!(name, "HS256" | "HS384" | "HS512") {
        return Err(Reject::UnknownAlgorithm);
    }
    // Whoever does not understand every extension that is named there must refuse (RFC 7515 §4.1.11). We know none.
    if header.contains_key("crit") {
        return Err(Reject::Signature);
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.as_str().into()),
        Some(_) => return Err(Reject::HeaderKey),
    };
    Ok((algorithm, kid))
}

/// Refuses registered claims (RFC 7519 §4.1) of a wrong type; gives `nbf` and `exp`.
fn check_types(claims: &Claims) -> Result<(u64, u64), Reject> {
    let text = |name: &str, why| match claims.get(name) {
        None | Some(Value::String(_)) => Ok(()),
        Some(_) => Err(why),
    };
    text("iss", Reject::IssuerType)?;
    text("sub", Reject::SubjectType)?;
    text("jti", Reject::IdType)?;
    let audience = match claims.get("aud") {
        None | Some(Value::String(_)) => true,
        Some(Value::Array(many)) => many.iter().all(Value::is_string),
        Some(_) => false,
    };
    if !audience {
        return Err(Reject::AudienceType);
    }
    let time = |name: &str, why| match claims.get(name) {
        None => Ok(0),
        Some(value) => seconds(value).ok_or(why),
    };
    time("iat", Reject::IssuedAtType)?;
    Ok((
        time("nbf", Reject::NotBeforeType)?,
        time("exp", Reject::ExpiryType)?,
    ))
}

/// A NumericDate (RFC 7519 §2): seconds, fractions allowed, not before 1970.
fn seconds(value: &Value) -> Option<u64> {
    match (value.as_u64(), value.as_f64()) {
        (Some(seconds), _) => Some(seconds),
        // `as` saturates.
        (None, Some(seconds)) if seconds >= 0.0 => Some(seconds as u64),
        _ => None,
    }
}

fn decode(text: &str, why: Reject) -> Result<Vec<u8>, Reject> {
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| why)
}
