//! Which files a directory holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Directories within directories; deeper is a loop of mounts or a mistake.
const MAX_DEPTH: usize = 16;

/// What tells a changed file from an unchanged one without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) modified: SystemTime,
    pub(super) len: u64,
    inode: u64,
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        // Without a time of modification the file always looks new, and is always read.
        let modified = metadata.modified().unwrap_or_else(|_| SystemTime::now());
        Self {
            modified,
            len: metadata.len(),
            inode,
        }
    }
}

/// What was found, symbolic links followed.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// YAML and JSON files, in path order.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// The directories they are in, and those in which there may be some later.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Directories that could not be listed.
    pub(super) unreadable: Vec<(PathBuf, io::Error)>,
}

/// Finds all files below a directory, or the one file that is named.
pub(super) fn walk(root: &Path) -> io::Result<Found> {
    let metadata = fs::metadata(root)?;
    let mut found = Found::default();
    if metadata.is_dir() {
        // The root itself must be readable, what is below it need not be.
        fs::read_dir(root)?;
        descend(root, &mut found, &mut Vec::new());
    } else {
        found.files.insert(root.to_owned(), Stamp::from(&metadata));
        let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
        found
            .directories
            .insert(parent.unwrap_or_else(|| Path::new(".")).to_owned());
    }
    Ok(found)
}

/// `above` holds the real paths of the directories we are in: a link back to one of them is not followed.
fn descend(directory: &Path, found: &mut Found, above: &mut Vec<PathBuf>) {
    let listing = fs::canonicalize(directory).and_then(|real| Ok((real, fs::read_dir(directory)?)));
    let (real, listing) = match listing {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return found.unreadable.push((directory.to_owned(), error)),
    };
    if above.contains(&real) || above.len() >= MAX_DEPTH {
        return;
    }
    found.directories.insert(directory.to_owned());
    above.push(real);
    for item in listing.flatten() {
        let path = item.path();
        if item.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // A link to nothing, or gone since it was listed.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            descend(&path, found, above);
        } else if metadata.is_file() && is_ours(&path) {
            found.files.insert(path, Stamp::from(&metadata));
        }
    }
    above.pop();
}

fn is_ours(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
