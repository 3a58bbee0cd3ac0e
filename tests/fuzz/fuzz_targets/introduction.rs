//! Introductions, and the certificates of those who make them: what was not signed is not believed.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use inmesh::identity::Introduction;
use inmesh::name::SpiffeId;
use libfuzzer_sys::fuzz_target;

static WAYPOINT: LazyLock<SpiffeId> = LazyLock::new(|| id("waypoint"));
static ME: LazyLock<SpiffeId> = LazyLock::new(|| id("reviews"));

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}")).expect("it is an identity")
}

fuzz_target!(|input: (&[u8], &[u8])| {
    let (words, certificate) = input;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert!(Introduction::check(words, &WAYPOINT, certificate, &ME, now).is_err());
});
