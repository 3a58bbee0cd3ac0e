//! rustls configurations for peers that are not inmesh: with TLS 1.3, ALPN `h2` and certificates on both sides as peers of
//! the mesh have them, or as clients of one known server.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion, version::TLS13,
};

use crate::pki::PemFiles;

/// A server that asks its clients for a certificate of the same root.
pub fn server(files: &PemFiles) -> Result<Arc<ServerConfig>> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(files)?), provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(files)?, key(files)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// A client that accepts every server with a certificate of the same root.
pub fn client(files: &PemFiles) -> Result<Arc<ClientConfig>> {
    client_speaking(files, &[&TLS13], &[b"h2"])
}

/// Likewise, with versions and application protocols of one's own.
pub fn client_speaking(
    files: &PemFiles,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>> {
    let provider = provider();
    let verifier = Verifier::new(Believed::Below(roots(files)?), &provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain(files)?, key(files)?)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// A client that shows no certificate.
pub fn client_of_nobody(files: &PemFiles) -> Result<Arc<ClientConfig>> {
    let provider = provider();
    let verifier = Verifier::new(Believed::Below(roots(files)?), &provider);
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A client that accepts servers with these very certificates, whatever their names, and offers one protocol.
pub fn trusting(certificates: Vec<CertificateDer<'static>>, alpn: &[u8]) -> Result<Arc<ClientConfig>> {
    let provider = provider();
    let verifier = Verifier::new(Believed::Exactly(certificates), &provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn chain(files: &PemFiles) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(&files.chain)
        .and_then(Iterator::collect)
        .with_context(|| format!("reading {}", files.chain.display()))
}

fn key(files: &PemFiles) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(&files.key).with_context(|| format!("reading {}", files.key.display()))
}

fn roots(files: &PemFiles) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(&files.roots)? {
        roots.add(root?)?;
    }
    Ok(roots)
}

/// Whom a client believes.
#[derive(Debug)]
enum Believed {
    /// Whoever has a certificate below these: workload certificates name nobody by DNS, so the chain is all there is to
    /// check.
    Below(RootCertStore),
    /// Who shows one of these very certificates.
    Exactly(Vec<CertificateDer<'static>>),
}

/// Verifies what a server shows, and that it has the key to it.
#[derive(Debug)]
struct Verifier {
    believed: Believed,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(believed: Believed, provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self {
            believed,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.believed {
            Believed::Below(roots) => verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?,
            Believed::Exactly(certificates) if certificates.contains(end_entity) => {}
            Believed::Exactly(_) => return Err(CertificateError::UnknownIssuer.into()),
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
