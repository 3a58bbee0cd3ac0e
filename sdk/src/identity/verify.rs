//! The two verifiers: chain first, identity second.

use std::fmt::Debug;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;

use super::{Refused, Trust};
use crate::name::SpiffeId;

/// The one identity that a certificate names.
///
/// # Errors
/// If it has no URI name, more than one, or one that is not a workload identity.
pub(crate) fn spiffe_id_of(certificate: &CertificateDer<'_>) -> Result<SpiffeId, Refused> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(certificate).map_err(|e| Refused::Other(e.to_string()))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|e| Refused::Other(e.to_string()))?
        .ok_or(Refused::NoIdentity)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let first = uris.next().ok_or(Refused::NoIdentity)?;
    match uris.count() {
        0 => SpiffeId::parse(first).map_err(Refused::Malformed),
        more => Err(Refused::ManyNames(more + 1)),
    }
}

impl Refused {
    /// The error that aborts the handshake; [`Refused::from_tls`] finds the reason in it again.
    fn into_tls(self) -> rustls::Error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(self))))
    }

    /// Why a handshake that failed on our side did not accept the peer's certificate, if that was it.
    pub(crate) fn from_tls(error: &rustls::Error) -> Option<Self> {
        use CertificateError as C;
        match error {
            rustls::Error::NoCertificatesPresented => Some(Self::NoCertificate),
            rustls::Error::InvalidCertificate(why) => Some(match why {
                C::Expired | C::ExpiredContext { .. } => Self::Expired,
                C::NotValidYet | C::NotValidYetContext { .. } => Self::NotYetValid,
                // A root with the name of ours and another key looks like a bad signature.
                C::UnknownIssuer | C::BadSignature => Self::UnknownIssuer,
                C::Other(OtherError(ours)) => match ours.downcast_ref::<Self>() {
                    Some(reason) => reason.clone(),
                    None => Self::Other(ours.to_string()),
                },
                other => Self::Other(format!("{other:?}")),
            }),
            _ => None,
        }
    }
}

/// A client's judge of servers: the chain, then exactly one of the identities it meant to call.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    expected: Arc<[SpiffeId]>,
}

impl ServerVerifier {
    pub(super) fn new(roots: Arc<RootCertStore>, crypto: &CryptoProvider, expected: Arc<[SpiffeId]>) -> Self {
        Self {
            roots,
            algorithms: crypto.signature_verification_algorithms,
            expected,
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>, // there is no name in a mesh, only the identity below
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let presented = spiffe_id_of(end_entity).map_err(Refused::into_tls)?;
        if !self.expected.contains(&presented) {
            let expected = self.expected.clone();
            return Err(Refused::Unexpected { presented, expected }.into_tls());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A server's judge of clients: the chain, then one identity of a trust domain that is accepted.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    own: SpiffeId,
    trust: Trust,
}

impl ClientVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        crypto: &Arc<CryptoProvider>,
        own: SpiffeId,
        trust: Trust,
    ) -> Result<Self, VerifierBuilderError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, crypto.clone())
            .clear_root_hint_subjects() // a workload has one certificate; naming our roots would only add bytes
            .build()?;
        Ok(Self { chain, own, trust })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let presented = spiffe_id_of(end_entity).map_err(Refused::into_tls)?;
        if !self.trust.accepts(&self.own, &presented) {
            return Err(Refused::TrustDomain { presented }.into_tls());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Spoken on applications' own ports only: the settings of tunnels do not offer it.
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn no_tls12() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not spoken here".to_owned())
}
