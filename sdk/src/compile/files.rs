//! Files that resources name: certificates and keys on this machine.
//!
//! Compile reads none of them. It says which it needs, and is told what is in them with the next [`Handover`], as with
//! names in DNS.
//!
//! [`Handover`]: super::Handover

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What is in files, or why that cannot be told, as far as it is known.
pub type Contents = BTreeMap<Box<str>, Result<Content, Arc<str>>>;

/// What is in a file. `Debug` does not show it: it may be a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Arc<[u8]>);

impl Content {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The files that one compile asks for.
#[derive(Debug)]
pub(crate) struct Files<'h> {
    known: &'h Contents,
    asked: RefCell<BTreeSet<Box<str>>>,
}

/// Why the content of a file cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Nobody has looked yet: there will be another compile.
    Unasked,
    /// It cannot be read.
    Unreadable(String),
}

impl<'h> Files<'h> {
    pub(crate) fn new(known: &'h Contents) -> Self {
        Self {
            known,
            asked: RefCell::default(),
        }
    }

    /// What is in a file.
    pub(crate) fn get(&self, path: &str) -> Result<&'h [u8], Unread> {
        self.asked.borrow_mut().insert(path.into());
        match self.known.get(path) {
            None => Err(Unread::Unasked),
            Some(Ok(content)) => Ok(content.as_bytes()),
            Some(Err(why)) => Err(Unread::Unreadable(format!("{path} cannot be read: {why}"))),
        }
    }

    /// All that were asked for.
    pub(crate) fn into_asked(self) -> BTreeSet<Box<str>> {
        self.asked.into_inner()
    }
}
