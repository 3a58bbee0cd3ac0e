//! Which trust domains a server accepts.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::name::{SpiffeId, TrustDomain};

/// The trust domains whose workloads may connect: always our own certificate's, the aliases added here, and what the mesh
/// configuration says at this moment.
///
/// Aliases are for a mesh that is changing its trust domain, or for several that share their roots. Clones share what the
/// mesh configuration says.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    aliases: BTreeSet<TrustDomain>,
    told: Arc<ArcSwap<BTreeSet<TrustDomain>>>,
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

    /// What the mesh configuration says from now on, in place of what it said before. Connections that were accepted stay.
    pub fn tell(&self, domains: BTreeSet<TrustDomain>) {
        if **self.told.load() != domains {
            self.told.store(Arc::new(domains));
        }
    }

    /// Whether a peer may connect to a server that is `own`.
    pub fn accepts(&self, own: &SpiffeId, peer: &SpiffeId) -> bool {
        let domain = peer.trust_domain();
        let is_in = |set: &BTreeSet<TrustDomain>| set.iter().any(|alias| alias.as_str() == domain);
        domain == own.trust_domain() || is_in(&self.aliases) || is_in(&self.told.load())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(domain: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://{domain}/ns/a/sa/b")).unwrap()
    }

    #[test]
    fn own_domain_and_aliases_are_accepted_and_no_other() {
        let trust = Trust::own().alias(TrustDomain::parse("old.example").unwrap());
        assert!(trust.accepts(&id("new.example"), &id("new.example")));
        assert!(trust.accepts(&id("new.example"), &id("old.example")));
        assert!(!trust.accepts(&id("new.example"), &id("other.example")));
        assert!(!trust.accepts(&id("new.example"), &id("new.example.evil")));
    }

    #[test]
    fn what_the_mesh_says_counts_until_it_says_otherwise() {
        let trust = Trust::own();
        let verifier = trust.clone();
        let domain = |text| TrustDomain::parse(text).unwrap();
        trust.tell([domain("mesh.example"), domain("old.example")].into());
        assert!(verifier.accepts(&id("new.example"), &id("old.example")));
        trust.tell([domain("mesh.example")].into());
        assert!(!verifier.accepts(&id("new.example"), &id("old.example")));
        assert!(verifier.accepts(&id("new.example"), &id("mesh.example")));
    }
}
