//! What an entry of a list asks of a request.

use http::{HeaderName, Method};

use crate::matcher::{FullRegex, ValuePattern, parameter, with_joined_bytes};
use crate::policy::RequestHead;
use crate::policy::authz::any_text;
use crate::policy::route::Verdict;

/// What an entry of a list asks of a request; all of it must hold. The default asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// What it asks of the path, without query.
    pub path: Option<PathCondition>,
    /// What else it asks.
    pub others: Box<[Condition]>,
}

/// What is asked of the path. A prefix is a prefix of text, not of segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathCondition {
    value: ValuePattern,
    /// ASCII letters only, and not in expressions; the pattern is in lower case then.
    ignore_case: bool,
}

/// What is asked of one property of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Of which.
    pub subject: Subject,
    /// Which value it must have; [`ValuePattern::Any`] asks that there be one.
    pub value: ValuePattern,
    /// Whether it must not have that value. What is missing counts as empty then, unless any value is meant.
    pub negated: bool,
}

/// A property of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The method.
    Method,
    /// The scheme.
    Scheme,
    /// The authority, as received.
    Authority,
    /// The path with its query.
    Target,
    /// A header: its values joined by `,`.
    Header(HeaderName),
    /// A query parameter: the first of its name, as sent.
    Query(Box<str>),
    /// A claim of the verified token, by its path: its text, or one of a list of texts.
    Claim(Box<[Box<str>]>),
}

impl PathCondition {
    /// A condition; with `ignore_case`, `A` and `a` are the same in it.
    pub fn new(value: ValuePattern, ignore_case: bool) -> Self {
        let lower = |text: &str| text.to_ascii_lowercase().into();
        let (value, ignore_case) = match (value, ignore_case) {
            (ValuePattern::Exact(text), true) => (ValuePattern::Exact(lower(&text)), true),
            (ValuePattern::Prefix(text), true) => (ValuePattern::Prefix(lower(&text)), true),
            (value, _) => (value, false),
        };
        Self { value, ignore_case }
    }

    /// The pattern; in lower case if case is ignored.
    pub fn value(&self) -> &ValuePattern {
        &self.value
    }

    /// Whether `A` and `a` are the same.
    pub fn ignores_case(&self) -> bool {
        self.ignore_case
    }

    /// Whether a path matches; if so, how many of its bytes the pattern covers: a prefix' length, else all of it.
    pub fn matches(&self, path: &str) -> Option<usize> {
        let begins = |prefix: &str| match self.ignore_case {
            true => path
                .as_bytes()
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes())),
            false => path.starts_with(prefix),
        };
        match &self.value {
            ValuePattern::Prefix(prefix) => begins(prefix).then_some(prefix.len()),
            ValuePattern::Exact(exact) => (path.len() == exact.len() && begins(exact)).then_some(path.len()),
            other => other.matches(path).then_some(path.len()),
        }
    }
}

impl Condition {
    /// Whether it holds. Allocates nothing, unless a header that it is about was sent several times, or is about the
    /// path with its query.
    pub fn holds(&self, head: &RequestHead<'_>) -> bool {
        let is_any = self.value == ValuePattern::Any;
        let matches = |value: &[u8]| self.value.matches_bytes(value);
        let found = match &self.subject {
            Subject::Method => Some(matches(head.method.as_str().as_bytes())),
            Subject::Scheme => Some(matches(head.scheme.as_bytes())),
            Subject::Authority => Some(matches(head.authority.as_bytes())),
            Subject::Target => Some(match head.query {
                Some(query) => matches(format!("{}?{query}", head.path).as_bytes()),
                None => matches(head.path.as_bytes()),
            }),
            Subject::Header(name) if is_any => Some(head.headers.contains_key(name)).filter(|it| *it),
            Subject::Header(name) => with_joined_bytes(head.headers, name, matches),
            Subject::Query(name) => parameter(head.query, name).map(|value| matches(value.as_bytes())),
            // What is missing has no value, not an empty one (Envoy, metadata matchers).
            Subject::Claim(path) => Some(
                head.claims
                    .is_some_and(|claims| any_text(claims, path, |text| matches(text.as_bytes()))),
            ),
        };
        match (self.negated, found) {
            (false, found) => found.unwrap_or(false),
            (true, Some(matches)) => !matches,
            (true, None) => is_any || !matches(b""),
        }
    }

    /// What to say if it does not hold.
    fn objection(&self) -> Verdict {
        match (&self.subject, self.negated) {
            (Subject::Header(name), true) => Verdict::Unwanted(name.clone()),
            (Subject::Header(name), false) => Verdict::Header(name.clone()),
            (Subject::Query(name), _) => Verdict::Query(name.clone()),
            (Subject::Method, _) => Verdict::Method,
            (Subject::Scheme, _) => Verdict::Scheme,
            (Subject::Authority, _) => Verdict::Authority,
            (Subject::Target, _) => Verdict::Path,
            (Subject::Claim(path), _) => Verdict::Claim(path.join(".").into()),
        }
    }
}

impl Conditions {
    /// Whether all of it holds.
    pub fn hold(&self, head: &RequestHead<'_>) -> bool {
        // The path last: it may be an expression.
        self.others.iter().all(|it| it.holds(head)) && self.matched(head.path).is_some()
    }

    /// As [`PathCondition::matches`]; without a condition nothing of the path is covered.
    pub fn matched(&self, path: &str) -> Option<usize> {
        match &self.path {
            Some(condition) => condition.matches(path),
            None => Some(0),
        }
    }

    pub(in crate::policy::route) fn expressions_mut(&mut self) -> impl Iterator<Item = &mut FullRegex> {
        let path = self.path.iter_mut().map(|it| &mut it.value);
        let others = self.others.iter_mut().map(|it| &mut it.value);
        path.chain(others).filter_map(ValuePattern::expression_mut)
    }

    /// Whether nothing is asked, so that entries after this one are never reached.
    pub fn is_catch_all(&self) -> bool {
        let every = match self.path.as_ref().map(PathCondition::value) {
            None | Some(ValuePattern::Any) => true,
            Some(ValuePattern::Prefix(prefix)) => matches!(&**prefix, "" | "/"),
            Some(ValuePattern::Regex(regex)) => regex.as_str() == ".*",
            Some(ValuePattern::Exact(_)) => false,
        };
        every && self.others.is_empty()
    }

    /// The first that does not hold.
    pub(in crate::policy::route) fn objection(&self, head: &RequestHead<'_>) -> Option<Verdict> {
        if self.matched(head.path).is_none() {
            return Some(Verdict::Path);
        }
        let failed = self.others.iter().find(|it| !it.holds(head));
        failed.map(Condition::objection)
    }
}

/// A method is a condition like any other here: `method: {prefix: P}` is allowed.
impl From<Method> for Condition {
    fn from(method: Method) -> Self {
        Self {
            subject: Subject::Method,
            value: ValuePattern::Exact(method.as_str().into()),
            negated: false,
        }
    }
}
