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
/// Cheap to clone; compares by value. [`SpiffeId::parse`] takes what ztunnel takes, and so does every handshake:
/// exactly five `/`-separated parts after the scheme's slashes are removed, none of them empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    /// The URI; of one that is not of Istio's form, then its [`SpiffeId::account_path`].
    text: Arc<str>,
    /// Ends of the URI and of the trust domain.
    end: u16,
    domain_end: u16,
    /// Namespace and service account, as ranges of `text`; empty where there is none.
    namespace: (u16, u16),
    account: (u16, u16),
}

impl SpiffeId {
    /// Reads an identity from its URI form.
    ///
    /// # Errors
    /// If the text is not exactly `spiffe://<td>/ns/<ns>/sa/<sa>` or holds characters that the SPIFFE
    /// standard forbids in ids (anything but letters, digits, `.`, `-`, `_`).
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        let id = Self::parse_any(text)?;
        match id.account_path() == &text[usize::from(id.domain_end)..] && !id.account_path().is_empty() {
            true => Ok(id),
            false => Err(SpiffeError::Shape(short(text))),
        }
    }

    /// Reads any SPIFFE id, as Envoy's policies judge them: the namespace is what follows `ns`, the service account
    /// what follows `sa` after that, whatever else the path holds. No handshake accepts more than [`SpiffeId::parse`].
    ///
    /// # Errors
    /// If the text is no SPIFFE id, or `ns` or `sa` stand in it more than once, so that readers could disagree.
    pub fn parse_any(text: &str) -> Result<Self, SpiffeError> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Err(SpiffeError::Scheme(short(text)));
        };
        let shape = || SpiffeError::Shape(short(text));
        if text.len() > 2048 || rest.split('/').any(str::is_empty) {
            return Err(shape());
        }
        if !rest.split('/').all(|part| part.bytes().all(is_allowed)) {
            return Err(SpiffeError::Character(short(text)));
        }
        let domain_end = SCHEME.len() + rest.find('/').unwrap_or(rest.len());
        let after = |key: &str, from: usize| {
            let mut places = text[from..].match_indices(key);
            let Some((at, _)) = places.next() else {
                return Ok((0, 0));
            };
            let start = from + at + key.len();
            let end = text[start..].find('/').map_or(text.len(), |at| start + at);
            match places.next() {
                None => Ok((start, end)),
                Some(_) => Err(shape()),
            }
        };
        let namespace = after("/ns/", domain_end)?;
        // A namespace is there to hold something.
        let namespace = if namespace.1 == text.len() {
            (0, 0)
        } else {
            namespace
        };
        let account = match namespace {
            (_, 0) => (0, 0),
            (_, end) => after("/sa/", end)?,
        };
        // Both lengths are within 2048, checked above.
        let short = |(start, end): (usize, usize)| (start as u16, end as u16);
        let mut id = Self {
            text: text.into(),
            end: text.len() as u16,
            domain_end: domain_end as u16,
            namespace: short(namespace),
            account: short(account),
        };
        let path = format!("/ns/{}/sa/{}", id.namespace(), id.service_account());
        if account.1 > 0 && text[domain_end..] != path {
            id.text = format!("{text}{path}").into();
        }
        Ok(id)
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
        &self.text[..usize::from(self.end)]
    }

    /// The identity without its scheme: how Istio's `principals` write it.
    pub fn principal(&self) -> &str {
        &self.as_str()[SCHEME.len()..]
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..usize::from(self.domain_end)]
    }

    /// The Kubernetes namespace; empty if the identity names none.
    pub fn namespace(&self) -> &str {
        self.part(self.namespace)
    }

    /// The Kubernetes service account; empty if the identity names none.
    pub fn service_account(&self) -> &str {
        self.part(self.account)
    }

    /// `/ns/<namespace>/sa/<service account>`, whatever else the identity's path holds; empty if it names none.
    pub fn account_path(&self) -> &str {
        match (usize::from(self.end), self.account) {
            (_, (_, 0)) => "",
            (end, _) if end < self.text.len() => &self.text[end..],
            _ => &self.text[usize::from(self.domain_end)..],
        }
    }

    fn part(&self, (start, end): (u16, u16)) -> &str {
        &self.text[usize::from(start)..usize::from(end)]
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

    /// What Envoy's policies find in identities of other forms (Istio `serviceAccountRegex`, `srcNamespaceGenerator`).
    #[test]
    fn other_spiffe_ids_have_what_they_name() {
        let id = SpiffeId::parse_any("spiffe://td/ns/bar/extra/k/sa/client/more/kv").unwrap();
        assert_eq!((id.namespace(), id.service_account()), ("bar", "client"));
        assert_eq!(id.account_path(), "/ns/bar/sa/client");
        assert_eq!(id.principal(), "td/ns/bar/extra/k/sa/client/more/kv");
        assert_eq!(id.to_string(), "spiffe://td/ns/bar/extra/k/sa/client/more/kv");
        for (text, namespace, account) in [
            ("spiffe://td", "", ""),
            ("spiffe://td/workload", "", ""),
            ("spiffe://td/ns/a", "", ""),
            ("spiffe://td/ns/a/x", "a", ""),
            ("spiffe://td/sa/b/ns/a/x", "a", ""),
            ("spiffe://td/region/eu/ns/a/sa/b", "a", "b"),
        ] {
            let id = SpiffeId::parse_any(text).unwrap();
            assert_eq!(
                (id.namespace(), id.service_account()),
                (namespace, account),
                "{text}"
            );
            assert_eq!(id.account_path().is_empty(), account.is_empty(), "{text}");
            assert!(SpiffeId::parse(text).is_err(), "{text}");
        }
        for text in [
            "spiffe://td/ns/a/ns/b/sa/c",
            "spiffe://td/ns/a/sa/b/sa/c",
            "spiffe://td//ns/a/sa/b",
            "spiffe://td/",
        ] {
            assert!(SpiffeId::parse_any(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,80}", path in "[a-z/ns]{0,40}") {
            let _ = SpiffeId::parse(&text);
            let _ = SpiffeId::parse(&format!("spiffe://{text}"));
            if let Ok(id) = SpiffeId::parse_any(&format!("spiffe://td/{path}")) {
                let _ = (id.namespace(), id.service_account(), id.account_path());
            }
        }
    }
}
