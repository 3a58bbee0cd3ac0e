//! Compilation: from 10 to 10,000 rules and services, how long it takes and how much memory at most.
//!
//! `cargo run --release -p benches --bin compile`; `-- --help` lists what can be chosen.

use std::process::ExitCode;

use clap::Parser;
use peak_alloc::PeakAlloc;

/// Counts every byte, so that peaks are no guesses from outside.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

fn main() -> ExitCode {
    let meter = benches::compile::Meter {
        now: || ALLOCATOR.current_usage(),
        peak: || ALLOCATOR.peak_usage(),
        reset: || ALLOCATOR.reset_peak_usage(),
    };
    match benches::compile::main(&benches::compile::Args::parse(), &meter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compile: {error:#}");
            ExitCode::FAILURE
        }
    }
}
