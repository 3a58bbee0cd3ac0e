//! A mesh root and workload certificates in PEM files, for peers that are not inmesh.
//!
//! ```text
//! DIR/<service account>/{cert-chain.pem, key.pem, root-cert.pem}      the file names of Istio
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType,
};

/// The trust domain of everything issued here.
pub const TRUST_DOMAIN: &str = "cluster.local";

/// The three PEM files with which a workload proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemFiles {
    /// The certificate and whatever lies between it and the root.
    pub chain: PathBuf,
    /// The private key, PKCS#8.
    pub key: PathBuf,
    /// The roots to trust.
    pub roots: PathBuf,
}

impl PemFiles {
    /// The files of a folder, by Istio's names.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            chain: dir.join("cert-chain.pem"),
            key: dir.join("key.pem"),
            roots: dir.join("root-cert.pem"),
        }
    }
}

/// A root that lives as long as the test and signs workload certificates.
pub struct Root(CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Root(..)")
    }
}

impl Root {
    /// Makes a root for [`TRUST_DOMAIN`].
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, TRUST_DOMAIN);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Issues a certificate for `spiffe://cluster.local/ns/<namespace>/sa/<account>` and writes its files into
    /// `<dir>/<account>`.
    pub fn issue(&self, dir: &Path, namespace: &str, account: &str) -> Result<PemFiles> {
        let key = KeyPair::generate()?;
        let id = format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id)?)];
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let cert = params.signed_by(&key, &self.0)?;

        let dir = dir.join(account);
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let files = PemFiles::in_dir(&dir);
        let root = self.0.pem();
        fs::write(&files.chain, cert.pem() + &root)?;
        fs::write(&files.key, key.serialize_pem())?;
        fs::write(&files.roots, root)?;
        Ok(files)
    }
}
