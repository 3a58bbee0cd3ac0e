//! Key sets (RFC 7517) and the signatures they verify (RFC 7518 §3, RFC 8037).
//!
//! A key says which algorithms it is for; a token's header only chooses among them. Keys for other uses (`enc`,
//! symmetric ones, curves that nobody verifies with) are passed over.

use std::fmt;

use aws_lc_rs::signature::{self as sig, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::Reject;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are RFC 7518's
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

impl Algorithm {
    const RSA: [Self; 6] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
    ];

    /// Reads a name; there is no `none` and nothing symmetric.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::RS256,
            "RS384" => Self::RS384,
            "RS512" => Self::RS512,
            "PS256" => Self::PS256,
            "PS384" => Self::PS384,
            "PS512" => Self::PS512,
            "ES256" => Self::ES256,
            "ES384" => Self::ES384,
            "ES512" => Self::ES512,
            "EdDSA" => Self::EdDSA,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static sig::RsaParameters> {
        Some(match self {
            Self::RS256 => &sig::RSA_PKCS1_2048_8192_SHA256,
            Self::RS384 => &sig::RSA_PKCS1_2048_8192_SHA384,
            Self::RS512 => &sig::RSA_PKCS1_2048_8192_SHA512,
            Self::PS256 => &sig::RSA_PSS_2048_8192_SHA256,
            Self::PS384 => &sig::RSA_PSS_2048_8192_SHA384,
            Self::PS512 => &sig::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }
}

/// The public keys of one issuer.
pub struct KeySet {
    keys: Vec<Key>,
    /// Whether the text held private keys, which somebody should hear of.
    private: bool,
}

/// One key, ready for each algorithm that it is for.
struct Key {
    id: Option<Box<str>>,
    ready: Vec<(Algorithm, ParsedPublicKey)>,
}

/// Why a text is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// It is not a JSON object.
    #[error("it is not a JSON object")]
    Json,
    /// It has neither `keys` nor is it a single key.
    #[error("it has no list of `keys`")]
    Shape,
}

impl KeySet {
    /// Reads a key set, or a single key.
    ///
    /// Keys that cannot be used are passed over, as RFC 7517 §5 asks; see [`KeySet::is_empty`].
    ///
    /// # Errors
    /// If the text is neither.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        let value: Value = serde_json::from_str(text).map_err(|_| KeySetError::Json)?;
        let object = value.as_object().ok_or(KeySetError::Json)?;
        let listed = match object.get("keys") {
            Some(keys) => keys.as_array().ok_or(KeySetError::Shape)?.as_slice(),
            None if object.contains_key("kty") => std::slice::from_ref(&value),
            None => return Err(KeySetError::Shape),
        };
        let listed: Vec<&Map<String, Value>> = listed.iter().filter_map(Value::as_object).collect();
        Ok(Self {
            keys: listed.iter().filter_map(|jwk| Key::read(jwk)).collect(),
            private: listed
                .iter()
                .any(|jwk| jwk.contains_key("d") || jwk.contains_key("k")),
        })
    }

    /// Whether no key in it can be used.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the text held private keys.
    pub fn has_private(&self) -> bool {
        self.private
    }

    /// Verifies a signature with the keys that `kid` and the algorithm leave.
    pub(super) fn verify(
        &self,
        algorithm: Option<Algorithm>,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Reject> {
        if self.keys.is_empty() {
            return Err(Reject::NoKeys);
        }
        let algorithm = algorithm.ok_or(Reject::NoMatchingKey)?;
        let mut why = Reject::NoMatchingKey;
        for key in &self.keys {
            let named = match (kid, &key.id) {
                (Some(kid), Some(id)) => **id == *kid,
                _ => true,
            };
            let Some((_, ready)) = key.ready.iter().find(|(ready, _)| named && *ready == algorithm) else {
                continue;
            };
            if ready.verify_sig(message, signature).is_ok() {
                return Ok(());
            }
            why = Reject::Signature;
        }
        Err(why)
    }
}

impl Key {
    fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let only = match text("alg") {
            None => None,
            Some(name) => Some(Algorithm::parse(name)?),
        };
        let ready = match text("kty")? {
            "RSA" => rsa(&bytes(text("n")?)?, &bytes(text("e")?)?, only),
            "EC" => ec(text("crv")?, &bytes(text("x")?)?, &bytes(text("y")?)?, only),
            "OKP" if text("crv")? == "Ed25519" && only.is_none_or(|only| only == Algorithm::EdDSA) => {
                parsed(Algorithm::EdDSA, &sig::ED25519, &bytes(text("x")?)?)
            }
            _ => return None,
        };
        (!ready.is_empty()).then(|| Self {
            id: text("kid").map(Into::into),
            ready,
        })
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    // Padding is not allowed (RFC 7515 §2), and some issuers write it.
    BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

fn rsa(n: &[u8], e: &[u8], only: Option<Algorithm>) -> Vec<(Algorithm, ParsedPublicKey)> {
    let bare = |number: &'_ [u8]| number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let (n, e) = (&n[bare(n)..], &e[bare(e)..]);
    // RFC 7518 §3.3: 2048 bits or more.
    if n.len() < 256 {
        return Vec::new();
    }
    let key = RsaPublicKeyComponents { n, e };
    Algorithm::RSA
        .into_iter()
        .filter(|algorithm| only.is_none_or(|only| only == *algorithm))
        .filter_map(|algorithm| Some((algorithm, key.to_parsed_public_key(algorithm.rsa()?).ok()?)))
        .collect()
}

fn ec(curve: &str, x: &[u8], y: &[u8], only: Option<Algorithm>) -> Vec<(Algorithm, ParsedPublicKey)> {
    let (algorithm, how, length): (_, &'static sig::EcdsaVerificationAlgorithm, usize) = match curve {
        "P-256" => (Algorithm::ES256, &sig::ECDSA_P256_SHA256_FIXED, 32),
        "P-384" => (Algorithm::ES384, &sig::ECDSA_P384_SHA384_FIXED, 48),
        "P-521" => (Algorithm::ES512, &sig::ECDSA_P521_SHA512_FIXED, 66),
        _ => return Vec::new(),
    };
    if only.is_some_and(|only| only != algorithm) || x.len() > length || y.len() > length {
        return Vec::new();
    }
    // An uncompressed point (SEC 1 §2.3.3). Leading zeros belong to it, and some issuers leave them out.
    let mut point = vec![4];
    for part in [x, y] {
        point.resize(point.len() + length - part.len(), 0);
        point.extend_from_slice(part);
    }
    parsed(algorithm, how, &point)
}

fn parsed(
    algorithm: Algorithm,
    how: &'static dyn VerificationAlgorithm,
    key: &[u8],
) -> Vec<(Algorithm, ParsedPublicKey)> {
    let key = ParsedPublicKey::new(how, key).ok();
    key.map(|key| (algorithm, key)).into_iter().collect()
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| key.id.as_deref().unwrap_or("(no id)")))
            .finish()
    }
}
