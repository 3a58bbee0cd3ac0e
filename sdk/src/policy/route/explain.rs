//! Why a request takes the route it takes.

use std::fmt;

use http::HeaderName;

use super::builder::Alternative;
use super::listed::{Entry, Listed};
use super::table::Section;
use super::{RouteTable, RuleId};
use crate::name::with_lower_host;
use crate::policy::RequestHead;

/// One alternative of a table and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Position in the order of precedence, from 0.
    pub rank: u32,
    /// The rule.
    pub rule: RuleId,
    /// Index of the match in the rule.
    pub match_index: u32,
    /// The host it is for.
    pub host: String,
    /// What it asks of the path.
    pub path: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of an alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It decides.
    Won,
    /// It matches, but a better one decides.
    Outranked,
    /// Another host.
    Host,
    /// Another path.
    Path,
    /// Another method.
    Method,
    /// Another scheme.
    Scheme,
    /// Another authority.
    Authority,
    /// The header is missing or has another value.
    Header(HeaderName),
    /// The header is there, or has the value, although it must not.
    Unwanted(HeaderName),
    /// The query parameter is missing or has another value.
    Query(Box<str>),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Won => f.write_str("decides"),
            Self::Outranked => f.write_str("matches, but ranks lower"),
            Self::Host => f.write_str("host differs"),
            Self::Path => f.write_str("path differs"),
            Self::Method => f.write_str("method differs"),
            Self::Scheme => f.write_str("scheme differs"),
            Self::Authority => f.write_str("authority differs"),
            Self::Header(name) => write!(f, "header {name} differs"),
            Self::Unwanted(name) => write!(f, "header {name} is what it must not be"),
            Self::Query(name) => write!(f, "query parameter {name} differs"),
        }
    }
}

impl RouteTable {
    /// Every alternative in order of precedence, and what came of it. For people: it looks at all of them.
    pub fn explain(&self, head: &RequestHead<'_>) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for section in &self.sections {
            match section {
                Section::Ranked(it) => {
                    candidates.extend(it.alternatives.iter().map(|it| ranked(it, objection(it, head))));
                }
                Section::Listed(list) => {
                    candidates.extend(list.entries.iter().map(|it| listed(it, unlisted(list, it, head))));
                }
            }
        }
        let mut won = false;
        for (rank, candidate) in candidates.iter_mut().enumerate() {
            candidate.rank = rank as u32;
            if candidate.verdict == Verdict::Won && std::mem::replace(&mut won, true) {
                candidate.verdict = Verdict::Outranked;
            }
        }
        candidates
    }
}

fn ranked(it: &Alternative, objection: Option<Verdict>) -> Candidate {
    Candidate {
        rank: 0,
        rule: it.rule,
        match_index: it.match_index,
        host: it.host.to_string(),
        path: it.predicates.path.to_string(),
        verdict: objection.unwrap_or(Verdict::Won),
    }
}

fn listed(it: &Entry, objection: Option<Verdict>) -> Candidate {
    let path = it.conditions.path.as_ref().map(|it| it.value().to_string());
    Candidate {
        rank: 0,
        rule: it.rule,
        match_index: it.match_index,
        host: it.host.to_string(),
        path: path.unwrap_or_else(|| "*".into()),
        verdict: objection.unwrap_or(Verdict::Won),
    }
}

/// The first condition that does not hold.
fn unlisted(list: &Listed, it: &Entry, head: &RequestHead<'_>) -> Option<Verdict> {
    let decides = with_lower_host(head.authority, |host| list.host(host) == Some(&it.host));
    if decides {
        it.conditions.objection(head)
    } else {
        Some(Verdict::Host)
    }
}

/// The first predicate that does not hold.
fn objection(alternative: &Alternative, head: &RequestHead<'_>) -> Option<Verdict> {
    let predicates = &alternative.predicates;
    if !with_lower_host(head.authority, |host| alternative.host.matches(host)) {
        return Some(Verdict::Host);
    }
    if predicates.path.matches(head.path).is_none() {
        return Some(Verdict::Path);
    }
    if predicates
        .method
        .as_ref()
        .is_some_and(|method| method != head.method)
    {
        return Some(Verdict::Method);
    }
    if let Some(header) = predicates
        .headers
        .iter()
        .find(|header| !header.matches(head.headers))
    {
        return Some(Verdict::Header(header.name.clone()));
    }
    let query = predicates.query.iter().find(|query| !query.matches(head.query))?;
    Some(Verdict::Query(query.name.clone()))
}
