//! Keys that verify tokens: what outlives a snapshot, because keys change more seldom than configuration, and at other
//! times.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "jwt")]
pub use live::KeyCell;

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeySource {
    /// From the policy itself: this text.
    Inline(Arc<str>),
    /// From a URL (`jwksUri`).
    Url {
        /// The URL.
        url: Arc<str>,
        /// How long fetching may take.
        timeout: Duration,
    },
    /// From where the issuer's metadata says (OpenID Connect Discovery 1.0 §4).
    Discovery {
        /// The issuer.
        issuer: Arc<str>,
        /// How long fetching may take.
        timeout: Duration,
    },
}

impl KeySource {
    /// Whether there is something to fetch.
    pub fn is_remote(&self) -> bool {
        !matches!(self, Self::Inline(_))
    }
}

/// Nobody's tokens can be verified without feature `jwt`.
#[cfg(not(feature = "jwt"))]
#[derive(Debug)]
pub enum KeyCell {}

#[cfg(feature = "jwt")]
mod live {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use arc_swap::ArcSwap;
    use tokio::sync::{Notify, watch};

    use super::KeySource;
    use crate::policy::token::{KeySet, Lookup, TokenCache};

    /// How long keys count that cannot be fetched anew. An issuer that is down must not lock everybody out at once, and
    /// a key that it has withdrawn must not be believed for ever.
    const STALE: Duration = Duration::from_secs(3600);

    /// How often newer keys may be asked for because of a token that none of ours fits: whoever sends forged tokens must
    /// not be able to have the issuer flooded.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// The keys of one source, as they are now; shared by the snapshots that need them.
    #[derive(Debug)]
    pub struct KeyCell {
        source: KeySource,
        state: ArcSwap<State>,
        cache: TokenCache,
        /// Counts answers of the source, good or bad.
        answers: watch::Sender<u64>,
        /// Somebody needs newer keys.
        wanted: Notify,
        born: Instant,
        /// When they were last asked for, in milliseconds since `born`; 0 is never.
        asked: AtomicU64,
    }

    #[derive(Debug)]
    enum State {
        Pending,
        Good { keys: Arc<KeySet>, since: Instant },
        Failed,
    }

    impl KeyCell {
        /// A source whose keys are not known yet; those of an inline source are at once.
        pub fn new(source: KeySource) -> Self {
            let state = match &source {
                KeySource::Inline(text) => match KeySet::parse(text) {
                    Ok(keys) => State::Good {
                        keys: Arc::new(keys),
                        since: Instant::now(),
                    },
                    Err(_) => State::Failed,
                },
                _ => State::Pending,
            };
            Self {
                source,
                state: ArcSwap::from_pointee(state),
                cache: TokenCache::default(),
                answers: watch::Sender::new(0),
                wanted: Notify::new(),
                born: Instant::now(),
                asked: AtomicU64::new(0),
            }
        }

        /// Where the keys come from.
        pub fn source(&self) -> &KeySource {
            &self.source
        }

        /// The keys.
        pub fn lookup(&self) -> Lookup {
            match &**self.state.load() {
                State::Pending => Lookup::Pending,
                State::Failed => Lookup::Failed,
                State::Good { keys, .. } => Lookup::Ready(Arc::clone(keys)),
            }
        }

        /// Tokens that were verified with them.
        pub fn cache(&self) -> &TokenCache {
            &self.cache
        }

        /// The source has given these keys.
        pub fn answered(&self, keys: KeySet, now: Instant) {
            self.state.store(Arc::new(State::Good {
                keys: Arc::new(keys),
                since: now,
            }));
            self.answers.send_modify(|count| *count += 1);
        }

        /// The source has given no keys. Older ones stay for a while; says whether they do.
        pub fn failed(&self, now: Instant) -> bool {
            let young = |since: Instant| now.saturating_duration_since(since) < STALE;
            let stays = matches!(&**self.state.load(), State::Good { since, .. } if young(*since));
            if !stays {
                self.state.store(Arc::new(State::Failed));
            }
            self.answers.send_modify(|count| *count += 1);
            stays
        }

        /// Asks for newer keys. Gives what to wait on, or `None` if there is nothing to be had or they were asked for a
        /// moment ago.
        pub fn ask(&self) -> Option<watch::Receiver<u64>> {
            if !self.source.is_remote() {
                return None;
            }
            let mut answers = self.answers.subscribe();
            answers.mark_unchanged();
            let now = u64::try_from(self.born.elapsed().as_millis())
                .unwrap_or(u64::MAX)
                .max(1);
            let asked = self.asked.load(Ordering::Relaxed);
            if asked != 0 && now.saturating_sub(asked) < PATIENCE.as_millis() as u64 {
                return None;
            }
            // Who loses the race has been asked for by the winner.
            self.asked
                .compare_exchange(asked, now, Ordering::Relaxed, Ordering::Relaxed)
                .ok()?;
            self.wanted.notify_one();
            Some(answers)
        }

        /// What to wait on for the next answer.
        pub fn answers(&self) -> watch::Receiver<u64> {
            self.answers.subscribe()
        }

        /// Waits until somebody asks for newer keys.
        pub async fn wanted(&self) {
            self.wanted.notified().await;
        }
    }
}
