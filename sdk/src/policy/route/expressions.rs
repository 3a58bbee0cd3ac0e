//! Expressions by the text that every match has.

use std::collections::HashMap;

use super::bucket::{FEW, Ranks};
use super::windows::{Window, Windows};
use crate::matcher::{FullRegex, PrefixMap};

/// What is reached by expressions, so that of thousands only those are tried whose text a path has. Each is filed under
/// what the fewest share of its beginning, its end, and what it has in between.
#[derive(Debug)]
pub(super) struct Expressions<T> {
    beginnings: PrefixMap<T>,
    /// Reversed.
    ends: PrefixMap<T>,
    /// By a window of what is somewhere between: text of any length is told apart by the few bytes in which it differs
    /// from most others.
    middles: Windows<T>,
}

/// Expressions while they are collected, best first.
#[derive(Debug, Default)]
pub(super) struct ExpressionsBuilder<'a>(Vec<(u32, &'a FullRegex)>);

/// What an expression is filed under, in order of what it costs to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key<'a> {
    Beginning(&'a str),
    End(&'a str),
    Middle(Window),
}

impl<'a> Key<'a> {
    /// All that an expression can be filed under.
    fn all(regex: &'a FullRegex) -> impl Iterator<Item = Self> {
        let literals = regex.literals();
        // Every text begins with nothing, so that an expression without text is found too.
        let beginning = Self::Beginning(&literals.prefix);
        let end = Some(Self::End(&literals.suffix)).filter(|_| !literals.suffix.is_empty());
        let middles = Window::all(&literals.inner).into_iter().map(Self::Middle);
        [beginning].into_iter().chain(end).chain(middles)
    }
}

impl<T> Default for Expressions<T> {
    fn default() -> Self {
        Self {
            beginnings: PrefixMap::default(),
            ends: PrefixMap::default(),
            middles: Windows::default(),
        }
    }
}

impl<T> Expressions<T> {
    /// Calls with all that a path may match, once with each.
    pub(super) fn of(&self, path: &[u8], mut then: impl FnMut(&T)) {
        self.beginnings.along(path).for_each(&mut then);
        self.ends.along_reversed(path).for_each(&mut then);
        self.middles.of(path, then);
    }
}

impl<'a> ExpressionsBuilder<'a> {
    /// Adds what comes next in the order of precedence.
    pub(super) fn add(&mut self, rank: u32, regex: &'a FullRegex) {
        self.0.push((rank, regex));
    }

    pub(super) fn build<T>(self, value: impl Fn(Ranks) -> T) -> Expressions<T> {
        let (mut beginnings, mut ends, mut middles) = (Vec::new(), Vec::new(), Vec::new());
        for (key, ranks) in self.filed() {
            let value = value(ranks);
            match key {
                Key::Beginning(text) => beginnings.push((text.as_bytes().into(), value)),
                Key::End(text) => ends.push((text.bytes().rev().collect(), value)),
                Key::Middle(window) => middles.push((window, value)),
            }
        }
        Expressions {
            beginnings: beginnings.into_iter().collect(),
            ends: ends.into_iter().collect(),
            middles: middles.into_iter().collect(),
        }
    }

    /// Each under what the fewest share.
    fn filed(&self) -> HashMap<Key<'a>, Ranks> {
        let mut shared: HashMap<Key<'_>, usize> = HashMap::new();
        for key in self.0.iter().flat_map(|(_, regex)| Key::all(regex)) {
            *shared.entry(key).or_default() += 1;
        }
        let mut filed: HashMap<Key<'_>, Ranks> = HashMap::new();
        for (rank, regex) in &self.0 {
            // To try a few more costs less than to look at another place.
            let crowd = |key: &Key<'_>| shared.get(key).copied().unwrap_or_default().max(FEW);
            let rarest = Key::all(regex).min_by_key(|key| (crowd(key), *key));
            let key = rarest.unwrap_or(Key::Beginning(""));
            filed.entry(key).or_default().push(*rank);
        }
        filed
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// Expressions whose middles are short, long, parts of each other, and shared. Compiled once: that is what takes time.
    static MIDDLES: LazyLock<Vec<FullRegex>> = LazyLock::new(|| {
        let middles = [
            "a",
            "b",
            "/",
            "ab",
            "ba",
            "aba",
            "abab",
            "baba",
            "/a/b",
            "ababab",
            "abababab",
            "babababa",
            "ab/ab/ab",
            "b/ab/ab/",
            "ababababab",
            "abababababa",
            "/ab/ab/ab/ab",
        ];
        let around = [(".*", ".*"), ("/[ab]*", "[ab/]*"), ("[^b]*", ".*b?")];
        let all = middles
            .iter()
            .flat_map(|middle| around.map(|(before, after)| format!("{before}{middle}{after}")));
        all.map(|text| FullRegex::parse(&text).unwrap()).collect()
    });

    pub(in crate::policy::route) fn any_middle() -> impl Strategy<Value = FullRegex> {
        (0..MIDDLES.len()).prop_map(|at| MIDDLES[at].clone())
    }

    /// A path that is likely to have some of them.
    pub(in crate::policy::route) fn any_path_with_middles() -> impl Strategy<Value = String> {
        let parts = vec!["a", "b", "/", "/ab", "ba", "abab", "/ab/ab", "abababab"];
        proptest::collection::vec(proptest::sample::select(parts), 0..7)
            .prop_map(|parts| format!("/{}", parts.concat()))
    }

    #[test]
    fn an_expression_is_filed_under_what_the_fewest_share() {
        let all: Vec<_> = (0..100)
            .map(|n| FullRegex::parse(&format!("/[a-z]+/v1/item{n}/[a-z]+")).unwrap())
            .collect();
        let mut builder = ExpressionsBuilder::default();
        for (rank, regex) in all.iter().enumerate() {
            builder.add(rank as u32, regex);
        }
        let expressions = builder.build(|ranks| ranks);
        for n in [0, 9, 42, 99] {
            let mut found = Vec::new();
            expressions.of(format!("/any/v1/item{n}/some").as_bytes(), |ranks| {
                found.extend_from_slice(ranks)
            });
            assert_eq!(found, [n]);
        }
    }

    proptest! {
        #[test]
        fn what_matches_is_among_what_is_found_and_that_once(
            list in proptest::collection::vec(any_middle(), 0..30),
            path in any_path_with_middles(),
        ) {
            let mut builder = ExpressionsBuilder::default();
            for (rank, regex) in list.iter().enumerate() {
                builder.add(rank as u32, regex);
            }
            let mut found = Vec::new();
            builder.build(|ranks| ranks).of(path.as_bytes(), |ranks| found.extend_from_slice(ranks));
            found.sort_unstable();
            prop_assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "{found:?}");
            for (rank, regex) in list.iter().enumerate().filter(|(_, regex)| regex.is_match(&path)) {
                prop_assert!(found.contains(&(rank as u32)), "{regex:?} {path}");
            }
        }
    }
}
