//! Path templates: `{*}` for one segment, `{**}` for any number of them.

use std::fmt;

/// Why a text is no path template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// It does not start with a slash.
    #[error("a path template starts with `/`")]
    Slash,
    /// A segment mixes an operator with text, or is `*` or `**`.
    #[error("`{0}`: an operator must be a whole segment, written `{{*}}` or `{{**}}`")]
    Segment(String),
    /// Something follows `{**}` that may not.
    #[error("no operator may follow `{{**}}`")]
    AfterMany,
    /// Two slashes in a row.
    #[error("a path template has no empty segment")]
    Empty,
    /// A literal segment holds a character that no path segment has.
    #[error("`{0}` has a character that is not allowed in a path")]
    Character(String),
}

/// Which characters `{*}` and `{**}` stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Those of a URI path segment, `*` excepted, as the templates define it: for what a match *opens*.
    Narrow,
    /// All but `/` (for `{**}`: all): for what a match *closes*, so that an odd character is no way round
    /// (CVE-2025-46821).
    Wide,
}

/// A path template such as `/store/{*}/items/{**}`.
///
/// `{*}` is one non-empty segment; `{**}` is any text, also none. The whole path must match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    /// What precedes each `{*}`, then what precedes `{**}` or the end.
    literals: Box<[Box<str>]>,
    /// What follows `{**}`, if there is one.
    tail: Option<Box<str>>,
}

impl PathTemplate {
    /// Whether a value of `paths` is a template rather than text.
    pub fn is_template(value: &str) -> bool {
        value.contains("{*}") || value.contains("{**}")
    }

    /// Reads a template.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let mut segments = template
            .strip_prefix('/')
            .ok_or(TemplateError::Slash)?
            .split('/')
            .peekable();
        let mut literals: Vec<Box<str>> = Vec::new();
        let mut literal = String::new();
        let mut before_many = None;
        while let Some(segment) = segments.next() {
            literal.push('/');
            match segment {
                "{*}" | "{**}" if before_many.is_some() => return Err(TemplateError::AfterMany),
                "{*}" => literals.push(std::mem::take(&mut literal).into()),
                "{**}" => before_many = Some(std::mem::take(&mut literal)),
                "" if segments.peek().is_some() => return Err(TemplateError::Empty),
                "*" | "**" => return Err(TemplateError::Segment(segment.into())),
                _ if segment.contains(['{', '}']) => return Err(TemplateError::Segment(segment.into())),
                _ if !segment.bytes().all(is_literal) => {
                    return Err(TemplateError::Character(segment.into()));
                }
                _ => literal.push_str(segment),
            }
        }
        let tail = match before_many {
            Some(before) => {
                literals.push(before.into());
                Some(literal.into())
            }
            None => {
                literals.push(literal.into());
                None
            }
        };
        Ok(Self {
            literals: literals.into(),
            tail,
        })
    }

    /// What every matching path starts with.
    pub fn prefix(&self) -> &str {
        self.literals.first().map_or("", |first| first)
    }

    /// What every matching path ends with.
    pub fn suffix(&self) -> &str {
        let last = self.tail.as_ref().or_else(|| self.literals.last());
        last.map_or("", |last| last)
    }

    /// Segments that every matching path has, with their places counted from zero.
    pub fn segments(&self) -> impl Iterator<Item = (usize, &str)> {
        // Each literal starts with a slash. What follows its last slash is an operator's place, or the end.
        let texts = self
            .literals
            .iter()
            .flat_map(|literal| literal.split('/').skip(1));
        texts.enumerate().filter(|(_, text)| !text.is_empty())
    }

    /// Whether the whole path (without query) matches.
    pub fn matches(&self, path: &str, width: Width) -> bool {
        let Some((last, before)) = self.literals.split_last() else {
            return false;
        };
        let mut rest = path;
        for literal in before {
            let Some(after) = rest.strip_prefix(&**literal) else {
                return false;
            };
            // Operators are whole segments, so what one stands for ends at the next slash or nowhere.
            let end = after.find('/').unwrap_or(after.len());
            if end == 0 || !after[..end].bytes().all(|byte| width.has(byte)) {
                return false;
            }
            rest = &after[end..];
        }
        let Some(rest) = rest.strip_prefix(&**last) else {
            return false;
        };
        match &self.tail {
            None => rest.is_empty(),
            Some(tail) => rest
                .strip_suffix(&**tail)
                .is_some_and(|many| many.bytes().all(|byte| byte == b'/' || width.has(byte))),
        }
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((last, before)) = self.literals.split_last() else {
            return Ok(());
        };
        for literal in before {
            write!(f, "{literal}{{*}}")?;
        }
        f.write_str(last)?;
        match &self.tail {
            Some(tail) => write!(f, "{{**}}{tail}"),
            None => Ok(()),
        }
    }
}

