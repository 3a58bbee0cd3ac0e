//! Runs a folder of case files: `cargo run --release --bin corpus -- DIR`.
//!
//! Prints for every case what was expected and what was observed, then `N passed, N failed`. Exits with 1 if a case
//! failed and with 2 if there was nothing to run.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use inmesh_tests::corpus;

fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        eprintln!("usage: corpus DIR...");
        return ExitCode::from(2);
    }
    let mut outcomes = Vec::new();
    for path in &paths {
        match corpus::run(path) {
            Ok(found) => outcomes.extend(found),
            Err(error) => {
                eprintln!("corpus: {error:#}");
                return ExitCode::from(2);
            }
        }
    }
    match report(&outcomes) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("corpus: {error}");
            ExitCode::from(2)
        }
    }
}

fn report(outcomes: &[corpus::Outcome]) -> std::io::Result<usize> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for outcome in outcomes {
        writeln!(out, "{outcome}")?;
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    writeln!(out, "{} passed, {failed} failed", outcomes.len() - failed)?;
    out.flush()?;
    Ok(failed)
}
