//! A resource together with where it was written.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use super::node::{Mark, Node};
use super::{Place, Problem, Resource, Severity};
use crate::name::ResourceRef;

/// A resource as it was written, with the place of each of its fields.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The resource. Of a broken one only what tells to whom it applies can be relied on.
    pub resource: Resource,
    /// Where it begins.
    pub place: Place,
    /// Why a security policy cannot be enforced as written: whoever it applies to must be denied.
    pub broken: Option<String>,
    origin: Arc<Document>,
    /// Where in the document the resource is: empty, or `items[3]` in a List.
    within: String,
    hash: u64,
}

impl Entry {
    /// A resource that was not read from a file: for memory sources and tests.
    pub fn from_resource(resource: Resource, file: &str) -> Self {
        let origin = Arc::new(Document::new(file.into(), 0, ""));
        Self::new(resource, None, origin, String::new(), Mark::default())
    }

    pub(super) fn new(
        resource: Resource,
        broken: Option<String>,
        origin: Arc<Document>,
        within: String,
        at: Mark,
    ) -> Self {
        let mut digest = Digest(DefaultHasher::new());
        // Neither the digest nor derived Debug implementations fail.
        let _ = write!(digest, "{resource:?}{broken:?}");
        // Which `Debug` does not show.
        if let Resource::Secret(secret) = &resource {
            secret.entries().for_each(|entry| entry.hash(&mut digest.0));
        }
        if let Resource::ConfigMap(map) = &resource {
            let blobs = map.binary_data.values();
            blobs.for_each(|blob| blob.as_bytes().hash(&mut digest.0));
        }
        Self {
            place: origin.place(at),
            resource,
            broken,
            origin,
            within,
            hash: digest.0.finish(),
        }
    }

    /// The resource's name among all resources.
    pub fn reference(&self) -> ResourceRef {
        self.resource.reference()
    }

    /// Where a field stands, given as a dotted path such as `spec.rules[0].matches[1].path.type`; where its
    /// nearest known parent stands if the field itself was not written.
    pub fn place_of(&self, field: &str) -> Place {
        let path = match (&*self.within, field) {
            (_, "") => return self.place.clone(),
            ("", field) => field.to_owned(),
            (within, field) => format!("{within}.{field}"),
        };
        match self.origin.tree().map(|tree| tree.find(&path)) {
            Some(at) if at.line > 0 => self.origin.place(at),
            _ => self.place.clone(),
        }
    }

    /// A problem with a field of this resource.
    pub fn problem(
        &self,
        severity: Severity,
        field: impl AsRef<str>,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Problem {
        let field = field.as_ref();
        Problem {
            severity,
            place: self.place_of(field),
            resource: Some(self.reference()),
            field: field.to_owned(),
            text: text.into(),
            remedy: remedy.into(),
        }
    }

    /// A digest of what the resource says, wherever and however it is written.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The document that it was read from, if it can be read.
    pub(super) fn tree(&self) -> Option<&Node> {
        self.origin.tree()
    }

    /// How long that document is.
    pub(super) fn document_length(&self) -> usize {
        self.origin.text.len()
    }

    /// Where in that document it is.
    pub(super) fn within(&self) -> &str {
        &self.within
    }

    /// Whether this is a policy whose own name could not be read.
    pub(crate) fn is_unnamed(&self) -> bool {
        // No valid name holds a parenthesis.
        self.resource.metadata().name.starts_with('(')
    }

    /// Whether the other entry is written in the same words at the same place.
    pub(crate) fn is_same_text(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.place == other.place
            && self.within == other.within
            && self.origin.digest == other.origin.digest
    }
}

/// The text that resources were read from. `Debug` does not show it: there may be a Secret in it.
pub(super) struct Document {
    pub(super) file: Arc<str>,
    /// Lines of the file before the text.
    offset: u32,
    text: Box<str>,
    digest: u64,
    /// Places are asked for only when there is a problem, so they are found again then instead of being kept.
    tree: OnceLock<Option<Node>>,
}

impl Document {
    pub(super) fn new(file: Arc<str>, offset: u32, text: &str) -> Self {
        let mut digest = DefaultHasher::new();
        digest.write(text.as_bytes());
        Self {
            file,
            offset,
            text: text.into(),
            digest: digest.finish(),
            tree: OnceLock::new(),
        }
    }

    /// The place in the file of a position in the text.
    pub(super) fn place(&self, at: Mark) -> Place {
        let line = match at.line {
            0 => 0,
            line => line.saturating_add(self.offset),
        };
        Place {
            file: self.file.clone(),
            line,
            column: at.column,
        }
    }

    fn tree(&self) -> Option<&Node> {
        self.tree
            .get_or_init(|| Node::parse(&self.text).ok().filter(|_| !self.text.is_empty()))
            .as_ref()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("file", &self.file)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

struct Digest(DefaultHasher);

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
