//! Being told by the system that a directory changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Watches directories, so that the replacement of a file or of a symbolic link is seen, which a watch on the
/// file itself would lose.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` where the system offers no watches or has no more to give: then only looking from time to time helps.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, u64>,
}

impl Watch {
    /// Watches nothing yet; `changed` will be notified.
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| matters(&event.kind)) {
                changed.notify_one();
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "cannot watch files, looking at them from time to time instead");
        }
        Self {
            watcher: watcher.ok(),
            watched: BTreeMap::new(),
        }
    }

    /// Watches these directories and no others. Says whether one was added: then something may have changed in it
    /// before it was watched.
    pub(super) fn follow(&mut self, directories: &BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        self.watched.retain(|path, inode| {
            let same = directories.contains(path) && inode_of(path) == Some(*inode);
            if !same {
                // It fails if the directory is gone, and the watch with it.
                let _ = watcher.unwatch(path);
            }
            same
        });
        let mut added = false;
        for path in directories {
            if self.watched.contains_key(path) {
                continue;
            }
            let Some(inode) = inode_of(path) else { continue };
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), inode);
                    added = true;
                }
                Err(error) => tracing::debug!(%error, path = %path.display(), "cannot watch"),
            }
        }
        added
    }
}

/// Reading the files must not count as a change of them.
fn matters(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// What tells a directory from another one put in its place.
fn inode_of(path: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::ino(&metadata));
    #[cfg(not(unix))]
    return Some(u64::from(metadata.is_dir()));
}
