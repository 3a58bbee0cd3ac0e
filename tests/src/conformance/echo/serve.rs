//! The HTTP server in front of the echo: HTTP/1.1 and HTTP/2 by what a connection speaks.

use std::convert::Infallible;
use std::io;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use inmesh::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use super::Reset;

/// How a connection came in.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// The pod's port.
    pub port: u16,
    /// HTTP/1.1 is answered with 400.
    pub http2_only: bool,
    /// gRPC is served.
    pub grpc: bool,
    /// gRPC methods of other services than the suite's own are served too.
    pub any_method: bool,
    /// TLS server name.
    pub sni: Option<String>,
}

/// Serves one connection to its end; an answer that is marked so resets it.
pub async fn serve<I, S>(io: I, service: S)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = service.clone().call(request);
        async move {
            let Ok(response) = answer.await;
            match response.extensions().get::<Reset>() {
                Some(Reset) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
                None => Ok(response),
            }
        }
    });
    // Fails where a peer goes away or was told to.
    let _ = Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(io), service)
        .await;
}
