//! Gets documents by HTTP: key sets of issuers, inside the mesh or out.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use crate::client::Client;
use crate::control::Fetch;
use crate::layer::MeshBody;
use crate::name::Host;
use crate::snapshot::Live;

/// More is no key set.
const LARGEST: usize = 1 << 20;

/// Gets documents: from services of the mesh through the mesh, everything else as anybody would, https verified with the
/// machine's own roots (or those that `SSL_CERT_FILE` names).
pub(super) fn fetcher(client: Client, live: Arc<Live>) -> Fetch {
    let outside = Arc::new(Outside::default());
    Arc::new(move |uri, timeout| {
        let (client, live, outside) = (client.clone(), Arc::clone(&live), Arc::clone(&outside));
        Box::pin(async move {
            let got = async {
                match is_inside(&live, &uri) {
                    true => body(client.get(uri).await.map_err(|error| error.to_string())?).await,
                    false => outside.get(&uri).await,
                }
            };
            tokio::time::timeout(timeout, got)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
        })
    })
}

/// Whether the URL names a service of the mesh, so that it is reached as services are.
fn is_inside(live: &Live, uri: &Uri) -> bool {
    let view = live.pin();
    let host = uri.host().and_then(|host| Host::parse(host).ok());
    let service = host.and_then(|host| view.service(view.service_by_host(&host)?).cloned());
    uri.scheme_str() == Some("http")
        && service.is_some_and(|service| service.port(uri.port_u16().unwrap_or(80)).is_some())
}

/// Whatever is not in the mesh.
#[derive(Default)]
struct Outside {
    tls: OnceCell<Arc<ClientConfig>>,
}

impl Outside {
    async fn get(&self, uri: &Uri) -> Result<Bytes, String> {
        let host = uri.host().ok_or("the URL names no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| format!("connecting to {host}:{port} failed: {error}"))?;
        if !secure {
            return exchange(stream, uri).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("`{host}`: {error}"))?;
        let tls = self.tls.get_or_try_init(roots).await?;
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await
            .map_err(|error| format!("{host} could not prove itself: {error}"))?;
        exchange(stream, uri).await
    }
}

/// TLS as the machine trusts it.
async fn roots() -> Result<Arc<ClientConfig>, String> {
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        match added {
            0 => Err(format!(
                "this machine has no root certificates: {:?}",
                found.errors
            )),
            _ => Ok(roots),
        }
    };
    let roots = tokio::task::spawn_blocking(load)
        .await
        .map_err(|error| error.to_string())??;
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// One request on a connection of its own.
async fn exchange<I>(io: I, uri: &Uri) -> Result<Bytes, String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: &dyn std::error::Error| format!("asking for {uri} failed: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .map_err(|error| failed(&error))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("inmesh/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let answered = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| failed(&error))?;
        body(response.map(MeshBody::new)).await
    };
    tokio::select! {
        answer = answered => answer,
        ended = connection => Err(match ended {
            Ok(()) => format!("{uri} hung up"),
            Err(error) => failed(&error),
        }),
    }
}

async fn body(response: Response<MeshBody>) -> Result<Bytes, String> {
    if response.status() != StatusCode::OK {
        return Err(format!("the answer was {}", response.status()));
    }
    let limited = Limited::new(response.into_body(), LARGEST).collect().await;
    limited
        .map(|body| body.to_bytes())
        .map_err(|error| format!("the answer broke off: {error}"))
}
