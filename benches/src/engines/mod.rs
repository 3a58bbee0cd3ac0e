//! The engines alone: what a decision costs as rules grow from 10 to 10,000.
//!
//! Every world is asked by the engine and by its naive twin, a loop over the same rules in their order of
//! precedence. The two must agree on every request before anything is timed.

mod authz;
pub(crate) mod compile;
mod harness;
mod observed;
mod report;
mod route;
mod state;
pub(crate) mod telemetry;
mod token;
mod traffic;

use clap::{Parser, ValueEnum};
use harness::Harness;

/// Times the engines alone: decisions, compilation, swap, balance and limits.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Fewer samples: to see that everything works.
    #[arg(long)]
    pub quick: bool,
    /// Which parts; all if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Part>,
}

/// What can be timed for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Decisions of route tables.
    Route,
    /// Decisions about authorization.
    Authz,
    /// Verification of tokens.
    Token,
    /// From YAML to a snapshot.
    Compile,
    /// Snapshot swap.
    State,
    /// Choice of endpoints, outlier detection, limits.
    Traffic,
    /// Metrics, access logs and spans of a request.
    Telemetry,
}

/// How many rules.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

type Run = fn(&mut Harness) -> anyhow::Result<()>;

/// Runs everything and prints it; `allocations` tells how many there were in this process until now.
///
/// # Errors
/// If an engine and its twin disagree, or a decision allocates.
pub fn main(args: &Args, allocations: fn() -> usize) -> anyhow::Result<()> {
    let mut harness = Harness::new(args.quick, allocations);
    let parts: [(Part, Run); 8] = [
        (Part::Route, route::run),
        (Part::Authz, authz::run),
        (Part::Token, token::run),
        (Part::Compile, compile::run),
        (Part::State, state::run),
        (Part::Traffic, traffic::run),
        (Part::Telemetry, telemetry::run),
        (Part::Telemetry, observed::run),
    ];
    for (part, run) in parts {
        if args.only.is_empty() || args.only.contains(&part) {
            run(&mut harness)?;
        }
    }
    report::print(&harness.rows, args.json)
}
