//! Introductions: what a waypoint says of a caller, in a form that the destination can check.
//!
//! Behind a waypoint a destination's TLS peer is the waypoint. An [`Introduction`] names the caller that the waypoint
//! itself proved. It is signed with the key of the very certificate that the waypoint presents on the connection, is
//! meant for one destination identity, and lasts for a minute:
//!
//! ```text
//! v1.<base64url {"iss": waypoint, "sub": caller, "aud": destination, "iat": seconds, "exp": seconds}>.<scheme>.<signature>
//! ```
//!
//! Who may introduce anybody is not decided here: the configuration binds waypoints to services.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Credential;
use crate::name::SpiffeId;

/// How long an introduction is good for.
const LIFETIME: Duration = Duration::from_secs(60);

/// How much of its time an introduction that is said again must have left.
const REUSE: Duration = Duration::from_secs(30);

/// How far clocks may differ; ambient's certificates tolerate as much.
const LEEWAY: Duration = Duration::from_secs(60);

/// The longest lifetime that is believed, whatever a waypoint writes.
const LONGEST: Duration = Duration::from_secs(300);

/// The longest introduction that is read: two names of at most 2,048 bytes each and a signature fit.
const MAX_LENGTH: usize = 8 * 1024;

/// How many callers are remembered per destination before all are forgotten.
const MAX_CALLERS: usize = 4096;

/// Set before what is signed, so that no other protocol's message can pass for an introduction, nor the reverse: the
/// key is also the one that proves TLS handshakes, whose messages begin with blanks.
const CONTEXT: &[u8] = b"inmesh introduction v1\0";

/// The signatures that are made and accepted, most wanted first.
const SCHEMES: [(SignatureScheme, &str); 6] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, "ecdsa-p256"),
    (SignatureScheme::ECDSA_NISTP384_SHA384, "ecdsa-p384"),
    (SignatureScheme::ED25519, "ed25519"),
    (SignatureScheme::RSA_PSS_SHA256, "rsa-pss-256"),
    (SignatureScheme::RSA_PSS_SHA384, "rsa-pss-384"),
    (SignatureScheme::RSA_PSS_SHA512, "rsa-pss-512"),
];

/// What is said.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    iss: String,
    sub: String,
    aud: String,
    iat: u64,
    exp: u64,
}

/// A checked introduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Whom the waypoint proved.
    pub caller: SpiffeId,
    /// When the introduction must no longer be believed.
    pub until: SystemTime,
}

/// Why an introduction is not believed. Closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// It is not of the form above.
    #[error("it is malformed")]
    Malformed,
    /// Another waypoint's than the one on the connection.
    #[error("it was made by somebody else")]
    Issuer,
    /// Meant for another destination.
    #[error("it is meant for somebody else")]
    Audience,
    /// Its time is over, or not come, or longer than any should be.
    #[error("its time is over or not come")]
    Time,
    /// The key of the peer's certificate did not sign it.
    #[error("the signature is not the peer's")]
    Signature,
}

impl Introduction {
    /// Checks what a peer wrote.
    ///
    /// `issuer` and `certificate` (DER, the leaf) are those of the TLS peer, `audience` is our own identity.
    ///
    /// # Errors
    /// If the peer did not sign exactly this, for us, for now.
    pub fn check(
        text: &[u8],
        issuer: &SpiffeId,
        certificate: &[u8],
        audience: &SpiffeId,
        now: SystemTime,
    ) -> Result<Self, Disbelief> {
        let text = std::str::from_utf8(text).map_err(|_| Disbelief::Malformed)?;
        if text.len() > MAX_LENGTH {
            return Err(Disbelief::Malformed);
        }
        let mut parts = text.split('.');
        let (Some("v1"), Some(body), Some(scheme), Some(signature), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(Disbelief::Malformed);
        };
        let decode = |part: &str| BASE64.decode(part).map_err(|_| Disbelief::Malformed);
        let (body, signature) = (decode(body)?, decode(signature)?);
        let scheme = SCHEMES.iter().find(|(_, name)| *name == scheme);
        let (scheme, _) = scheme.ok_or(Disbelief::Malformed)?;
        if !is_signed(*scheme, &body, &signature, certificate) {
            return Err(Disbelief::Signature);
        }
        let words: Words = serde_json::from_slice(&body).map_err(|_| Disbelief::Malformed)?;
        if words.iss != issuer.as_str() {
            return Err(Disbelief::Issuer);
        }
        if words.aud != audience.as_str() {
            return Err(Disbelief::Audience);
        }
        let caller = SpiffeId::parse(&words.sub).map_err(|_| Disbelief::Malformed)?;
        let at = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let (Some(from), Some(until)) = (at(words.iat), at(words.exp)) else {
            return Err(Disbelief::Time);
        };
        let lasts = until.duration_since(from).map_err(|_| Disbelief::Time)?;
        let (Some(earliest), Some(latest)) = (from.checked_sub(LEEWAY), until.checked_add(LEEWAY)) else {
            return Err(Disbelief::Time);
        };
        if lasts > LONGEST || now < earliest || now >= latest {
            return Err(Disbelief::Time);
        }
        Ok(Self {
            caller,
            until: latest,
        })
    }
}

