//! What the sources have told so far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::{Problem, ResourceStore};
use crate::source::{BoxSource, Event, Source, SourceError};

/// How many events may wait; sources wait then.
const WAITING: usize = 1024;

/// The sources, each read by a task, and what they have told.
pub(super) struct Inbox {
    events: mpsc::Receiver<(usize, Result<Event, SourceError>)>,
    /// Ends the tasks with the loop.
    _readers: JoinSet<()>,
    unsynced: BTreeSet<usize>,
    pub(super) store: ResourceStore,
    problems: BTreeMap<Arc<str>, Vec<Problem>>,
    /// Why a source has nothing more to say.
    pub(super) failure: Option<String>,
}

impl Inbox {
    pub(super) fn of(sources: Vec<BoxSource>) -> Self {
        let (tell, events) = mpsc::channel(WAITING);
        let mut readers = JoinSet::new();
        let unsynced = (0..sources.len()).collect();
        for (index, mut source) in sources.into_iter().enumerate() {
            let tell = tell.clone();
            readers.spawn(async move {
                loop {
                    let event = source.next().await;
                    let over = event.is_err();
                    if tell.send((index, event)).await.is_err() || over {
                        return;
                    }
                }
            });
        }
        Self {
            events,
            _readers: readers,
            unsynced,
            store: ResourceStore::default(),
            problems: BTreeMap::new(),
            failure: None,
        }
    }

    /// Whether every source has told all it has.
    pub(super) fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// All problems of the sources.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().flatten()
    }

    /// Waits for events and takes them in; waits forever once all sources are gone.
    ///
    /// # Cancel safety
    /// No event is lost.
    pub(super) async fn receive(&mut self) {
        match self.events.recv().await {
            Some(event) => self.take(event),
            None => std::future::pending().await,
        }
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
    }

    fn take(&mut self, (source, event): (usize, Result<Event, SourceError>)) {
        match event {
            Ok(Event::Apply(entry)) => self.store.apply(entry),
            Ok(Event::Delete(reference)) => {
                self.store.delete(&reference);
            }
            Ok(Event::Problems { file, problems }) if problems.is_empty() => {
                self.problems.remove(&file);
            }
            Ok(Event::Problems { file, problems }) => {
                self.problems.insert(file, problems);
            }
            Ok(Event::Synced) => {
                self.unsynced.remove(&source);
            }
            Err(error) => {
                let text = crate::name::chain(&error);
                tracing::error!(error = %text, "a source of configuration is gone; what it told stays in force");
                self.failure = Some(text);
            }
        }
    }
}
