//! axum's own `serve` on a mesh listener, and who called as an extractor.
//!
//! ```no_run
//! # async fn run(mesh: inmesh::Mesh, app: axum::Router) -> Result<(), Box<dyn std::error::Error>> {
//! let listener = mesh.listen(9080).await?;
//! let app = app.layer(mesh.inbound(9080)).into_make_service_with_connect_info::<inmesh::PeerIdentity>();
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```

use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::serve::IncomingStream;

use super::listener::{Accepted, Listener};
use crate::name::PeerIdentity;

impl axum::serve::Listener for Listener {
    type Io = Accepted;
    type Addr = PeerIdentity;

    async fn accept(&mut self) -> (Accepted, PeerIdentity) {
        Self::accept(self).await
    }

    fn local_addr(&self) -> std::io::Result<PeerIdentity> {
        Err(std::io::Error::new(
            std::io::ErrorKind::Unsupported,
            "a mesh listener is not one address",
        ))
    }
}

impl Connected<IncomingStream<'_, Listener>> for PeerIdentity {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}

/// Who called, as a handler's argument; 500 if the request did not come through the mesh.
impl<S: Sync> FromRequestParts<S> for PeerIdentity {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let extensions = &parts.extensions;
        extensions
            .get::<Self>()
            .or_else(|| extensions.get::<ConnectInfo<Self>>().map(|info| &info.0))
            .cloned()
            .ok_or((
                StatusCode::INTERNAL_SERVER_ERROR,
                "the request did not come through the mesh",
            ))
    }
}
