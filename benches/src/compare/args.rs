//! What can be chosen on the command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use super::town::Town;

/// Compares whole requests: bare hyper, inmesh to inmesh, through our waypoint, through a real Envoy.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub json: bool,
    /// How long each measurement lasts, after its warm-up.
    #[arg(long, default_value_t = 2.0, value_name = "N")]
    pub seconds: f64,
    /// How often all shapes are measured; medians are reported.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: usize,
    /// One short round: to see that everything works.
    #[arg(long)]
    pub quick: bool,
    /// Which shapes.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["a", "b", "c", "d"])]
    pub shape: Vec<Shape>,
    /// How many requests are under way at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    pub concurrency: Vec<usize>,
    /// Also with so many routes on the service, of which the requests take the last.
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pub routes: Vec<usize>,
    /// Also with so many authorization policies, of which the last lets the requests pass.
    #[arg(long, value_delimiter = ',', value_name = "N", conflicts_with = "routes")]
    pub policies: Vec<usize>,
    /// Also with nothing told of requests; with metrics, a log and spans of one in a hundred, and without each of these in
    /// turn; and with a live view that nobody looks at, and that somebody does.
    #[arg(long, conflicts_with_all = ["routes", "policies"])]
    pub telemetry: bool,
    /// Also while a route of the configuration changes every so many milliseconds.
    #[arg(long, value_name = "MS")]
    pub changes: Option<u64>,
    /// The part of this process in somebody else's comparison, as JSON.
    #[arg(long, hide = true)]
    pub role: Option<String>,
}

impl Args {
    /// How long a measurement lasts.
    pub fn window(&self) -> Duration {
        let seconds = if self.quick { 0.5 } else { self.seconds };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(1))
    }

    /// How long requests flow before a measurement.
    pub fn warm_up(&self) -> Duration {
        self.window() / 4
    }

    /// The towns to measure in, the smallest first. Growth is told against that one.
    pub(super) fn towns(&self) -> Vec<Town> {
        let sizes = |given: &[usize]| -> Vec<usize> {
            let mut all: Vec<_> = given.iter().map(|size| (*size).max(1)).collect();
            all.push(1);
            all.sort_unstable();
            all.dedup();
            all
        };
        match (&*self.routes, &*self.policies) {
            ([], []) if self.telemetry => Town::telling(),
            ([], []) => vec![Town::Plain],
            ([], policies) => sizes(policies).into_iter().map(Town::Policies).collect(),
            (routes, _) => sizes(routes).into_iter().map(Town::Routes).collect(),
        }
    }

    /// How often the configuration changes, where that is measured too.
    pub(super) fn changes(&self) -> Option<Duration> {
        self.changes.map(|millis| Duration::from_millis(millis.max(1)))
    }

    /// How often everything is measured.
    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.max(1) }
    }
}

/// What lies between the load and the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Bare hyper over HTTP/2 and mTLS.
    #[value(name = "a", alias = "bare")]
    Bare,
    /// inmesh to inmesh.
    #[value(name = "b", alias = "library")]
    Library,
    /// inmesh, our waypoint, inmesh.
    #[value(name = "c", alias = "waypoint")]
    Waypoint,
    /// inmesh, Envoy, inmesh.
    #[value(name = "d", alias = "envoy")]
    Envoy,
}

impl Shape {
    /// The name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Library => "library",
            Self::Waypoint => "waypoint",
            Self::Envoy => "envoy",
        }
    }

    /// The name in tables, with the letter that selects it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Bare => "a bare",
            Self::Library => "b library",
            Self::Waypoint => "c waypoint",
            Self::Envoy => "d envoy",
        }
    }
}