fn is_signed(scheme: SignatureScheme, body: &[u8], signature: &[u8], certificate: &[u8]) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
        return false;
    };
    let key = &certificate.public_key().subject_public_key.data;
    let message = [CONTEXT, body].concat();
    let known = aws_lc_rs::default_provider().signature_verification_algorithms;
    let mapped = known.mapping.iter().find(|(known, _)| *known == scheme);
    // Several algorithms where one scheme allows several kinds of key; each reads only keys of its own kind.
    mapped.is_some_and(|(_, algorithms)| {
        let verifies = |algorithm: &&dyn rustls_pki_types::SignatureVerificationAlgorithm| {
            algorithm.verify_signature(key, &message, signature).is_ok()
        };
        algorithms.iter().any(verifies)
    })
}

/// Introduces callers in the name of this process. Clones share what was said before.
#[derive(Clone)]
pub struct Introducer(Arc<Inner>);

struct Inner {
    credential: watch::Receiver<Arc<Credential>>,
    /// The newest credentials: a connection is introduced on with the key it was made with, and may be a rotation old.
    recent: Mutex<Vec<Arc<Credential>>>,
    /// What was said of whom to whom. Copied when it grows, so that the path of a request takes no lock.
    said: ArcSwap<HashMap<SpiffeId, Callers>>,
}

type Callers = Arc<HashMap<SpiffeId, Said>>;

#[derive(Clone)]
struct Said {
    epoch: u64,
    until: SystemTime,
    value: http::HeaderValue,
}

impl Introducer {
    /// Introduces with whatever credential a connection was made with.
    pub fn new(credential: watch::Receiver<Arc<Credential>>) -> Self {
        Self(Arc::new(Inner {
            credential,
            recent: Mutex::new(Vec::new()),
            said: ArcSwap::default(),
        }))
    }

    /// Introduces `caller` to `audience` on a connection that was made with the credential of `epoch`; `None` if that
    /// credential is not known any more or its key cannot sign.
    pub fn introduce(&self, caller: &SpiffeId, audience: &SpiffeId, epoch: u64) -> Option<http::HeaderValue> {
        let now = SystemTime::now();
        let known = self.0.said.load();
        if let Some(said) = known.get(audience).and_then(|callers| callers.get(caller))
            && said.epoch == epoch
            && said.until > now + REUSE
        {
            return Some(said.value.clone());
        }
        let said = Said {
            epoch,
            until: now + LIFETIME,
            value: self.sign(caller, audience, epoch, now)?,
        };
        let value = said.value.clone();
        self.0.said.rcu(|known| {
            let mut next = HashMap::clone(known);
            let callers = next.entry(audience.clone()).or_default();
            let mut more = HashMap::clone(callers);
            more.retain(|_, said| said.until > now);
            if more.len() >= MAX_CALLERS {
                more.clear();
            }
            more.insert(caller.clone(), said.clone());
            *callers = Arc::new(more);
            next.retain(|_, callers| !callers.is_empty());
            next
        });
        Some(value)
    }

    fn sign(
        &self,
        caller: &SpiffeId,
        audience: &SpiffeId,
        epoch: u64,
        now: SystemTime,
    ) -> Option<http::HeaderValue> {
        let credential = self.credential(epoch)?;
        let iat = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let words = Words {
            iss: credential.id().as_str().to_owned(),
            sub: caller.as_str().to_owned(),
            aud: audience.as_str().to_owned(),
            iat,
            exp: iat + LIFETIME.as_secs(),
        };
        let body = serde_json::to_vec(&words).ok()?;
        let message = [CONTEXT, body.as_slice()].concat();
        let wanted = SCHEMES.map(|(scheme, _)| scheme);
        let (scheme, signature) = credential.sign(&wanted, &message)?;
        let (_, name) = SCHEMES.iter().find(|(known, _)| *known == scheme)?;
        let text = format!("v1.{}.{name}.{}", BASE64.encode(&body), BASE64.encode(signature));
        let mut value = http::HeaderValue::try_from(text).ok()?;
        // Never shown by anything that prints headers, and never indexed by HPACK.
        value.set_sensitive(true);
        Some(value)
    }

    fn credential(&self, epoch: u64) -> Option<Arc<Credential>> {
        const KEPT: usize = 3;
        let mut recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = self.0.credential.borrow().clone();
        if recent.iter().all(|known| known.epoch() != newest.epoch()) {
            recent.push(newest);
            let surplus = recent.len().saturating_sub(KEPT);
            recent.drain(..surplus);
        }
        recent.iter().find(|known| known.epoch() == epoch).cloned()
    }
}

impl std::fmt::Debug for Introducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Introducer")
    }
}

#[cfg(test)]
mod tests;
