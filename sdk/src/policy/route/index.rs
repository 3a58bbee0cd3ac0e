//! The index over a table's alternatives: from host and path to the few that can match, best first.

use std::collections::HashMap;

use super::Found;
use super::bucket::Bucket;
use super::builder::{Alternative, Class};
use crate::matcher::{HostPattern, PathPattern, method_of};
use crate::policy::RequestHead;

/// By host. Since the host decides precedence before anything else, hosts are asked from the most specific to the
/// least and the first answer is the best.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: HashMap<Box<str>, Paths>,
    /// By suffix, its leading dot included.
    suffixes: HashMap<Box<str>, Paths>,
    any: Option<Paths>,
}

/// By path, within one host.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Bucket>,
    prefixes: Trie,
    /// gRPC methods of whatever service.
    methods: HashMap<Box<str>, Bucket>,
    /// Expressions, one after the other.
    regex: Vec<u32>,
    /// The best alternative that asks for nothing but the prefix `/`.
    catch_all: Option<u32>,
}

/// Prefixes by segment. Node 0 is the prefix `/`.
#[derive(Debug)]
struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    parent: u32,
    /// Bytes of the prefix that the node stands for.
    length: u32,
    children: HashMap<Box<str>, u32>,
    bucket: Bucket,
}

impl Index {
    /// Indexes alternatives that are in order of precedence.
    pub(super) fn new(alternatives: &[Alternative]) -> Self {
        let mut index = Self::default();
        for (rank, alternative) in alternatives.iter().enumerate() {
            let paths = match &alternative.host {
                HostPattern::Any => index.any.get_or_insert_default(),
                HostPattern::Suffix(suffix) => index.suffixes.entry(suffix.clone()).or_default(),
                HostPattern::Exact(host) => index.exact.entry(host.as_str().into()).or_default(),
            };
            paths.add(rank as u32, alternative);
        }
        index
    }

    /// The best alternative that holds. The host is in lower case, without port; empty if there is none.
    pub(super) fn find(
        &self,
        alternatives: &[Alternative],
        host: &str,
        head: &RequestHead<'_>,
    ) -> Option<Found> {
        let search = |paths: &Paths| paths.find(alternatives, head);
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(host).and_then(search)
        {
            return Some(found);
        }
        if !self.suffixes.is_empty() {
            // The first byte cannot be a suffix' dot: a wildcard stands for at least one label.
            for (dot, _) in host.match_indices('.').filter(|(at, _)| *at > 0) {
                if let Some(found) = self.suffixes.get(&host[dot..]).and_then(search) {
                    return Some(found);
                }
            }
        }
        self.any.as_ref().and_then(search)
    }
}

impl Paths {
    fn add(&mut self, rank: u32, alternative: &Alternative) {
        let predicates = &alternative.predicates;
        match (&predicates.path, predicates.class()) {
            (_, Class::CatchAll) => {
                self.catch_all.get_or_insert(rank);
            }
            (PathPattern::Exact(path), _) => {
                self.exact.entry(path.clone()).or_default().add(rank, alternative)
            }
            // Any other prefix matches nothing.
            (PathPattern::Prefix(prefix), _) if prefix.is_empty() || prefix.starts_with('/') => {
                self.prefixes.at(prefix).add(rank, alternative);
            }
            (PathPattern::Prefix(_), _) => {}
            (PathPattern::Method(method), _) => {
                let bucket = self.methods.entry(method.clone()).or_default();
                bucket.add(rank, alternative);
            }
            (PathPattern::Regex(_), _) => self.regex.push(rank),
        }
    }

    fn find(&self, alternatives: &[Alternative], head: &RequestHead<'_>) -> Option<Found> {
        let path = head.path;
        let found = |alternative: &Alternative, matched| Found {
            rule: alternative.rule,
            matched,
        };
        let exact = self
            .exact
            .get(path)
            .and_then(|bucket| bucket.find(alternatives, head));
        if let Some(alternative) = exact {
            return Some(found(alternative, path.len()));
        }
        for node in self.prefixes.along(path) {
            if node.length == 0
                && let Some(alternative) = self.by_method(alternatives, head)
            {
                return Some(found(alternative, path.len()));
            }
            if let Some(alternative) = node.bucket.find(alternatives, head) {
                return Some(found(alternative, node.length as usize));
            }
        }
        let mut expressions = self
            .regex
            .iter()
            .filter_map(|rank| alternatives.get(*rank as usize));
        // The cheap predicates first, the expression last.
        let expression = expressions.find(|alternative| {
            let predicates = &alternative.predicates;
            predicates.rest_holds(head) && predicates.path.matches(path).is_some()
        });
        if let Some(alternative) = expression {
            return Some(found(alternative, path.len()));
        }
        let alternative = alternatives.get(self.catch_all? as usize)?;
        path.starts_with('/').then(|| found(alternative, 0))
    }

    fn by_method<'a>(
        &self,
        alternatives: &'a [Alternative],
        head: &RequestHead<'_>,
    ) -> Option<&'a Alternative> {
        if self.methods.is_empty() {
            return None;
        }
        let bucket = self.methods.get(method_of(head.path)?)?;
        bucket.find(alternatives, head)
    }
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }
}

impl Trie {
    /// The bucket of a prefix (without trailing slash), made if need be.
    fn at(&mut self, prefix: &str) -> &mut Bucket {
        let mut at = 0_u32;
        let mut length = 0_u32;
        // What comes before the first slash is empty.
        for segment in prefix.split('/').skip(1) {
            length += segment.len() as u32 + 1;
            let next = self.nodes.len() as u32;
            let child = *self.nodes[at as usize]
                .children
                .entry(segment.into())
                .or_insert(next);
            if child == next {
                self.nodes.push(Node {
                    parent: at,
                    length,
                    ..Node::default()
                });
            }
            at = child;
        }
        &mut self.nodes[at as usize].bucket
    }

    /// The prefixes of a path, longest first.
    fn along<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a Node> + use<'a> {
        let deepest = path.strip_prefix('/').map(|rest| {
            let mut at = 0_u32;
            for segment in rest.split('/') {
                match self.nodes[at as usize].children.get(segment) {
                    Some(child) => at = *child,
                    None => break,
                }
            }
            at
        });
        std::iter::successors(deepest, |at| (*at != 0).then(|| self.nodes[*at as usize].parent))
            .map(|at| &self.nodes[at as usize])
    }
}
