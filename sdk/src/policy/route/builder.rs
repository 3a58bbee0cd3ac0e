//! Settles precedence: from rules in any order to sections, each of them in one total order.

use std::cmp::Reverse;
use std::sync::Arc;

use http::{HeaderMap, Method};

use super::listed::{Conditions, Entry, Listed};
use super::table::{Ranked, Section};
use super::{RouteRule, RouteTable, RuleId};
use crate::matcher::{
    Automata, FullRegex, HeaderPattern, HostPattern, PathPattern, QueryPattern, ValuePattern,
};
use crate::policy::RequestHead;

/// What one match of a rule asks of a request; all of it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicates {
    /// The path.
    pub path: PathPattern,
    /// The method.
    pub method: Option<Method>,
    /// Headers.
    pub headers: Box<[HeaderPattern]>,
    /// Query parameters.
    pub query: Box<[QueryPattern]>,
}

/// Everything: the path prefix `/`, as Gateway API defaults a match.
impl Default for Predicates {
    fn default() -> Self {
        Self {
            path: PathPattern::prefix("/"),
            method: None,
            headers: Box::default(),
            query: Box::default(),
        }
    }
}

impl Predicates {
    /// Whether all but host and path hold.
    pub(super) fn rest_holds(&self, head: &RequestHead<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method == head.method)
            && self.headers_hold(head.headers)
            && self.query.iter().all(|query| query.matches(head.query))
    }

    fn headers_hold(&self, headers: &HeaderMap) -> bool {
        self.headers.iter().all(|header| header.matches(headers))
    }

    fn expressions_mut(&mut self) -> impl Iterator<Item = &mut FullRegex> {
        let path = match &mut self.path {
            PathPattern::Regex(regex) => Some(regex),
            _ => None,
        };
        let headers = self.headers.iter_mut().map(|it| &mut it.value);
        let query = self.query.iter_mut().map(|it| &mut it.value);
        let values = headers.chain(query).filter_map(ValuePattern::expression_mut);
        path.into_iter().chain(values)
    }

    /// Whether only host and path are asked for.
    pub(super) fn is_path_only(&self) -> bool {
        self.method.is_none() && self.headers.is_empty() && self.query.is_empty()
    }

    /// Which sort of path comes first: exact, prefix, expression, and last the catch-all, so that an expression
    /// is not shadowed by the `/` that most routes end with. Gateway API leaves expressions to the implementation;
    /// this is Istio's order. A gRPC method without a service comes after every service and before no method at all
    /// (GRPCRouteRule.matches: characters of the service, then of the method).
    pub(super) fn class(&self) -> Class {
        match &self.path {
            PathPattern::Exact(_) => Class::Exact,
            PathPattern::Prefix(prefix) if prefix.is_empty() && self.is_path_only() => Class::CatchAll,
            PathPattern::Prefix(prefix) if prefix.is_empty() => Class::Root,
            PathPattern::Prefix(_) => Class::Prefix,
            PathPattern::Method(_) => Class::Method,
            PathPattern::Regex(_) => Class::Regex,
        }
    }

    fn path_characters(&self) -> usize {
        match &self.path {
            PathPattern::Exact(text) | PathPattern::Prefix(text) | PathPattern::Method(text) => {
                text.chars().count()
            }
            PathPattern::Regex(regex) => regex.as_str().chars().count(),
        }
    }
}

/// The sorts of path in their order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Exact,
    Prefix,
    Method,
    /// The prefix `/` and something besides.
    Root,
    Regex,
    CatchAll,
}

/// One way to reach a rule: a host and a match of the rule.
#[derive(Clone, Debug)]
pub struct Alternative {
    /// The rule.
    pub rule: RuleId,
    /// Index of the match in the rule's `matches`.
    pub match_index: u32,
    /// The host.
    pub host: HostPattern,
    /// Everything else.
    pub predicates: Arc<Predicates>,
}

/// Collects rules and their matches, section by section.
///
/// A section is either *ranked* ([`RouteTableBuilder::matching`], in any order: Gateway API settles which of several
/// matches decides) or a *list* ([`RouteTableBuilder::listed`]: the first that holds decides, as in a VirtualService).
/// The first section in which anything matches decides.
#[derive(Debug, Default)]
pub struct RouteTableBuilder {
    rules: Vec<RouteRule>,
    created: Vec<Option<u64>>,
    sections: Vec<Unsorted>,
    automata: Automata,
}

