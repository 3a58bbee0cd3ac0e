//! Which trust domains a server accepts.

use std::collections::BTreeSet;

use crate::name::{SpiffeId, TrustDomain};

/// The trust domains whose workloads may connect: always our own certificate's, and the aliases added here.
///
/// Aliases are for a mesh that is changing its trust domain, or for several that share their roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    aliases: BTreeSet<TrustDomain>,
}

impl Trust {
    /// Accepts only the trust domain of our own certificate.
    pub fn own() -> Self {
        Self::default()
    }

    /// Accepts one more trust domain.
    #[must_use]
    pub fn alias(mut self, domain: TrustDomain) -> Self {
        self.aliases.insert(domain);
        self
    }

    /// Whether a peer may connect to a server that is `own`.
    pub fn accepts(&self, own: &SpiffeId, peer: &SpiffeId) -> bool {
        let domain = peer.trust_domain();
        domain == own.trust_domain() || self.aliases.iter().any(|alias| alias.as_str() == domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_domain_and_aliases_are_accepted_and_no_other() {
        let id = |domain: &str| SpiffeId::parse(&format!("spiffe://{domain}/ns/a/sa/b")).unwrap();
        let trust = Trust::own().alias(TrustDomain::parse("old.example").unwrap());
        assert!(trust.accepts(&id("new.example"), &id("new.example")));
        assert!(trust.accepts(&id("new.example"), &id("old.example")));
        assert!(!trust.accepts(&id("new.example"), &id("other.example")));
        assert!(!trust.accepts(&id("new.example"), &id("new.example.evil")));
    }
}
