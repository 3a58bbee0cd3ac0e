//! How a process stops without losing a request.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// How far shutting down has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not at all.
    #[default]
    Serving,
    /// Not ready any more, but still accepting: callers may not know yet. HTTP/1 answers carry `connection: close`.
    LameDuck,
    /// Accepting nothing; tunnels are told to go away; what is under way finishes.
    GoingAway,
    /// All peers have heard that: idle inner connections are closed; what is under way still finishes.
    Closing,
    /// The grace is over: what is left is cut off.
    Over,
}

/// Held for a peer for as long as it has not heard that we go away.
#[derive(Debug)]
pub(crate) struct Untold(watch::Sender<usize>);

impl Drop for Untold {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Starts and awaits the end of everything that holds a [`Draining`].
#[derive(Debug)]
pub struct Drain {
    stage: watch::Sender<Stage>,
    /// Never sent on: it closes when the last holder is gone.
    gone: tokio::sync::Mutex<mpsc::Receiver<()>>,
    held: std::sync::Mutex<Option<mpsc::Sender<()>>>,
    /// How many peers have not heard yet that we go away.
    untold: watch::Sender<usize>,
}

/// Held by whatever must finish before the process may end.
#[derive(Clone, Debug)]
pub struct Draining {
    stage: watch::Receiver<Stage>,
    untold: watch::Sender<usize>,
    _held: Option<mpsc::Sender<()>>,
}

impl Drain {
    /// A drain nobody waits on yet.
    pub fn new() -> Self {
        let (held, gone) = mpsc::channel(1);
        Self {
            stage: watch::Sender::default(),
            gone: tokio::sync::Mutex::new(gone),
            held: std::sync::Mutex::new(Some(held)),
            untold: watch::Sender::default(),
        }
    }

    /// A hold for a task; `None` once draining is over.
    pub fn hold(&self) -> Option<Draining> {
        let held = self
            .held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()?;
        Some(Draining {
            stage: self.stage.subscribe(),
            untold: self.untold.clone(),
            _held: Some(held),
        })
    }

    /// For what only wants to know the stage and need not be waited for.
    pub fn watch(&self) -> Draining {
        Draining {
            stage: self.stage.subscribe(),
            untold: self.untold.clone(),
            _held: None,
        }
    }

    /// The stage, to watch.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Goes through the stages: `lame_duck` accepting, then until `grace` is over finishing. Returns whether everything
    /// finished by itself. A second call waits for the first.
    pub async fn run(&self, lame_duck: Duration, grace: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + grace;
        self.advance(Stage::LameDuck);
        let mut gone = self.gone.lock().await;
        tokio::time::sleep(lame_duck.min(grace)).await;
        self.advance(Stage::GoingAway);
        // Whoever holds nothing else than this hold is done.
        self.held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        // A GOAWAY must have been heard before idle connections inside the tunnels may be closed: a request that is sent
        // on one before would be lost. How long that takes is the peers' affair, who may be busy. One that never answers
        // must leave the others time to finish.
        let patience = tokio::time::Instant::now() + deadline.duration_since(tokio::time::Instant::now()) / 2;
        let mut untold = self.untold.subscribe();
        let told = async {
            // The sender is ours.
            let _ = untold.wait_for(|count| *count == 0).await;
            tokio::time::sleep(SETTLE).await;
        };
        tokio::select! {
            _ = gone.recv() => return true,
            _ = tokio::time::timeout_at(patience, told) => {}
        }
        self.advance(Stage::Closing);
        if tokio::time::timeout_at(deadline, gone.recv()).await.is_ok() {
            return true;
        }
        tracing::warn!(
            held = gone.sender_strong_count(),
            untold = *self.untold.borrow(),
            ?grace,
            "the grace is over, and what is under way is cut off"
        );
        self.advance(Stage::Over);
        // Everything that is left looks at the stage; a second is plenty to drop a connection.
        let _ = tokio::time::timeout(Duration::from_secs(1), gone.recv()).await;
        false
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let forward = *stage < to;
            if forward {
                *stage = to;
            }
            forward
        });
    }
}

/// What was written before a GOAWAY was heard, by tasks that had just begun, comes a moment after; and who is not told by
/// a GOAWAY (HTTP/1.1 without a tunnel) is spared what can be spared.
const SETTLE: Duration = Duration::from_millis(200);

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Draining {
    /// To be held for a peer for as long as it has not heard that we go away.
    pub(crate) fn untold(&self) -> Untold {
        self.untold.send_modify(|count| *count += 1);
        Untold(self.untold.clone())
    }

    /// The stage now.
    pub fn now(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Waits until at least `stage` is reached.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn reached(&mut self, stage: Stage) {
        if self.stage.wait_for(|now| *now >= stage).await.is_err() {
            // The drain itself is gone: nobody will ever say more. Stay up, as the owner of the task decides.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_those_who_hold() {
        let drain = Arc::new(Drain::new());
        let mut hold = drain.hold().unwrap();
        let running = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.run(Duration::from_secs(1), Duration::from_secs(30)).await }
        });
        hold.reached(Stage::GoingAway).await;
        assert!(drain.hold().is_none());
        hold.reached(Stage::Closing).await;
        drop(hold);
        assert!(running.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_closed_before_all_peers_have_heard() {
        let drain = Arc::new(Drain::new());
        let mut hold = drain.hold().unwrap();
        let (busy, deaf) = (hold.untold(), hold.untold());
        let running = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.run(Duration::ZERO, Duration::from_secs(30)).await }
        });
        hold.reached(Stage::GoingAway).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(hold.now(), Stage::GoingAway);
        let began = tokio::time::Instant::now();
        drop(busy);
        hold.reached(Stage::Closing).await;
        assert_eq!(
            began.elapsed().as_secs(),
            10,
            "half of the time is enough for one that is deaf"
        );
        drop((deaf, hold));
        assert!(running.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_finish_is_cut_off_at_the_end_of_the_grace() {
        let drain = Arc::new(Drain::new());
        let mut hold = drain.hold().unwrap();
        let started = tokio::time::Instant::now();
        let finished = {
            let drain = Arc::clone(&drain);
            tokio::spawn(async move { drain.run(Duration::ZERO, Duration::from_secs(5)).await })
        };
        hold.reached(Stage::Over).await;
        assert_eq!(started.elapsed().as_secs(), 5);
        drop(hold);
        assert!(!finished.await.unwrap());
    }
}