#[derive(Debug)]
enum Unsorted {
    Ranked(Vec<Alternative>),
    Listed(Vec<Entry>),
}

impl RouteTableBuilder {
    /// Adds a rule. `created` orders routes by age (any unit); routes without it count as newest.
    ///
    /// A rule without a match never decides, but makes the table non-empty.
    pub fn rule(&mut self, rule: RouteRule, created: Option<u64>) -> RuleId {
        let id = RuleId(self.rules.len() as u32);
        self.rules.push(rule);
        self.created.push(created);
        id
    }

    /// Begins a section: what was added before decides first, whatever is added now.
    pub fn section(&mut self) {
        self.sections.push(Unsorted::Ranked(Vec::new()));
    }

    /// Adds a match of a rule, on every host given. An unknown rule is left out.
    pub fn matching(
        &mut self,
        rule: RuleId,
        match_index: u32,
        hosts: &[HostPattern],
        mut predicates: Predicates,
    ) {
        if rule.0 as usize >= self.rules.len() {
            return;
        }
        predicates
            .expressions_mut()
            .for_each(|it| it.share(&mut self.automata));
        let predicates = Arc::new(predicates);
        let alternatives = hosts.iter().map(|host| Alternative {
            rule,
            match_index,
            host: host.clone(),
            predicates: predicates.clone(),
        });
        match self.sections.last_mut() {
            Some(Unsorted::Ranked(list)) => list.extend(alternatives),
            _ => self.sections.push(Unsorted::Ranked(alternatives.collect())),
        }
    }

    /// Appends a match of a rule to a list, on every host given. An unknown rule is left out.
    pub fn listed(
        &mut self,
        rule: RuleId,
        match_index: u32,
        hosts: &[HostPattern],
        mut conditions: Conditions,
    ) {
        if rule.0 as usize >= self.rules.len() {
            return;
        }
        conditions
            .expressions_mut()
            .for_each(|it| it.share(&mut self.automata));
        let conditions = Arc::new(conditions);
        let entries = hosts.iter().map(|host| Entry {
            rule,
            match_index,
            host: host.clone(),
            conditions: conditions.clone(),
        });
        match self.sections.last_mut() {
            Some(Unsorted::Listed(list)) => list.extend(entries),
            _ => self.sections.push(Unsorted::Listed(entries.collect())),
        }
    }

    /// Sorts and indexes.
    ///
    /// The order in a ranked section is that of Gateway API (HTTPRouteSpec.hostnames, HTTPRouteRule.matches): the most
    /// specific host, exact path, longest prefix in characters, a method, most headers, most query parameters; then
    /// the oldest route, `namespace/name`, and the order within the route.
    pub fn build(self) -> RouteTable {
        let Self {
            rules,
            created,
            sections,
            automata: _,
        } = self;
        let section = |section| match section {
            Unsorted::Ranked(list) if list.is_empty() => None,
            Unsorted::Ranked(list) => Some(Section::Ranked(Ranked::new(ranked(list, &rules, &created)))),
            Unsorted::Listed(list) => Some(Section::Listed(Listed::new(list))),
        };
        let sections = sections.into_iter().filter_map(section).collect();
        RouteTable { rules, sections }
    }
}

fn ranked(
    mut alternatives: Vec<Alternative>,
    rules: &[RouteRule],
    created: &[Option<u64>],
) -> Vec<Alternative> {
    alternatives.sort_by_cached_key(|alternative| {
        let predicates = &alternative.predicates;
        let index = alternative.rule.0 as usize;
        let origin = &rules[index].origin;
        let shape = (
            alternative.host.order(),
            predicates.class(),
            Reverse(predicates.path_characters()),
            predicates.method.is_none(),
            Reverse(predicates.headers.len()),
            Reverse(predicates.query.len()),
        );
        let age = (
            created[index].unwrap_or(u64::MAX),
            origin.resource.namespace.clone(),
            origin.resource.name.clone(),
            origin.rule,
            alternative.match_index,
        );
        (shape, age)
    });
    alternatives
}
