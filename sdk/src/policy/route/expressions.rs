//! Expressions by the text that every match has.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::bucket::{FEW, Ranks};
use crate::matcher::{FullRegex, PrefixMap};

/// What is reached by expressions, so that of thousands only those are tried whose text a path has. Each is filed under
/// what the fewest share of its beginning, its end, and what it has in between.
#[derive(Debug)]
pub(super) struct Expressions<T> {
    beginnings: PrefixMap<T>,
    /// Reversed.
    ends: PrefixMap<T>,
    middles: Option<Middles<T>>,
}

/// By what is somewhere between.
#[derive(Debug)]
struct Middles<T> {
    texts: AhoCorasick,
    /// One for each text.
    values: Vec<T>,
}

/// Expressions while they are collected, best first.
#[derive(Debug, Default)]
pub(super) struct ExpressionsBuilder<'a>(Vec<(u32, &'a FullRegex)>);

/// Where a text is, in order of what it costs to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    Beginning,
    End,
    Middle,
}

type Key<'a> = (Place, &'a str);

fn keys(regex: &FullRegex) -> [Key<'_>; 3] {
    let literals = regex.literals();
    [
        (Place::Beginning, &*literals.prefix),
        (Place::End, &*literals.suffix),
        (Place::Middle, &*literals.inner),
    ]
}

impl<T> Default for Expressions<T> {
    fn default() -> Self {
        Self {
            beginnings: PrefixMap::default(),
            ends: PrefixMap::default(),
            middles: None,
        }
    }
}

impl<T> Expressions<T> {
    /// Calls with all that a path may match; with some of it several times.
    pub(super) fn of(&self, path: &[u8], mut then: impl FnMut(&T)) {
        self.beginnings.along(path).for_each(&mut then);
        self.ends.along_reversed(path).for_each(&mut then);
        if let Some(middles) = &self.middles {
            for found in middles.texts.find_overlapping_iter(path) {
                middles.values.get(found.pattern().as_usize()).map(&mut then);
            }
        }
    }
}

impl<'a> ExpressionsBuilder<'a> {
    /// Adds what comes next in the order of precedence.
    pub(super) fn add(&mut self, rank: u32, regex: &'a FullRegex) {
        self.0.push((rank, regex));
    }

    pub(super) fn build<T>(self, value: impl Fn(Ranks) -> T) -> Expressions<T> {
        let mut filed = self.filed(&[Place::Beginning, Place::End, Place::Middle]);
        let among: Vec<_> = filed
            .keys()
            .filter(|(place, _)| *place == Place::Middle)
            .copied()
            .collect();
        let middles = match finder(&among) {
            Some(texts) => {
                let ranks = among.iter().filter_map(|key| filed.remove(key));
                Some(Middles {
                    texts,
                    values: ranks.map(&value).collect(),
                })
            }
            // None, or more than an automaton can hold, which are filed elsewhere then.
            None => {
                filed = self.filed(&[Place::Beginning, Place::End]);
                None
            }
        };
        let (mut beginnings, mut ends) = (Vec::new(), Vec::new());
        for ((place, text), ranks) in filed {
            match place {
                Place::End => ends.push((text.bytes().rev().collect(), value(ranks))),
                _ => beginnings.push((text.as_bytes().into(), value(ranks))),
            }
        }
        Expressions {
            beginnings: beginnings.into_iter().collect(),
            ends: ends.into_iter().collect(),
            middles,
        }
    }

    /// Each under the text that the fewest share, of those in these places.
    fn filed(&self, places: &[Place]) -> HashMap<Key<'a>, Ranks> {
        let keys = |regex| {
            let all = keys(regex).into_iter();
            // Every text begins with nothing, so that an expression without text is found too.
            all.filter(|(place, text)| {
                *place == Place::Beginning || (places.contains(place) && !text.is_empty())
            })
        };
        let mut shared: HashMap<Key<'_>, usize> = HashMap::new();
        for key in self.0.iter().flat_map(|(_, regex)| keys(regex)) {
            *shared.entry(key).or_default() += 1;
        }
        let mut filed: HashMap<Key<'_>, Ranks> = HashMap::new();
        for (rank, regex) in &self.0 {
            // To try a few more costs less than to look at another place.
            let crowd = |key: &Key<'_>| shared.get(key).copied().unwrap_or_default().max(FEW);
            let rarest = keys(regex).min_by_key(|key| (crowd(key), key.0));
            let key = rarest.unwrap_or((Place::Beginning, ""));
            filed.entry(key).or_default().push(*rank);
        }
        filed
    }
}

/// Finds all of these in a text at once.
fn finder(keys: &[Key<'_>]) -> Option<AhoCorasick> {
    if keys.is_empty() {
        return None;
    }
    let texts = keys.iter().map(|(_, text)| text);
    // The sort that takes little memory, however many there are.
    let kind = Some(AhoCorasickKind::ContiguousNFA);
    AhoCorasick::builder().kind(kind).build(texts).ok()
}
