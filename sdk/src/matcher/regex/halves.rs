//! Two gaps with text between them: `[a-z]+/v1/item17/[a-z]+`.
//!
//! Thousands of such expressions differ in that text and in nothing else. Cut in two at it, all of them have the automata
//! of their halves in common, which stay where a processor reaches them quickly.

use std::sync::{Arc, OnceLock};

use memchr::memmem;

use super::RegexError;
use super::automaton::{Automata, Automaton};

/// Shorter text is likely to be in what the halves match, too.
pub(super) const WORTH_IT: usize = 4;

/// How often the text may be in what is asked about until the halves are given up. Once is what there is; whoever repeats
/// it shall not have every repetition tried.
const TRIES: usize = 4;

/// What is around some text.
#[derive(Clone, Debug)]
pub(super) struct Halves {
    before: Half,
    after: Half,
    whole: Arc<Whole>,
}

#[derive(Clone, Debug)]
enum Half {
    /// `.*`
    Dots,
    Automaton(Arc<Automaton>),
}

/// Both with the text, for what has the text many times. Compiled when the first such thing is asked about, as hardly
/// anything ever is.
#[derive(Debug)]
struct Whole {
    text: Box<str>,
    automaton: OnceLock<Option<Automaton>>,
}

impl Halves {
    pub(super) fn new(before: &str, after: &str, whole: &str) -> Result<Self, RegexError> {
        Ok(Self {
            before: Half::new(before)?,
            after: Half::new(after)?,
            whole: Arc::new(Whole {
                text: whole.into(),
                automaton: OnceLock::new(),
            }),
        })
    }

    /// Whether a text is a match of the one, this in between, and a match of the other.
    pub(super) fn is_match(&self, between: &str, text: &str) -> bool {
        let step = between.chars().next().map_or(1, char::len_utf8);
        let mut from = 0;
        for _ in 0..TRIES {
            let Some(rest) = text.get(from..) else {
                return false;
            };
            let Some(at) = memmem::find(rest.as_bytes(), between.as_bytes()) else {
                return false;
            };
            let at = from + at;
            if let (Some(before), Some(after)) = (text.get(..at), text.get(at + between.len()..))
                && self.before.is_match(before)
                && self.after.is_match(after)
            {
                return true;
            }
            from = at + step;
        }
        self.whole.is_match(text)
    }

    pub(super) fn share(&mut self, automata: &mut Automata) {
        for half in [&mut self.before, &mut self.after] {
            if let Half::Automaton(own) = half {
                automata.unite(own);
            }
        }
    }
}

impl Half {
    fn new(text: &str) -> Result<Self, RegexError> {
        match text {
            ".*" => Ok(Self::Dots),
            _ => Ok(Self::Automaton(Arc::new(Automaton::new(text)?))),
        }
    }

    fn is_match(&self, text: &str) -> bool {
        match self {
            // A dot is any character but the end of a line.
            Self::Dots => !text.contains('\n'),
            Self::Automaton(automaton) => automaton.is_match(text),
        }
    }
}

impl Whole {
    fn is_match(&self, text: &str) -> bool {
        // Each half was compiled within bounds; if both together are beyond them, only what has the text a few times is
        // a match.
        let automaton = self.automaton.get_or_init(|| Automaton::new(&self.text).ok());
        automaton.as_ref().is_some_and(|it| it.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_may_be_there_more_than_once() {
        let halves = Halves::new("[a-z0-9/]+", "[0-9]+", "[a-z0-9/]+/v1/[0-9]+").unwrap();
        for (text, expected) in [
            ("a/v1/2", true),
            ("a/v1/v1/2", true),
            ("/v1/2", false),
            ("a/v1/b", false),
            ("a", false),
            ("a/v1/b/v1/b/v1/b/v1/b/v1/b/v1/7", true),
            ("a/v1/b/v1/b/v1/b/v1/b/v1/b/v1/b", false),
        ] {
            let whole = Automaton::new(&halves.whole.text).unwrap();
            assert_eq!(whole.is_match(text), expected, "{text}");
            assert_eq!(halves.is_match("/v1/", text), expected, "{text}");
        }
        assert!(halves.whole.automaton.get().is_some());
    }
}
