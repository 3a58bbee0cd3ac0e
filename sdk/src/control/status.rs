//! What is known of the configuration, for whoever asks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Generation;
use crate::compile::Statuses;
use crate::config::Problem;

/// The state of the configuration.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// The generation in force; 0 before the first.
    pub generation: u64,
    /// Whether every source has told all it has and a first generation is in force.
    pub synced: bool,
    /// When that generation was put in force.
    pub published: Option<SystemTime>,
    /// How many resources are applied.
    pub resources: usize,
    /// All that is wrong with what is written now, in force or not.
    pub problems: Arc<Vec<Problem>>,
    /// What the status of each resource should say.
    pub statuses: Arc<Statuses>,
    /// The last generations, the newest first.
    pub history: Arc<[Arc<Generation>]>,
    /// Why what is written now is not in force, if it is not.
    pub failed: Option<Failed>,
}

/// Why configuration could not be put in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failed {
    /// Whether strict mode refused it, rather than a source or a compilation failing.
    pub strict: bool,
    /// What happened.
    pub text: String,
}

/// One publication, for those who measure.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Report {
    /// How many problems there are.
    pub problems: usize,
    /// How long compiling took.
    pub compile: Duration,
}
