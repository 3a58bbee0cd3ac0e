//! What is known of a request or connection, and whether a rule holds of it.

use std::net::SocketAddr;

use http::header::{GetAll, HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::rule::{AuthzRule, Clause, Condition, HeaderKey, RequestPrincipal, Test};
use crate::matcher::{TextSet, Width};
use crate::policy::{Caller, ConnectionHead, RequestHead};

/// Kleene's three values, in the order that makes "and" the smallest and "or" the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Truth {
    No,
    /// It cannot be judged; whoever decides must take it for the worse.
    Unknown,
    Yes,
}

impl From<bool> for Truth {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
            Self::Yes => Self::No,
        }
    }
}

/// A request or connection as rules see it.
pub(super) struct Facts<'a> {
    pub(super) caller: Caller<'a>,
    pub(super) destination: SocketAddr,
    pub(super) sni: &'a str,
    pub(super) http: Option<&'a RequestHead<'a>>,
    /// The authority in lower case; empty where no rule asks for it.
    host: SmallVec<[u8; 128]>,
}

impl<'a> Facts<'a> {
    pub(super) fn of_request(head: &'a RequestHead<'a>, wants_host: bool) -> Self {
        let authority = if wants_host {
            head.authority.as_bytes()
        } else {
            b""
        };
        let mut host = SmallVec::from_slice(authority);
        host.make_ascii_lowercase();
        Self {
            caller: head.caller,
            destination: head.destination,
            sni: head.sni,
            http: Some(head),
            host,
        }
    }

    pub(super) fn of_connection(head: &ConnectionHead<'a>) -> Self {
        Self {
            caller: head.caller,
            destination: head.destination,
            sni: head.sni,
            http: None,
            host: SmallVec::new(),
        }
    }

    /// The lower-case authority.
    pub(super) fn host(&self) -> &str {
        // Lowering ASCII letters keeps UTF-8 what it is.
        std::str::from_utf8(&self.host).unwrap_or("")
    }

    /// Whether the rule matches. `closes` says that a match takes access away, and so settles doubtful cases.
    pub(super) fn rule(&self, rule: &AuthzRule, closes: bool) -> Truth {
        all(&rule.clauses, |clause| self.clause(clause, closes))
    }

    fn clause(&self, clause: &Clause, closes: bool) -> Truth {
        any(&clause.any, |conditions| {
            all(conditions, |condition| self.condition(condition, closes))
        })
    }

    /// Whether one condition holds.
    pub(super) fn condition(&self, condition: &Condition, closes: bool) -> Truth {
        let Condition { test, negated } = condition;
        let truth = self.test(test, closes, *negated);
        if *negated { !truth } else { truth }
    }

    pub(super) fn test(&self, test: &Test, closes: bool, negated: bool) -> Truth {
        let identity = self.caller.identity;
        match test {
            Test::Principal(values) => identity.is_some_and(|id| values.matches(id.principal())).into(),
            Test::Namespace { names, globs } => identity
                .map(|id| id.namespace())
                .is_some_and(|ns| names.matches(ns) || globs.iter().any(|glob| glob.matches(ns)))
                .into(),
            Test::ServiceAccount(accounts) => identity
                .is_some_and(|id| {
                    let named = |(ns, sa): &(Box<str>, Box<str>)| {
                        **ns == *id.namespace() && **sa == *id.service_account()
                    };
                    accounts.iter().any(named)
                })
                .into(),
            Test::TrustDomain(values) => identity
                .is_some_and(|id| values.matches(id.trust_domain()))
                .into(),
            Test::SourceIp(blocks) => blocks.contains(self.caller.addr).into(),
            Test::RemoteIp(blocks) => blocks.contains(self.caller.remote).into(),
            Test::DestinationIp(blocks) => blocks.contains(self.destination.ip()).into(),
            Test::Port(ports) => ports.contains(&self.destination.port()).into(),
            Test::Sni(values) => values.matches(self.sni).into(),
            _ => match self.http {
                Some(head) => self.http_test(head, test, closes, negated),
                None => Truth::Unknown,
            },
        }
    }

    fn http_test(&self, head: &RequestHead<'_>, test: &Test, closes: bool, negated: bool) -> Truth {
        match test {
            Test::RequestPrincipal(principals) => principals.iter().any(|one| is_principal(head, one)).into(),
            Test::Claim { path, values } => head
                .claims
                .is_some_and(|claims| any_text(claims, path, |text| values.matches(text)))
                .into(),
            Test::Host(values) => values.matches(self.host()).into(),
            Test::Method(values) => values.matches(head.method.as_str()).into(),
            Test::Path { values, templates } => {
                let width = if closes != negated {
                    Width::Wide
                } else {
                    Width::Narrow
                };
                (values.matches(head.path) || templates.iter().any(|one| one.matches(head.path, width)))
                    .into()
            }
            Test::Header { name, values } => header(head, name, values, closes && !negated),
            _ => Truth::Unknown,
        }
    }
}

