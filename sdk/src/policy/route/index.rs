//! The index over a table's alternatives: from host and path to the few that can match, best first.

use std::collections::HashMap;

use super::Found;
use super::bucket::{Bucket, Filed, Key, Of, Ranks};
use super::builder::{Alternative, Class, Predicates};
use super::expressions::{Expressions, ExpressionsBuilder};
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
struct Paths<T = Bucket, E = Expressions<Bucket>> {
    exact: HashMap<Box<str>, T>,
    prefixes: Trie<T>,
    /// gRPC methods of whatever service.
    methods: HashMap<Box<str>, T>,
    expressions: E,
    /// The best alternative that asks for nothing but the prefix `/`.
    catch_all: Option<u32>,
}

/// Prefixes by segment. Node 0 is the prefix `/`.
#[derive(Debug)]
struct Trie<T> {
    nodes: Vec<Node<T>>,
}

#[derive(Debug, Default)]
struct Node<T> {
    parent: u32,
    /// Bytes of the prefix that the node stands for.
    length: u32,
    children: HashMap<Box<str>, u32>,
    value: T,
}

impl Filed for Alternative {
    fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        let Predicates {
            method,
            headers,
            query,
            ..
        } = &*self.predicates;
        let method = method.iter().map(|it| Key::method(it.as_str()));
        let headers = headers
            .iter()
            .filter_map(|it| Key::new(Of::Header(&it.name), &it.value));
        let query = query
            .iter()
            .filter_map(|it| Key::new(Of::Parameter(&it.name), &it.value));
        method.chain(headers).chain(query)
    }

    fn holds(&self, head: &RequestHead<'_>) -> bool {
        // The cheap predicates first, the expression last.
        self.predicates.rest_holds(head)
            && match &self.predicates.path {
                PathPattern::Regex(regex) => regex.is_match(head.path),
                // The way here was the path.
                _ => true,
            }
    }
}

impl Index {
    /// Indexes alternatives that are in order of precedence.
    pub(super) fn new(alternatives: &[Alternative]) -> Self {
        let mut by_host: HashMap<&HostPattern, Draft<'_>> = HashMap::new();
        for (rank, alternative) in alternatives.iter().enumerate() {
            let paths = by_host.entry(&alternative.host).or_default();
            paths.add(rank as u32, alternative);
        }
        let mut index = Self::default();
        for (host, paths) in by_host {
            let paths = paths.build(|ranks| Bucket::new(ranks, alternatives));
            match host {
                HostPattern::Any => index.any = Some(paths),
                HostPattern::Suffix(suffix) => {
                    index.suffixes.insert(suffix.clone(), paths);
                }
                HostPattern::Exact(host) => {
                    index.exact.insert(host.as_str().into(), paths);
                }
            }
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

/// Paths, while they are collected.
type Draft<'a> = Paths<Ranks, ExpressionsBuilder<'a>>;

impl<'a> Draft<'a> {
    fn add(&mut self, rank: u32, alternative: &'a Alternative) {
        let predicates = &alternative.predicates;
        let slot = match (&predicates.path, predicates.class()) {
            (_, Class::CatchAll) => {
                self.catch_all.get_or_insert(rank);
                return;
            }
            (PathPattern::Exact(path), _) => self.exact.entry(path.clone()).or_default(),
            (PathPattern::Prefix(prefix), _) if prefix.is_empty() || prefix.starts_with('/') => {
                self.prefixes.at(prefix)
            }
            // Any other prefix matches nothing.
            (PathPattern::Prefix(_), _) => return,
            (PathPattern::Method(method), _) => self.methods.entry(method.clone()).or_default(),
            (PathPattern::Regex(regex), _) => return self.expressions.add(rank, regex),
        };
        slot.push(rank);
    }

    fn build(self, to: impl Fn(Ranks) -> Bucket) -> Paths {
        let each = |map: HashMap<_, _>| map.into_iter().map(|(key, ranks)| (key, to(ranks))).collect();
        Paths {
            exact: each(self.exact),
            methods: each(self.methods),
            prefixes: self.prefixes.map(&to),
            expressions: self.expressions.build(&to),
            catch_all: self.catch_all,
        }
    }
}

impl Paths {
    fn find(&self, alternatives: &[Alternative], head: &RequestHead<'_>) -> Option<Found> {
        let path = head.path;
        let found = |rank: u32, matched| {
            let rule = alternatives.get(rank as usize)?.rule;
            Some(Found { rule, matched })
        };
        let best = |bucket: &Bucket| {
            let mut best = NONE;
            bucket.lower(alternatives, head, &mut best);
            (best != NONE).then_some(best)
        };
        if let Some(rank) = self.exact.get(path).and_then(best) {
            return found(rank, path.len());
        }
        for node in self.prefixes.along(path) {
            if node.length == 0
                && let Some(rank) = self.method(path).and_then(best)
            {
                return found(rank, path.len());
            }
            if let Some(rank) = best(&node.value) {
                return found(rank, node.length as usize);
            }
        }
        let mut expression = NONE;
        self.expressions.of(path.as_bytes(), |bucket| {
            bucket.lower(alternatives, head, &mut expression);
        });
        if expression != NONE {
            return found(expression, path.len());
        }
        let rank = self.catch_all.filter(|_| path.starts_with('/'))?;
        found(rank, 0)
    }

    fn method(&self, path: &str) -> Option<&Bucket> {
        if self.methods.is_empty() {
            return None;
        }
        self.methods.get(method_of(path)?)
    }
}

/// Nothing has this rank.
const NONE: u32 = u32::MAX;

impl<T: Default> Default for Trie<T> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }
}

impl<T: Default> Trie<T> {
    /// What a prefix (without trailing slash) has, made if need be.
    fn at(&mut self, prefix: &str) -> &mut T {
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
        &mut self.nodes[at as usize].value
    }
}

impl<T> Trie<T> {
    /// The same prefixes with other values.
    fn map<U>(self, to: impl Fn(T) -> U) -> Trie<U> {
        let node = |it: Node<T>| Node {
            parent: it.parent,
            length: it.length,
            children: it.children,
            value: to(it.value),
        };
        Trie {
            nodes: self.nodes.into_iter().map(node).collect(),
        }
    }

    /// The prefixes of a path, longest first.
    fn along<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a Node<T>> + use<'a, T> {
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
