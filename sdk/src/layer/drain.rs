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
    /// Idle inner connections are closed; what is under way still finishes.
    Closing,
    /// The grace is over: what is left is cut off.
    Over,
}

/// Starts and awaits the end of everything that holds a [`Draining`].
#[derive(Debug)]
pub struct Drain {
    stage: watch::Sender<Stage>,
    /// Never sent on: it closes when the last holder is gone.
    gone: tokio::sync::Mutex<mpsc::Receiver<()>>,
    held: std::sync::Mutex<Option<mpsc::Sender<()>>>,
}

/// Held by whatever must finish before the process may end.
#[derive(Clone, Debug)]
pub struct Draining {
    stage: watch::Receiver<Stage>,
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
            _held: Some(held),
        })
    }

    /// For what only wants to know the stage and need not be waited for.
    pub fn watch(&self) -> Draining {
        Draining {
            stage: self.stage.subscribe(),
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
        // A GOAWAY needs a moment to arrive before idle connections inside the tunnels may be closed: a request that is
        // sent on one in that moment would be lost.
        let settle = Duration::from_millis(200);
        if tokio::time::timeout(settle.min(grace), gone.recv()).await.is_ok() {
            return true;
        }
        self.advance(Stage::Closing);
        if tokio::time::timeout_at(deadline, gone.recv()).await.is_ok() {
            return true;
        }
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

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Draining {
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
