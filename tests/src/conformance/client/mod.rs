//! The clients: inmesh's own, and plain sockets for what stands at the edge.

pub mod grpc;
mod socket;
pub mod websocket;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use inmesh::{Body, Client};
use rustls::pki_types::CertificateDer;

pub use socket::get;

use super::case::{Protocol, Scheme};

/// How long one exchange may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The way to who is asked.
#[derive(Clone, Debug)]
pub enum Way {
    /// In the mesh: the client of a workload that dials this address.
    Mesh {
        /// The client.
        client: Client,
        /// What it dials.
        dial: SocketAddr,
    },
    /// From outside.
    Socket {
        /// What is dialled.
        dial: SocketAddr,
        /// The only server certificates that are accepted, where TLS is spoken.
        trusted: Vec<CertificateDer<'static>>,
    },
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What is spoken.
    pub protocol: Protocol,
    /// With or without TLS.
    pub scheme: Scheme,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `Host` or `:authority`.
    pub host: String,
    /// TLS server name.
    pub sni: Option<String>,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The version.
    pub version: Version,
    /// Header fields.
    pub headers: HeaderMap,
    /// Trailers.
    pub trailers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Way {
    /// A host for requests that name none: what is dialled.
    pub fn host(&self) -> String {
        let (Self::Mesh { dial, .. } | Self::Socket { dial, .. }) = self;
        dial.to_string()
    }
}

impl Sent {
    fn is_http2(&self) -> bool {
        matches!(self.protocol, Protocol::H2 | Protocol::H2c | Protocol::Grpc)
    }

    fn request(&self, uri: String) -> Result<Request<Body>> {
        let mut request = Request::builder().method(self.method.as_str()).uri(uri);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if self.is_http2() {
            request = request.version(Version::HTTP_2);
        }
        let body = match self.body.is_empty() {
            true => Body::empty(),
            false => Body::full(self.body.clone()),
        };
        request.body(body).context("the case's request is malformed")
    }
}

/// Sends a request and gives the answer as it begins.
///
/// # Errors
/// If no answer comes.
pub async fn send(way: &Way, sent: &Sent) -> Result<Response<Body>> {
    match way {
        Way::Mesh { client, dial } => {
            let mut request = sent.request(format!("http://{dial}{}", sent.path))?;
            request.headers_mut().insert(HOST, sent.host.parse()?);
            match client.request(request).await {
                Ok(response) => Ok(response),
                // There is no response; this is the one that a proxy would have given.
                Err(refusal) => Ok(refusal.into_response(sent.protocol == Protocol::Grpc)),
            }
        }
        Way::Socket { dial, trusted } => socket::send(*dial, trusted, sent).await,
    }
}

/// Sends a request and reads the answer to its end.
///
/// # Errors
/// If no answer comes, not all of it, or not in time.
pub async fn exchange(way: &Way, sent: &Sent) -> Result<Answer> {
    let whole = async {
        let response = send(way, sent).await?;
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(anyhow::Error::from_boxed)
            .context("reading the body")?;
        Ok(Answer {
            status: head.status,
            version: head.version,
            headers: head.headers,
            trailers: body.trailers().cloned().unwrap_or_default(),
            body: body.to_bytes(),
        })
    };
    tokio::time::timeout(PATIENCE, whole)
        .await
        .with_context(|| format!("no answer within {PATIENCE:?}"))?
}
