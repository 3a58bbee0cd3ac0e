//! Rules filed under what a request must have to match them.
//!
//! A condition demands *keys*: a text that an attribute must equal, start with or end with, that it must be there at
//! all, a block that an address must be in. A clause whose every alternative demands some offers a *cover*: a request
//! with none of its keys cannot match. Each rule is filed under its cheapest cover, which is the one whose keys the
//! fewest rules share. Where many rules share a key nevertheless, they are filed once more, by what else they demand.
//!
//! Negations demand nothing that could be looked up. Where many rules share one, it is asked once for all of them;
//! otherwise the rule is *loose* and asked each time. That is cheap, because a negation fails only for the few values
//! it names: where rules differ by what they negate, one of the first holds.
//!
//! Whatever is found by a key is asked as a whole, so the index can only ever leave out rules that cannot match.

mod build;
mod key;
mod node;
mod search;

use self::build::Filing;
use self::node::Node;
use self::search::Search;
use super::engine::RuleRef;
use super::facts::{Facts, Truth};
use super::rule::{AuthzRule, Test};

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
    root: Node,
    /// Whether a match takes access away, so that what cannot be judged counts as matching.
    closes: bool,
    wants_host: bool,
    asks_http: bool,
}

impl Table {
    pub(super) fn new(rules: Vec<(RuleRef, AuthzRule)>, closes: bool) -> Self {
        // A clause without alternatives never matches, so neither does its rule.
        let alive =
            |(_, rule): &(RuleRef, AuthzRule)| rule.clauses.iter().all(|clause| !clause.any.is_empty());
        let rules: Vec<_> = rules
            .into_iter()
            .filter(alive)
            .map(|(by, rule)| Filed { rule, by })
            .collect();
        let tests = || {
            let clauses = rules.iter().flat_map(|filed| &filed.rule.clauses);
            clauses
                .flat_map(|clause| clause.any.iter().flatten())
                .map(|condition| &condition.test)
        };
        Self {
            wants_host: tests().any(|test| matches!(test, Test::Host(_))),
            asks_http: tests().any(Test::is_of_requests),
            root: Filing::tree(rules.iter().map(|filed| &filed.rule), closes),
            closes,
            rules,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Every rule, in the order given.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&RuleRef, &AuthzRule)> {
        self.rules.iter().map(|filed| (&filed.by, &filed.rule))
    }

    pub(super) fn wants_host(&self) -> bool {
        self.wants_host
    }

    /// The first rule that matches, or that cannot be judged where a match closes.
    pub(super) fn find(&self, facts: &Facts<'_>) -> Option<(&RuleRef, Truth)> {
        let mut search = Search::new(&self.rules, facts, self.closes);
        if facts.http.is_none() && self.asks_http {
            // Rules for requests, asked of a connection, cannot be judged; passing over them could open.
            search.all();
        } else {
            search.node(&self.root);
        }
        let (position, truth) = search.best()?;
        self.rules.get(position as usize).map(|filed| (&filed.by, truth))
    }
}
