//! The table: rules, and the sections that lead to them.

use super::builder::Alternative;
use super::index::Index;
use super::listed::Listed;
use super::{RouteRule, RuleId};
use crate::name::with_lower_host;
use crate::policy::RequestHead;

/// The routes of one service port or listener. The default has none.
#[derive(Debug, Default)]
pub struct RouteTable {
    pub(super) rules: Vec<RouteRule>,
    /// In order of precedence: the first in which anything matches decides.
    pub(super) sections: Vec<Section>,
}

/// A part of a table with one idea of precedence.
#[derive(Debug)]
pub(super) enum Section {
    /// Gateway API's: the best match decides.
    Ranked(Ranked),
    /// Istio's: the first match decides.
    Listed(Listed),
}

/// Alternatives in order of precedence, and the index over them.
#[derive(Debug)]
pub(super) struct Ranked {
    /// The position is the rank.
    pub(super) alternatives: Vec<Alternative>,
    index: Index,
}

impl Ranked {
    /// Indexes alternatives that are in order of precedence.
    pub(super) fn new(alternatives: Vec<Alternative>) -> Self {
        let index = Index::new(&alternatives);
        Self { alternatives, index }
    }
}

/// The rule that decides, and what of the path its match covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The rule.
    pub rule: RuleId,
    /// How many bytes of the path were matched: a prefix' length (0 for `/`), or the whole path.
    pub matched: usize,
}

impl RouteTable {
    /// Whether nothing was configured. A table with rules that have no match is not empty: it answers 404.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// The rule that decides; `None` if none matches. Allocates nothing, unless a header that a candidate asks
    /// for was sent several times.
    pub fn find(&self, head: &RequestHead<'_>) -> Option<Found> {
        with_lower_host(head.authority, |host| {
            self.sections.iter().find_map(|section| match section {
                Section::Ranked(it) => it.index.find(&it.alternatives, host, head),
                Section::Listed(it) => it.find(host, head),
            })
        })
    }

    /// A rule by index.
    pub fn rule(&self, id: RuleId) -> Option<&RouteRule> {
        self.rules.get(id.0 as usize)
    }

    /// As [`RouteTable::rules`], to be completed.
    pub fn rules_mut(&mut self) -> impl Iterator<Item = &mut RouteRule> {
        self.rules.iter_mut()
    }

    /// All rules, in the order they were added.
    pub fn rules(&self) -> impl Iterator<Item = (RuleId, &RouteRule)> {
        self.rules
            .iter()
            .enumerate()
            .map(|(index, rule)| (RuleId(index as u32), rule))
    }
}
