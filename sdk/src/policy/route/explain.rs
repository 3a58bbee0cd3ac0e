//! Why a request takes the route it takes.

use std::fmt;

use http::HeaderName;

use super::builder::Alternative;
use super::listed::{Entry, Listed, Subject};
use super::table::Section;
use super::{RouteTable, RuleId};
use crate::matcher::{parameter, with_joined_bytes};
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
    /// Everything that it asks, and what the request has of it.
    pub asks: Vec<Ask>,
    /// What came of it.
    pub verdict: Verdict,
}

/// One thing that an alternative asks of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of what.
    pub of: Property,
    /// The value asked for, as a person would write it.
    pub value: String,
    /// What the request has there; `None` if nothing.
    pub given: Option<String>,
    /// Whether that will do.
    pub holds: bool,
}

/// What of a request can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Property {
    /// The host, without port.
    Host,
    /// The authority, with port.
    Authority,
    /// The path.
    Path,
    /// The path and its query.
    Target,
    /// The method.
    Method,
    /// The scheme.
    Scheme,
    /// A header.
    Header(HeaderName),
    /// A query parameter.
    Query(Box<str>),
    /// A claim of the caller's token.
    Claim(Box<str>),
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Authority => f.write_str("authority"),
            Self::Path => f.write_str("path"),
            Self::Target => f.write_str("path and query"),
            Self::Method => f.write_str("method"),
            Self::Scheme => f.write_str("scheme"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Claim(name) => write!(f, "claim {name}"),
        }
    }
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
    /// The claim of the caller's token is missing or has another value, or has the value although it must not.
    Claim(Box<str>),
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
            Self::Claim(name) => write!(f, "claim {name} differs"),
        }
    }
}

