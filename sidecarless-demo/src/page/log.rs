//! What was done and what was seen of it, line by line.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::watch::now;

/// How many lines are kept.
const KEPT: usize = 300;

/// What a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Something was written or deleted.
    Did,
    /// Something was seen.
    Saw,
    /// Something was not as it should be.
    Failed,
    /// A step is over: nothing more is seen of it.
    Done,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    number: u64,
    step: &'static str,
    at: u64,
    /// Milliseconds since the step was carried out.
    after: u64,
    kind: Kind,
    text: String,
}

/// The newest lines.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<Line>,
    written: u64,
}

/// The lines of one step under way.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    log: Arc<Log>,
    step: &'static str,
    began: Instant,
}

impl Log {
    /// All lines, oldest first.
    pub(super) fn lines(&self) -> Vec<Line> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.lines.iter().cloned().collect()
    }

    /// Begins the lines of a step.
    pub(super) fn notes(self: &Arc<Self>, step: &'static str) -> Notes {
        Notes {
            log: Arc::clone(self),
            step,
            began: Instant::now(),
        }
    }
}

impl Notes {
    pub(super) fn did(&self, text: impl Into<String>) {
        self.add(Kind::Did, text.into());
    }

    pub(super) fn saw(&self, text: impl Into<String>) {
        self.add(Kind::Saw, text.into());
    }

    pub(super) fn failed(&self, text: impl Into<String>) {
        self.add(Kind::Failed, text.into());
    }

    pub(super) fn done(&self) {
        self.add(Kind::Done, String::new());
    }

    fn add(&self, kind: Kind, text: String) {
        let after = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut lines = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.written += 1;
        let number = lines.written;
        if lines.lines.len() == KEPT {
            lines.lines.pop_front();
        }
        lines.lines.push_back(Line {
            number,
            step: self.step,
            at: now(),
            after,
            kind,
            text,
        });
    }
}
