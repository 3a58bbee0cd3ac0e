//! The engines alone: time and allocations of one decision, beside a naive loop over the same rules.
//!
//! `cargo run --release -p benches --bin engines`; `-- --help` lists what can be chosen.

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts, so that "allocates nothing" is a fact and no estimate.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    let allocations = || {
        let stats = ALLOCATOR.stats();
        stats.allocations + stats.reallocations
    };
    match benches::engines::main(&benches::engines::Args::parse(), allocations) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engines: {error:#}");
            ExitCode::FAILURE
        }
    }
}