impl RouteTable {
    /// Every alternative in order of precedence, and what came of it. For people: it looks at all of them.
    pub fn explain(&self, head: &RequestHead<'_>) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for section in &self.sections {
            match section {
                Section::Ranked(it) => candidates.extend(it.alternatives.iter().map(|it| ranked(it, head))),
                Section::Listed(list) => {
                    candidates.extend(list.entries.iter().map(|it| listed(list, it, head)))
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

/// An alternative by itself: whether it is the first is not known here.
fn ranked(it: &Alternative, head: &RequestHead<'_>) -> Candidate {
    let predicates = &it.predicates;
    let mut asks = vec![
        host(it.host.to_string(), head, |host| it.host.matches(host)),
        Ask {
            of: Property::Path,
            value: predicates.path.to_string(),
            given: Some(head.path.to_owned()),
            holds: predicates.path.matches(head.path).is_some(),
        },
    ];
    asks.extend(predicates.method.as_ref().map(|method| Ask {
        of: Property::Method,
        value: method.to_string(),
        given: Some(head.method.to_string()),
        holds: method == head.method,
    }));
    asks.extend(predicates.headers.iter().map(|header| Ask {
        of: Property::Header(header.name.clone()),
        value: header.value.to_string(),
        given: header_of(head, &header.name),
        holds: header.matches(head.headers),
    }));
    asks.extend(predicates.query.iter().map(|query| Ask {
        of: Property::Query(query.name.clone()),
        value: query.value.to_string(),
        given: parameter(head.query, &query.name).map(str::to_owned),
        holds: query.matches(head.query),
    }));
    let verdict = asks.iter().find(|ask| !ask.holds).map_or(Verdict::Won, objection);
    Candidate {
        rank: 0,
        rule: it.rule,
        match_index: it.match_index,
        asks,
        verdict,
    }
}

/// As [`ranked`].
fn listed(list: &Listed, it: &Entry, head: &RequestHead<'_>) -> Candidate {
    // Of the hosts in a list only the most specific is looked at.
    let mut asks = vec![host(it.host.to_string(), head, |host| {
        list.host(host) == Some(&it.host)
    })];
    asks.extend(it.conditions.path.as_ref().map(|path| {
        let note = if path.ignores_case() { " (in any case)" } else { "" };
        Ask {
            of: Property::Path,
            value: format!("{}{note}", path.value()),
            given: Some(head.path.to_owned()),
            holds: path.matches(head.path).is_some(),
        }
    }));
    asks.extend(it.conditions.others.iter().map(|condition| {
        let (of, given) = match &condition.subject {
            Subject::Method => (Property::Method, Some(head.method.to_string())),
            Subject::Scheme => (Property::Scheme, Some(head.scheme.to_owned())),
            Subject::Authority => (Property::Authority, Some(head.authority.to_owned())),
            Subject::Target => {
                let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
                (Property::Target, Some(format!("{}{query}", head.path)))
            }
            Subject::Header(name) => (Property::Header(name.clone()), header_of(head, name)),
            Subject::Query(name) => {
                let given = parameter(head.query, name).map(str::to_owned);
                (Property::Query(name.clone()), given)
            }
            Subject::Claim(path) => (Property::Claim(path.join(".").into()), claim_of(head, path)),
        };
        let not = if condition.negated { "not " } else { "" };
        Ask {
            of,
            value: format!("{not}{}", condition.value),
            given,
            holds: condition.holds(head),
        }
    }));
    let verdict = match asks.iter().find(|ask| !ask.holds) {
        None => Verdict::Won,
        Some(ask) if ask.of == Property::Host => Verdict::Host,
        Some(_) => it.conditions.objection(head).unwrap_or(Verdict::Won),
    };
    Candidate {
        rank: 0,
        rule: it.rule,
        match_index: it.match_index,
        asks,
        verdict,
    }
}

fn host(value: String, head: &RequestHead<'_>, matches: impl FnOnce(&str) -> bool) -> Ask {
    with_lower_host(head.authority, |host| Ask {
        of: Property::Host,
        value,
        given: Some(host.to_owned()),
        holds: matches(host),
    })
}

fn header_of(head: &RequestHead<'_>, name: &HeaderName) -> Option<String> {
    with_joined_bytes(head.headers, name, |value| {
        String::from_utf8_lossy(value).into_owned()
    })
}

fn claim_of(head: &RequestHead<'_>, path: &[Box<str>]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let claim = head.claims?.get(&**first);
    let claim = rest.iter().fold(claim, |claim, key| claim?.get(&**key))?;
    Some(claim.as_str().map_or_else(|| claim.to_string(), str::to_owned))
}

/// What is said of an alternative for which this does not hold.
fn objection(ask: &Ask) -> Verdict {
    match &ask.of {
        Property::Host => Verdict::Host,
        Property::Authority => Verdict::Authority,
        Property::Path | Property::Target => Verdict::Path,
        Property::Method => Verdict::Method,
        Property::Scheme => Verdict::Scheme,
        Property::Header(name) => Verdict::Header(name.clone()),
        Property::Query(name) => Verdict::Query(name.clone()),
        Property::Claim(name) => Verdict::Claim(name.clone()),
    }
}

/// What holds of every explanation: who decides is who is found, whoever loses without need is told so, and everybody else
/// lacks what the verdict says.
#[cfg(test)]
pub(super) fn check(table: &RouteTable, head: &RequestHead<'_>) {
    let candidates = table.explain(head);
    let won: Vec<_> = candidates
        .iter()
        .filter(|it| it.verdict == Verdict::Won)
        .map(|it| it.rule)
        .collect();
    assert_eq!(
        won,
        Vec::from_iter(table.find(head).map(|found| found.rule)),
        "{head:?}"
    );
    for (rank, candidate) in candidates.iter().enumerate() {
        assert_eq!(candidate.rank as usize, rank);
        let missing: Vec<_> = candidate
            .asks
            .iter()
            .filter(|ask| !ask.holds)
            .map(|ask| &ask.of)
            .collect();
        let told = |of: &&Property| match (&candidate.verdict, of) {
            (Verdict::Host, Property::Host)
            | (Verdict::Path, Property::Path | Property::Target)
            | (Verdict::Method, Property::Method)
            | (Verdict::Scheme, Property::Scheme)
            | (Verdict::Authority, Property::Authority) => true,
            (Verdict::Header(told) | Verdict::Unwanted(told), Property::Header(name)) => told == name,
            (Verdict::Query(told), Property::Query(name)) => told == name,
            _ => false,
        };
        let is_right = match candidate.verdict {
            Verdict::Won | Verdict::Outranked => missing.is_empty(),
            _ => missing.iter().any(told),
        };
        assert!(is_right, "{candidate:?} of {head:?}");
    }
}
