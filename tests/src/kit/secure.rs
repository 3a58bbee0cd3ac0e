//! A backend that is not of the mesh and speaks TLS.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use inmesh::identity::dev_ca::Pems;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// A running backend; it ends when this is dropped. It answers with the server name and the protocol that it was asked for.
#[derive(Debug)]
pub struct Secure {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    config: Mutex<Arc<ServerConfig>>,
    /// Roots of clients, where they must prove themselves.
    clients: Option<String>,
    /// Connections that began with something else than TLS.
    clear: AtomicUsize,
    /// Connections on which TLS came about.
    met: AtomicUsize,
}

impl Secure {
    /// Starts on a port of an address with this certificate.
    pub async fn start(ip: Ipv4Addr, port: u16, pems: &Pems) -> Result<Self> {
        Self::demanding(ip, port, pems, None).await
    }

    /// As [`Secure::start`]; clients must prove themselves to these roots.
    pub async fn mutual(ip: Ipv4Addr, port: u16, pems: &Pems, clients: &str) -> Result<Self> {
        Self::demanding(ip, port, pems, Some(clients.to_owned())).await
    }

    async fn demanding(ip: Ipv4Addr, port: u16, pems: &Pems, clients: Option<String>) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((ip, port))).await?;
        let shared = Arc::new(Shared {
            config: Mutex::new(config(pems, clients.as_deref())?),
            clients,
            clear: AtomicUsize::new(0),
            met: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&accepting), stream));
            }
        });
        Ok(Self {
            shared,
            task: task.abort_handle(),
        })
    }

    /// Shows another certificate from now on.
    pub fn rotate(&self, pems: &Pems) -> Result<()> {
        let next = config(pems, self.shared.clients.as_deref())?;
        *self.shared.config.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// How many connections began with something else than TLS.
    pub fn clear(&self) -> usize {
        self.shared.clear.load(Ordering::SeqCst)
    }

    /// On how many connections TLS came about.
    pub fn met(&self) -> usize {
        self.shared.met.load(Ordering::SeqCst)
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn config(pems: &Pems, clients: Option<&str>) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(pems.chain.as_bytes()).collect::<Result<_, _>>()?;
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&crypto)).with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(root?)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(pems.key.as_bytes())?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let mut first = [0];
    if matches!(stream.peek(&mut first).await, Ok(1)) && first[0] != 22 {
        shared.clear.fetch_add(1, Ordering::SeqCst);
    }
    let config = Arc::clone(&shared.config.lock().unwrap_or_else(PoisonError::into_inner));
    let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else {
        return;
    };
    shared.met.fetch_add(1, Ordering::SeqCst);
    let session = stream.get_ref().1;
    let name = session.server_name().unwrap_or_default().to_owned();
    let protocol = String::from_utf8_lossy(session.alpn_protocol().unwrap_or_default()).into_owned();
    let answer = move |request: Request<Incoming>| {
        let body = format!("{name} {protocol} {:?} {}", request.version(), request.uri());
        async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body)))) }
    };
    // The client may leave at any time.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer))
        .await;
}
