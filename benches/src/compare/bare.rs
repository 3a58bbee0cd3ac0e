//! Bare hyper over HTTP/2 and mTLS, one connection: what there is to be lost.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use inmesh_tests::pki::PemFiles;
use inmesh_tests::tls;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::load::{ANSWER, Caller};

/// What every backend answers.
pub(super) static BODY: [u8; ANSWER] = [b'.'; ANSWER];

/// A connection.
#[derive(Clone)]
pub(super) struct Bare {
    sender: SendRequest<Empty<Bytes>>,
}

impl Bare {
    /// Connects to the backend.
    pub(super) async fn connect(addr: SocketAddr, files: &PemFiles) -> Result<Self> {
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        let connector = TlsConnector::from(tls::client(files)?);
        let tls = connector.connect(ServerName::from(addr.ip()), tcp).await?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }
}

impl Caller for Bare {
    async fn call(&mut self) -> Result<()> {
        let request = Request::get("http://server:80/").body(Empty::new())?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(
            status == StatusCode::OK && body.len() == ANSWER,
            "{status} with {} bytes",
            body.len()
        );
        Ok(())
    }
}

/// Serves until the process is ended; `ready` learns the address.
pub(super) async fn serve(files: &PemFiles, ready: impl FnOnce(SocketAddr) -> Result<()>) -> Result<()> {
    let acceptor = TlsAcceptor::from(tls::server(files)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    ready(listener.local_addr()?)?;
    loop {
        let (tcp, _) = listener.accept().await.context("accepting")?;
        tcp.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let tls = acceptor.accept(tcp).await?;
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(tls), service_fn(answer))
                .await?;
            anyhow::Ok(())
        });
    }
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(&BODY))))
}
