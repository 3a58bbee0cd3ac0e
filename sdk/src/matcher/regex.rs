//! Regular expressions that must match the whole text.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Most bytes a compiled expression may take. Large enough for any honest route, small enough that a file with
/// thousands of expressions does not eat the machine.
const SIZE_LIMIT: usize = 1 << 20;

/// Longest expression that is read at all, as upstream limits values.
pub(super) const TEXT_LIMIT: usize = 4096;

/// Why a text is not a usable regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegexError {
    /// Longer than 4096 bytes.
    #[error("the expression is longer than {TEXT_LIMIT} bytes")]
    Long,
    /// It would take more than 1 MiB once compiled.
    #[error("the expression is too large once compiled")]
    Large,
    /// It is not an expression of the RE2 family.
    #[error("{0}")]
    Syntax(String),
}

/// An expression of the RE2 family (no look-around, linear time) that has to match a text from end to end.
#[derive(Clone)]
pub struct FullRegex {
    text: Box<str>,
    form: Form,
}

/// Most expressions that people write are hardly any. Those are compared as text, which is faster and takes no memory:
/// thousands of automata do not fit into a processor's caches.
#[derive(Clone)]
enum Form {
    /// Characters that stand for themselves.
    Literal,
    /// So many bytes of such, and then `.*`.
    Beginning(usize),
    /// Everything else.
    Automaton(Regex),
}

/// What may mean something else than itself; `#` does after `(?x)`.
const SPECIAL: &str = "\\.+*?()|[]{}^$#";

impl FullRegex {
    /// Reads an expression.
    ///
    /// # Errors
    /// If it is malformed, uses what RE2 does not have (look-around, back references) or is too large.
    pub fn parse(text: &str) -> Result<Self, RegexError> {
        if text.len() > TEXT_LIMIT {
            return Err(RegexError::Long);
        }
        let plain = text.find(|c| SPECIAL.contains(c)).unwrap_or(text.len());
        let form = match &text[plain..] {
            "" => Form::Literal,
            ".*" => Form::Beginning(plain),
            _ => Form::Automaton(automaton(text)?),
        };
        Ok(Self {
            text: text.into(),
            form,
        })
    }

    /// Whether the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.form {
            Form::Literal => text == &*self.text,
            // A dot is any character but the end of a line.
            Form::Beginning(length) => text
                .strip_prefix(&self.text[..*length])
                .is_some_and(|rest| !rest.contains('\n')),
            Form::Automaton(regex) => regex.is_match(text),
        }
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Text that every match begins with; as much of it as is easily seen, so possibly none.
    pub fn literal_prefix(&self) -> &str {
        let text = &*self.text;
        let end = text.find(|c| SPECIAL.contains(c)).unwrap_or(text.len());
        // A quantifier is about the character before it.
        let optional = text[end..].starts_with(['*', '?', '{']);
        let last = text[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        let literal = if optional { last } else { end };
        if alternates(&text[end..]) {
            ""
        } else {
            &text[..literal]
        }
    }
}

/// Whether there is a `|` outside of all groups; also if that is hard to tell.
fn alternates(text: &str) -> bool {
    let (mut depth, mut chars) = (0_u32, text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next().is_none_or(|c| c == 'Q') => return text.contains('|'),
            '[' => return text.contains('|'),
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// The automaton that matches from end to end.
fn automaton(text: &str) -> Result<Regex, RegexError> {
    // First alone: `a)(b` would become valid inside the group added below.
    build(text)?;
    // The line break ends a comment that the expression may open with `(?x)`; it is insignificant there,
    // so the plain form is tried first.
    build(&format!("^(?:{text})$")).or_else(|_| build(&format!("^(?:{text}\n)$")))
}

pub(super) fn build(text: &str) -> Result<Regex, RegexError> {
    RegexBuilder::new(text)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
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

impl fmt::Debug for FullRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

impl PartialEq for FullRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for FullRegex {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text_must_match() {
        let regex = FullRegex::parse("/v[0-9]+|/w").unwrap();
        assert!(regex.is_match("/v12"));
        assert!(regex.is_match("/w"));
        assert!(!regex.is_match("/v12/x"));
        assert!(!regex.is_match("/w\n"));
        assert!(!regex.is_match("x/w"));
    }

    #[test]
    fn an_expression_cannot_escape_its_group() {
        assert!(FullRegex::parse("a)|(?:b").is_err());
        let extended = FullRegex::parse("(?x) a # comment").unwrap();
        assert!(extended.is_match("a"));
        assert!(!extended.is_match("ab"));
    }

    #[test]
    fn what_cannot_be_bounded_is_refused() {
        assert_eq!(FullRegex::parse(&"a".repeat(5000)).unwrap_err(), RegexError::Long);
        assert_eq!(
            FullRegex::parse("((a{100}){100}){100}").unwrap_err(),
            RegexError::Large
        );
        assert!(matches!(FullRegex::parse("(?=a)"), Err(RegexError::Syntax(_))));
        assert!(matches!(FullRegex::parse("["), Err(RegexError::Syntax(_))));
    }

    #[test]
    fn the_literal_beginning_is_a_beginning_of_every_match() {
        for (text, prefix) in [
            ("/v[0-9]+", "/v"),
            ("/api/users/.*", "/api/users/"),
            ("/ab*", "/a"),
            ("/ab?c", "/a"),
            ("/ab{2}", "/a"),
            ("/ab+", "/ab"),
            ("/plain", "/plain"),
            ("/a|/b", ""),
            ("/a(b|c)", "/a"),
            ("/a[|]b", ""),
            ("(?i)/a", ""),
            ("/é*", "/"),
            (".*", ""),
            ("^/a", ""),
            ("/a\\.b", "/a"),
            ("/a\\|b", "/a"),
            ("", ""),
        ] {
            assert_eq!(FullRegex::parse(text).unwrap().literal_prefix(), prefix, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn plain_expressions_match_what_their_automaton_would(
            plain in "[/ab é\n-]{0,4}",
            any in proptest::bool::ANY,
            text in "[/ab é\n-]{0,6}",
        ) {
            let written = if any { format!("{plain}.*") } else { plain };
            let regex = FullRegex::parse(&written).unwrap();
            proptest::prop_assert!(!matches!(regex.form, Form::Automaton(_)));
            proptest::prop_assert_eq!(regex.is_match(&text), automaton(&written).unwrap().is_match(&text));
        }

        #[test]
        fn no_match_begins_otherwise(text in "[/ab|()?*.\\[\\]\\\\-]{0,8}", path in "/[ab/|]{0,6}") {
            if let Ok(regex) = FullRegex::parse(&text)
                && regex.is_match(&path)
            {
                proptest::prop_assert!(path.starts_with(regex.literal_prefix()), "{text} {path}");
            }
        }
    }
}
