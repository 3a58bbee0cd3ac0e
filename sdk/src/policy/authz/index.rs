//! Rules filed under the rarest key that a request must have to match them.
//!
//! A key is an attribute with a text that it must equal, start with or end with. A clause whose every alternative
//! demands such a text offers a *cover*: a request with none of the cover's keys cannot match. Each rule is filed
//! under its cheapest cover, which is the one whose keys the fewest rules share; rules without a cover (only
//! negations, addresses, presence) stay in the residue and are asked each time.

use std::collections::HashMap;

use super::engine::RuleRef;
use super::facts::{Facts, Truth};
use super::rule::{AuthzRule, Condition, Test};
use crate::matcher::TextSet;

/// What a key is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Attribute {
    Principal,
    Account,
    Path,
    Host,
    Namespace,
    Sni,
    Port,
    Method,
    TrustDomain,
}

impl Attribute {
    fn is_of_requests(self) -> bool {
        matches!(self, Self::Path | Self::Host | Self::Method)
    }
}

/// How a key is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Form {
    Exact,
    Prefix,
    Suffix,
}

type Key = (Attribute, Form, Box<[u8]>);

/// A rule and where it is from.
#[derive(Debug)]
struct Filed {
    rule: AuthzRule,
    by: RuleRef,
}

/// The rules of one action.
#[derive(Debug, Default)]
pub(super) struct Table {
    rules: Vec<Filed>,
    shelves: Vec<(Attribute, Shelf)>,
    residue: Vec<u32>,
    wants_host: bool,
}

/// The rules filed under one attribute, by positions in `Table::rules` that ascend.
#[derive(Debug, Default)]
struct Shelf {
    exact: HashMap<Box<[u8]>, Vec<u32>>,
    prefix: Lengths,
    suffix: Lengths,
}

/// Keys by length, so that a text is asked once per length that occurs.
#[derive(Debug, Default)]
struct Lengths {
    lengths: Vec<usize>,
    keys: HashMap<Box<[u8]>, Vec<u32>>,
}

impl Table {
    pub(super) fn new(rules: Vec<(RuleRef, AuthzRule)>) -> Self {
        // A clause without alternatives never matches, so neither does its rule.
        let alive =
            |(_, rule): &(RuleRef, AuthzRule)| rule.clauses.iter().all(|clause| !clause.any.is_empty());
        let rules = rules
            .into_iter()
            .filter(alive)
            .map(|(by, rule)| Filed { rule, by })
            .collect();
        let mut table = Self {
            rules,
            ..Self::default()
        };
        table.file();
        table
    }

    fn file(&mut self) {
        let mut shared: HashMap<Key, u32> = HashMap::new();
        for condition in self.rules.iter().flat_map(|filed| conditions(&filed.rule)) {
            self.wants_host |= matches!(condition.test, Test::Host(_));
            for key in cover_of(condition).unwrap_or_default() {
                *shared.entry(key).or_default() += 1;
            }
        }
        for (position, filed) in self.rules.iter().enumerate() {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            match cheapest_cover(&filed.rule, &shared) {
                None => self.residue.push(position),
                Some(cover) => {
                    for (attribute, form, text) in cover {
                        shelf(&mut self.shelves, attribute).put(form, text, position);
                    }
                }
            }
        }
        for (_, shelf) in &mut self.shelves {
            shelf.settle();
        }
        self.shelves.sort_by_key(|(attribute, _)| *attribute);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn wants_host(&self) -> bool {
        self.wants_host
    }

    /// The first rule that matches. Where a match `closes`, one that cannot be judged counts as matching.
    pub(super) fn find(&self, facts: &Facts<'_>, closes: bool) -> Option<(&RuleRef, Truth)> {
        let mut best: Option<(u32, Truth)> = None;
        let mut ask = |positions: &[u32]| {
            for &position in positions {
                if best.is_some_and(|(best, _)| best <= position) {
                    return;
                }
                let Some(filed) = self.rules.get(position as usize) else {
                    return;
                };
                let truth = facts.rule(&filed.rule, closes);
                if truth == Truth::Yes || (closes && truth == Truth::Unknown) {
                    best = Some((position, truth));
                    return;
                }
            }
        };
        ask(&self.residue);
        for (attribute, shelf) in &self.shelves {
            let port;
            let text = match attribute {
                Attribute::Port => {
                    port = facts.destination.port().to_be_bytes();
                    Some(&port[..])
                }
                _ => text_of(facts, *attribute).map(str::as_bytes),
            };
            match text {
                Some(text) => shelf.each(text, &mut ask),
                // Rules for requests, asked of a connection, cannot be judged; passing over them could open.
                None if attribute.is_of_requests() && facts.http.is_none() => shelf.all(&mut ask),
                None => {}
            }
        }
        let (position, truth) = best?;
        self.rules.get(position as usize).map(|filed| (&filed.by, truth))
    }
}

impl Shelf {
    fn put(&mut self, form: Form, text: Box<[u8]>, position: u32) {
        let positions = match form {
            Form::Exact => self.exact.entry(text),
            Form::Prefix => self.prefix.entry(text),
            Form::Suffix => self.suffix.entry(text),
        };
        let positions = positions.or_default();
        if positions.last() != Some(&position) {
            positions.push(position);
        }
    }

    fn settle(&mut self) {
        self.prefix.settle();
        self.suffix.settle();
    }

