//! Tokens and key sets: nothing that was not signed is believed, whatever it claims of itself.
#![no_main]

use std::sync::LazyLock;

use inmesh::policy::token::{KeySet, Token};
use libfuzzer_sys::fuzz_target;

/// The public keys of RFC 7515 A.2 and A.3; nobody here has the private ones but the RFC's readers.
static KEYS: LazyLock<KeySet> =
    LazyLock::new(|| KeySet::parse(include_str!("../src/keys.json")).expect("it is a key set"));
const SIGNED: &str = include_str!("../src/signed.txt");

fuzz_target!(|text: &str| {
    let _ = KeySet::parse(text);
    let Ok(token) = Token::parse(text) else { return };
    assert_eq!(token.as_str(), text);
    let _ = (
        token.issuer(),
        token.payload(),
        token.audiences().count(),
        token.check_time(1_700_000_000),
    );
    // The examples of the RFC are signed by these keys, and a fuzzer may find them.
    if !SIGNED.lines().any(|known| known == text) {
        assert!(token.verify(&KEYS).is_err(), "{text}");
    }
});
