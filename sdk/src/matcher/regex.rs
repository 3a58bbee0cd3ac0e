//! Regular expressions that must match the whole text.

mod automaton;
mod halves;
mod literals;

use std::fmt;
use std::sync::Arc;

pub use automaton::Automata;
use automaton::Automaton;
pub(super) use automaton::build;
use halves::Halves;
use literals::Gap;

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
    literals: Literals,
    rest: Rest,
}

/// Text that every match has.
///
/// Expressions for paths and headers are mostly text with a gap or two. What is text is compared as such, which is
/// faster, and tells a set of expressions apart without trying each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Literals {
    /// It begins so.
    pub prefix: Box<str>,
    /// It ends so, after the prefix.
    pub suffix: Box<str>,
    /// The longest of what stands between the two; possibly nothing.
    pub inner: Box<str>,
}

/// What an expression asks of a text that has its prefix and its suffix.
#[derive(Clone)]
enum Rest {
    /// There is nothing between the two.
    Nothing,
    /// Between them is `.*`.
    Dots,
    /// Between them is a match of this.
    Between(Arc<Automaton>),
    /// Between them is a match of the halves, with the inner text between those.
    Around(Halves),
    /// All of the text matches this, which looks at its surroundings.
    Whole(Arc<Automaton>),
}

impl Literals {
    /// What a text has between prefix and suffix, if it has both.
    fn between<'t>(&self, text: &'t str) -> Option<&'t str> {
        let Self { prefix, suffix, .. } = self;
        let end = text.len().checked_sub(suffix.len())?;
        // An empty text is not compared: it has no address, and a comparison of nothing that begins with a wide load from
        // nowhere takes a processor 40 ns.
        let begins = prefix.is_empty() || text.starts_with(&**prefix);
        let ends = suffix.is_empty() || text.ends_with(&**suffix);
        (begins && ends).then(|| text.get(prefix.len()..end)).flatten()
    }
}

impl FullRegex {
    /// Reads an expression.
    ///
    /// # Errors
    /// If it is malformed, uses what RE2 does not have (look-around, back references) or is too large.
    pub fn parse(text: &str) -> Result<Self, RegexError> {
        if text.len() > TEXT_LIMIT {
            return Err(RegexError::Long);
        }
        let (literals, gap) = literals::split(text);
        let rest = match gap {
            Gap::Nothing => Rest::Nothing,
            Gap::Dots => Rest::Dots,
            Gap::Between(part) => Rest::Between(Arc::new(Automaton::new(part)?)),
            Gap::Around { before, after, whole } => Rest::Around(Halves::new(before, after, whole)?),
            Gap::Unclear => Rest::Whole(Arc::new(Automaton::new(text)?)),
        };
        Ok(Self {
            text: text.into(),
            literals,
            rest,
        })
    }

    /// Whether the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.literals
            .between(text)
            .is_some_and(|between| match &self.rest {
                Rest::Nothing => between.is_empty(),
                // A dot is any character but the end of a line.
                Rest::Dots => !between.contains('\n'),
                Rest::Between(automaton) => automaton.is_match(between),
                Rest::Around(halves) => halves.is_match(&self.literals.inner, between),
                Rest::Whole(automaton) => automaton.is_match(text),
            })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Text that every match has.
    pub fn literals(&self) -> &Literals {
        &self.literals
    }

    /// Uses automata from the set, where there are some that do the same; else they are there from now on.
    pub fn share(&mut self, automata: &mut Automata) {
        match &mut self.rest {
            Rest::Nothing | Rest::Dots => {}
            Rest::Between(own) | Rest::Whole(own) => automata.unite(own),
            Rest::Around(halves) => halves.share(automata),
        }
    }
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
    fn what_is_alike_is_there_once() {
        let mut automata = Automata::default();
        let mut parse = |text| {
            let mut regex = FullRegex::parse(text).unwrap();
            regex.share(&mut automata);
            regex
        };
        let (one, two, other) = (parse("/one/[0-9]+"), parse("/two/[0-9]+/x"), parse("/one/[a-z]+"));
        assert!(one.is_match("/one/7") && !one.is_match("/two/7/x"));
        assert!(two.is_match("/two/7/x") && !two.is_match("/one/7"));
        assert!(other.is_match("/one/a") && !other.is_match("/one/7"));
        assert_eq!(automata.len(), 2);
    }

    #[test]
    fn what_differs_in_the_middle_only_has_the_same_automata() {
        let mut automata = Automata::default();
        for n in 0..100 {
            let mut regex = FullRegex::parse(&format!("/[a-z]+/v1/item{n}/[0-9]+")).unwrap();
            regex.share(&mut automata);
            assert!(regex.is_match(&format!("/some/v1/item{n}/7")));
            assert!(!regex.is_match(&format!("/some/v1/item{n}7/7")));
        }
        assert_eq!(automata.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn what_is_cut_in_the_middle_matches_what_its_automaton_would(
            written in "/?([.a][*+]|[.]|\\[ab/\\]\\*|\\(a\\|b\\)?){1,2}(ab/a|aaaa|/ab/ab/|abé/a)([.b][*+?]|[ab]\\?){1,2}a?",
            text in "(/|a|b|ab/a|aaa|/ab/ab/|abé/a|\n){0,9}",
        ) {
            if let Ok(regex) = FullRegex::parse(&written) {
                let whole = Automaton::new(&written).unwrap();
                proptest::prop_assert_eq!(regex.is_match(&text), whole.is_match(&text), "{} {}", written, text);
            }
        }

        #[test]
        fn a_split_expression_matches_what_its_automaton_would(
            written in "(\\^|\\(\\?[ixms]\\))?[/abé\n \\-]{0,3}([.a][*+?]|\\(a\\|b\\)|\\[ab\\]\\{1,2\\}|\\\\b|\\\\.|[|$^])?[/ab]{0,2}([.b][*+?])?[/abé]{0,2}[$|]?",
            text in "[/ab.é\nAB \\-]{0,8}",
        ) {
            if let Ok(regex) = FullRegex::parse(&written) {
                let whole = Automaton::new(&written).unwrap();
                proptest::prop_assert_eq!(regex.is_match(&text), whole.is_match(&text), "{} {}", written, text);
            }
        }

        #[test]
        fn every_match_has_the_literals(text in "[/ab|()?*+^$.\\[\\]\\\\-]{0,8}", path in "/?[ab/|]{0,6}") {
            if let Ok(regex) = FullRegex::parse(&text)
                && Automaton::new(&text).unwrap().is_match(&path)
            {
                let Literals { prefix, suffix, inner } = regex.literals();
                proptest::prop_assert!(path.starts_with(&**prefix), "{text} {path}");
                proptest::prop_assert!(path.ends_with(&**suffix), "{text} {path}");
                proptest::prop_assert!(path[prefix.len()..path.len() - suffix.len()].contains(&**inner), "{text} {path}");
            }
        }
    }
}
