//! The stand-alone waypoint; see `waypoint --help`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    inmesh::waypoint::cli::run(std::env::args_os())
}
