//! The way to a collector at an address of its own: one connection that is kept, HTTP/1.1 or, for gRPC, HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::destination::Carrier;
use super::{Error, OtlpSettings};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An answer says at most how many spans were refused, and why.
const ANSWER: usize = 64 * 1024;
/// A collector that is there accepts at once.
const CONNECT: Duration = Duration::from_secs(3);

/// A collector at an address. Needs the exporter's runtime.
#[derive(Debug)]
pub(super) struct Collector {
    address: String,
    host: HeaderValue,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    connection: Mutex<Option<Connection>>,
}

#[derive(Debug)]
enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Collector {
    /// The one that the settings name. Reads the files that they name, too.
    pub(super) fn new(settings: &OtlpSettings) -> Result<Self, Error> {
        let endpoint = &*settings.endpoint;
        let refuse = |reason| Error::Endpoint {
            endpoint: endpoint.to_owned(),
            reason,
        };
        let secure = match endpoint.split_once("://").map(|(scheme, _)| scheme) {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refuse("a URL with scheme http or https is needed")),
        };
        let uri: Uri = endpoint.parse().map_err(|_| refuse("not a URL"))?;
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(refuse("a host, and no user name, is needed"));
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let named = host.trim_start_matches('[').trim_end_matches(']');
        let tls = match secure {
            true => {
                let name = ServerName::try_from(named.to_owned());
                let name = name.map_err(|_| refuse("its host is none that a certificate could name"))?;
                Some((super::tls::config(settings)?, name))
            }
            false => None,
        };
        Ok(Self {
            tls,
            address: format!("{host}:{port}"),
            host: HeaderValue::try_from(authority.as_str()).map_err(|_| refuse("not a host"))?,
            connection: Mutex::new(None),
        })
    }

    /// The way there.
    pub(super) fn carrier(self) -> Carrier {
        let collector = Arc::new(self);
        Carrier::new(move |request| {
            let collector = Arc::clone(&collector);
            Box::pin(async move {
                let answer = collector.send(request).await;
                answer.map_err(|error| format!("{}: {error}", collector.address))
            })
        })
    }

    async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        let is_http2 = request.version() == Version::HTTP_2;
        let mut kept = self.connection.lock().await;
        // A connection goes back only after a full answer, so that a half-read one is never used again.
        let mut connection = match kept.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect(is_http2).await?,
        };
        if !connection.ready().await {
            connection = self.connect(is_http2).await?;
        }
        if !is_http2 {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let path = path.parse()?;
            *request.uri_mut() = path;
            request.headers_mut().insert(header::HOST, self.host.clone());
        }
        let (mut head, body) = connection.send(request.map(Full::new)).await?.into_parts();
        let body = Limited::new(body, ANSWER).collect().await?;
        if let Some(trailers) = body.trailers() {
            head.headers.extend(trailers.clone());
        }
        *kept = Some(connection);
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    async fn connect(&self, is_http2: bool) -> Result<Connection, Failure> {
        let stream = timeout(CONNECT, TcpStream::connect(&self.address)).await??;
        let Some((config, name)) = &self.tls else {
            return Connection::over(stream, is_http2).await;
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = timeout(CONNECT, connector.connect(name.clone(), stream)).await??;
        Connection::over(stream, is_http2).await
    }
}

impl Connection {
    async fn over<I>(stream: I, is_http2: bool) -> Result<Self, Failure>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        // Both tasks end with the connection; its error is that of the request under way.
        if is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<hyper::body::Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}
