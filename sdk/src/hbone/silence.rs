//! Peers that have fallen silent: who they are, and when they answer again.
//!
//! A stopped or vanished peer refuses nothing: whoever dials it waits for as long as a dial may take. So that this is not
//! found out by one request after another, a target whose tunnel was given up for its silence, or that did not answer a
//! dial in time, is dialled by the pool itself, and everybody who chooses among peers can see the mark meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Error, TunnelTarget};

/// The marks of all targets that somebody has asked for.
#[derive(Default)]
pub(super) struct Silences {
    marks: HashMap<TunnelTarget, Mark>,
    /// Aborted with the pool.
    listening: JoinSet<()>,
}

#[derive(Default)]
struct Mark {
    silent: Arc<AtomicBool>,
    /// Whoever dials until the peer answers: there for as long as the mark says so.
    listener: Option<AbortHandle>,
}

// All orderings are relaxed: a mark is a hint, and nothing is published through it.

impl Silences {
    /// The mark of a target.
    pub(super) fn of(&mut self, target: &TunnelTarget) -> Arc<AtomicBool> {
        let mark = self.marks.entry(target.clone()).or_default();
        Arc::clone(&mark.silent)
    }

    /// Marks a target as silent, and lets `listener` find out when it no longer is; nothing happens where nobody has asked,
    /// or it is known.
    pub(super) fn fell(
        &mut self,
        target: &TunnelTarget,
        listener: impl Future<Output = ()> + Send + 'static,
    ) {
        let Some(mark) = self.marks.get_mut(target).filter(|it| it.listener.is_none()) else {
            return;
        };
        warn!(addr = %target.addr, "silent");
        mark.silent.store(true, Ordering::Relaxed);
        while self.listening.try_join_next().is_some() {} // forgets those that are over
        mark.listener = Some(self.listening.spawn(listener));
    }

    /// Takes the mark away.
    pub(super) fn heard(&mut self, target: &TunnelTarget) {
        let Some(mark) = self.marks.get_mut(target) else {
            return;
        };
        // It may be the listener itself that calls, which is over then.
        if let Some(listener) = mark.listener.take() {
            listener.abort();
            mark.silent.store(false, Ordering::Relaxed);
            info!(addr = %target.addr, "answers again");
        }
    }

    /// Forgets the targets for which `keep` says no.
    pub(super) fn retain(&mut self, keep: impl Fn(&TunnelTarget) -> bool) {
        self.marks.retain(|target, mark| {
            let kept = keep(target);
            if !kept && let Some(listener) = &mark.listener {
                listener.abort();
                // Whoever still has the mark is never told again.
                mark.silent.store(false, Ordering::Relaxed);
            }
            kept
        });
    }
}

/// Dials until something other than silence is the answer: a tunnel, or a refusal. `dial` gives `None` when there is
/// nobody left to dial for.
pub(super) async fn listen<D>(pause: Duration, mut dial: impl FnMut() -> D)
where
    D: Future<Output = Option<Result<(), Error>>>,
{
    while let Some(Err(error)) = dial().await
        && error.is_timeout()
    {
        sleep(pause).await;
    }
}
