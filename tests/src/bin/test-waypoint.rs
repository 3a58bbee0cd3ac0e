//! The waypoint as a process of the tests: the whole of the real binary.

fn main() -> std::process::ExitCode {
    inmesh::waypoint::cli::run(std::env::args_os())
}
