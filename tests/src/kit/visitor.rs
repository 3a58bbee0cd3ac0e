//! Somebody outside the mesh who comes to a Gateway: HTTP/1.1 or HTTP/2, in the clear or over TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use inmesh::identity::dev_ca::Pems;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How a visitor connects.
#[derive(Clone, Debug)]
pub struct Visitor {
    to: SocketAddr,
    tls: Option<Tls>,
    http2: bool,
}

#[derive(Clone, Debug)]
struct Tls {
    roots: String,
    name: String,
    own: Option<Pems>,
}

/// A connection.
#[derive(Debug)]
pub struct Visit {
    sender: Sender,
    /// The certificate that the server showed, in DER.
    pub shown: Vec<u8>,
    secure: bool,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Visitor {
    /// To a port of an address.
    pub fn to(ip: Ipv4Addr, port: u16) -> Self {
        Self {
            to: SocketAddr::from((ip, port)),
            tls: None,
            http2: false,
        }
    }

    /// Over TLS, asking for a server name, trusting these roots.
    pub fn tls(mut self, name: &str, roots: &str) -> Self {
        self.tls = Some(Tls {
            roots: roots.to_owned(),
            name: name.to_owned(),
            own: None,
        });
        self
    }

    /// With a certificate of one's own.
    pub fn certificate(mut self, own: &Pems) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.own = Some(own.clone());
        }
        self
    }

    /// Speaking HTTP/2.
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Visit> {
        self.over(TcpStream::connect(self.to).await?).await
    }

    /// Speaks on a connection that is there already.
    pub async fn over<I>(&self, io: I) -> Result<Visit>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(tls) = &self.tls else {
            return Ok(Visit {
                sender: self.handshake(io).await?,
                shown: Vec::new(),
                secure: false,
            });
        };
        let name = ServerName::try_from(tls.name.clone())?;
        let stream = TlsConnector::from(self.config(tls)?).connect(name, io).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let shown = certificates
            .and_then(|it| it.first())
            .context("no certificate")?
            .to_vec();
        Ok(Visit {
            sender: self.handshake(stream).await?,
            shown,
            secure: true,
        })
    }

    /// Connects and asks once: status and body.
    pub async fn get(&self, host: &str, path: &str) -> Result<(u16, String)> {
        self.connect().await?.get(host, path).await
    }

    fn config(&self, tls: &Tls) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(tls.roots.as_bytes()) {
            roots.add(root?)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match &tls.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.chain.as_bytes()).collect::<Result<_, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(own.key.as_bytes())?)?
            }
        };
        config.alpn_protocols = vec![if self.http2 {
            b"h2".to_vec()
        } else {
            b"http/1.1".to_vec()
        }];
        Ok(Arc::new(config))
    }

    async fn handshake<I>(&self, io: I) -> Result<Sender>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
            tokio::spawn(connection);
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        tokio::spawn(connection);
        Ok(Sender::Http1(sender))
    }
}

impl Visit {
    /// Asks for a path of a host: status and body.
    pub async fn get(&mut self, host: &str, path: &str) -> Result<(u16, String)> {
        self.get_with(host, path, &[]).await
    }

    /// As [`Visit::get`], with header fields.
    pub async fn get_with(
        &mut self,
        host: &str,
        path: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<(u16, String)> {
        let response = self.send(host, path, headers).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Asks for a path of a host.
    pub async fn response(&mut self, host: &str, path: &str) -> Result<Response<Incoming>> {
        self.send(host, path, &[]).await
    }

    async fn send(
        &mut self,
        host: &str,
        path: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(name, value);
        }
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                let request = request.uri(path).header("host", host).body(Empty::new())?;
                sender
                    .send_request(request)
                    .await
                    .map_err(|error| anyhow!("{error:?}"))
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                let scheme = if self.secure { "https" } else { "http" };
                let request = request
                    .uri(format!("{scheme}://{host}{path}"))
                    .body(Empty::new())?;
                sender
                    .send_request(request)
                    .await
                    .map_err(|error| anyhow!("{error:?}"))
            }
        }
    }
}

/// A Secret of type `kubernetes.io/tls` in namespace `default`.
pub fn secret(name: &str, pems: &Pems) -> String {
    let indent = |pem: &str| pem.trim_end().replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\ntype: kubernetes.io/tls\nstringData:\n  \
         tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        indent(&pems.chain),
        indent(&pems.key)
    )
}

/// A ConfigMap with roots under `ca.crt` in namespace `default`.
pub fn roots(name: &str, pem: &str) -> String {
    let pem = pem.trim_end().replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata:\n  ca.crt: |\n    {pem}\n"
    )
}
