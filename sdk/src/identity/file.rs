//! A directory of PEM files, read again whenever it changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::{Credential, CredentialProvider, Error};

/// The certificate chain, leaf first, under Istio's name.
pub(super) const CHAIN: &str = "cert-chain.pem";
/// The private key, under Istio's name.
pub(super) const KEY: &str = "key.pem";
/// The roots, under Istio's name.
pub(super) const ROOTS: &str = "root-cert.pem";

/// How often to look without being told: file systems that send no events exist.
const POLL: Duration = Duration::from_secs(30);
/// How soon to look again after a set of files that did not fit together, which is mostly one being written.
const RETRY: Duration = Duration::from_millis(250);
/// How long to let a burst of events pass before reading.
const SETTLE: Duration = Duration::from_millis(20);

/// Reads the credential from a directory that holds `cert-chain.pem`, `key.pem` and `root-cert.pem`.
pub fn pem_dir(path: impl Into<PathBuf>) -> PemDirBuilder {
    PemDirBuilder {
        dir: path.into(),
        poll: POLL,
        wait: Duration::ZERO,
    }
}

/// How a [`PemDir`] shall read its directory.
#[derive(Clone, Debug)]
#[must_use]
pub struct PemDirBuilder {
    dir: PathBuf,
    poll: Duration,
    wait: Duration,
}

impl PemDirBuilder {
    /// How often to look at the files even if the system reports no change; 30 seconds unless told.
    pub fn poll(mut self, every: Duration) -> Self {
        self.poll = every;
        self
    }

    /// How long [`PemDirBuilder::start`] waits for a first usable set of files; not at all unless told.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.wait = at_most;
        self
    }

    /// Reads the first credential and watches for the next.
    ///
    /// # Errors
    /// If there is no usable credential within the time given to [`PemDirBuilder::wait`].
    pub async fn start(self) -> Result<PemDir, Error> {
        let deadline = Instant::now() + self.wait;
        let (files, first) = loop {
            match load(self.dir.clone()).await {
                Ok(loaded) => break loaded,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(error) => debug!(dir = %self.dir.display(), %error, "waiting for a credential"),
            }
            sleep(RETRY.min(deadline - Instant::now())).await;
        };
        info!(identity = %first.id(), dir = %self.dir.display(), "credential read");
        let current = watch::Sender::new(Arc::new(first));
        let problem = watch::Sender::new(None);
        let reader = Reader {
            dir: self.dir,
            poll: self.poll,
            files,
            current: current.clone(),
            problem: problem.clone(),
        };
        let task = tokio::spawn(reader.run()).abort_handle();
        Ok(PemDir {
            current,
            problem,
            task,
        })
    }
}

/// A credential that follows the files of a directory.
///
/// New files take effect when they form a whole: a chain and a key that belong together, and roots. Until then, and if
/// they never do, the last good credential stays and [`PemDir::problem`] says what is wrong. Dropping the provider ends
/// the watching; those who subscribed keep the last credential.
#[derive(Debug)]
pub struct PemDir {
    current: watch::Sender<Arc<Credential>>,
    problem: watch::Sender<Option<Error>>,
    task: AbortHandle,
}

impl PemDir {
    /// What is wrong with the files as they lie there now; `None` if the credential in force is theirs.
    pub fn problem(&self) -> Option<Error> {
        self.problem.borrow().clone()
    }
}

impl CredentialProvider for PemDir {
    fn subscribe(&self) -> watch::Receiver<Arc<Credential>> {
        self.current.subscribe()
    }
}

impl Drop for PemDir {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The bytes of the three files.
#[derive(PartialEq, Eq)]
struct Files {
    chain: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<u8>,
}

/// Reads the directory, away from the async threads.
async fn load(dir: PathBuf) -> Result<(Files, Credential), Error> {
    let blocking = tokio::task::spawn_blocking(move || {
        let files = read(&dir)?;
        let credential = Credential::from_pem(&files.chain, &files.key, &files.roots)?;
        Ok((files, credential))
    });
    flatten(blocking.await)
}

async fn reread(dir: PathBuf) -> Result<Files, Error> {
    flatten(tokio::task::spawn_blocking(move || read(&dir)).await)
}

fn flatten<T>(joined: Result<Result<T, Error>, tokio::task::JoinError>) -> Result<T, Error> {
    joined.unwrap_or_else(|e| Err(Error::file("", io::Error::other(e))))
}

fn read(dir: &Path) -> Result<Files, Error> {
    // A mounted Secret is a set of links into `..data`, itself a link that is swapped. Resolving that one link first
    // makes the three files come from one generation.
    let resolved = fs::canonicalize(dir.join("..data"));
    let dir = resolved.as_deref().unwrap_or(dir);
    let file = |name: &str| {
        let path = dir.join(name);
        fs::read(&path).map_err(|e| Error::file(path, e))
    };
    Ok(Files {
        chain: file(CHAIN)?,
        key: file(KEY)?,
        roots: file(ROOTS)?,
    })
}

/// The task that keeps the credential current.
struct Reader {
    dir: PathBuf,
    poll: Duration,
    files: Files,
    current: watch::Sender<Arc<Credential>>,
    problem: watch::Sender<Option<Error>>,
}

impl Reader {
    async fn run(mut self) {
        let changed = Arc::new(Notify::new());
        let _watcher = self.watch(&changed); // held: dropping it ends the events
        loop {
            // First of all, for what changed between the first reading and the first event.
            self.refresh().await;
            let misfit = self.problem.borrow().is_some();
            let look = if misfit { RETRY.min(self.poll) } else { self.poll };
            if timeout(look, changed.notified()).await.is_ok() {
                sleep(SETTLE).await;
            }
        }
    }

    /// Watches the directory rather than the files, because a swap of links changes no file.
    fn watch(&self, changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
        let changed = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is itself an event; answering those would never end.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                changed.notify_one();
            }
        });
        let started = watcher.and_then(|mut watcher| {
            watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match started {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                warn!(dir = %self.dir.display(), %error, "no file events, looking at the credential by the clock");
                None
            }
        }
    }

    async fn refresh(&mut self) {
        match reread(self.dir.clone()).await {
            Ok(files) if files == self.files => {
                self.problem.send_replace(None);
            }
            Ok(files) => self.adopt(files),
            Err(error) => self.report(error),
        }
    }

    fn adopt(&mut self, files: Files) {
        match Credential::from_pem(&files.chain, &files.key, &files.roots) {
            Ok(next) => {
                info!(identity = %next.id(), epoch = next.epoch(), "credential rotated");
                self.files = files;
                self.problem.send_replace(None);
                self.current.send_replace(Arc::new(next));
            }
            Err(error) => self.report(error),
        }
    }

    /// Says once what is wrong, not at every look.
    fn report(&self, error: Error) {
        let known = self.problem.borrow().as_ref().map(ToString::to_string);
        if known.as_deref() != Some(error.to_string().as_str()) {
            warn!(dir = %self.dir.display(), %error, "new credential files are unusable, keeping the last good ones");
        }
        self.problem.send_replace(Some(error));
    }
}
