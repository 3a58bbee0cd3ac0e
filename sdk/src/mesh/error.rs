//! Why a mesh could not be started or served.

use std::fmt;

use crate::layer::BoxError;

/// Why a mesh could not be started or served. Its insides may change freely; [`Error::kind`] is what to decide on.
pub struct Error {
    kind: ErrorKind,
    text: String,
    source: Option<BoxError>,
}

/// What sort of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The builder or the environment lacks something or contradicts itself.
    Settings,
    /// There is no usable credential.
    Credential,
    /// A source of configuration cannot be read, or is not synced in time.
    Source,
    /// Strict mode: the configuration says something that is not enforced.
    Strict,
    /// An address cannot be bound, or a port is taken.
    Bind,
    /// The mesh is shutting down.
    ShuttingDown,
}

impl Error {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
        }
    }

    pub(crate) fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn bind(error: std::io::Error) -> Self {
        // The error names the address and the remedy already.
        Self::new(ErrorKind::Bind, error.to_string())
    }

    pub(crate) fn port_taken(port: u16) -> Self {
        Self::new(
            ErrorKind::Bind,
            format!("something serves port {port} in this mesh already"),
        )
    }

    pub(crate) fn shutting_down() -> Self {
        Self::new(ErrorKind::ShuttingDown, "the mesh is shutting down")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What `fn main() -> Result<(), Error>` prints: readable.
        f.write_str(&self.text)?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