impl Width {
    fn has(self, byte: u8) -> bool {
        self == Self::Wide || is_literal(byte)
    }
}

/// RFC 3986 §3.3 `pchar` without `*`, percent escapes taken as their characters.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_stand_for_whole_segments() {
        for (template, path, expected) in [
            ("/a/{**}", "/a/", true),
            ("/a/{**}", "/a", false),
            ("/a/{**}", "/a/b/c.txt", true),
            ("/foo/{*}/bar/{**}", "/foo/x/bar/y/z", true),
            ("/foo/{*}/bar/{**}", "/foo//bar/y", false),
            ("/foo/{*}/bar/{**}", "//foo/x/bar/y", false),
            ("/store/{**}/cart", "/store//cart", true),
            ("/store/{**}/cart", "/store/cart", false),
            ("/store/{**}/cart", "/store/a/b/cart", true),
            ("/{*}", "/a", true),
            ("/{*}", "/", false),
            ("/{*}", "/a/", false),
            ("/{*}/x", "/a/x", true),
        ] {
            let template = PathTemplate::parse(template).unwrap();
            for width in [Width::Narrow, Width::Wide] {
                assert_eq!(template.matches(path, width), expected, "{template:?} on {path}");
            }
        }
    }

    #[test]
    fn what_every_matching_path_has_is_told() {
        for (template, prefix, suffix, segments) in [
            ("/a/{*}/b/c", "/a/", "/b/c", &[(0, "a"), (2, "b"), (3, "c")][..]),
            ("/a/{*}/b/{**}", "/a/", "", &[(0, "a"), (2, "b")]),
            ("/{**}/x/y", "/", "/x/y", &[]),
            ("/{*}/{*}/z/", "/", "/z/", &[(2, "z")]),
        ] {
            let text = template;
            let template = PathTemplate::parse(template).unwrap();
            assert_eq!(template.to_string(), text);
            assert_eq!(template.prefix(), prefix);
            assert_eq!(template.suffix(), suffix);
            assert_eq!(template.segments().collect::<Vec<_>>(), segments);
        }
    }

    /// hardening row 31
    #[test]
    fn a_star_in_the_path_is_no_way_round_a_template_that_closes() {
        let template = PathTemplate::parse("/admin/{*}").unwrap();
        assert!(template.matches("/admin/a*b", Width::Wide));
        assert!(!template.matches("/admin/a*b", Width::Narrow));
        assert!(template.matches("/admin/a|b", Width::Wide));
        assert!(!template.matches("/admin/a/b", Width::Wide));
    }

    #[test]
    fn malformed_templates_are_refused() {
        for text in [
            "a/{*}",
            "/a{*}",
            "/{*}b",
            "/{**}/{*}",
            "/{**}/{**}",
            "/{*}/*",
            "/{*}/**",
            "/{x}/{*}",
            "/{*}/}",
            "/{*}/a b",
            "/{***}",
            "/a*/{*}",
            "/a//{*}",
            "/{bar}",
        ] {
            assert!(PathTemplate::parse(text).is_err(), "{text}");
        }
    }
}
