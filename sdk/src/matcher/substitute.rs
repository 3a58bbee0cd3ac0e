//! Replacement of text by expression, with RE2's notation of groups.

use std::borrow::Cow;
use std::fmt;

use ::regex::{Captures, Regex};

use super::RegexError;
use super::regex::{TEXT_LIMIT, build};

/// Why a replacement cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubstitutionError {
    /// The expression is none.
    #[error(transparent)]
    Regex(#[from] RegexError),
    /// A backslash is followed by neither a digit nor a backslash.
    #[error("a backslash in the replacement must be followed by a digit or a backslash")]
    Escape,
    /// A group that the expression does not have.
    #[error("the expression has no group {0}")]
    Group(usize),
}

/// Replaces whatever an expression finds: every occurrence, from left to right. In the replacement `\0` is what was
/// found, `\1` to `\9` are the groups, and `\\` is a backslash.
#[derive(Clone)]
pub struct Substitution {
    regex: Regex,
    parts: Box<[Part]>,
    /// As written, to show and compare.
    text: (Box<str>, Box<str>),
}

#[derive(Clone)]
enum Part {
    Text(Box<str>),
    Group(usize),
}

impl Substitution {
    /// Reads expression and replacement.
    ///
    /// # Errors
    /// See [`SubstitutionError`].
    pub fn parse(expression: &str, replacement: &str) -> Result<Self, SubstitutionError> {
        if expression.len() > TEXT_LIMIT {
            return Err(RegexError::Long.into());
        }
        let regex = build(expression)?;
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = replacement.chars();
        while let Some(c) = chars.next() {
            match (c, c == '\\') {
                (_, false) => literal.push(c),
                (_, true) => match chars.next() {
                    Some('\\') => literal.push('\\'),
                    Some(digit @ '0'..='9') => {
                        let group = digit as usize - '0' as usize;
                        if group >= regex.captures_len() {
                            return Err(SubstitutionError::Group(group));
                        }
                        if !literal.is_empty() {
                            parts.push(Part::Text(std::mem::take(&mut literal).into()));
                        }
                        parts.push(Part::Group(group));
                    }
                    _ => return Err(SubstitutionError::Escape),
                },
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Self {
            regex,
            parts: parts.into(),
            text: (expression.into(), replacement.into()),
        })
    }

    /// The text with everything replaced.
    pub fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.regex.replace_all(text, |found: &Captures<'_>| {
            let mut new = String::new();
            for part in &self.parts {
                match part {
                    Part::Text(text) => new.push_str(text),
                    Part::Group(group) => new.push_str(found.get(*group).map_or("", |it| it.as_str())),
                }
            }
            new
        })
    }
}

impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Substitution {}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/ -> {}", self.text.0, self.text.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of Istio's `RegexRewrite` and Envoy's `RegexMatchAndSubstitute`.
    #[test]
    fn groups_are_put_where_the_replacement_says() {
        for (expression, replacement, text, expected) in [
            (
                "^/service/([^/]+)(/.*)$",
                "\\2/instance/\\1",
                "/service/foo/v1/api",
                "/v1/api/instance/foo",
            ),
            ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
            (
                "^(.*?)one(.*)$",
                "\\1two\\2",
                "/xxx/one/yyy/one/zzz",
                "/xxx/two/yyy/one/zzz",
            ),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
            ("b", "[\\0]", "abc", "a[b]c"),
            ("b", "\\\\", "abc", "a\\c"),
            ("(x)?b", "<\\1>", "abc", "a<>c"),
            ("q", "r", "abc", "abc"),
        ] {
            let rule = Substitution::parse(expression, replacement).unwrap();
            assert_eq!(rule.apply(text), expected, "{rule:?}");
        }
    }

    #[test]
    fn a_replacement_that_means_nothing_is_refused() {
        let error = |expression, replacement| Substitution::parse(expression, replacement).unwrap_err();
        assert_eq!(error("a", "\\1"), SubstitutionError::Group(1));
        assert_eq!(error("a", "\\x"), SubstitutionError::Escape);
        assert_eq!(error("a", "\\"), SubstitutionError::Escape);
        assert!(matches!(error("(", ""), SubstitutionError::Regex(_)));
    }
}
