//! Tokens whose signature was verified a moment ago.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{KeySet, Token};

/// Places; each takes one token.
const SLOTS: usize = 1024;

/// Longer tokens are verified each time, so that the whole cache stays within a few tens of megabytes.
const LONGEST: usize = 8 << 10;

/// Tokens whose signature was verified a moment ago: a fixed number of places, each for one token, found by its hash
/// and compared in full. Reading and writing wait for nobody.
///
/// A token is genuine only by the keys that verified it: with other keys it is verified again. What depends on the time
/// or on the rule is asked each time.
#[derive(Debug)]
pub struct TokenCache {
    slots: Box<[ArcSwapOption<Verified>]>,
    /// With a secret of this process: nobody can choose tokens that drive each other out.
    hasher: RandomState,
}

#[derive(Debug)]
struct Verified {
    token: Arc<Token>,
    keys: Arc<KeySet>,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| ArcSwapOption::empty()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl TokenCache {
    /// The token, if these keys verified it.
    pub fn get(&self, text: &str, keys: &Arc<KeySet>) -> Option<Arc<Token>> {
        let found = self.slot(text)?.load();
        let found = found.as_ref()?;
        (found.token.as_str() == text && Arc::ptr_eq(&found.keys, keys)).then(|| Arc::clone(&found.token))
    }

    /// Remembers a token that these keys verified.
    pub fn put(&self, token: &Arc<Token>, keys: &Arc<KeySet>) {
        if let Some(slot) = self.slot(token.as_str()) {
            slot.store(Some(Arc::new(Verified {
                token: Arc::clone(token),
                keys: Arc::clone(keys),
            })));
        }
    }

    /// Forgets a token: it has expired.
    pub fn forget(&self, text: &str) {
        if let Some(slot) = self.slot(text)
            && slot
                .load()
                .as_ref()
                .is_some_and(|found| found.token.as_str() == text)
        {
            slot.store(None);
        }
    }

    fn slot(&self, text: &str) -> Option<&ArcSwapOption<Verified>> {
        if text.len() > LONGEST {
            return None;
        }
        let hash = self.hasher.hash_one(text);
        self.slots.get(hash as usize % self.slots.len())
    }
}
