//! One walk through the tree: which of the rules that may match is the first that does.

use http::HeaderMap;
use http::header::{GetAll, HeaderValue};
use serde_json::{Map, Value};

use super::Filed;
use super::key::Attribute;
use super::node::{Bucket, HeaderShelf, Node, Shelf};
use crate::policy::authz::facts::{Facts, Truth, any_text, join, target};

/// How many shelves for headers or claims are asked one by one. If there are more, what the request has is looked up
/// among them instead.
const FEW: usize = 8;

/// A search in progress.
pub(super) struct Search<'t, 'f, 'r> {
    rules: &'t [Filed],
    facts: &'f Facts<'r>,
    closes: bool,
    best: Option<(u32, Truth)>,
}

impl<'t, 'f, 'r> Search<'t, 'f, 'r> {
    pub(super) fn new(rules: &'t [Filed], facts: &'f Facts<'r>, closes: bool) -> Self {
        Self {
            rules,
            facts,
            closes,
            best: None,
        }
    }

    /// The position of the first rule that matched, and whether it surely did.
    pub(super) fn best(&self) -> Option<(u32, Truth)> {
        self.best
    }

    /// Asks every rule.
    pub(super) fn all(&mut self) {
        for position in 0..u32::try_from(self.rules.len()).unwrap_or(u32::MAX) {
            if self.rule(position) {
                return;
            }
        }
    }

    /// Asks those rules of a node that may match.
    pub(super) fn node(&mut self, node: &Node) {
        self.positions(&node.loose);
        for (condition, bucket) in &node.asked {
            if self.counts(self.facts.condition(condition, self.closes)) {
                self.bucket(bucket);
            }
        }
        for (attribute, shelf) in &node.texts {
            self.attribute(attribute, shelf);
        }
        for (attribute, blocks) in &node.blocks {
            let addr = match attribute {
                Attribute::SourceIp => self.facts.caller.addr,
                Attribute::RemoteIp => self.facts.caller.remote,
                _ => self.facts.destination.ip(),
            };
            blocks.each(addr, |bucket| self.bucket(bucket));
        }
        let Some(head) = self.facts.http else { return };
        if !node.headers.is_empty() {
            self.headers(node, head.headers);
        }
        if let (Some(claims), false) = (head.claims, node.claims.is_empty()) {
            self.claims(node, claims);
        }
    }

    fn counts(&self, truth: Truth) -> bool {
        truth == Truth::Yes || (self.closes && truth == Truth::Unknown)
    }

    /// Asks one rule unless an earlier one matched. Whether none that comes later need be asked.
    fn rule(&mut self, position: u32) -> bool {
        if self.best.is_some_and(|(best, _)| best <= position) {
            return true;
        }
        let Some(filed) = self.rules.get(position as usize) else {
            return true;
        };
        let truth = self.facts.rule(&filed.rule, self.closes);
        let found = self.counts(truth);
        if found {
            self.best = Some((position, truth));
        }
        found
    }

    fn positions(&mut self, positions: &[u32]) {
        for &position in positions {
            if self.rule(position) {
                return;
            }
        }
    }

    fn bucket(&mut self, bucket: &Bucket) {
        match bucket {
            Bucket::Few(positions) => self.positions(positions),
            Bucket::Many(node) => self.node(node),
        }
    }

    fn shelf(&mut self, shelf: &Shelf, text: &[u8]) {
        if let Some(bucket) = &shelf.present {
            self.bucket(bucket);
        }
        if !shelf.exact.is_empty()
            && let Some(bucket) = shelf.exact.get(text)
        {
            self.bucket(bucket);
        }
        for bucket in shelf.prefix.along(text) {
            self.bucket(bucket);
        }
        for bucket in shelf.suffix.along_reversed(text) {
            self.bucket(bucket);
        }
    }

    /// Looks up what the request has of an attribute that it has once.
    fn attribute(&mut self, attribute: &Attribute, shelf: &Shelf) {
        let facts = self.facts;
        let identity = facts.caller.identity;
        let text = match attribute {
            Attribute::Port => return self.shelf(shelf, &facts.destination.port().to_be_bytes()),
            Attribute::Target => {
                let Some(head) = facts.http else { return };
                return self.shelf(shelf, &target(head));
            }
            Attribute::Principal => identity.map(|id| id.principal()),
            Attribute::Account => identity.map(|id| id.account_path()),
            Attribute::Namespace => identity.map(|id| id.namespace()),
            Attribute::TrustDomain => identity.map(|id| id.trust_domain()),
            Attribute::Sni => Some(facts.sni),
            Attribute::Host => facts.http.map(|_| facts.host()),
            Attribute::Authority => facts.http.map(|head| head.authority),
            Attribute::Scheme => facts.http.map(|head| head.scheme),
            Attribute::Method => facts.http.map(|head| head.method.as_str()),
            Attribute::Path => facts.http.map(|head| head.path),
            Attribute::Segment(at) => facts.http.and_then(|head| head.path.split('/').nth(at + 1)),
            // They have shelves of their own kind.
            Attribute::SourceIp
            | Attribute::RemoteIp
            | Attribute::DestinationIp
            | Attribute::Header(_)
            | Attribute::Claim(_) => None,
        };
        if let Some(text) = text {
            self.shelf(shelf, text.as_bytes());
        }
    }

    fn headers(&mut self, node: &Node, headers: &HeaderMap) {
        if node.headers.len() <= FEW {
            for (name, shelf) in &node.headers {
                self.header(shelf, headers.get_all(name));
            }
            return;
        }
        for name in headers.keys() {
            if let Some(shelf) = node.headers.get(name) {
                self.header(shelf, headers.get_all(name));
            }
        }
    }

    /// Looks a header up as conditions compare it: joined, and where a match closes each line too.
    fn header(&mut self, shelf: &HeaderShelf, lines: GetAll<'_, HeaderValue>) {
        let mut each = lines.iter();
        let (Some(first), second) = (each.next(), each.next()) else {
            return;
        };
        let mut is_text = match second {
            None => self.line(shelf, first.as_bytes()),
            Some(_) => self.line(shelf, &join(&lines)),
        };
        if second.is_some() && self.closes {
            for line in &lines {
                is_text &= self.line(shelf, line.as_bytes());
            }
        }
        if !is_text && self.closes {
            self.bucket(&shelf.unclear);
        }
    }

    /// Looks a value up; whether it is a text.
    fn line(&mut self, shelf: &HeaderShelf, line: &[u8]) -> bool {
        let is_text = std::str::from_utf8(line).is_ok();
        if is_text {
            self.shelf(&shelf.shelf, line);
        } else if let Some(bucket) = &shelf.shelf.present {
            // That it is there needs no text.
            self.bucket(bucket);
        }
        is_text
    }

    fn claims(&mut self, node: &Node, claims: &Map<String, Value>) {
        if node.claims.len() <= FEW {
            for (path, shelf) in node.claims.values().flatten() {
                self.claim(shelf, claims, path);
            }
            return;
        }
        for name in claims.keys() {
            for (path, shelf) in node.claims.get(&**name).into_iter().flatten() {
                self.claim(shelf, claims, path);
            }
        }
    }

    fn claim(&mut self, shelf: &Shelf, claims: &Map<String, Value>, path: &[Box<str>]) {
        any_text(claims, path, |text| {
            self.shelf(shelf, text.as_bytes());
            false
        });
    }
}
