//! Whole requests, side by side in one run: bare hyper, inmesh to inmesh, through our waypoint, through Envoy.
//!
//! `cargo run --release -p benches --bin compare`; `-- --help` lists what can be chosen.

use clap::Parser;

/// As in the `waypoint` binary, and the same for every shape that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    benches::compare::main(benches::compare::Args::parse())
}
