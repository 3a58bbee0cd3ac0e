//! TLS towards what is called, as plain data: whom it must prove to be, and what is shown to it.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::matcher::HostPattern;
use crate::name::ResourceRef;

/// What is spoken below HTTP (or below bytes) on a connection to an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Origination {
    /// Nothing: the request as it is.
    #[default]
    None,
    /// TLS, begun here.
    Tls(Arc<TlsOrigin>),
    /// TLS is demanded and cannot be begun as demanded: nothing is sent, least of all in the clear.
    Refused(Arc<str>),
}

/// How TLS towards a backend is begun. BackendTLSPolicies and DestinationRules come down to it.
#[derive(Debug)]
pub struct TlsOrigin {
    /// The name to ask for (SNI).
    pub server_name: Box<str>,
    /// Who must have signed the backend's certificate.
    pub roots: Roots,
    /// The names of which the certificate must have one; without any it must be for `server_name`.
    pub subjects: Vec<Subject>,
    /// The certificate to show if the backend asks for one.
    pub client: Option<Arc<Certificate>>,
    /// What whoever begins TLS made of this, once.
    made: Made,
}

/// Roots of trust.
#[derive(Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those that the machine trusts.
    System,
    /// These, in DER.
    Given(Vec<Box<[u8]>>),
    /// Nobody's: whoever answers is believed (`insecureSkipVerify`).
    Unverified,
}

/// A name that a certificate may have to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A DNS name, or all below one.
    Host(HostPattern),
    /// A URI such as a SPIFFE id.
    Uri(Box<str>),
}

/// A certificate chain and its key.
#[derive(PartialEq, Eq)]
pub struct Certificate {
    /// Where they were written.
    pub source: ResourceRef,
    /// The hosts that the leaf names.
    pub hosts: Vec<HostPattern>,
    /// The chain in DER, the leaf first.
    pub chain: Vec<Box<[u8]>>,
    /// The private key in DER.
    pub key: Box<[u8]>,
}

/// A value that another room makes of plain data, once, and keeps with it. Typed by that room alone, so that this one need
/// not know what a TLS library is.
#[derive(Default)]
pub struct Made(OnceLock<Box<dyn Any + Send + Sync>>);

impl Made {
    /// The value, made on first use; `None` if another type sits there already.
    pub fn get<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(make())).downcast_ref()
    }
}

impl TlsOrigin {
    /// TLS to `server_name` under these roots; subjects and a certificate of one's own may be added.
    pub fn new(server_name: &str, roots: Roots) -> Self {
        Self {
            server_name: server_name.into(),
            roots,
            subjects: Vec::new(),
            client: None,
            made: Made::default(),
        }
    }

    /// What the sending end makes of this, once.
    pub fn made<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.made.get(make)
    }
}

impl PartialEq for TlsOrigin {
    fn eq(&self, other: &Self) -> bool {
        self.server_name == other.server_name
            && self.roots == other.roots
            && self.subjects == other.subjects
            && self.client == other.client
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Made" } else { "NotYet" })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("source", &self.source)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::Given(roots) => write!(f, "Given({})", roots.len()),
            Self::Unverified => f.write_str("Unverified"),
        }
    }
}
