//! HTTP/1.1 to the collector, over one connection that is kept.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Error;

/// An answer says at most how many spans were refused, and why.
const ANSWER: usize = 64 * 1024;
/// A collector that is there accepts at once.
const CONNECT: Duration = Duration::from_secs(3);

/// The client that OpenTelemetry's exporter speaks through. Needs the exporter thread's runtime.
#[derive(Debug)]
pub(super) struct Collector {
    address: String,
    host: HeaderValue,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Collector {
    pub(super) fn new(endpoint: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Endpoint {
            endpoint: endpoint.to_owned(),
            reason,
        };
        match endpoint.split_once("://").map(|(scheme, _)| scheme) {
            Some("http") => {}
            Some("https") => return Err(refuse("https is not supported yet; use http")),
            _ => return Err(refuse("a URL with scheme http is needed")),
        }
        let uri: Uri = endpoint.parse().map_err(|_| refuse("not a URL"))?;
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(refuse("a host, and no user name, is needed"));
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self {
            address: format!("{host}:{port}"),
            host: HeaderValue::try_from(authority.as_str()).map_err(|_| refuse("not a host"))?,
            connection: Mutex::new(None),
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let mut kept = self.connection.lock().await;
        // A connection goes back only after a full answer, so that a half-read one is never used again.
        let mut connection = match kept.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        if connection.ready().await.is_err() {
            connection = self.connect().await?;
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = head.method;
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse()?;
        *request.headers_mut() = head.headers;
        request.headers_mut().insert(header::HOST, self.host.clone());
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER).collect().await?.to_bytes();
        *kept = Some(connection);
        Ok(Response::from_parts(head, body))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let stream = timeout(CONNECT, TcpStream::connect(&self.address)).await??;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the connection; its error is that of the request under way.
        tokio::spawn(connection);
        Ok(sender)
    }
}

impl HttpClient for Collector {
    // What `#[async_trait]` makes of `async fn send_bytes(&self, …)`, written out to do without the macro.
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.send(request))
    }
}