fn all<T>(items: &[T], judge: impl Fn(&T) -> Truth) -> Truth {
    let mut least = Truth::Yes;
    for item in items {
        least = least.min(judge(item));
        if least == Truth::No {
            break;
        }
    }
    least
}

fn any<T>(items: &[T], judge: impl Fn(&T) -> Truth) -> Truth {
    let mut most = Truth::No;
    for item in items {
        most = most.max(judge(item));
        if most == Truth::Yes {
            break;
        }
    }
    most
}

fn is_principal(head: &RequestHead<'_>, wanted: &RequestPrincipal) -> bool {
    let claim = |name| head.claims?.get(name)?.as_str();
    claim("iss").is_some_and(|iss| wanted.issuer.matches(iss))
        && claim("sub").is_some_and(|sub| wanted.subject.matches(sub))
}

/// Claims whose text is a list separated by spaces (RFC 8693 §4.2 for `scope`; `permission` by Istio's custom).
const SPACED: [&str; 2] = ["scope", "permission"];

/// Whether any text of a claim satisfies `judge`: the claim itself, or an element of its list.
pub(in crate::policy) fn any_text(
    claims: &Map<String, Value>,
    path: &[Box<str>],
    mut judge: impl FnMut(&str) -> bool,
) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return false;
    };
    let Some(mut claim) = claims.get(&**first) else {
        return false;
    };
    for key in rest {
        let Some(inner) = claim.as_object().and_then(|object| object.get(&**key)) else {
            return false;
        };
        claim = inner;
    }
    match claim {
        Value::String(text) if rest.is_empty() && SPACED.contains(&&**first) => {
            text.split(' ').any(|word| !word.is_empty() && judge(word))
        }
        Value::String(text) => judge(text),
        Value::Array(items) => items.iter().filter_map(Value::as_str).any(judge),
        _ => false,
    }
}

fn header(head: &RequestHead<'_>, name: &HeaderKey, values: &TextSet, each: bool) -> Truth {
    let pseudo = match name {
        HeaderKey::Name(name) => return named_header(head.headers, name, values, each),
        HeaderKey::Method => head.method.as_str(),
        HeaderKey::Authority => head.authority,
        HeaderKey::Scheme => head.scheme,
        HeaderKey::Path => {
            // Both parts are text, so the whole is.
            return values
                .matches(std::str::from_utf8(&target(head)).unwrap_or(""))
                .into();
        }
    };
    values.matches(pseudo).into()
}

/// The path with its query.
pub(super) fn target(head: &RequestHead<'_>) -> SmallVec<[u8; 256]> {
    let mut target = SmallVec::from_slice(head.path.as_bytes());
    if let Some(query) = head.query {
        target.push(b'?');
        target.extend_from_slice(query.as_bytes());
    }
    target
}

/// The lines of a header as one value.
pub(super) fn join(lines: &GetAll<'_, HeaderValue>) -> SmallVec<[u8; 256]> {
    let mut joined = SmallVec::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            joined.push(b',');
        }
        joined.extend_from_slice(line.as_bytes());
    }
    joined
}

/// Repeated headers are one value joined with `,`, as Istio documents. With `each`, one of the repetitions alone is
/// enough too: where a match closes, adding another must be no way round the rule (CVE-2026-26308).
fn named_header(headers: &HeaderMap, name: &http::HeaderName, values: &TextSet, each: bool) -> Truth {
    let lines = headers.get_all(name);
    let mut rest = lines.iter();
    let Some(first) = rest.next() else {
        return Truth::No;
    };
    // `*` asks for the header, not for a text: an empty one is there.
    if values.has_present() {
        return Truth::Yes;
    }
    let text = |line: &[u8]| match std::str::from_utf8(line) {
        Ok(text) => Truth::from(values.matches_literally(text)),
        Err(_) => Truth::Unknown,
    };
    if rest.next().is_none() {
        return text(first.as_bytes());
    }
    let joined = text(&join(&lines));
    let any = lines.iter().map(|line| text(line.as_bytes())).max();
    any.filter(|_| each).map_or(joined, |any| any.max(joined))
}
