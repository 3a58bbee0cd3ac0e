//! Where resources come from.
//!
//! A source tells what it knows as a stream of [`Event`]s: first everything there is, then [`Event::Synced`], then
//! only what changes. A mesh may have several; what a source says about a resource replaces what was said before.
//!
//! ```no_run
//! # async fn demo() -> Result<(), inmesh::source::SourceError> {
//! use inmesh::source::{self, Event, Source};
//!
//! let mut mesh = source::dir("mesh").namespace("bookinfo");
//! loop {
//!     match mesh.next().await? {
//!         Event::Apply(entry) => println!("{} at {}", entry.reference(), entry.place),
//!         Event::Delete(reference) => println!("{reference} is gone"),
//!         Event::Problems { problems, .. } => problems.iter().for_each(|problem| eprintln!("{problem}")),
//!         Event::Synced => break,
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod dir;
mod memory;
mod merge;
mod scan;
mod walk;
mod watch;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use dir::{DirSource, dir, look};
pub use memory::{Closed, MemoryHandle, MemorySource, memory, text};

use crate::config::{Entry, Problem};
use crate::name::ResourceRef;

/// What a source has to say.
#[derive(Clone, Debug)]
pub enum Event {
    /// A resource is there, or has changed.
    Apply(Arc<Entry>),
    /// A resource is gone.
    Delete(ResourceRef),
    /// All that is wrong with a file now; replaces what was said of that file before, and may be nothing.
    Problems {
        /// The file, as in the problems' places.
        file: Arc<str>,
        /// What is wrong with it.
        problems: Vec<Problem>,
    },
    /// All that was there at the start has been told.
    Synced,
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is nothing to read.
    #[error("cannot read {path}: create the file or directory, or name another one")]
    Missing {
        /// What was to be read.
        path: String,
        /// Why it cannot be.
        #[source]
        source: std::io::Error,
    },
    /// Reading ended by a panic or because the runtime shuts down.
    #[error("reading {path} was interrupted")]
    Interrupted {
        /// What was being read.
        path: String,
    },
}

/// Something that knows resources.
pub trait Source: Send {
    /// What is new; waits until something is.
    ///
    /// After an error a source has nothing more to say.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    fn next(&mut self) -> impl Future<Output = Result<Event, SourceError>> + Send;

    /// What to call the source in logs.
    fn name(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }
}

type NextFuture<'a> = Pin<Box<dyn Future<Output = Result<Event, SourceError>> + Send + 'a>>;

trait DynSource: Send {
    fn next_boxed(&mut self) -> NextFuture<'_>;
    fn label(&self) -> String;
}

impl<S: Source> DynSource for S {
    fn next_boxed(&mut self) -> NextFuture<'_> {
        Box::pin(self.next())
    }

    fn label(&self) -> String {
        self.name()
    }
}

/// A source of any type, so that a mesh can hold several.
pub struct BoxSource(Box<dyn DynSource>);

impl BoxSource {
    /// Forgets the source's type.
    pub fn new(source: impl Source + 'static) -> Self {
        Self(Box::new(source))
    }
}

impl Source for BoxSource {
    fn next(&mut self) -> impl Future<Output = Result<Event, SourceError>> + Send {
        self.0.next_boxed()
    }

    fn name(&self) -> String {
        self.0.label()
    }
}

impl fmt::Debug for BoxSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxSource").field(&self.name()).finish()
    }
}
