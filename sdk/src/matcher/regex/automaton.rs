//! Compiled expressions, shared by all that ask the same.

use std::collections::HashMap;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::RegexError;

/// Most bytes a compiled expression may take. Large enough for any honest route, small enough that a file with
/// thousands of expressions does not eat the machine.
const SIZE_LIMIT: usize = 1 << 20;

/// A compiled expression, anchored at both ends.
#[derive(Debug)]
pub(super) struct Automaton {
    text: Box<str>,
    regex: Regex,
}

/// Automata by what they match, so that expressions that differ in nothing but text have one between them: thousands
/// of automata do not fit into a processor's caches, and hardly into memory.
#[derive(Debug, Default)]
pub struct Automata(HashMap<Box<str>, Arc<Automaton>>);

impl Automata {
    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Replaces an automaton by one of these that does the same; else it is one of these from now on.
    pub(super) fn unite(&mut self, own: &mut Arc<Automaton>) {
        match self.0.get(&own.text) {
            Some(same) => *own = Arc::clone(same),
            None => {
                self.0.insert(own.text.clone(), Arc::clone(own));
            }
        }
    }
}

impl Automaton {
    pub(super) fn new(text: &str) -> Result<Self, RegexError> {
        Self::within(SIZE_LIMIT, text)
    }

    /// One that is made of two others and some text, which together do not reach four times the limit of each.
    pub(super) fn of_two(text: &str) -> Result<Self, RegexError> {
        Self::within(4 * SIZE_LIMIT, text)
    }

    fn within(limit: usize, text: &str) -> Result<Self, RegexError> {
        let build = |text: &str| build_within(limit, text);
        // First alone: `a)(b` would become valid inside the group added below.
        build(text)?;
        // The line break ends a comment that the expression may open with `(?x)`; it is insignificant there,
        // so the plain form is tried first.
        let regex = build(&format!("^(?:{text})$")).or_else(|_| build(&format!("^(?:{text}\n)$")))?;
        Ok(Self {
            text: text.into(),
            regex,
        })
    }

    /// Whether the whole text matches.
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// Compiles an expression, within bounds.
pub(in crate::matcher) fn build(text: &str) -> Result<Regex, RegexError> {
    build_within(SIZE_LIMIT, text)
}

fn build_within(limit: usize, text: &str) -> Result<Regex, RegexError> {
    RegexBuilder::new(text)
        .size_limit(limit)
        .dfa_size_limit(limit)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => RegexError::Large,
            other => {
                // The message is a picture of several lines; the last says what is wrong.
                let text = other.to_string();
                let last = text.lines().last().unwrap_or("malformed");
                RegexError::Syntax(last.trim_start_matches("error: ").chars().take(200).collect())
            }
        })
}
