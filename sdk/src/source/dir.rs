//! A directory of YAML, followed as it changes.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::scan::{Scanner, Seen};
use super::watch::Watch;
use super::{Event, Source, SourceError};
use crate::config::{Entry, Problem};

/// How large a file may be: four times what a cluster stores in all its ConfigMaps of one application.
const DEFAULT_LIMIT: u64 = 8 << 20;
/// How often to look where the system does not tell of changes (network file systems, exhausted watches).
const DEFAULT_RESCAN: Duration = Duration::from_secs(10);
/// Quiet time to wait for after a change, as changes come in groups.
const QUIET: Duration = Duration::from_millis(20);
/// The longest wait for quiet.
const PATIENCE: Duration = Duration::from_millis(200);

/// The resources in a directory, subdirectories included, or in one file; followed as they change.
///
/// Files named `*.yaml`, `*.yml` and `*.json` count; names that start with a dot do not. Symbolic links are followed,
/// and a mounted ConfigMap is seen to change.
///
/// What cannot be read any more stays in force as it was last read; what is deleted goes. Of two resources with the
/// same name the one in the first file counts, in the order of paths.
pub fn dir(path: impl Into<PathBuf>) -> DirSource {
    DirSource {
        path: path.into(),
        namespace: None,
        limit: DEFAULT_LIMIT,
        rescan: DEFAULT_RESCAN,
        changed: Arc::default(),
        queue: VecDeque::new(),
        state: State::New,
    }
}

/// What a directory or file holds now, and what is wrong with it; for whoever looks once and waits for nothing.
///
/// Reads as [`dir`] does. What names no namespace is in `namespace`, or in `default`.
///
/// # Errors
/// If there is nothing to read.
pub fn look(path: &Path, namespace: Option<&str>) -> Result<(Vec<Arc<Entry>>, Vec<Problem>), SourceError> {
    let mut scanner = Scanner::new(path.to_owned(), namespace.map(str::to_owned), DEFAULT_LIMIT);
    let seen = scanner.scan().map_err(|source| SourceError::Missing {
        path: path.display().to_string(),
        source,
    })?;
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for event in seen.events {
        match event {
            Event::Apply(entry) => entries.push(entry),
            Event::Problems { problems: found, .. } => problems.extend(found),
            Event::Delete(_) | Event::Synced => {}
        }
    }
    Ok((entries, problems))
}

/// A directory as a [`Source`]. See [`dir`].
#[derive(Debug)]
pub struct DirSource {
    path: PathBuf,
    namespace: Option<String>,
    limit: u64,
    rescan: Duration,
    changed: Arc<Notify>,
    queue: VecDeque<Event>,
    state: State,
}

/// Everything that `next` waits for is kept here rather than in its future, so that dropping the future is harmless.
#[derive(Debug)]
enum State {
    New,
    /// Nothing to do until something changes or `due` comes.
    Idle {
        look: Box<Look>,
        due: Instant,
    },
    /// Something changed; waiting for quiet, until `latest` at most.
    Stirred {
        look: Box<Look>,
        quiet: Instant,
        latest: Instant,
    },
    /// Reading.
    Looking(JoinHandle<(Box<Look>, std::io::Result<Seen>)>),
    Failed,
}

/// What is needed to look; it goes to a thread that may block, and comes back.
#[derive(Debug)]
struct Look {
    scanner: Scanner,
    watch: Watch,
}

impl DirSource {
    /// The namespace of resources that name none, as in `kubectl apply -n`; `default` unless given.
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            ..self
        }
    }

    /// How many bytes a file may have; 8 MiB unless given. A larger one is a problem and is not read.
    pub fn limit(self, bytes: u64) -> Self {
        Self { limit: bytes, ..self }
    }

    /// How often to look for changes that the system did not tell of; every 10 s unless given.
    pub fn rescan(self, every: Duration) -> Self {
        Self {
            rescan: every,
            ..self
        }
    }

    fn look(mut look: Box<Look>) -> State {
        State::Looking(tokio::task::spawn_blocking(move || {
            let result = look.run();
            (look, result)
        }))
    }

    fn path(&self) -> String {
        self.path.display().to_string()
    }
}

impl Look {
    fn run(&mut self) -> std::io::Result<Seen> {
        let mut seen = self.scanner.scan()?;
        // A directory is first listed and then watched: look once more for what came in between.
        if self.watch.follow(&seen.directories) {
            let later = self.scanner.scan()?;
            seen.events.extend(later.events);
            seen.again = later.again;
        }
        Ok(seen)
    }
}

impl Source for DirSource {
    async fn next(&mut self) -> Result<Event, SourceError> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            match &mut self.state {
                State::Failed => return std::future::pending().await,
                State::New => {}
                State::Idle { due, .. } => {
                    // Both ends of the wait lead to the same: look.
                    let _ = timeout_at(*due, self.changed.notified()).await;
                }
                State::Stirred { quiet, latest, .. } => {
                    let until = (*quiet).min(*latest);
                    if timeout_at(until, self.changed.notified()).await.is_ok() {
                        *quiet = Instant::now() + QUIET;
                        if *quiet < *latest {
                            continue;
                        }
                        sleep_until(*latest).await;
                    }
                }
                State::Looking(task) => {
                    let done = task.await;
                    self.done(done)?;
                    continue;
                }
            }
            self.state = match std::mem::replace(&mut self.state, State::Failed) {
                State::New => {
                    let scanner = Scanner::new(self.path.clone(), self.namespace.clone(), self.limit);
                    Self::look(Box::new(Look {
                        scanner,
                        watch: Watch::new(self.changed.clone()),
                    }))
                }
                State::Idle { look, due } if Instant::now() >= due => Self::look(look),
                State::Idle { look, .. } => {
                    let now = Instant::now();
                    State::Stirred {
                        look,
                        quiet: now + QUIET,
                        latest: now + PATIENCE,
                    }
                }
                State::Stirred { look, .. } => Self::look(look),
                other => other,
            };
        }
    }

    fn name(&self) -> String {
        self.path()
    }
}

impl DirSource {
    fn done(
        &mut self,
        done: Result<(Box<Look>, std::io::Result<Seen>), tokio::task::JoinError>,
    ) -> Result<(), SourceError> {
        self.state = State::Failed;
        let Ok((look, result)) = done else {
            return Err(SourceError::Interrupted { path: self.path() });
        };
        let seen = result.map_err(|source| SourceError::Missing {
            path: self.path(),
            source,
        })?;
        self.queue.extend(seen.events);
        let wait = seen.again.map_or(self.rescan, |again| again.min(self.rescan));
        self.state = State::Idle {
            look,
            due: Instant::now() + wait,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
