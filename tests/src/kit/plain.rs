//! Servers that are not of the mesh: HTTP in the clear, and bytes.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use inmesh::Body;
use inmesh::identity::dev_ca::Pems;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Plain {
    addr: SocketAddr,
    task: AbortHandle,
}

impl Plain {
    /// Serves HTTP/1.1 and HTTP/2 (prior knowledge) with an application; port 0 takes a free one.
    pub async fn http<A>(ip: impl Into<IpAddr>, port: u16, app: A) -> Result<Self>
    where
        A: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        A::Future: Send,
    {
        let listener = TcpListener::bind(SocketAddr::new(ip.into(), port)).await?;
        let addr = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let app = app.clone();
                let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
                    app.clone().call(request.map(Body::from))
                });
                tokio::spawn(async move {
                    // The client may leave at any time.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection_with_upgrades(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        Ok(Self {
            addr,
            task: task.abort_handle(),
        })
    }

    /// Likewise over TLS, with this certificate.
    pub async fn https<A>(ip: impl Into<IpAddr>, port: u16, app: A, pems: &Pems) -> Result<Self>
    where
        A: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        A::Future: Send,
    {
        let chain = CertificateDer::pem_slice_iter(pems.chain.as_bytes()).collect::<Result<_, _>>()?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(pems.key.as_bytes())?)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(SocketAddr::new(ip.into(), port)).await?;
        let addr = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (app, acceptor) = (app.clone(), acceptor.clone());
                let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
                    app.clone().call(request.map(Body::from))
                });
                tokio::spawn(async move {
                    // A client that does not believe the certificate leaves.
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        Ok(Self {
            addr,
            task: task.abort_handle(),
        })
    }

    /// A protocol of its own: every byte comes back.
    pub async fn bytes(ip: impl Into<IpAddr>, port: u16) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::new(ip.into(), port)).await?;
        let addr = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        Ok(Self {
            addr,
            task: task.abort_handle(),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.task.abort();
    }
}
