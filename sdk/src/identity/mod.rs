//! Who we are, and who they are.
//!
//! A [`Credential`] is a workload's certificate chain, its private key and the roots that it trusts. It comes from
//! a [`CredentialProvider`], which hands out a new one before the old one runs out. The verifiers prove a peer in
//! two steps: its chain leads to our roots at this moment, and its certificate names exactly one SPIFFE identity
//! that we accept. A DNS name, an IP address or a common name proves nothing here.
//!
//! ```text
//! PemDir ─┐
//! Fixed  ─┼─▶ watch::Receiver<Arc<Credential>> ─▶ every new handshake reads the newest
//! (yours)─┘
//! ```

mod certificate;
mod credential;
#[cfg(feature = "dev-ca")]
pub mod dev_ca;
mod error;
mod file;
mod introduction;
mod provider;
mod trust;
mod verify;

pub(crate) use certificate::CertificateFacts;
pub use credential::Credential;
pub use error::{Error, Refused};
pub use file::{PemDir, PemDirBuilder, pem_dir};
pub use introduction::{Disbelief, Introducer, Introduction};
pub use provider::{CredentialProvider, Fixed, fixed};
pub use trust::Trust;

pub(crate) use verify::spiffe_id_of;

#[cfg(test)]
mod tests;
