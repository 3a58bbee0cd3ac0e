//! Where credentials come from.

use std::sync::Arc;

use tokio::sync::watch;

use super::Credential;

/// Hands out the current credential and tells when it changes.
///
/// Every new handshake uses the newest credential; connections that stand keep the one they were made with.
pub trait CredentialProvider: Send + Sync + 'static {
    /// The current credential, and each one after it.
    fn subscribe(&self) -> watch::Receiver<Arc<Credential>>;
}

impl<P: CredentialProvider + ?Sized> CredentialProvider for Arc<P> {
    fn subscribe(&self) -> watch::Receiver<Arc<Credential>> {
        (**self).subscribe()
    }
}

/// A provider whose credential changes only when told to: for tests, and for programs that bring their own source.
#[derive(Debug)]
pub struct Fixed {
    current: watch::Sender<Arc<Credential>>,
}

impl Fixed {
    /// Puts another credential in force.
    pub fn replace(&self, next: Credential) {
        self.current.send_replace(Arc::new(next));
    }
}

impl CredentialProvider for Fixed {
    fn subscribe(&self) -> watch::Receiver<Arc<Credential>> {
        self.current.subscribe()
    }
}

/// Provides the given credential.
pub fn fixed(credential: Credential) -> Fixed {
    Fixed {
        current: watch::Sender::new(Arc::new(credential)),
    }
}
