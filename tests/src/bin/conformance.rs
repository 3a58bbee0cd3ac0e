//! Gateway API conformance cases against inmesh: `cargo run --release --bin conformance -- --help`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use inmesh_tests::conformance::args::Args;
use inmesh_tests::conformance::gateway::Program;

/// By this word the program is the waypoint, all of it: so one build is enough to have both.
const WAYPOINT: &str = "waypoint";

fn main() -> Result<ExitCode> {
    if std::env::args().nth(1).is_some_and(|it| it == WAYPOINT) {
        return Ok(inmesh::waypoint::cli::run(std::env::args_os().skip(1)));
    }
    let args = Args::parse();
    let waypoint = Program {
        path: std::env::current_exe()?,
        args: vec![WAYPOINT.to_owned()],
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(match runtime.block_on(args.run(waypoint))? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
