//! Plain sockets: HTTP/1.1, HTTP/2 with prior knowledge, and both over TLS.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use http::header::HOST;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use inmesh::Body;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Sent;
use crate::conformance::case::Scheme;
use crate::tls;

/// Sends a request on a connection of its own.
pub(super) async fn send(
    dial: SocketAddr,
    trusted: &[CertificateDer<'static>],
    sent: &Sent,
) -> Result<Response<Body>> {
    let stream = TcpStream::connect(dial)
        .await
        .with_context(|| format!("connecting to {dial}"))?;
    stream.set_nodelay(true)?;
    match sent.scheme {
        Scheme::Http => over(stream, sent).await,
        Scheme::Https => {
            let alpn: &[u8] = if sent.is_http2() { b"h2" } else { b"http/1.1" };
            let name = sent.sni.as_deref().unwrap_or(&sent.host);
            let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
            let name = ServerName::try_from(name.to_owned())?;
            let connector = TlsConnector::from(tls::trusting(trusted.to_vec(), alpn)?);
            over(
                connector
                    .connect(name, stream)
                    .await
                    .context("the TLS handshake failed")?,
                sent,
            )
            .await
        }
    }
}

async fn over<I>(io: I, sent: &Sent) -> Result<Response<Body>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(io);
    if sent.is_http2() {
        let request = sent.request(format!("{}://{}{}", sent.scheme.as_str(), sent.host, sent.path))?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        return Ok(sender.send_request(request).await?.map(Body::from));
    }
    let mut request = sent.request(sent.path.clone())?;
    request.headers_mut().insert(HOST, sent.host.parse()?);
    let (mut sender, connection) = http1::handshake(io).await?;
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?.map(Body::from))
}

/// Fetches a text from an admin endpoint.
///
/// # Errors
/// If there is none.
pub async fn get(addr: SocketAddr, path: &str) -> Result<String> {
    let io = TokioIo::new(TcpStream::connect(addr).await?);
    let (mut sender, connection) = http1::handshake(io).await?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, addr.to_string())
        .body(Body::empty())?;
    let body = sender.send_request(request).await?.into_body().collect().await?;
    Ok(String::from_utf8(body.to_bytes().into())?)
}
