//! Resources pushed by hand: tests, demos, other control planes.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Event, Source, SourceError};
use crate::config::{Entry, Resource, yaml};
use crate::name::ResourceRef;

/// A handle to say what there is, and the source that tells it.
///
/// The source says [`Event::Synced`] when [`MemoryHandle::synced`] does, or when all handles are gone.
pub fn memory() -> (MemoryHandle, MemorySource) {
    // Unbounded, because a handle is used from code that cannot wait; whoever pushes decides how much.
    let (sender, receiver) = mpsc::unbounded_channel();
    let source = MemorySource {
        name: "memory".into(),
        receiver,
        synced: false,
    };
    (MemoryHandle { sender }, source)
}

/// The resources of a YAML text, and no changes ever after.
///
/// What names no namespace is in `default`.
pub fn text(name: &str, yaml: &str) -> MemorySource {
    let (handle, source) = memory();
    // The source is alive in this function, so nothing is lost.
    let _ = handle.apply_yaml(name, yaml, None);
    MemorySource {
        name: name.into(),
        ..source
    }
}

/// The source of a [`MemoryHandle`] is gone: nobody will hear of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source is gone")]
pub struct Closed;

/// Says what there is to the [`MemorySource`] it belongs to. Clones speak to the same source.
#[derive(Clone, Debug)]
pub struct MemoryHandle {
    sender: mpsc::UnboundedSender<Event>,
}

impl MemoryHandle {
    /// Applies one resource.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the source is gone.
    pub fn apply(&self, entry: impl Into<Arc<Entry>>) -> Result<(), Closed> {
        self.event(Event::Apply(entry.into()))
    }

    /// Applies a resource made in code.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the source is gone.
    pub fn apply_resource(&self, resource: Resource) -> Result<(), Closed> {
        self.apply(Entry::from_resource(resource, "memory"))
    }

    /// Applies all resources of a YAML text and tells what is wrong with it, in place of what was said under the
    /// same name before. Resources that an earlier text held and this one does not are not deleted.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the source is gone.
    pub fn apply_yaml(&self, name: &str, yaml: &str, default_namespace: Option<&str>) -> Result<(), Closed> {
        let parsed = yaml::read(name, yaml, default_namespace);
        for entry in parsed.entries {
            self.apply(entry)?;
        }
        self.event(Event::Problems {
            file: name.into(),
            problems: parsed.problems,
        })
    }

    /// Deletes a resource.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the source is gone.
    pub fn delete(&self, reference: ResourceRef) -> Result<(), Closed> {
        self.event(Event::Delete(reference))
    }

    /// Says that everything that is there at the start has been said.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the source is gone.
    pub fn synced(&self) -> Result<(), Closed> {
        self.event(Event::Synced)
    }

    /// Says anything.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the source is gone.
    pub fn event(&self, event: Event) -> Result<(), Closed> {
        self.sender.send(event).map_err(|_| Closed)
    }
}

/// Tells what its [`MemoryHandle`]s say. See [`memory`].
#[derive(Debug)]
pub struct MemorySource {
    name: Arc<str>,
    receiver: mpsc::UnboundedReceiver<Event>,
    synced: bool,
}

impl Source for MemorySource {
    async fn next(&mut self) -> Result<Event, SourceError> {
        match self.receiver.recv().await {
            Some(event) => {
                self.synced |= matches!(event, Event::Synced);
                Ok(event)
            }
            // Whoever waits for the first state must not wait for handles that no longer exist.
            None if !self.synced => {
                self.synced = true;
                Ok(Event::Synced)
            }
            None => std::future::pending().await,
        }
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::BoxSource;

    const SERVICE: &str =
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}], color: red}\n";

    #[tokio::test]
    async fn a_text_tells_its_resources_its_problems_and_that_this_was_all() {
        let mut source = BoxSource::new(text("inline", SERVICE));
        let Ok(Event::Apply(entry)) = source.next().await else {
            panic!("no resource")
        };
        assert_eq!(entry.reference().to_string(), "Service default/a");
        let Ok(Event::Problems { file, problems }) = source.next().await else {
            panic!("no problems")
        };
        assert_eq!((&*file, problems.len()), ("inline", 1));
        assert!(matches!(source.next().await, Ok(Event::Synced)));
        assert_eq!(source.name(), "inline");
    }

    #[tokio::test]
    async fn a_handle_speaks_until_its_source_is_gone() {
        let (handle, mut source) = memory();
        let reference = yaml::read("x", SERVICE, Some("shop")).entries[0].reference();
        handle.synced().unwrap();
        handle.clone().delete(reference.clone()).unwrap();
        assert!(matches!(source.next().await, Ok(Event::Synced)));
        assert!(matches!(source.next().await, Ok(Event::Delete(deleted)) if deleted == reference));
        drop(source);
        assert_eq!(handle.synced(), Err(Closed));
    }
}
