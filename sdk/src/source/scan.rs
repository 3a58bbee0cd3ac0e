//! One look at a directory, and how it differs from the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Event;
use super::merge::merge;
use super::walk::{Found, Stamp, walk};
use crate::config::{Entry, Place, Problem, Severity, yaml};
use crate::name::ResourceRef;

/// A file written to within this time may be half written: better look again than delete what is missing.
const SETTLE: Duration = Duration::from_millis(20);
/// The same for a file that has become empty, as every file is between being truncated and being written.
const SETTLE_EMPTY: Duration = Duration::from_millis(300);
/// A file whose time stamp is this young may be written once more without its stamp changing.
const STAMP_GRAIN: Duration = Duration::from_secs(2);

/// What a directory or file held when it was last looked at.
#[derive(Debug)]
pub(super) struct Scanner {
    root: PathBuf,
    namespace: Option<String>,
    limit: u64,
    files: BTreeMap<PathBuf, Known>,
    applied: BTreeMap<ResourceRef, Arc<Entry>>,
    told: BTreeMap<Arc<str>, Vec<Problem>>,
    first: bool,
}

/// What a file held.
#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    digest: u64,
    entries: Vec<Arc<Entry>>,
    problems: Vec<Problem>,
    /// Not there at the last look: gone, or being replaced right now.
    missing: bool,
}

/// What a look brought.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) events: Vec<Event>,
    /// The directories that the files came from.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Something was about to change: look again after this time.
    pub(super) again: Option<Duration>,
}

impl Seen {
    fn again_in(&mut self, time: Duration) {
        self.again = Some(self.again.map_or(time, |again| again.min(time)));
    }
}

enum Content {
    Text(String),
    /// Why it is not to be read, what to do about it, and what can be seen of it.
    Bad(String, &'static str, String),
}

impl Scanner {
    pub(super) fn new(root: PathBuf, namespace: Option<String>, limit: u64) -> Self {
        Self {
            root,
            namespace,
            limit,
            files: BTreeMap::new(),
            applied: BTreeMap::new(),
            told: BTreeMap::new(),
            first: true,
        }
    }

    /// Looks, and says what is new.
    ///
    /// # Errors
    ///
    /// If there is nothing to look at, at the first look. Later everything stays as it was, as a problem.
    pub(super) fn scan(&mut self) -> io::Result<Seen> {
        let found = match walk(&self.root) {
            Ok(found) => found,
            Err(error) if self.first => return Err(error),
            Err(error) => {
                let text =
                    format!("cannot read the configuration: {error}; what was last read stays in force");
                let mut problems = BTreeMap::new();
                problems.insert(
                    display(&self.root),
                    vec![problem(&self.root, text, "put it back")],
                );
                for known in self.files.values() {
                    for problem in &known.problems {
                        problems
                            .entry(problem.place.file.clone())
                            .or_insert_with(Vec::new)
                            .push(problem.clone());
                    }
                }
                let mut seen = Seen::default();
                self.tell(problems, &mut seen.events);
                return Ok(seen);
            }
        };
        let mut seen = Seen {
            directories: found.directories.clone(),
            ..Seen::default()
        };
        let mut problems: BTreeMap<Arc<str>, Vec<Problem>> = BTreeMap::new();
        for (directory, error) in &found.unreadable {
            let text =
                format!("cannot read this directory: {error}; what was last read from it stays in force");
            problems.entry(display(directory)).or_default().push(problem(
                directory,
                text,
                "make it readable",
            ));
        }
        self.drop_missing(&found, &mut seen);
        for (path, stamp) in found.files {
            self.look_at(path, stamp, &mut seen);
        }
        let (desired, duplicates) = self.resolve();
        for known in self.files.iter() {
            let told = problems.entry(display(known.0)).or_default();
            told.extend(known.1.problems.iter().cloned());
        }
        for duplicate in duplicates {
            problems
                .entry(duplicate.place.file.clone())
                .or_default()
                .push(duplicate);
        }
        self.apply(desired, &mut seen.events);
        self.tell(problems, &mut seen.events);
        if self.first {
            seen.events.push(Event::Synced);
        }
        self.first = false;
        Ok(seen)
    }

    /// Forgets files that were missing twice; once may be a replacement under way.
    fn drop_missing(&mut self, found: &Found, seen: &mut Seen) {
        self.files.retain(|path, known| {
            if found.files.contains_key(path) {
                known.missing = false;
                return true;
            }
            if found
                .unreadable
                .iter()
                .any(|(directory, _)| path.starts_with(directory))
            {
                return true;
            }
            if !known.missing {
                seen.again_in(SETTLE);
            }
            !std::mem::replace(&mut known.missing, true)
        });
    }

