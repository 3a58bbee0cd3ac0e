//! How a policy point sends requests of its own.

use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};

use super::{MeshBody, Refusal};

/// Sends requests to services on behalf of a policy point: the outbound stack, handed down from above.
pub trait Ask: Send + Sync + 'static {
    /// Sends a request; its URI names the service, its `Host` header what it is about.
    fn ask(&self, request: Request<MeshBody>) -> Asking;
}

/// An answer that is on its way.
pub type Asking = Pin<Box<dyn Future<Output = Result<Response<MeshBody>, Refusal>> + Send>>;

/// Somebody who can ask.
#[derive(Clone)]
pub struct Asker(Arc<dyn Ask>);

impl Asker {
    /// Asks through `ask`.
    pub fn new(ask: impl Ask) -> Self {
        Self(Arc::new(ask))
    }

    /// Sends a request.
    pub fn ask(&self, request: Request<MeshBody>) -> Asking {
        self.0.ask(request)
    }
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asker")
    }
}
