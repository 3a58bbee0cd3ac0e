//! A listener's terms as rustls takes them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::clients;
use crate::matcher::HostMap;
use crate::policy::tls::Certificate;
use crate::snapshot::{ClientTerms, TlsTerms};

/// How long a handshake may take once the client has said hello.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a listener's terms cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// A certificate and its key do not belong together, or the key is of no kind that can sign.
    #[error("the certificate of {source_name} cannot be used: {why}")]
    Certificate { source_name: String, why: String },
    /// Nobody could be proved by such roots.
    #[error("the roots for client certificates cannot be used: {0}")]
    Roots(String),
    /// TLS itself could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Settings(String),
    /// Something else was made of the terms.
    #[error("the terms belong to another end")]
    Foreign,
}

/// Whether TLS can be terminated under the terms; what is made of them is kept with them.
pub(crate) fn usable(terms: &TlsTerms) -> Result<(), Unusable> {
    config(terms).map(drop)
}

/// Terminates TLS under the terms.
///
/// # Errors
/// If the terms are unusable, the client does not get along with them, or it is too slow.
pub(crate) async fn terminate<I>(terms: &TlsTerms, io: I) -> io::Result<TlsStream<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let config = config(terms).map_err(io::Error::other)?;
    match tokio::time::timeout(PATIENCE, TlsAcceptor::from(config).accept(io)).await {
        Ok(accepted) => accepted,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Made once for as long as the terms stay what they are, however often the configuration around them changes.
fn config(terms: &TlsTerms) -> Result<Arc<ServerConfig>, Unusable> {
    type Made = Result<Arc<ServerConfig>, Unusable>;
    match terms.made::<Made>(|| build(terms).map(Arc::new)) {
        Some(made) => made.clone(),
        None => Err(Unusable::Foreign),
    }
}

fn build(terms: &TlsTerms) -> Result<ServerConfig, Unusable> {
    let settings = |error: rustls::Error| Unusable::Settings(error.to_string());
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let certificates = Arc::new(Certificates::new(&terms.certificates, &crypto)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&crypto))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(settings)?;
    let mut config = match terms.clients.as_deref() {
        None => builder.with_no_client_auth().with_cert_resolver(certificates),
        Some(demands) => {
            let verifier = clients::verifier(roots(demands)?, demands.optional, &crypto)
                .map_err(|error| Unusable::Roots(error.to_string()))?;
            let mut config = builder
                .with_client_cert_verifier(verifier)
                .with_cert_resolver(certificates);
            // A resumed session would carry a client's proof past its certificate's end and past a change of roots.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config
        }
    };
    if terms.http {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(config)
}

fn roots(demands: &ClientTerms) -> Result<RootCertStore, Unusable> {
    let mut store = RootCertStore::empty();
    for root in &demands.roots {
        store
            .add(CertificateDer::from(root.to_vec()))
            .map_err(|error| Unusable::Roots(error.to_string()))?;
    }
    Ok(store)
}

/// A listener's certificates, chosen from by the server name.
#[derive(Debug)]
struct Certificates {
    by_name: HostMap<Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl Certificates {
    fn new(written: &[Arc<Certificate>], crypto: &CryptoProvider) -> Result<Self, Unusable> {
        let mut by_name = HostMap::default();
        let mut first = None;
        for certificate in written {
            let key = certified(certificate, crypto).map_err(|error| Unusable::Certificate {
                source_name: certificate.source.to_string(),
                why: error.to_string(),
            })?;
            for host in &certificate.hosts {
                by_name.add(host, Arc::clone(&key));
            }
            first.get_or_insert(key);
        }
        match first {
            Some(first) => Ok(Self { by_name, first }),
            None => Err(Unusable::Settings("there is no certificate".to_owned())),
        }
    }
}

fn certified(certificate: &Certificate, crypto: &CryptoProvider) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let chain = certificate.chain.iter();
    let chain = chain.map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = PrivateKeyDer::try_from(certificate.key.to_vec())
        .map_err(|error| rustls::Error::General(error.to_owned()))?;
    CertifiedKey::from_der(chain, key, crypto).map(Arc::new)
}

impl ResolvesServerCert for Certificates {
    /// The certificate whose name is the longest that covers the server name. Without one the first is shown, as for a
    /// client that gives no name: whether to trust it is the client's to say.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        Some(Arc::clone(self.by_name.best(name).unwrap_or(&self.first)))
    }
}