    fn all(&self, ask: &mut impl FnMut(&[u32])) {
        let keyed = self
            .exact
            .values()
            .chain(self.prefix.keys.values())
            .chain(self.suffix.keys.values());
        for positions in keyed {
            ask(positions);
        }
    }

    fn each(&self, text: &[u8], ask: &mut impl FnMut(&[u32])) {
        if !self.exact.is_empty()
            && let Some(positions) = self.exact.get(text)
        {
            ask(positions);
        }
        for &length in self
            .prefix
            .lengths
            .iter()
            .take_while(|length| **length <= text.len())
        {
            if let Some(positions) = self.prefix.keys.get(&text[..length]) {
                ask(positions);
            }
        }
        for &length in self
            .suffix
            .lengths
            .iter()
            .take_while(|length| **length <= text.len())
        {
            if let Some(positions) = self.suffix.keys.get(&text[text.len() - length..]) {
                ask(positions);
            }
        }
    }
}

impl Lengths {
    fn entry(&mut self, text: Box<[u8]>) -> std::collections::hash_map::Entry<'_, Box<[u8]>, Vec<u32>> {
        self.keys.entry(text)
    }

    fn settle(&mut self) {
        self.lengths = self.keys.keys().map(|key| key.len()).collect();
        self.lengths.sort_unstable();
        self.lengths.dedup();
    }
}

fn shelf(shelves: &mut Vec<(Attribute, Shelf)>, attribute: Attribute) -> &mut Shelf {
    let at = shelves
        .iter()
        .position(|(have, _)| *have == attribute)
        .unwrap_or_else(|| {
            shelves.push((attribute, Shelf::default()));
            shelves.len() - 1
        });
    &mut shelves[at].1
}

fn conditions(rule: &AuthzRule) -> impl Iterator<Item = &Condition> {
    rule.clauses.iter().flat_map(|clause| clause.any.iter().flatten())
}

/// The cover whose keys the fewest rules share; among equals the one that is cheaper to look up.
fn cheapest_cover(rule: &AuthzRule, shared: &HashMap<Key, u32>) -> Option<Vec<Key>> {
    let cost = |cover: &[Key]| {
        let crowd = cover
            .iter()
            .map(|key| shared.get(key).copied().unwrap_or(0))
            .max()
            .unwrap_or(0);
        let dearest = cover.iter().map(|(attribute, form, _)| (*form, *attribute)).max();
        (u64::from(crowd), cover.len(), dearest)
    };
    rule.clauses
        .iter()
        .filter_map(|clause| {
            let mut keys = Vec::new();
            for alternative in &clause.any {
                let covers = alternative.iter().filter_map(cover_of);
                keys.extend(covers.min_by_key(|cover| cost(cover))?);
            }
            Some(keys)
        })
        .min_by_key(|cover| cost(cover))
}

/// Keys of which a request has at least one if it satisfies the condition.
fn cover_of(condition: &Condition) -> Option<Vec<Key>> {
    if condition.negated {
        return None;
    }
    let mut keys = match &condition.test {
        Test::Principal(values) => texts(Attribute::Principal, values)?,
        Test::Namespace { names, globs } if globs.is_empty() => texts(Attribute::Namespace, names)?,
        Test::TrustDomain(values) => texts(Attribute::TrustDomain, values)?,
        Test::Host(values) => texts(Attribute::Host, values)?,
        Test::Method(values) => texts(Attribute::Method, values)?,
        Test::Path { values, .. } => texts(Attribute::Path, values)?,
        Test::Sni(values) => texts(Attribute::Sni, values)?,
        Test::ServiceAccount(accounts) => accounts
            .iter()
            .map(|(ns, sa)| key(Attribute::Account, Form::Exact, &format!("/ns/{ns}/sa/{sa}")))
            .collect(),
        Test::Port(ports) => ports
            .iter()
            .map(|port| (Attribute::Port, Form::Exact, port.to_be_bytes().into()))
            .collect(),
        _ => return None,
    };
    if let Test::Path { templates, .. } = &condition.test {
        keys.extend(
            templates
                .iter()
                .map(|one| key(Attribute::Path, Form::Prefix, one.prefix())),
        );
    }
    Some(keys)
}

fn texts(attribute: Attribute, values: &TextSet) -> Option<Vec<Key>> {
    if values.has_present() {
        return None;
    }
    let exact = values.exact().map(|text| key(attribute, Form::Exact, text));
    let prefix = values.prefixes().map(|text| key(attribute, Form::Prefix, text));
    let suffix = values.suffixes().map(|text| key(attribute, Form::Suffix, text));
    Some(exact.chain(prefix).chain(suffix).collect())
}

fn key(attribute: Attribute, form: Form, text: &str) -> Key {
    (attribute, form, text.as_bytes().into())
}

/// The text that keys of the attribute are compared with; `None` where the request has none.
fn text_of<'f>(facts: &'f Facts<'_>, attribute: Attribute) -> Option<&'f str> {
    let identity = facts.caller.identity;
    match attribute {
        Attribute::Principal => identity.map(|id| id.principal()),
        Attribute::Account => identity.map(|id| id.account_path()),
        Attribute::Namespace => identity.map(|id| id.namespace()),
        Attribute::TrustDomain => identity.map(|id| id.trust_domain()),
        Attribute::Path => facts.http.map(|head| head.path),
        Attribute::Host => facts.http.map(|_| facts.host()),
        Attribute::Method => facts.http.map(|head| head.method.as_str()),
        Attribute::Sni => Some(facts.sni),
        Attribute::Port => None,
    }
}
