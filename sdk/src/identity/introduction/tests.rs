//! Introductions: what is believed, and everything that is not.

use std::time::{Duration, SystemTime};

use super::*;
use crate::identity::dev_ca::DevCa;
use crate::identity::{CredentialProvider as _, Fixed, fixed};

const HOUR: Duration = Duration::from_secs(3600);

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}")).unwrap()
}

/// A waypoint with its certificate, as its peers see it.
struct Waypoint {
    provider: Fixed,
    introducer: Introducer,
    certificate: Vec<u8>,
    epoch: u64,
}

fn leaf(chain: &str) -> Vec<u8> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap().to_vec()
}

fn waypoint(ca: &DevCa, account: &str) -> Waypoint {
    let pems = ca.issue(&id(account), HOUR).unwrap();
    let credential = pems.credential().unwrap();
    let epoch = credential.epoch();
    let provider = fixed(credential);
    Waypoint {
        introducer: Introducer::new(provider.subscribe()),
        certificate: leaf(&pems.chain),
        provider,
        epoch,
    }
}

impl Waypoint {
    fn introduce(&self, caller: &str, audience: &str) -> Vec<u8> {
        let words = self.introducer.introduce(&id(caller), &id(audience), self.epoch);
        words.unwrap().as_bytes().to_vec()
    }
}

fn check(waypoint: &Waypoint, words: &[u8], from: &str, to: &str, later: u64) -> Result<String, Disbelief> {
    let now = SystemTime::now() + Duration::from_secs(later);
    Introduction::check(words, &id(from), &waypoint.certificate, &id(to), now)
        .map(|introduction| introduction.caller.as_str().to_owned())
}

#[test]
fn a_signed_introduction_is_believed_by_whom_it_is_meant_for() {
    let ca = DevCa::new_in_memory().unwrap();
    let waypoint = waypoint(&ca, "waypoint");
    let words = waypoint.introduce("curl", "reviews");
    let curl = Ok(id("curl").as_str().to_owned());
    assert_eq!(check(&waypoint, &words, "waypoint", "reviews", 0), curl);
    assert_eq!(
        check(&waypoint, &words, "waypoint", "reviews", 100),
        curl,
        "a clock that is behind"
    );
    assert_eq!(
        check(&waypoint, &words, "waypoint", "ratings", 0),
        Err(Disbelief::Audience)
    );
    assert_eq!(
        check(&waypoint, &words, "other", "reviews", 0),
        Err(Disbelief::Issuer)
    );
    assert_eq!(
        check(&waypoint, &words, "waypoint", "reviews", 130),
        Err(Disbelief::Time)
    );
}

#[test]
fn nobody_else_s_key_will_do() {
    let ca = DevCa::new_in_memory().unwrap();
    let (honest, forger) = (waypoint(&ca, "waypoint"), waypoint(&ca, "waypoint"));
    let words = forger.introduce("admin", "reviews");
    assert_eq!(
        check(&honest, &words, "waypoint", "reviews", 0),
        Err(Disbelief::Signature)
    );
}

#[test]
fn not_a_byte_can_be_changed() {
    let ca = DevCa::new_in_memory().unwrap();
    let waypoint = waypoint(&ca, "waypoint");
    let words = waypoint.introduce("curl", "reviews");
    for at in 0..words.len() {
        for flip in [1, 0x20] {
            let mut forged = words.clone();
            forged[at] ^= flip;
            assert!(
                check(&waypoint, &forged, "waypoint", "reviews", 0).is_err(),
                "byte {at}"
            );
        }
    }
    for garbage in [
        "",
        "v1",
        "v1.a.b",
        "v1...",
        "v2.e30.ecdsa-p256.AA",
        "v1.e30.none.",
        "v1.e30.none.AA",
    ] {
        let refused = check(&waypoint, garbage.as_bytes(), "waypoint", "reviews", 0);
        assert!(refused.is_err(), "{garbage}");
    }
    let long = vec![b'a'; 100_000];
    assert_eq!(
        check(&waypoint, &long, "waypoint", "reviews", 0),
        Err(Disbelief::Malformed)
    );
}

#[test]
fn the_same_words_are_said_again_and_a_rotation_changes_them() {
    let ca = DevCa::new_in_memory().unwrap();
    let waypoint = waypoint(&ca, "waypoint");
    let first = waypoint.introduce("curl", "reviews");
    assert_eq!(waypoint.introduce("curl", "reviews"), first);
    assert_ne!(waypoint.introduce("curl", "ratings"), first);
    assert_ne!(waypoint.introduce("other", "reviews"), first);

    let next = ca.issue(&id("waypoint"), HOUR).unwrap();
    let credential = next.credential().unwrap();
    let (epoch, certificate) = (credential.epoch(), leaf(&next.chain));
    waypoint.provider.replace(credential);
    // A connection made before the rotation is introduced on with the key that it was made with.
    let old = waypoint.introduce("curl", "details");
    assert!(check(&waypoint, &old, "waypoint", "details", 0).is_ok());
    let new = waypoint
        .introducer
        .introduce(&id("curl"), &id("details"), epoch)
        .unwrap();
    let now = SystemTime::now();
    assert!(Introduction::check(new.as_bytes(), &id("waypoint"), &certificate, &id("details"), now).is_ok());
    assert!(check(&waypoint, new.as_bytes(), "waypoint", "details", 0).is_err());
    assert!(
        waypoint
            .introducer
            .introduce(&id("curl"), &id("details"), epoch + 1)
            .is_none()
    );
}

proptest::proptest! {
    #[test]
    fn any_words_are_read_without_a_panic(words in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let (who, now) = (id("a"), SystemTime::now());
        proptest::prop_assert!(Introduction::check(&words, &who, &words, &who, now).is_err());
    }
}