    /// Reads a file if it may have changed.
    fn look_at(&mut self, path: PathBuf, stamp: Stamp, seen: &mut Seen) {
        let known = self.files.get(&path);
        if known.is_some_and(|known| known.stamp.as_ref() == Some(&stamp)) {
            return;
        }
        let now = SystemTime::now();
        let age = now.duration_since(stamp.modified).unwrap_or(Duration::MAX);
        let settle = match known {
            Some(known) if stamp.len == 0 && !known.entries.is_empty() => SETTLE_EMPTY,
            _ => SETTLE,
        };
        if !self.first && age < settle {
            seen.again_in(settle - age);
            return;
        }
        let content = match self.read(&path, &stamp) {
            Ok(content) => content,
            // Gone since it was listed: the next look will miss it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return seen.again_in(SETTLE),
            Err(error) => {
                let what = format!("cannot read this file: {error}");
                Content::Bad(what, "make it readable, or remove it", String::new())
            }
        };
        let known = self.files.entry(path.clone()).or_default();
        known.stamp = (age >= STAMP_GRAIN).then_some(stamp);
        let digest = digest(&content);
        if digest == known.digest {
            return;
        }
        known.digest = digest;
        let file = display(&path);
        let namespace = self.namespace.as_deref();
        let (parsed, bad) = match content {
            Content::Text(text) => (yaml::read(&file, &text, namespace), None),
            Content::Bad(what, remedy, text) => {
                let stays = "; what was last read from it stays in force";
                (
                    yaml::salvage(&file, &text, namespace, &what),
                    Some(problem(&path, what + stays, remedy)),
                )
            }
        };
        known.problems = bad.into_iter().chain(parsed.problems.iter().cloned()).collect();
        known.entries = merge(std::mem::take(&mut known.entries), parsed);
    }

    fn read(&self, path: &Path, stamp: &Stamp) -> io::Result<Content> {
        let mut bytes = Vec::with_capacity(usize::try_from(stamp.len.min(self.limit)).unwrap_or(0));
        // The file may have grown since it was listed.
        let size = File::open(path)?.take(self.limit + 1).read_to_end(&mut bytes)? as u64;
        if size > self.limit {
            let len = fs::metadata(path)?.len().max(size);
            let what = format!("this file has {len} bytes, more than the limit of {}", self.limit);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Content::Bad(what, "split it into several files", text));
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Content::Text(text),
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
                let what = format!("this file is not UTF-8 (line {line})");
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                Content::Bad(what, "save it as UTF-8", text)
            }
        })
    }

    /// Which entry of each name counts: the first in path order. The others are problems.
    fn resolve(&self) -> (BTreeMap<ResourceRef, Arc<Entry>>, Vec<Problem>) {
        let mut desired: BTreeMap<ResourceRef, Arc<Entry>> = BTreeMap::new();
        let mut duplicates = Vec::new();
        for entry in self.files.values().flat_map(|known| &known.entries) {
            let reference = entry.reference();
            if let Some(first) = desired.get(&reference) {
                let text = format!(
                    "{} is already defined at {}; this one at {} does not apply",
                    reference, first.place, entry.place
                );
                duplicates.push(entry.problem(Severity::Error, "", text, "remove one of the two"));
            } else {
                desired.insert(reference, entry.clone());
            }
        }
        (desired, duplicates)
    }

    fn apply(&mut self, desired: BTreeMap<ResourceRef, Arc<Entry>>, events: &mut Vec<Event>) {
        for (reference, entry) in &desired {
            if !self
                .applied
                .get(reference)
                .is_some_and(|applied| applied.is_same_text(entry))
            {
                events.push(Event::Apply(entry.clone()));
            }
        }
        for reference in self
            .applied
            .keys()
            .filter(|reference| !desired.contains_key(*reference))
        {
            events.push(Event::Delete(reference.clone()));
        }
        self.applied = desired;
    }

    fn tell(&mut self, problems: BTreeMap<Arc<str>, Vec<Problem>>, events: &mut Vec<Event>) {
        for file in self.told.keys().filter(|file| !problems.contains_key(*file)) {
            events.push(Event::Problems {
                file: file.clone(),
                problems: Vec::new(),
            });
        }
        for (file, problems) in &problems {
            let told = self.told.get(file).map_or(&[][..], Vec::as_slice);
            if told != problems.as_slice() {
                events.push(Event::Problems {
                    file: file.clone(),
                    problems: problems.clone(),
                });
            }
        }
        self.told = problems;
        self.told.retain(|_, problems| !problems.is_empty());
    }
}

fn digest(content: &Content) -> u64 {
    let mut hasher = DefaultHasher::new();
    match content {
        Content::Text(text) => hasher.write(text.as_bytes()),
        Content::Bad(what, _, text) => {
            hasher.write(what.as_bytes());
            hasher.write(text.as_bytes());
        }
    }
    // 0 is the digest of what was never read.
    hasher.finish().max(1)
}

fn display(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

fn problem(path: &Path, text: String, remedy: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        place: Place {
            file: display(path),
            line: 0,
            column: 0,
        },
        resource: None,
        field: String::new(),
        text,
        remedy: remedy.to_owned(),
    }
}
