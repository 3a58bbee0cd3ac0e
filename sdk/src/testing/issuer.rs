//! An issuer of tokens, for tests.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use serde_json::{Map, Value, json};

/// The key id of an issuer's key that is not told another.
const KID: &str = "test";

/// An issuer of tokens with a key of its own (EdDSA).
///
/// ```
/// use inmesh::testing::Issuer;
/// use serde_json::json;
///
/// let issuer = Issuer::new();
/// let token = issuer.token(&json!({"iss": "https://idp", "sub": "jason"}));
/// # assert_eq!(token.split('.').count(), 3);
/// let jwks = issuer.jwks(); // for `jwtRules[].jwks`
/// # assert!(jwks.contains("Ed25519"));
/// ```
#[derive(Debug)]
pub struct Issuer {
    kid: String,
    key: Ed25519KeyPair,
    /// A key that it does not publish.
    secret: Ed25519KeyPair,
}

/// In which way a token is good, or is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenState {
    /// Good, for an hour.
    #[default]
    Valid,
    /// It was good until an hour ago.
    Expired,
    /// It will be good in an hour.
    NotYetValid,
    /// Signed by somebody else in the name of the published key.
    BadSignature,
    /// Signed with a key that is not published.
    UnknownKid,
    /// No token at all.
    Malformed,
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

impl Issuer {
    /// An issuer with a new key.
    ///
    /// # Panics
    /// If the machine has no randomness.
    pub fn new() -> Self {
        let key = || Ed25519KeyPair::generate().expect("the machine has randomness");
        Self {
            kid: KID.to_owned(),
            key: key(),
            secret: key(),
        }
    }

    /// With this key id: an issuer that changes its key gives the new one another name.
    #[must_use]
    pub fn kid(mut self, kid: &str) -> Self {
        kid.clone_into(&mut self.kid);
        self
    }

    /// Its public keys, as `jwks` takes them.
    pub fn jwks(&self) -> String {
        let x = B64.encode(self.key.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x}]})
            .to_string()
    }

    /// A good token. `iat` and `exp` are added where the claims do not say.
    pub fn token(&self, claims: &Value) -> String {
        self.token_that_is(TokenState::Valid, claims)
    }

    /// A token of any kind; see [`Issuer::token`].
    pub fn token_that_is(&self, state: TokenState, claims: &Value) -> String {
        const HOUR: u64 = 3600;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let (issued, expires) = match state {
            TokenState::Malformed => return "this.is-no-token".to_owned(),
            TokenState::Expired => (now - 2 * HOUR, now - HOUR),
            _ => (now, now + 2 * HOUR),
        };
        let mut payload = Map::new();
        payload.insert("iat".into(), issued.into());
        payload.insert("exp".into(), expires.into());
        if state == TokenState::NotYetValid {
            payload.insert("nbf".into(), (now + HOUR).into());
        }
        payload.extend(claims.as_object().cloned().unwrap_or_default());
        let (key, kid) = match state {
            TokenState::BadSignature => (&self.secret, &*self.kid),
            TokenState::UnknownKid => (&self.secret, "unpublished"),
            _ => (&self.key, &*self.kid),
        };
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": kid});
        let message = format!(
            "{}.{}",
            B64.encode(header.to_string()),
            B64.encode(Value::Object(payload).to_string())
        );
        let signature = B64.encode(key.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }
}
