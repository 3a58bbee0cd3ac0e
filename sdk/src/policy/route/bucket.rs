//! Alternatives that share a path: told apart by the value of a header (or parameter, method, authority) they ask for.

use std::collections::HashMap;

use http::HeaderName;
use smallvec::SmallVec;

use super::texts::{Texts, TextsBuilder};
use crate::matcher::{ValuePattern, parameters, with_joined_bytes};
use crate::policy::RequestHead;

/// Positions in the order of precedence, ascending: the best first.
pub(super) type Ranks = SmallVec<[u32; 4]>;

/// So few are looked at one after the other. Random tables have hardly more at one place, and shall find them by value.
pub(super) const FEW: usize = if cfg!(test) { 1 } else { 8 };

/// What can be filed.
pub(super) trait Filed {
    /// The values without which it does not hold, as far as it can be looked up by them.
    fn keys(&self) -> impl Iterator<Item = Key<'_>>;

    /// Whether it holds of a request whose host and path led here.
    fn holds(&self, head: &RequestHead<'_>) -> bool;
}

/// A value that a request must have.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key<'a> {
    of: Of<'a>,
    text: &'a str,
    is_prefix: bool,
}

/// What the value is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Of<'a> {
    Method,
    Authority,
    Header(&'a HeaderName),
    Parameter(&'a str),
}

impl<'a> Key<'a> {
    /// `None` if the pattern names no value that could be looked up.
    pub(super) fn new(of: Of<'a>, value: &'a ValuePattern) -> Option<Self> {
        let (text, is_prefix) = match value {
            ValuePattern::Exact(text) => (&**text, false),
            ValuePattern::Prefix(text) => (&**text, true),
            ValuePattern::Regex(regex) => match &*regex.literals().prefix {
                "" => return None,
                text => (text, true),
            },
            ValuePattern::Any => return None,
        };
        Some(Self { of, text, is_prefix })
    }

    /// A method.
    pub(super) fn method(name: &'a str) -> Self {
        Self {
            of: Of::Method,
            text: name,
            is_prefix: false,
        }
    }
}

/// Alternatives that share a path. Those that ask for a value are looked up by it, so that thousands of them that differ
/// in a tenant's name cost as much as one.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Those that ask for no value, or cannot be looked up by it.
    rest: Ranks,
    /// Most buckets hold only a few, which are not worth it.
    by_value: Option<Box<ByValue>>,
}

/// Alternatives by the value they ask for.
#[derive(Debug, Default)]
struct ByValue<V = Texts<Ranks>> {
    headers: HashMap<HeaderName, V>,
    parameters: HashMap<Box<str>, V>,
    methods: V,
    authorities: V,
}

impl Bucket {
    /// Files what is at these positions of `all`, each under the value that the fewest of them share.
    pub(super) fn new<F: Filed>(ranks: Ranks, all: &[F]) -> Self {
        if ranks.len() <= FEW {
            return Self {
                rest: ranks,
                by_value: None,
            };
        }
        let keys = |rank: u32| all.get(rank as usize).into_iter().flat_map(F::keys);
        let mut shared: HashMap<Key<'_>, usize> = HashMap::new();
        for key in ranks.iter().flat_map(|rank| keys(*rank)) {
            *shared.entry(key).or_default() += 1;
        }
        let (mut rest, mut by_value) = (Ranks::new(), ByValue::<TextsBuilder<Ranks>>::default());
        for rank in ranks {
            let rarest = keys(rank).min_by_key(|key| (shared.get(key), key.is_prefix));
            match rarest {
                Some(key) => by_value.slot(key).push(rank),
                None => rest.push(rank),
            }
        }
        Self {
            rest,
            by_value: (!shared.is_empty()).then(|| Box::new(by_value.build())),
        }
    }

    /// Lowers `best` to the first that holds, if that is before it.
    pub(super) fn lower<F: Filed>(&self, all: &[F], head: &RequestHead<'_>, best: &mut u32) {
        let mut consider = |ranks: &Ranks| {
            for rank in ranks.iter().take_while(|rank| **rank < *best) {
                if all.get(*rank as usize).is_some_and(|it| it.holds(head)) {
                    *best = *rank;
                    return;
                }
            }
        };
        consider(&self.rest);
        if let Some(by_value) = &self.by_value {
            by_value.of(head, &mut consider);
        }
    }
}

impl ByValue<TextsBuilder<Ranks>> {
    fn slot(&mut self, key: Key<'_>) -> &mut Ranks {
        let values = match key.of {
            Of::Header(name) => self.headers.entry(name.clone()).or_default(),
            Of::Parameter(name) => self.parameters.entry(name.into()).or_default(),
            Of::Method => &mut self.methods,
            Of::Authority => &mut self.authorities,
        };
        if key.is_prefix {
            values.prefix(key.text)
        } else {
            values.exact(key.text)
        }
    }

    fn build(self) -> ByValue {
        let values = |it: TextsBuilder<Ranks>| it.build(|ranks| ranks);
        ByValue {
            headers: self
                .headers
                .into_iter()
                .map(|(name, it)| (name, values(it)))
                .collect(),
            parameters: self
                .parameters
                .into_iter()
                .map(|(name, it)| (name, values(it)))
                .collect(),
            methods: values(self.methods),
            authorities: values(self.authorities),
        }
    }
}

impl ByValue {
    /// Calls with all that ask for a value that the request has.
    fn of(&self, head: &RequestHead<'_>, mut then: impl FnMut(&Ranks)) {
        self.methods.of(head.method.as_str().as_bytes(), &mut then);
        self.authorities.of(head.authority.as_bytes(), &mut then);
        let mut header = |name: &HeaderName, values: &Texts<Ranks>| {
            with_joined_bytes(head.headers, name, |value| values.of(value, &mut then));
        };
        // Whichever are fewer: the names that are asked for, or those that the request has.
        if self.headers.len() <= head.headers.keys_len() {
            self.headers
                .iter()
                .for_each(|(name, values)| header(name, values));
        } else {
            for name in head.headers.keys() {
                if let Some(values) = self.headers.get(name) {
                    header(name, values);
                }
            }
        }
        if !self.parameters.is_empty() {
            // Of several parameters of a name only the first counts; what asks for the others' values does not hold.
            for (name, value) in parameters(head.query) {
                if let Some(values) = self.parameters.get(name) {
                    values.of(value.as_bytes(), &mut then);
                }
            }
        }
    }
}
