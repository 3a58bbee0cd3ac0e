//! The tap: where whoever observes requests leaves those that somebody may want to look at.
//!
//! ```text
//! request path ── wanted? ── one relaxed load, mostly "no"
//!              └─ give ──▶ [bounded queue] ──▶ whoever shows them (`watch`)
//! ```
//!
//! Nobody on the request path waits for whoever looks: a queue that is full loses requests, and says how many.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_queue::ArrayQueue;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};
use tokio::sync::Notify;

use super::{Claims, Cluster, Place, Snapshot};
use crate::name::{Peer, ResourceRef};
use crate::policy::balance::Endpoint;
use crate::telemetry::RequestSeries;

/// Requests that wait to be taken. Each holds its snapshot, so there must not be many.
const WAITING: usize = 256;
/// How many requests a second are told of in full while somebody looks; so many more are told of because they failed.
const PER_SECOND: u64 = 200;

/// From when on a request is slow.
pub(crate) const SLOW: Duration = Duration::from_secs(1);

/// Where finished requests are left for whoever looks.
#[derive(Debug)]
pub struct Tap {
    level: AtomicU8,
    began: Instant,
    all: Ration,
    failed: Ration,
    queue: ArrayQueue<Box<Taken>>,
    lost: AtomicU64,
    waiting: Notify,
}

/// Which requests somebody wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Wanted {
    /// None.
    Nothing,
    /// Those that were refused, failed or were slow.
    Remarkable,
    /// All, as far as their number allows.
    All,
}

/// So many in each second.
#[derive(Debug)]
struct Ration(AtomicU64);

impl Default for Tap {
    fn default() -> Self {
        Self {
            level: AtomicU8::new(Wanted::Nothing as u8),
            began: Instant::now(),
            all: Ration(AtomicU64::new(0)),
            failed: Ration(AtomicU64::new(0)),
            queue: ArrayQueue::new(WAITING),
            lost: AtomicU64::new(0),
            waiting: Notify::new(),
        }
    }
}

