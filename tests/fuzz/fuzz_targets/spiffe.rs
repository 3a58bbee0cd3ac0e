//! Identities: one spelling each, and never more in it than three names.
#![no_main]

use inmesh::name::{SpiffeId, TrustDomain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = TrustDomain::parse(text);
    let Ok(id) = SpiffeId::parse(text) else { return };
    assert_eq!(id.as_str(), text);
    let (domain, namespace, account) = (id.trust_domain(), id.namespace(), id.service_account());
    assert_eq!(format!("spiffe://{domain}/ns/{namespace}/sa/{account}"), text);
    for part in [domain, namespace, account] {
        assert!(
            !part.is_empty() && !part.contains(['/', '%', '*', '?', '#', '\0']),
            "{part:?}"
        );
    }
});
