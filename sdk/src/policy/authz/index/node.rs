//! The tree that rules are filed in.

use std::collections::HashMap;

use http::HeaderName;
use smallvec::SmallVec;

use super::key::{Attribute, Form};
use crate::matcher::{BlockMap, PrefixMap};
use crate::policy::authz::rule::Condition;

/// Rules by what a request must have. Rules are told by their positions, which ascend wherever several stand together.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Rules that are asked whatever the request has.
    pub(super) loose: Box<[u32]>,
    /// Rules behind conditions that are asked.
    pub(super) asked: Vec<(Condition, Bucket)>,
    /// Texts that a request or connection has one of.
    pub(super) texts: Vec<(Attribute, Shelf)>,
    pub(super) blocks: Vec<(Attribute, BlockMap<Bucket>)>,
    pub(super) headers: HashMap<HeaderName, HeaderShelf>,
    /// By the first of the keys that lead to a claim.
    pub(super) claims: HashMap<Box<str>, Vec<(ClaimPath, Shelf)>>,
}

/// The keys that lead to a claim.
pub(super) type ClaimPath = Vec<Box<str>>;

/// What is filed under one key.
#[derive(Debug)]
pub(super) enum Bucket {
    Few(SmallVec<[u32; 2]>),
    Many(Box<Node>),
}

/// The texts of one attribute.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) exact: HashMap<Box<[u8]>, Bucket>,
    pub(super) prefix: PrefixMap<Bucket>,
    /// By reversed suffix.
    pub(super) suffix: PrefixMap<Bucket>,
    pub(super) present: Option<Bucket>,
}

/// The values of one header.
#[derive(Debug)]
pub(super) struct HeaderShelf {
    pub(super) shelf: Shelf,
    /// All rules of the shelf, by what else they ask for: for a header that is no text.
    pub(super) unclear: Bucket,
}

/// A shelf while it is being filled.
#[derive(Debug, Default)]
pub(super) struct OpenShelf {
    exact: HashMap<Box<[u8]>, Bucket>,
    prefix: Vec<(Box<[u8]>, Bucket)>,
    suffix: Vec<(Box<[u8]>, Bucket)>,
    present: Option<Bucket>,
}

impl Node {
    /// Whether the node distinguishes anything.
    pub(super) fn is_flat(&self) -> bool {
        self.asked.is_empty()
            && self.texts.is_empty()
            && self.blocks.is_empty()
            && self.headers.is_empty()
            && self.claims.is_empty()
    }
}

impl OpenShelf {
    /// Files a bucket; each key comes once.
    pub(super) fn put(&mut self, form: Form, mut text: Box<[u8]>, bucket: Bucket) {
        match form {
            Form::Exact => {
                self.exact.insert(text, bucket);
            }
            Form::Prefix => self.prefix.push((text, bucket)),
            Form::Suffix => {
                text.reverse();
                self.suffix.push((text, bucket));
            }
            Form::Present => self.present = Some(bucket),
        }
    }

    pub(super) fn close(self) -> Shelf {
        Shelf {
            exact: self.exact,
            prefix: self.prefix.into_iter().collect(),
            suffix: self.suffix.into_iter().collect(),
            present: self.present,
        }
    }
}