impl Tap {
    /// Whether a request that begins now is wanted: one relaxed load where nobody looks, which is how it mostly is.
    pub(crate) fn wants(&self) -> Wanted {
        // Relaxed: nothing else is published by it. Who begins to look may miss what has begun already.
        match self.level.load(Ordering::Relaxed) {
            0 => Wanted::Nothing,
            1 => Wanted::Remarkable,
            _ if self.all.take(self.second(), PER_SECOND) => Wanted::All,
            _ => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                Wanted::Remarkable
            }
        }
    }

    /// Says which requests are wanted from now on.
    pub fn want(&self, wanted: Wanted) {
        self.level.store(wanted as u8, Ordering::Relaxed);
    }

    /// Whether one more request that is told of for its outcome alone may be.
    pub(crate) fn has_room(&self) -> bool {
        let room = self.failed.take(self.second(), PER_SECOND / 4);
        if !room {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    /// Leaves a finished request.
    pub(crate) fn give(&self, taken: Box<Taken>) {
        match self.queue.push(taken) {
            Ok(()) => self.waiting.notify_one(),
            Err(_) => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// The next finished request.
    ///
    /// # Cancel safety
    /// No request is lost.
    pub(crate) async fn next(&self) -> Box<Taken> {
        loop {
            if let Some(taken) = self.queue.pop() {
                return taken;
            }
            // `notify_one` keeps its word for a waiter that comes later, so nothing is missed in between.
            self.waiting.notified().await;
        }
    }

    /// How many wanted requests were not told of, since this was asked last.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    fn second(&self) -> u64 {
        self.began.elapsed().as_secs()
    }
}

impl Ration {
    /// Takes one, if there is one left in this second.
    fn take(&self, second: u64, limit: u64) -> bool {
        let second = second & 0xffff_ffff;
        let next = |word: u64| match word >> 32 == second {
            true if word & 0xffff_ffff >= limit => None,
            true => Some(word + 1),
            false => Some(second << 32 | 1),
        };
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

/// A request that is over, with all that is known of it. Nothing is formatted yet: whoever shows it does that.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The snapshot that judged it.
    pub(crate) view: Arc<Snapshot>,
    pub(crate) method: Method,
    /// As it came, its path in normal form.
    pub(crate) uri: Uri,
    /// The host that it named, where its URI does not say.
    pub(crate) authority: Box<str>,
    /// What was dialled, where that is not it.
    pub(crate) dialled: Option<Authority>,
    /// Its headers as they came; `None` if it was told of for its outcome alone.
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) trace: Option<String>,
    /// Where it came in; `None` where this process sent it.
    pub(crate) place: Option<Arc<Place>>,
    /// Who sent it; `None` where this process did.
    pub(crate) peer: Option<Arc<Peer>>,
    /// What it is counted in, which says who is who.
    pub(crate) series: Arc<RequestSeries>,
    pub(crate) began: SystemTime,
    pub(crate) start: Instant,
    pub(crate) duration: Duration,
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u16>,
    pub(crate) flags: &'static str,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// When the answer began.
    pub(crate) answered: Option<Instant>,
    /// Who answered.
    pub(crate) endpoint: Option<Arc<Endpoint>>,
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// The rule that won.
    pub(crate) rule: Option<Arc<str>>,
    pub(crate) attempts: u32,
    pub(crate) refused: Option<Refused>,
    pub(crate) judged: Option<Judgement>,
    pub(crate) trail: Trail,
    pub(crate) wanted: Wanted,
}

/// Why a request was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
    /// What the operator reads.
    pub(crate) why: String,
    pub(crate) policy: Option<ResourceRef>,
    pub(crate) rule: Option<u32>,
}

/// What authorization decided.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    pub(crate) allowed: bool,
    pub(crate) policy: Option<String>,
    pub(crate) rule: Option<u32>,
    pub(crate) clause: String,
    pub(crate) inputs: String,
    pub(crate) cost: Duration,
    pub(crate) claims: Option<Arc<Claims>>,
}

/// Where a request was, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    pub(crate) marks: Vec<(Instant, Phase)>,
    pub(crate) attempts: Vec<Attempt>,
}

/// What happens to a request from a mark on.
#[cfg_attr(
    not(all(feature = "jwt", feature = "extauthz")),
    allow(dead_code, reason = "only who asks others marks it")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// External authorizers are asked.
    Consult,
    /// Tokens are verified.
    Authenticate,
    /// Authorization policies decide.
    Authorize,
    /// Rate limits are asked.
    Admit,
    /// It is with the application.
    Application,
    /// The rule is found that decides.
    Route,
    /// An endpoint is chosen.
    Balance,
    /// A connection is made.
    Connect,
    /// It is sent, and the answer awaited.
    Exchange,
}

/// One attempt to have a request answered.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) began: Instant,
    pub(crate) ended: Option<Instant>,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) dialled: SocketAddr,
    /// The status of the answer, or 0.
    pub(crate) status: u16,
    /// Why there was none.
    pub(crate) failed: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ration_lasts_a_second() {
        let ration = Ration(AtomicU64::new(0));
        assert!((0..3).all(|_| ration.take(7, 3)));
        assert!(!ration.take(7, 3));
        assert!(ration.take(8, 3));
        assert!(!Ration(AtomicU64::new(0)).take(0, 0));
    }

    #[test]
    fn what_is_not_wanted_is_not_taken() {
        let tap = Tap::default();
        assert_eq!(tap.wants(), Wanted::Nothing);
        tap.want(Wanted::All);
        let all = (0..1_000).filter(|_| tap.wants() == Wanted::All).count() as u64;
        // The clock may turn once in between.
        assert!((PER_SECOND..=2 * PER_SECOND).contains(&all), "{all}");
        assert_eq!(tap.lost(), 1_000 - all);
        tap.want(Wanted::Nothing);
        assert_eq!(tap.wants(), Wanted::Nothing);
    }
}
