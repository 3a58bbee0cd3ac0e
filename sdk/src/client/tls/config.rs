//! A policy's demands as rustls takes them.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::verify::Verifier;
use crate::client::connection::Spoken;
use crate::policy::tls::{Certificate, TlsOrigin};

/// Why TLS cannot be begun with anybody under some demands.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// A certificate of our own and its key do not belong together, or the key is of no kind that can sign.
    #[error("the certificate of {source_name} cannot be shown: {why}")]
    Certificate { source_name: String, why: String },
    /// Nobody could be proved by such roots.
    #[error("the roots cannot be used: {0}")]
    Roots(String),
    /// No server has such a name.
    #[error("`{0}` is no server name")]
    Name(String),
    /// TLS itself could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Settings(String),
    /// Something else was made of the demands.
    #[error("the demands belong to another end")]
    Foreign,
}

/// What is made of the demands once: one configuration for each protocol that may be spoken inside.
#[derive(Debug)]
struct Ready {
    name: ServerName<'static>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
}

/// Begins TLS as demanded.
///
/// # Errors
/// If the demands cannot be met by anybody, or the server does not meet them.
pub(crate) async fn originate<I>(origin: &TlsOrigin, spoken: Spoken, io: I) -> io::Result<TlsStream<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    type Made = Result<Ready, Unusable>;
    let ready = match origin.made::<Made>(|| ready(origin)) {
        Some(Ok(ready)) => ready,
        Some(Err(error)) => return Err(io::Error::other(error.clone())),
        None => return Err(io::Error::other(Unusable::Foreign)),
    };
    let config = match spoken {
        Spoken::Http1 => &ready.http1,
        Spoken::Http2 => &ready.http2,
        Spoken::Bytes => &ready.bytes,
    };
    let connector = TlsConnector::from(Arc::clone(config));
    connector.connect(ready.name.clone(), io).await
}

fn ready(origin: &TlsOrigin) -> Result<Ready, Unusable> {
    let name = ServerName::try_from(origin.server_name.to_string())
        .map_err(|_| Unusable::Name(origin.server_name.to_string()))?;
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Verifier::new(origin, &crypto)?);
    let config = |protocols: &[&[u8]]| {
        let mut config = config(origin.client.as_deref(), &crypto, Arc::clone(&verifier))?;
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Ok::<_, Unusable>(Arc::new(config))
    };
    Ok(Ready {
        name,
        http1: config(&[b"http/1.1"])?,
        http2: config(&[b"h2"])?,
        bytes: config(&[])?,
    })
}

fn config(
    own: Option<&Certificate>,
    crypto: &Arc<CryptoProvider>,
    verifier: Arc<Verifier>,
) -> Result<ClientConfig, Unusable> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(crypto))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| Unusable::Settings(error.to_string()))?
        .dangerous() // rustls' word for "brings its own verifier"; ours can also demand a URI
        .with_custom_certificate_verifier(verifier);
    let Some(own) = own else {
        return Ok(builder.with_no_client_auth());
    };
    let unusable = |why: String| Unusable::Certificate {
        source_name: own.source.to_string(),
        why,
    };
    let chain = own.chain.iter().map(|der| CertificateDer::from(der.to_vec()));
    let key = PrivateKeyDer::try_from(own.key.to_vec()).map_err(|error| unusable(error.to_owned()))?;
    builder
        .with_client_auth_cert(chain.collect(), key)
        .map_err(|error| unusable(error.to_string()))
}
