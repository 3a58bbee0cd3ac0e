//! Carries steps out, one at a time, and has what comes of them looked at.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Context;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};

use super::log::{Log, Notes};
use super::observe;
use super::steps::{self, Step};
use crate::town::Town;

/// What a button does.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Action {
    /// Writes a manifest.
    Apply {
        /// The manifest.
        yaml: String,
    },
    /// Takes away what was written.
    Delete,
    /// Looks, or does what is no manifest.
    Run,
}

/// Where steps are carried out.
pub(super) struct Bench {
    town: Arc<Town>,
    log: Arc<Log>,
    steps: Vec<Step>,
    /// Who looks at what came of each step, for as long as this is held.
    looking: Mutex<BTreeMap<&'static str, oneshot::Sender<Infallible>>>,
}

impl Bench {
    pub(super) fn new(town: Arc<Town>, log: Arc<Log>) -> Self {
        Self {
            town,
            log,
            steps: steps::all(),
            looking: Mutex::default(),
        }
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Carries a step out. What is seen of it comes into the log later.
    ///
    /// # Errors
    /// If there is no such step, or it cannot be carried out.
    pub(super) async fn carry_out(&self, id: &str, action: &Action) -> anyhow::Result<()> {
        let step = self
            .steps
            .iter()
            .find(|step| step.id == id)
            .context("there is no such step")?;
        // Held while something changes: one step at a time.
        let mut looking = self.looking.lock().await;
        let notes = self.log.notes(step.id);
        match action {
            Action::Apply { yaml } => {
                step.apply(&self.town, yaml)?;
                notes.did("applied");
            }
            Action::Delete => {
                step.delete(&self.town)?;
                notes.did("deleted");
            }
            Action::Run => notes.did("begun"),
        }
        // Whoever still looks for what was there before would wait in vain; cleaning up ends all of it.
        looking.retain(|other, _| *other != step.id && step.id != "clean");
        let applied = match action {
            Action::Apply { yaml } => Some(yaml.clone()),
            Action::Delete | Action::Run => None,
        };
        let (until, over) = oneshot::channel();
        look(Arc::clone(&self.town), step.id, applied, notes, over);
        looking.insert(step.id, until);
        Ok(())
    }
}

/// Looks at what came of a step until all is seen, or the other end of `over` is dropped.
fn look(
    town: Arc<Town>,
    id: &'static str,
    applied: Option<String>,
    notes: Notes,
    over: oneshot::Receiver<Infallible>,
) {
    let runtime = Handle::current();
    // On a thread of its own, which waits and does little else: closures that are asynchronous and borrow cannot be sent
    // from one to another.
    tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                seen = observe::step(&town, id, applied.as_deref(), &notes) => {
                    if let Err(error) = seen {
                        notes.failed(format!("{error:#}"));
                    }
                    notes.done();
                }
                _ = over => {}
            }
        });
    });
}
