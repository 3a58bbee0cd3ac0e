//! Entries in a list: the first that holds decides, as in a VirtualService.
//!
//! Position is all that ranks an entry, so an index cannot stop at the first hit: it collects the few entries that
//! may hold and takes the first of them.
//!
//! ```text
//! host ──► exact path ───┐
//!          prefixes ─────┼─► by header, parameter, method or authority ─► the lowest position that holds
//!          expressions ──┘   (by the text that every match has, and last)
//! ```

mod predicates;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::bucket::{Bucket, Filed, Key, Of, Ranks};
use super::expressions::{Expressions, ExpressionsBuilder};
use super::texts::{Texts, TextsBuilder};
use super::{Found, RuleId};
use crate::matcher::{HostPattern, ValuePattern};
use crate::policy::RequestHead;
pub use predicates::{Condition, Conditions, PathCondition, Subject};

/// One way to reach a rule.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) rule: RuleId,
    pub(super) match_index: u32,
    pub(super) host: HostPattern,
    pub(super) conditions: Arc<Conditions>,
}

impl Filed for Entry {
    fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        self.conditions.others.iter().filter_map(Condition::key)
    }

    fn holds(&self, head: &RequestHead<'_>) -> bool {
        // The cheap conditions first, the expression last.
        self.conditions.others.iter().all(|it| it.holds(head))
            && match self.conditions.path.as_ref().map(PathCondition::value) {
                Some(ValuePattern::Regex(regex)) => regex.is_match(head.path),
                // The way here was the path.
                _ => true,
            }
    }
}

impl Condition {
    fn key(&self) -> Option<Key<'_>> {
        let of = match &self.subject {
            Subject::Method => Of::Method,
            Subject::Authority => Of::Authority,
            Subject::Header(name) => Of::Header(name),
            Subject::Query(name) => Of::Parameter(name),
            Subject::Scheme | Subject::Target | Subject::Claim(_) => return None,
        };
        (!self.negated).then(|| Key::new(of, &self.value)).flatten()
    }
}

/// A list and its index.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) entries: Vec<Entry>,
    exact: HashMap<Box<str>, Paths>,
    /// By suffix, its leading dot included.
    suffixes: HashMap<Box<str>, Paths>,
    any: Option<Paths>,
}

/// Entries of one host, by path.
#[derive(Debug, Default)]
struct Paths {
    texts: Texts<Bucket>,
    /// In lower case.
    folded: Texts<Bucket>,
    expressions: Expressions<Bucket>,
}

impl Listed {
    /// Indexes entries that are in order.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let mut by_host: HashMap<&HostPattern, Ranks> = HashMap::new();
        for (rank, entry) in entries.iter().enumerate() {
            by_host.entry(&entry.host).or_default().push(rank as u32);
        }
        let (mut exact, mut suffixes, mut any) = (HashMap::new(), HashMap::new(), None);
        for (host, ranks) in by_host {
            let paths = Paths::new(&ranks, &entries);
            match host {
                HostPattern::Any => any = Some(paths),
                HostPattern::Suffix(suffix) => {
                    suffixes.insert(suffix.clone(), paths);
                }
                HostPattern::Exact(host) => {
                    exact.insert(host.as_str().into(), paths);
                }
            }
        }
        Self {
            entries,
            exact,
            suffixes,
            any,
        }
    }

    /// The first entry that holds. The host is in lower case, without port. The most specific host that there are
    /// entries for decides alone, as Envoy's virtual hosts do.
    pub(super) fn find(&self, host: &str, head: &RequestHead<'_>) -> Option<Found> {
        let entry = self
            .entries
            .get(self.paths(host)?.find(&self.entries, head)? as usize)?;
        Some(Found {
            rule: entry.rule,
            matched: entry.conditions.matched(head.path)?,
        })
    }

    fn paths(&self, host: &str) -> Option<&Paths> {
        if !self.exact.is_empty()
            && let Some(paths) = self.exact.get(host)
        {
            return Some(paths);
        }
        if !self.suffixes.is_empty() {
            // The first byte cannot be a suffix' dot: a wildcard stands for at least one label.
            for (dot, _) in host.match_indices('.').filter(|(at, _)| *at > 0) {
                if let Some(paths) = self.suffixes.get(&host[dot..]) {
                    return Some(paths);
                }
            }
        }
        self.any.as_ref()
    }

    /// The host that decides for a host.
    pub(super) fn host(&self, host: &str) -> Option<&HostPattern> {
        let matching = self
            .entries
            .iter()
            .map(|it| &it.host)
            .filter(|it| it.matches(host));
        matching.min_by_key(|it| it.order())
    }
}

impl Paths {
    fn new(ranks: &[u32], entries: &[Entry]) -> Self {
        let (mut texts, mut folded) = (TextsBuilder::<Ranks>::default(), TextsBuilder::default());
        let mut expressions = ExpressionsBuilder::default();
        for rank in ranks {
            let condition = entries
                .get(*rank as usize)
                .and_then(|it| it.conditions.path.as_ref());
            let texts = match condition.is_some_and(PathCondition::ignores_case) {
                true => &mut folded,
                false => &mut texts,
            };
            let slot = match condition.map(PathCondition::value) {
                None | Some(ValuePattern::Any) => texts.prefix(""),
                Some(ValuePattern::Exact(text)) => texts.exact(text),
                Some(ValuePattern::Prefix(text)) => texts.prefix(text),
                Some(ValuePattern::Regex(regex)) => {
                    expressions.add(*rank, regex);
                    continue;
                }
            };
            slot.push(*rank);
        }
        let bucket = |ranks| Bucket::new(ranks, entries);
        Self {
            texts: texts.build(bucket),
            folded: folded.build(bucket),
            expressions: expressions.build(bucket),
        }
    }

    fn find(&self, entries: &[Entry], head: &RequestHead<'_>) -> Option<u32> {
        let mut best = u32::MAX;
        let path = head.path.as_bytes();
        let mut lower = |bucket: &Bucket| bucket.lower(entries, head, &mut best);
        self.texts.of(path, &mut lower);
        if !self.folded.is_empty() {
            let mut folded: SmallVec<[u8; 256]> = SmallVec::from_slice(path);
            folded.make_ascii_lowercase();
            self.folded.of(&folded, &mut lower);
        }
        self.expressions.of(path, &mut lower);
        (best != u32::MAX).then_some(best)
    }
}
