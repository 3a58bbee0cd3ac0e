//! Alternatives that share a path: told apart by the header value they ask for, where they ask for one.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName};

use super::builder::Alternative;
use crate::matcher::{ValuePattern, with_joined};
use crate::policy::RequestHead;

/// Ranks of alternatives, ascending: best first.
type Ranks = Vec<u32>;

/// Alternatives that share a host and a path. Those that ask for an exact header value are looked up by it, so
/// that thousands of rules that differ in a tenant's name cost as much as one.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    by_header: HashMap<HeaderName, HashMap<Box<str>, Ranks>>,
    /// Those that ask for no header, or not for an exact value.
    rest: Ranks,
}

impl Bucket {
    /// Adds an alternative; in order of precedence.
    pub(super) fn add(&mut self, rank: u32, alternative: &Alternative) {
        let key = alternative
            .predicates
            .headers
            .iter()
            .find_map(|header| match &header.value {
                ValuePattern::Exact(value) => Some((header.name.clone(), value.clone())),
                _ => None,
            });
        let ranks = match key {
            Some((name, value)) => self.by_header.entry(name).or_default().entry(value).or_default(),
            None => &mut self.rest,
        };
        ranks.push(rank);
    }

    /// The best alternative whose predicates besides host and path hold.
    pub(super) fn find<'a>(
        &self,
        alternatives: &'a [Alternative],
        head: &RequestHead<'_>,
    ) -> Option<&'a Alternative> {
        let first = |ranks: &Ranks| {
            ranks.iter().copied().find(|rank| {
                let alternative = alternatives.get(*rank as usize);
                alternative.is_some_and(|alternative| alternative.predicates.rest_holds(head))
            })
        };
        let mut best = first(&self.rest);
        let mut consider = |ranks: Option<&Ranks>| {
            if let Some(rank) = ranks.and_then(first) {
                best = Some(best.map_or(rank, |best| best.min(rank)));
            }
        };
        // Whichever are fewer: the names that the rules ask for, or those that the request has.
        if self.by_header.len() <= head.headers.keys_len() {
            for (name, values) in &self.by_header {
                consider(by_value(values, name, head.headers));
            }
        } else {
            for name in head.headers.keys() {
                let values = self.by_header.get(name);
                consider(values.and_then(|values| by_value(values, name, head.headers)));
            }
        }
        best.and_then(|rank| alternatives.get(rank as usize))
    }
}

fn by_value<'a>(
    values: &'a HashMap<Box<str>, Ranks>,
    name: &HeaderName,
    headers: &HeaderMap,
) -> Option<&'a Ranks> {
    with_joined(headers, name, |value| values.get(value)).flatten()
}
