//! A workload's proof of who it is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::verify::{ClientVerifier, ServerVerifier, spiffe_id_of};
use super::{Error, Refused, Trust};
use crate::name::SpiffeId;

/// The only application protocol spoken inside the TLS of a tunnel.
const ALPN: &[u8] = b"h2";

/// What is spoken inside the TLS of an application's own port. Sidecars offer Istio's own names beside or instead of the
/// usual ones; what is then spoken shows by itself.
const PORT_ALPN: &[&[u8]] = &[b"h2", b"http/1.1", b"istio-h2", b"istio-http/1.1", b"istio"];

/// Counts the credentials of this process; see [`Credential::epoch`].
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// A certificate chain, its private key, and the roots by which peers are judged.
///
/// `Debug` shows whose it is and how long it lasts, never the key.
pub struct Credential {
    id: SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
    epoch: u64,
    roots: Arc<RootCertStore>,
    crypto: Arc<CryptoProvider>,
    own: Arc<SingleCertAndKey>,
    /// What is shown of it: our chain, and the roots.
    chain: Vec<CertificateDer<'static>>,
    anchors: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
}

impl Credential {
    /// Reads a credential from PEM: the chain with the leaf first, the key (PKCS#8, SEC1 or PKCS#1), the roots.
    ///
    /// A credential whose time is over is read all the same: that it no longer convinces anybody is for the peers
    /// to say, and its owner sees [`Credential::not_after`].
    ///
    /// # Errors
    /// If a part is missing or malformed, if the key does not belong to the leaf, or if the leaf does not name
    /// exactly one SPIFFE identity.
    pub fn from_pem(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<Self, Error> {
        let chain = certificates("certificate chain", chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| Error::Pem {
            part: "private key",
            why: e.to_string(),
        })?;
        let mut store = RootCertStore::empty();
        let anchors = certificates("root certificates", roots)?;
        for root in &anchors {
            store.add(root.clone()).map_err(|e| Error::Pem {
                part: "root certificates",
                why: e.to_string(),
            })?;
        }
        let leaf = &chain[0];
        let id = spiffe_id_of(leaf).map_err(Error::Certificate)?;
        let (not_before, not_after) = validity(leaf)?;
        let crypto = Arc::new(crypto());
        let own =
            CertifiedKey::from_der(chain.clone(), key, &crypto).map_err(|e| Error::Key(e.to_string()))?;
        Ok(Self {
            id,
            not_before,
            not_after,
            epoch: EPOCH.fetch_add(1, Ordering::Relaxed),
            roots: Arc::new(store),
            crypto,
            key: Arc::clone(&own.key),
            own: Arc::new(SingleCertAndKey::from(own)),
            chain,
            anchors,
        })
    }

    /// Whom the credential proves.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When its time begins.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When its time is over.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The chain in DER, the leaf first.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.chain.iter().map(AsRef::as_ref)
    }

    /// The roots in DER.
    pub(crate) fn anchors(&self) -> impl Iterator<Item = &[u8]> {
        self.anchors.iter().map(AsRef::as_ref)
    }

    /// A number that no other credential of this process has; a later credential has a greater one.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Signs with the private key, in the first of the wanted schemes that the key can do; `None` if it can do none.
    pub(super) fn sign(
        &self,
        wanted: &[SignatureScheme],
        message: &[u8],
    ) -> Option<(SignatureScheme, Vec<u8>)> {
        let signer = self.key.choose_scheme(wanted)?;
        let signature = signer.sign(message).ok()?;
        Some((signer.scheme(), signature))
    }

    /// How to connect to somebody who must prove to be one of `expected`.
    ///
    /// No server name is sent and nothing is resumed, as between ztunnels: an identity is proved anew each time.
    pub(crate) fn client_config(&self, expected: Arc<[SpiffeId]>) -> Result<ClientConfig, rustls::Error> {
        let verifier = ServerVerifier::new(self.roots.clone(), &self.crypto, expected);
        let mut config = ClientConfig::builder_with_provider(self.crypto.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous() // rustls' word for "brings its own verifier"; ours is stricter than a name check
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.own.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// How to receive tunnels from those whom `trust` accepts.
    pub(crate) fn server_config(&self, trust: Trust) -> Result<ServerConfig, Error> {
        self.receiving(trust, &self.crypto, &[&rustls::version::TLS13], &[ALPN])
    }

    /// How to receive connections to an application's own port from those whom `trust` accepts: as sidecars make them,
    /// which stop at TLS 1.2 unless told otherwise.
    pub(crate) fn port_config(&self, trust: Trust) -> Result<ServerConfig, Error> {
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        self.receiving(
            trust,
            &Arc::new(aws_lc_rs::default_provider()),
            &versions,
            PORT_ALPN,
        )
    }

    fn receiving(
        &self,
        trust: Trust,
        crypto: &Arc<CryptoProvider>,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> Result<ServerConfig, Error> {
        let unusable = |e: &dyn fmt::Display| Error::Pem {
            part: "root certificates",
            why: e.to_string(),
        };
        let verifier = ClientVerifier::new(self.roots.clone(), crypto, self.id.clone(), trust)
            .map_err(|e| unusable(&e))?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(crypto))
            .with_protocol_versions(versions)
            .map_err(|e| unusable(&e))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.own.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        // A resumed session would carry a client's proof past its certificate's end and past a change of roots.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("epoch", &self.epoch)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// TLS 1.3 with what every build of ztunnel and Envoy can meet.
///
/// X25519 leads because its share is small; P-256 is for FIPS builds, and X25519MLKEM768 for peers that insist on
/// post-quantum exchange, at the price of one more round trip with those.
fn crypto() -> CryptoProvider {
    use aws_lc_rs::{cipher_suite as suite, kx_group as kx};
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx::X25519, kx::SECP256R1, kx::SECP384R1, kx::X25519MLKEM768],
        ..aws_lc_rs::default_provider()
    }
}

fn certificates(part: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Error::Pem {
            part,
            why: "it holds no certificate".to_owned(),
        }),
        Ok(found) => Ok(found),
        Err(e) => Err(Error::Pem {
            part,
            why: e.to_string(),
        }),
    }
}

fn validity(leaf: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), Error> {
    let malformed = |e: &dyn fmt::Display| Error::Certificate(Refused::Other(e.to_string()));
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|e| malformed(&e))?;
    let validity = certificate.validity();
    Ok((
        at(validity.not_before.timestamp()),
        at(validity.not_after.timestamp()),
    ))
}

/// A time given in seconds since 1970, which a certificate may put before 1970 or absurdly far ahead.
pub(super) fn at(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}
