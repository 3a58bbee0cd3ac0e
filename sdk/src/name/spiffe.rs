//! SPIFFE identities as Istio writes them: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::fmt;
use std::sync::Arc;

/// The scheme every SPIFFE id starts with.
const SCHEME: &str = "spiffe://";

/// Why a text is not a SPIFFE id of the form Istio issues.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpiffeError {
    /// It does not start with `spiffe://`.
    #[error("`{0}` does not start with `spiffe://`")]
    Scheme(String),
    /// The path is not `/ns/<namespace>/sa/<service account>`.
    #[error("`{0}` is not of the form `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`")]
    Shape(String),
    /// A part holds a character that SPIFFE does not allow.
    #[error("`{0}` has a character that is not allowed in a SPIFFE id")]
    Character(String),
}

/// A workload identity: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
///
/// Cheap to clone; compares by value. The grammar is ztunnel's: exactly five `/`-separated parts
/// after the scheme's slashes are removed, none of them empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// End of the trust domain, and start and end of the namespace, as offsets into `text`.
    domain_end: u16,
    namespace_end: u16,
}

impl SpiffeId {
    /// Reads an identity from its URI form.
    ///
    /// # Errors
    /// If the text is not exactly `spiffe://<td>/ns/<ns>/sa/<sa>` or holds characters that the SPIFFE
    /// standard forbids in ids (anything but letters, digits, `.`, `-`, `_`).
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Err(SpiffeError::Scheme(short(text)));
        };
        let mut parts = rest.split('/');
        let parts = [
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ];
        let [
            Some(domain),
            Some("ns"),
            Some(namespace),
            Some("sa"),
            Some(account),
            None,
        ] = parts
        else {
            return Err(SpiffeError::Shape(short(text)));
        };
        if domain.is_empty() || namespace.is_empty() || account.is_empty() || text.len() > 2048 {
            return Err(SpiffeError::Shape(short(text)));
        }
        if ![domain, namespace, account]
            .iter()
            .all(|part| part.bytes().all(is_allowed))
        {
            return Err(SpiffeError::Character(short(text)));
        }
        let domain_end = SCHEME.len() + domain.len();
        let namespace_end = domain_end + "/ns/".len() + namespace.len();
        Ok(Self {
            text: text.into(),
            domain_end: domain_end as u16,
            namespace_end: namespace_end as u16,
        })
    }

    /// Makes an identity from its parts.
    ///
    /// # Errors
    /// As [`SpiffeId::parse`].
    pub fn new(domain: &TrustDomain, namespace: &str, account: &str) -> Result<Self, SpiffeError> {
        Self::parse(&format!("{SCHEME}{domain}/ns/{namespace}/sa/{account}"))
    }

    /// The whole URI, `spiffe://` included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The identity without its scheme: how Istio's `principals` write it.
    pub fn principal(&self) -> &str {
        &self.text[SCHEME.len()..]
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..usize::from(self.domain_end)]
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.text[usize::from(self.domain_end) + "/ns/".len()..usize::from(self.namespace_end)]
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.text[usize::from(self.namespace_end) + "/sa/".len()..]
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        Self::parse(text)
    }
}

/// A trust domain: the `cluster.local` in `spiffe://cluster.local/…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a trust domain.
    ///
    /// # Errors
    /// If it is empty or holds anything but letters, digits, `.`, `-` and `_`.
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        if text.is_empty() || text.len() > 255 || !text.bytes().all(is_allowed) {
            return Err(SpiffeError::Character(short(text)));
        }
        Ok(Self(text.into()))
    }

    /// The trust domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `cluster.local`, Istio's default.
impl Default for TrustDomain {
    fn default() -> Self {
        Self("cluster.local".into())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

/// At most 120 characters of a text, for messages.
fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_three_parts() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews").unwrap();
        assert_eq!(id.trust_domain(), "cluster.local");
        assert_eq!(id.namespace(), "bookinfo");
        assert_eq!(id.service_account(), "bookinfo-reviews");
        assert_eq!(id.principal(), "cluster.local/ns/bookinfo/sa/bookinfo-reviews");
        assert_eq!(
            SpiffeId::new(&TrustDomain::default(), "bookinfo", "bookinfo-reviews").unwrap(),
            id
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "cluster.local/ns/a/sa/b",
            "spiffe://cluster.local",
            "spiffe:///ns/a/sa/b",
            "spiffe://td/ns//sa/b",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns/a/sa/b/",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://td/sa/a/ns/b",
            "spiffe://td/ns/a/sa/b?x",
            "spiffe://td:443/ns/a/sa/b",
            "SPIFFE://td/ns/a/sa/b",
            "spiffe://td/ns/a%2e/sa/b",
            "spiffe://td/ns/ä/sa/b",
        ] {
            assert!(SpiffeId::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            let _ = SpiffeId::parse(&text);
            let _ = SpiffeId::parse(&format!("spiffe://{text}"));
        }
    }
}
