//! Whether a backend proved to be whom a policy demands.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;

use super::config::Unusable;
use crate::name::Host;
use crate::policy::tls::{Roots, Subject, TlsOrigin};

/// Proves a chain to given roots, and one of the names that are demanded; without any, the name that is asked for.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Without any, nothing is proved but that whoever answers has the key of its certificate.
    roots: Option<RootCertStore>,
    subjects: Vec<Subject>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(origin: &TlsOrigin, crypto: &CryptoProvider) -> Result<Self, Unusable> {
        Ok(Self {
            roots: match &origin.roots {
                Roots::Unverified => None,
                demanded => Some(roots(demanded)?),
            },
            subjects: origin.subjects.clone(),
            algorithms: crypto.signature_verification_algorithms,
        })
    }

    fn is_subject(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
            return false;
        };
        let Ok(Some(names)) = parsed.subject_alternative_name() else {
            return false;
        };
        let names = &names.value.general_names;
        self.subjects
            .iter()
            .any(|subject| names.iter().any(|name| is(subject, name)))
    }
}

/// Whether a name of a certificate is one that is demanded. A wildcard in the certificate stands for one label, as in TLS;
/// one in the demand for any number, as in Gateway API.
fn is(subject: &Subject, name: &GeneralName<'_>) -> bool {
    match (subject, name) {
        (Subject::Uri(wanted), GeneralName::URI(uri)) => **wanted == **uri,
        (Subject::Host(wanted), GeneralName::DNSName(name)) => match name.strip_prefix("*.") {
            None => Host::parse(name).is_ok_and(|host| wanted.matches(host.as_str())),
            Some(domain) => {
                let domain = domain.to_ascii_lowercase();
                let wanted = wanted.to_string();
                let parent = wanted.split_once('.').map(|(_, parent)| parent);
                // `*.a` for `*.a` and `b.a`; all that `*.b.a` covers is below `*.a`, too.
                parent == Some(&*domain) || wanted.starts_with("*.") && domain.ends_with(&wanted[1..])
            }
        },
        _ => false,
    }
}

fn roots(wanted: &Roots) -> Result<RootCertStore, Unusable> {
    let mut store = RootCertStore::empty();
    match wanted {
        Roots::Unverified => {}
        Roots::Given(given) => {
            for root in given {
                store
                    .add(CertificateDer::from(root.to_vec()))
                    .map_err(|error| Unusable::Roots(error.to_string()))?;
            }
        }
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a root of the system could not be read");
            }
            store.add_parsable_certificates(found.certs);
        }
    }
    match store.is_empty() {
        true => Err(Unusable::Roots("there are none".to_owned())),
        false => Ok(store),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        match self.subjects.is_empty() {
            true => verify_server_name(&certificate, server_name)?,
            false if self.is_subject(end_entity) => {}
            false => return Err(CertificateError::NotValidForName.into()),
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
