//! Entries that share a path: told apart by the value of a header (or parameter, method, authority) they ask for.

use std::collections::HashMap;

use http::HeaderName;

use super::trie::Texts;
use super::{Condition, Entry, Subject};
use crate::matcher::{ValuePattern, parameters, with_joined_bytes};
use crate::policy::RequestHead;

/// Positions in the list, ascending.
type Ranks = Vec<u32>;

/// So few entries are looked at one after the other.
const FEW: usize = 8;

/// Entries that share a path. Those that ask for a value are looked up by it, so that thousands of entries that
/// differ in a tenant's name cost as much as one.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    headers: HashMap<HeaderName, Values>,
    parameters: HashMap<Box<str>, Values>,
    methods: Values,
    authorities: Values,
    /// Those that ask for no value, or cannot be looked up by it.
    rest: Ranks,
}

/// Entries by the value they ask for.
type Values = Texts<Ranks>;

/// How an entry can be looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key<'a> {
    subject: &'a Subject,
    text: &'a str,
    is_prefix: bool,
}

impl<'a> Key<'a> {
    fn of(condition: &'a Condition) -> Option<Self> {
        let (text, is_prefix) = match &condition.value {
            ValuePattern::Exact(text) => (text, false),
            ValuePattern::Prefix(text) => (text, true),
            ValuePattern::Any | ValuePattern::Regex(_) => return None,
        };
        let looked_up = !matches!(
            condition.subject,
            Subject::Scheme | Subject::Target | Subject::Claim(_)
        );
        (looked_up && !condition.negated).then_some(Self {
            subject: &condition.subject,
            text,
            is_prefix,
        })
    }
}

impl Bucket {
    /// Files entries, each under the value that the fewest of them share.
    pub(super) fn new(ranks: Ranks, entries: &[Entry]) -> Self {
        if ranks.len() <= FEW {
            return Self {
                rest: ranks,
                ..Self::default()
            };
        }
        let keys = |rank: u32| {
            let others = entries.get(rank as usize).map(|it| &*it.conditions.others);
            others.unwrap_or_default().iter().filter_map(Key::of)
        };
        let mut shared: HashMap<Key<'_>, usize> = HashMap::new();
        for key in ranks.iter().flat_map(|rank| keys(*rank)) {
            *shared.entry(key).or_default() += 1;
        }
        let mut bucket = Self::default();
        for rank in ranks {
            let key = keys(rank).min_by_key(|key| (shared.get(key), key.is_prefix));
            bucket.slot(key).push(rank);
        }
        bucket
    }

    fn slot(&mut self, key: Option<Key<'_>>) -> &mut Ranks {
        let Some(key) = key else { return &mut self.rest };
        let values = match key.subject {
            Subject::Header(name) => self.headers.entry(name.clone()).or_default(),
            Subject::Query(name) => self.parameters.entry(name.clone()).or_default(),
            Subject::Method => &mut self.methods,
            Subject::Authority => &mut self.authorities,
            Subject::Scheme | Subject::Target | Subject::Claim(_) => return &mut self.rest,
        };
        if key.is_prefix {
            values.prefix(key.text)
        } else {
            values.exact(key.text)
        }
    }

    /// Lowers `best` to the first entry that holds, if that is before it.
    pub(super) fn lower(&self, entries: &[Entry], head: &RequestHead<'_>, best: &mut u32) {
        let mut consider = |ranks: &Ranks| {
            for rank in ranks.iter().take_while(|rank| **rank < *best) {
                let holds = |it: &Entry| it.conditions.hold(head);
                if entries.get(*rank as usize).is_some_and(holds) {
                    *best = *rank;
                    return;
                }
            }
        };
        consider(&self.rest);
        self.methods.of(head.method.as_str().as_bytes(), &mut consider);
        self.authorities.of(head.authority.as_bytes(), &mut consider);
        let mut header = |name: &HeaderName, values: &Values| {
            with_joined_bytes(head.headers, name, |value| values.of(value, &mut consider));
        };
        // Whichever are fewer: the names that the entries ask for, or those that the request has.
        if self.headers.len() <= head.headers.keys_len() {
            self.headers
                .iter()
                .for_each(|(name, values)| header(name, values));
        } else {
            for name in head.headers.keys() {
                if let Some(values) = self.headers.get(name) {
                    header(name, values);
                }
            }
        }
        if !self.parameters.is_empty() {
            // Of several parameters of a name only the first counts; the others' entries do not hold.
            for (name, value) in parameters(head.query) {
                if let Some(values) = self.parameters.get(name) {
                    values.of(value.as_bytes(), &mut consider);
                }
            }
        }
    }
}
