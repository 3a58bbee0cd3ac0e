//! Reads the files that resources name.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::compile::{Content, Contents};

/// How often files are looked at again: whoever rotates a certificate writes it long before the old one is over.
const PACE: Duration = Duration::from_secs(5);

/// The largest file that is read; no chain of certificates is that long.
const LARGEST: u64 = 1 << 20;

/// Reads files as they are asked for and then again and again. What cannot be read any more is told: what was in it
/// may be there no more for a reason.
pub(super) struct Reader {
    paths: watch::Sender<BTreeSet<Box<str>>>,
    contents: watch::Receiver<Contents>,
    /// Ends the task with the loop.
    _task: JoinSet<()>,
}

impl Reader {
    pub(super) fn new() -> Self {
        let (paths, asked) = watch::channel(BTreeSet::new());
        let (tell, contents) = watch::channel(Contents::default());
        let mut task = JoinSet::new();
        task.spawn(work(asked, tell));
        Self {
            paths,
            contents,
            _task: task,
        }
    }

    /// Asks for exactly these files from now on.
    pub(super) fn ask(&self, paths: &BTreeSet<Box<str>>) {
        self.paths.send_if_modified(|asked| {
            let changed = asked != paths;
            if changed {
                asked.clone_from(paths);
            }
            changed
        });
    }

    /// What is known.
    pub(super) fn contents(&mut self) -> Contents {
        self.contents.borrow_and_update().clone()
    }

    /// Waits until something else is known.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn changed(&mut self) {
        if self.contents.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn work(mut asked: watch::Receiver<BTreeSet<Box<str>>>, tell: watch::Sender<Contents>) {
    loop {
        let paths = asked.borrow_and_update().clone();
        let is_idle = paths.is_empty();
        let read = tokio::task::spawn_blocking(move || paths.into_iter().map(read).collect::<Contents>());
        match read.await {
            Ok(next) => {
                tell.send_if_modified(|known| {
                    let changed = *known != next;
                    if changed {
                        *known = next;
                    }
                    changed
                });
            }
            Err(error) => tracing::error!(%error, "reading files failed"),
        }
        // Without files there is nothing to do until somebody asks.
        let pause = if is_idle { PACE * 10_000 } else { PACE };
        if let Ok(Err(_)) = tokio::time::timeout(pause, asked.changed()).await {
            return;
        }
    }
}

fn read(path: Box<str>) -> (Box<str>, Result<Content, Arc<str>>) {
    let content = content(&path).map_err(|error| error.to_string().into());
    (path, content)
}

/// A file's content. Only of a file: a pipe or a device might never end.
fn content(path: &str) -> io::Result<Content> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why.to_owned()));
    if !std::fs::metadata(path)?.is_file() {
        return refuse("it is no file");
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LARGEST {
        true => refuse("it is larger than 1 MiB"),
        false => Ok(bytes.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("a"), "text").unwrap();
        assert_eq!(content(&path("a")).unwrap().as_bytes(), b"text");
        assert!(content(&path("b")).is_err());
        assert!(content(&dir.path().display().to_string()).is_err());
        std::fs::write(path("long"), vec![0; LARGEST as usize + 1]).unwrap();
        assert!(content(&path("long")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_is_told_and_told_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path: Box<str> = dir.path().join("a").display().to_string().into();
        let mut reader = Reader::new();
        reader.ask(&BTreeSet::from([path.clone()]));
        reader.changed().await;
        assert!(reader.contents()[&path].is_err());
        std::fs::write(&*path, "one").unwrap();
        reader.changed().await;
        assert_eq!(reader.contents()[&path].as_ref().unwrap().as_bytes(), b"one");
        std::fs::remove_file(&*path).unwrap();
        reader.changed().await;
        assert!(reader.contents()[&path].is_err());
    }
}
