//! What can be wrong with our own credential, and with a peer's.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::name::{SpiffeError, SpiffeId};

/// Why a credential cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the credential could not be read or written.
    #[error("reading or writing {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A part of the credential is not PEM, or holds nothing of the kind it should.
    #[error("the {part} is not usable PEM: {why}")]
    Pem {
        /// `certificate chain`, `private key` or `root certificates`.
        part: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The private key does not belong to the certificate: often a half-written set of files.
    #[error("the private key does not belong to the certificate: {0}")]
    Key(String),
    /// The certificate does not name exactly one workload.
    #[error("the certificate cannot identify a workload")]
    Certificate(#[source] Refused),
    /// Certificates could not be issued.
    #[error("issuing a certificate: {0}")]
    Issue(String),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File {
            path: path.into(),
            source: Arc::new(source),
        }
    }
}

/// Why a certificate proves nobody we accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Its time is over.
    #[error("the certificate has expired")]
    Expired,
    /// Its time has not come.
    #[error("the certificate is not yet valid")]
    NotYetValid,
    /// It leads to none of our roots.
    #[error("the certificate was issued by nobody we trust")]
    UnknownIssuer,
    /// It names no identity of the form that a mesh issues.
    #[error("the certificate has no SPIFFE identity")]
    NoIdentity,
    /// Its URI name is not a workload identity.
    #[error("the certificate's URI name is not a workload identity")]
    Malformed(#[source] SpiffeError),
    /// It names more than one: which of them is meant would be a guess.
    #[error("the certificate has {0} URI names, expected one")]
    ManyNames(usize),
    /// The identity is sound, but of a trust domain that we do not accept.
    #[error("{presented} is of a trust domain that is not accepted")]
    TrustDomain {
        /// Whom the certificate names.
        presented: SpiffeId,
    },
    /// The identity is sound, but somebody else's than the one we called.
    #[error("the peer proved to be {presented}, expected {}", OneOf(.expected))]
    Unexpected {
        /// Whom the certificate names.
        presented: SpiffeId,
        /// Whom we meant to reach.
        expected: Arc<[SpiffeId]>,
    },
    /// No certificate at all.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// Anything else: a broken encoding, a bad signature, a chain too long to check.
    #[error("the certificate is not acceptable: {0}")]
    Other(String),
}

/// A few identities as one phrase.
struct OneOf<'a>(&'a [SpiffeId]);

impl std::fmt::Display for OneOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => f.write_str("nobody"),
            [one] => write!(f, "{one}"),
            [one, rest @ ..] => write!(f, "{one} or {} others", rest.len()),
        }
    }
}
