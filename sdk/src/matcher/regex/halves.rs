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
        for tried in 0.. {
            if tried == TRIES
                && let Some(whole) = self.whole.automaton()
            {
                return whole.is_match(text);
            }
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
        false
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
    /// There is one, as there is one of each half; if there were none, trying on would give the same answer, but late.
    fn automaton(&self) -> Option<&Automaton> {
        let automaton = || Automaton::of_two(&self.text).ok();
        self.automaton.get_or_init(automaton).as_ref()
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

    #[test]
    fn both_halves_may_be_as_large_as_they_can_be() {
        let half = |n: usize| format!("[\\d/abc]{{{n}}}");
        let whole = |n: usize| format!("{0}/abc/{0}", half(n));
        // Twice as large is refused.
        let sizes = (0..12).map(|n| 5 << n);
        let many = sizes.take_while(|n| Half::new(&half(*n)).is_ok()).last().unwrap();
        assert_eq!(Automaton::new(&whole(many)).unwrap_err(), RegexError::Large);
        let halves = Halves::new(&half(many), &half(many), &whole(many)).unwrap();
        let side = "/abc/".repeat(many / 5);
        assert!(many / 5 > TRIES);
        assert!(halves.is_match("/abc/", &format!("{side}/abc/{side}")));
        assert!(!halves.is_match("/abc/", &format!("{side}/abc/{side}x")));
        assert!(matches!(halves.whole.automaton.get(), Some(Some(_))));
    }
}
