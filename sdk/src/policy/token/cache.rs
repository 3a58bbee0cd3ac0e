//! Tokens whose signature was verified a moment ago.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{KeySet, Token};

/// Groups of places; a token's hash says which is its own.
const GROUPS: usize = 1024;

/// Places of a group. With one, half of a thousand tokens would drive each other out all the time; with four hardly any
/// does.
const PLACES: usize = 4;

/// Longer tokens are verified each time, so that the whole cache stays within a few tens of megabytes.
const LONGEST: usize = 4 << 10;

/// Tokens whose signature was verified a moment ago: a fixed number of places, each for one token, found by its hash
/// and compared in full. Reading and writing wait for nobody.
///
/// A token is genuine only by the keys that verified it: with other keys it is verified again. What depends on the time
/// or on the rule is asked each time.
#[derive(Debug)]
pub struct TokenCache {
    groups: Box<[Group]>,
    /// With a secret of this process: nobody can choose tokens that drive each other out.
    hasher: RandomState,
}

type Place = ArcSwapOption<Verified>;
type Group = [Place; PLACES];

#[derive(Debug)]
struct Verified {
    /// All of it: places of other tokens are passed over without comparing texts.
    hash: u64,
    token: Arc<Token>,
    keys: Arc<KeySet>,
}

impl Verified {
    fn is(&self, hash: u64, text: &str) -> bool {
        self.hash == hash && self.token.as_str() == text
    }
}

impl Default for TokenCache {
    fn default() -> Self {
        Self {
            groups: (0..GROUPS).map(|_| Group::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl TokenCache {
    /// The token, if these keys verified it.
    pub fn get(&self, text: &str, keys: &Arc<KeySet>) -> Option<Arc<Token>> {
        let (hash, group) = self.group(text)?;
        group.iter().find_map(|place| {
            let found = place.load();
            let found = found.as_ref()?;
            (found.is(hash, text) && Arc::ptr_eq(&found.keys, keys)).then(|| Arc::clone(&found.token))
        })
    }

    /// Remembers a token that these keys verified, in place of what was verified with other keys, or of any.
    pub fn put(&self, token: &Arc<Token>, keys: &Arc<KeySet>) {
        let Some((hash, group)) = self.group(token.as_str()) else {
            return;
        };
        let is_free = |place: &Place| match &*place.load() {
            None => true,
            Some(found) => found.is(hash, token.as_str()) || !Arc::ptr_eq(&found.keys, keys),
        };
        // The hash chooses who has to leave: that its other bits are used makes it another for each token.
        let other = (hash >> 48) as usize % PLACES;
        let place = group.iter().find(|place| is_free(place)).unwrap_or(&group[other]);
        place.store(Some(Arc::new(Verified {
            hash,
            token: Arc::clone(token),
            keys: Arc::clone(keys),
        })));
    }

    /// Forgets a token: it has expired.
    pub fn forget(&self, text: &str) {
        let Some((hash, group)) = self.group(text) else {
            return;
        };
        for place in group {
            if place.load().as_ref().is_some_and(|found| found.is(hash, text)) {
                place.store(None);
            }
        }
    }

    fn group(&self, text: &str) -> Option<(u64, &Group)> {
        if text.len() > LONGEST {
            return None;
        }
        let hash = self.hasher.hash_one(text);
        let group = self.groups.get(hash as usize % self.groups.len())?;
        Some((hash, group))
    }
}
