//! Tokens that are what they say, and every way in which they can be something else.

mod rules;

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use serde_json::{Value, json};

use super::*;
use crate::name::{Kind, ResourceRef};
use crate::policy::RequestHead;
use crate::policy::authz::RuleRef;

const NOW: u64 = 1_800_000_000;

enum Signer {
    Rsa(RsaKeyPair, &'static dyn sig::RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn rsa(how: &'static dyn sig::RsaEncoding) -> Self {
        Self::Rsa(
            RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap(),
            how,
        )
    }

    fn ec(how: &'static sig::EcdsaSigningAlgorithm) -> Self {
        Self::Ec(EcdsaKeyPair::generate(how).unwrap())
    }

    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair, how) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*how, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    fn jwk(&self) -> Value {
        match self {
            Self::Rsa(pair, _) => {
                // RSAPublicKey (RFC 8017 §A.1.1): a sequence of two integers, the first of 257 bytes with its sign.
                let der = pair.public_key().as_ref();
                let start = der.len() - 5 - 256;
                json!({"kty": "RSA", "n": B64.encode(&der[start..start + 256]), "e": B64.encode(&der[der.len() - 3..])})
            }
            Self::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "crv": curve, "x": B64.encode(x), "y": B64.encode(y)})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": B64.encode(pair.public_key().as_ref())})
            }
        }
    }

    fn token(&self, header: Value, claims: &Value) -> String {
        self.raw(&header.to_string(), &claims.to_string())
    }

    fn raw(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", B64.encode(header), B64.encode(claims));
        let signature = B64.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

fn with(mut jwk: Value, more: Value) -> Value {
    jwk.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    jwk
}

fn set(keys: &[Value]) -> Arc<KeySet> {
    Arc::new(KeySet::parse(&json!({ "keys": keys }).to_string()).unwrap())
}

fn verify(token: &str, keys: &KeySet) -> Result<(), Reject> {
    Token::parse(token)?.verify(keys)
}

#[test]
fn every_algorithm_verifies_its_own_signatures_and_nothing_else() {
    let signers = [
        ("RS256", Signer::rsa(&sig::RSA_PKCS1_SHA256)),
        ("RS384", Signer::rsa(&sig::RSA_PKCS1_SHA384)),
        ("RS512", Signer::rsa(&sig::RSA_PKCS1_SHA512)),
        ("PS256", Signer::rsa(&sig::RSA_PSS_SHA256)),
        ("PS384", Signer::rsa(&sig::RSA_PSS_SHA384)),
        ("PS512", Signer::rsa(&sig::RSA_PSS_SHA512)),
        ("ES256", Signer::ec(&sig::ECDSA_P256_SHA256_FIXED_SIGNING)),
        ("ES384", Signer::ec(&sig::ECDSA_P384_SHA384_FIXED_SIGNING)),
        ("ES512", Signer::ec(&sig::ECDSA_P521_SHA512_FIXED_SIGNING)),
        ("EdDSA", Signer::ed()),
    ];
    let claims = json!({"iss": "i"});
    for (name, signer) in &signers {
        for alg in [json!({}), json!({ "alg": name })] {
            let keys = set(&[with(signer.jwk(), alg)]);
            assert_eq!(keys.len(), 1, "{name}");
            let token = signer.token(json!({ "alg": name }), &claims);
            assert_eq!(verify(&token, &keys), Ok(()), "{name}");
            let (message, signature) = token.rsplit_once('.').unwrap();
            let forged = format!(
                "{}.{}.{signature}",
                message.split_once('.').unwrap().0,
                B64.encode("{\"iss\":\"j\"}")
            );
            assert_eq!(verify(&forged, &keys), Err(Reject::Signature), "{name}");
        }
        for (other, _) in &signers {
            // The header may lie about the algorithm: the key decides which there are.
            if other != name {
                let keys = set(&[with(signer.jwk(), json!({ "alg": name }))]);
                let token = signer.token(json!({ "alg": other }), &claims);
                assert_eq!(
                    verify(&token, &keys),
                    Err(Reject::NoMatchingKey),
                    "{name} as {other}"
                );
            }
        }
    }
}

/// `spec/hardening.md` row 34; RFC 8725 §2.1 and §3.1.
#[test]
fn none_and_public_keys_as_secrets_are_refused() {
    let signer = Signer::rsa(&sig::RSA_PKCS1_SHA256);
    let keys = set(&[signer.jwk()]);
    let claims = json!({"iss": "i"});
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = B64.encode(json!({ "alg": none }).to_string());
        let payload = B64.encode(claims.to_string());
        // As in Envoy, what is empty is no section.
        for (signature, why) in [("", Reject::Format), ("AA", Reject::UnknownAlgorithm)] {
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(verify(&token, &keys), Err(why), "{none}");
        }
    }
    // Signed with the public key's bytes as an HMAC secret.
    let header = B64.encode(json!({"alg": "HS256"}).to_string());
    let message = format!("{header}.{}", B64.encode(claims.to_string()));
    let secret = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA256,
        signer.jwk()["n"].as_str().unwrap().as_bytes(),
    );
    let tag = aws_lc_rs::hmac::sign(&secret, message.as_bytes());
    let token = format!("{message}.{}", B64.encode(tag.as_ref()));
    assert_eq!(verify(&token, &keys), Err(Reject::NoMatchingKey));
    // And symmetric keys in a key set are no keys.
    let symmetric = set(&[json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"})]);
    assert!(symmetric.is_empty() && symmetric.has_private());
    assert_eq!(verify(&token, &symmetric), Err(Reject::NoKeys));
}

#[test]
fn a_key_id_chooses_among_the_keys_and_names_nothing_else() {
    let (a, b) = (Signer::ed(), Signer::ed());
    let keys = set(&[
        with(a.jwk(), json!({"kid": "a"})),
        with(b.jwk(), json!({"kid": "b"})),
    ]);
    let claims = json!({"iss": "i"});
    let with_kid = |signer: &Signer, kid: &str| signer.token(json!({"alg": "EdDSA", "kid": kid}), &claims);
    assert_eq!(verify(&with_kid(&a, "a"), &keys), Ok(()));
    assert_eq!(verify(&with_kid(&a, "b"), &keys), Err(Reject::Signature));
    for kid in [
        "../../etc/passwd",
        "a' OR '1'='1",
        "https://evil.example/key",
        "\u{0}",
        "",
    ] {
        assert_eq!(
            verify(&with_kid(&a, kid), &keys),
            Err(Reject::NoMatchingKey),
            "{kid}"
        );
    }
    // Without one every key may be it.
    assert_eq!(verify(&b.token(json!({"alg": "EdDSA"}), &claims), &keys), Ok(()));
    // Keys that the token brings along are not looked at.
    let own = Signer::ed();
    let token = own.token(
        json!({"alg": "EdDSA", "jwk": own.jwk(), "jku": "https://evil.example/"}),
        &claims,
    );
    assert_eq!(verify(&token, &keys), Err(Reject::Signature));
}

#[test]
fn a_token_that_has_not_the_form_of_one_is_refused_in_envoys_words() {
    let signer = Signer::ed();
    let good = json!({"alg": "EdDSA"}).to_string();
    let raw = |header: &str, claims: &str| signer.raw(header, claims);
    for (token, why) in [
        (String::new(), Reject::Format),
        ("a.b".into(), Reject::Format),
        ("a.b.c.d".into(), Reject::Format),
        (".".repeat(1 << 20), Reject::Format),
        (format!("{}.e30.", "A".repeat(1 << 20)), Reject::Format),
        ("!.e30.AA".into(), Reject::HeaderEncoding),
        (raw("x", "{}"), Reject::HeaderJson),
        (raw("[]", "{}"), Reject::HeaderJson),
        (raw(r#"{"alg":"EdDSA","alg":"none"}"#, "{}"), Reject::HeaderJson),
        (raw("{}", "{}"), Reject::HeaderAlgorithm),
        (raw(r#"{"alg":1}"#, "{}"), Reject::HeaderAlgorithm),
        (raw(r#"{"alg":"EdDSA","kid":1}"#, "{}"), Reject::HeaderKey),
        (
            raw(r#"{"alg":"EdDSA","crit":["x"],"x":1}"#, "{}"),
            Reject::Signature,
        ),
        (format!("{}.!.AA", B64.encode(&good)), Reject::PayloadEncoding),
        (raw(&good, "x"), Reject::PayloadJson),
        (raw(&good, r#"{"sub":"a","sub":"b"}"#), Reject::PayloadJson),
        (raw(&good, r#"{"iss":1}"#), Reject::IssuerType),
        (raw(&good, r#"{"sub":["a"]}"#), Reject::SubjectType),
        (raw(&good, r#"{"iat":"x"}"#), Reject::IssuedAtType),
        (raw(&good, r#"{"nbf":-1}"#), Reject::NotBeforeType),
        (raw(&good, r#"{"exp":"1900000000"}"#), Reject::ExpiryType),
        (raw(&good, r#"{"exp":-5}"#), Reject::ExpiryType),
        (raw(&good, r#"{"jti":1}"#), Reject::IdType),
        (raw(&good, r#"{"aud":{}}"#), Reject::AudienceType),
        (raw(&good, r#"{"aud":["a",1]}"#), Reject::AudienceType),
        (format!("{}.e30.!", B64.encode(&good)), Reject::SignatureEncoding),
    ] {
        assert_eq!(
            Token::parse(&token).err(),
            Some(why),
            "{}",
            token.get(..80).unwrap_or(&token)
        );
    }
    assert_eq!(
        Reject::Expired.details(),
        "jwt_authn_access_denied{Jwt_is_expired}"
    );
}

#[test]
fn clocks_may_disagree_by_a_minute() {
    let signer = Signer::ed();
    let at = |claims: Value| {
        Token::parse(&signer.token(json!({"alg": "EdDSA"}), &claims))
            .unwrap()
            .check_time(NOW)
    };
    assert_eq!(at(json!({})), Ok(()));
    assert_eq!(at(json!({"exp": 0})), Ok(()));
    assert_eq!(at(json!({"exp": NOW - 60})), Ok(()));
    assert_eq!(at(json!({"exp": NOW - 61})), Err(Reject::Expired));
    assert_eq!(at(json!({"exp": (NOW + 1) as f64 + 0.5})), Ok(()));
    assert_eq!(at(json!({"nbf": NOW + 60})), Ok(()));
    assert_eq!(at(json!({"nbf": NOW + 61})), Err(Reject::NotYetValid));
    assert_eq!(at(json!({"nbf": u64::MAX})), Err(Reject::NotYetValid));
    assert_eq!(at(json!({"exp": u64::MAX})), Ok(()));
}

#[test]
fn key_sets_are_read_as_rfc_7517_says() {
    let signer = Signer::ed();
    assert!(KeySet::parse("not json").is_err());
    assert!(KeySet::parse("{}").is_err());
    assert!(KeySet::parse(r#"{"keys":{}}"#).is_err());
    assert!(KeySet::parse(r#"{"keys":[]}"#).unwrap().is_empty());
    assert_eq!(KeySet::parse(&signer.jwk().to_string()).unwrap().len(), 1);
    let odd = [
        json!(1),
        json!({"kty": "RSA"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "P-256", "x": B64.encode([1; 33]), "y": "AA"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": B64.encode([1; 32])}),
        with(signer.jwk(), json!({"use": "enc"})),
        with(signer.jwk(), json!({"alg": "RSA-OAEP"})),
        with(signer.jwk(), json!({"alg": "RS256"})),
        with(
            signer.jwk(),
            json!({"use": "sig", "alg": "EdDSA", "x5c": ["…"], "kid": "k"}),
        ),
    ];
    assert_eq!(set(&odd).len(), 1);
}
