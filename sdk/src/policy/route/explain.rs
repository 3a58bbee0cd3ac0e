//! Why a request takes the route it takes.

use std::fmt;

use http::HeaderName;

use super::builder::Alternative;
use super::index::with_lower_host;
use super::{RouteTable, RuleId};
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
    /// The header is missing or has another value.
    Header(HeaderName),
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
            Self::Header(name) => write!(f, "header {name} differs"),
            Self::Query(name) => write!(f, "query parameter {name} differs"),
        }
    }
}

impl RouteTable {
    /// Every alternative in order of precedence, and what came of it. For people: it looks at all of them.
    pub fn explain(&self, head: &RequestHead<'_>) -> Vec<Candidate> {
        let mut won = false;
        let candidate = |(rank, alternative): (usize, &Alternative)| {
            let verdict = match objection(alternative, head) {
                Some(objection) => objection,
                None if won => Verdict::Outranked,
                None => {
                    won = true;
                    Verdict::Won
                }
            };
            Candidate {
                rank: rank as u32,
                rule: alternative.rule,
                match_index: alternative.match_index,
                host: alternative.host.to_string(),
                path: alternative.predicates.path.to_string(),
                verdict,
            }
        };
        self.alternatives.iter().enumerate().map(candidate).collect()
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
