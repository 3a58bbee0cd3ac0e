//! What is wrong with a part of a resource, as it is found while reading it.

use std::sync::Arc;

use crate::config::{Entry, Problem, Severity};
use crate::name::ResourceRef;

/// Collects what is wrong with one rule (or one of its backends), and remembers whether it can be carried out.
pub(crate) struct Findings<'a> {
    entry: &'a Arc<Entry>,
    problems: &'a mut Vec<Problem>,
    /// Where in the route.
    at: String,
    /// The first reason why it cannot be carried out.
    pub(crate) broken: Option<String>,
    /// How the status calls the first thing that is wrong with what is written itself, whatever it refers to.
    pub(crate) fault: Option<Ill>,
}

/// What is wrong with a rule, as the reasons of `Accepted` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ill {
    /// A value that means nothing.
    UnsupportedValue,
    /// Filters that exclude each other, or that nobody here knows.
    IncompatibleFilters,
}

impl Ill {
    /// As the condition spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::UnsupportedValue => "UnsupportedValue",
            Self::IncompatibleFilters => "IncompatibleFilters",
        }
    }
}

impl<'a> Findings<'a> {
    /// Nothing found yet, at a place in the route.
    pub(crate) fn new(entry: &'a Arc<Entry>, problems: &'a mut Vec<Problem>, at: String) -> Self {
        Self {
            entry,
            problems,
            at,
            broken: None,
            fault: None,
        }
    }

    /// Findings of a part, kept apart from those of the whole.
    pub(crate) fn part(&mut self, field: &str) -> Findings<'_> {
        Findings::new(self.entry, self.problems, format!("{}.{field}", self.at))
    }

    /// A value makes the rule impossible.
    pub(crate) fn error(&mut self, field: &str, text: impl Into<String>, remedy: &str) {
        self.fault.get_or_insert(Ill::UnsupportedValue);
        self.fail(field, text, remedy);
    }

    /// Filters that do not go together make the rule impossible.
    pub(crate) fn incompatible(&mut self, field: &str, text: impl Into<String>, remedy: &str) {
        self.fault.get_or_insert(Ill::IncompatibleFilters);
        self.fail(field, text, remedy);
    }

    /// Something that it refers to makes the rule impossible.
    pub(crate) fn unresolved(&mut self, field: &str, text: impl Into<String>, remedy: &str) {
        self.fail(field, text, remedy);
    }

    fn fail(&mut self, field: &str, text: impl Into<String>, remedy: &str) {
        let text = text.into();
        self.report(Severity::Error, field, text.clone(), remedy);
        self.broken.get_or_insert(text);
    }

    /// Something is odd, or without effect.
    pub(crate) fn report(&mut self, severity: Severity, field: &str, text: impl Into<String>, remedy: &str) {
        let field = if field.is_empty() {
            self.at.clone()
        } else {
            format!("{}.{field}", self.at)
        };
        let problem = self.entry.problem(severity, &field, text.into(), remedy);
        self.problems.push(problem);
    }

    /// The route.
    pub(crate) fn route(&self) -> ResourceRef {
        self.entry.reference()
    }
}
