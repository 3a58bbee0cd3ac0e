//! The `waypoint` command: flags in, library calls out.

mod check;
mod explain;
mod serve;
mod test;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::ResourceStore;
use crate::mesh::{Error, ErrorKind};
use crate::source::{Event, Source};

/// Nothing was wrong.
const FINE: u8 = 0;
/// The command could not do its work, or what it checked is wrong.
const WRONG: u8 = 1;

#[derive(Debug, Parser)]
#[command(
    name = "waypoint",
    version,
    about = "The stand-alone waypoint of inmesh: routes, retries, authorizes and encrypts for services of a mesh.",
    after_help = "Exit codes: 0 fine, 1 something is wrong (said on stderr), 2 the command line is.\n\n\
        Configuration is Kubernetes, Gateway API and Istio YAML in directories that are watched for changes.\n\
        `NAMESPACE=PATH` gives the objects of a path that name no namespace a default one, as `kubectl apply -n` does."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve as the waypoint, or the ingress, that a Gateway declares.
    Run(serve::Run),
    /// Compile configuration and say what is wrong with it, with file, line and remedy.
    Check(check::Check),
    /// Say what would become of a request, and why, without sending it.
    Explain(explain::Explain),
    /// Try what policies decide, by files of cases, without a mesh.
    Test(test::Test),
    /// Show what is called most, worst or slowest, of a running waypoint or application.
    Top(watch::Top),
    /// Show requests as they end.
    Tap(watch::Tap),
    /// Show who calls whom, how often and how well.
    Graph(watch::Graph),
    /// Show or change what a running waypoint logs.
    Log(watch::Log),
    /// Show configuration, problems, certificates, generations or requests of a running waypoint or application.
    Dump(watch::Dump),
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
    Yaml,
}

impl Output {
    /// Prints a document in YAML if that was asked for, else in JSON.
    fn print(self, document: &serde_json::Value) -> Result<(), Error> {
        if self != Self::Yaml {
            println!("{document:#}");
            return Ok(());
        }
        let yaml = serde_saphyr::to_string(document).map_err(|error| {
            Error::new(ErrorKind::Settings, "the result could not be written as YAML").caused_by(error)
        })?;
        print!("{yaml}");
        Ok(())
    }
}

/// Runs the command with these arguments, the first of which is the program's name. The whole of the `waypoint` binary,
/// as a function so that other programs can be a waypoint too.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" with code 0. If stdout is gone there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match cli.command {
        Command::Run(run) => run.main(),
        Command::Check(check) => check.main(),
        Command::Explain(explain) => explain.main(),
        Command::Test(test) => test.main(),
        Command::Top(top) => top.main(),
        Command::Tap(tap) => tap.main(),
        Command::Graph(graph) => graph.main(),
        Command::Log(log) => log.main(),
        Command::Dump(dump) => dump.main(),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("waypoint: {error:?}");
            ExitCode::from(WRONG)
        }
    }
}

/// A runtime of one thread: the work of this program does not wait for computation. More are asked for by flag.
fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, Error> {
    let built = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        more => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(more)
            .enable_all()
            .build(),
    };
    built
        .map_err(|error| Error::new(ErrorKind::Settings, "the runtime could not be started").caused_by(error))
}

/// Reads every path once, and what is wrong with the files.
async fn read(paths: &[String]) -> Result<(ResourceStore, Vec<crate::config::Problem>), Error> {
    let mut store = ResourceStore::default();
    let mut problems = Vec::new();
    for path in paths {
        let mut source = crate::mesh::dir_of(path);
        loop {
            match source.next().await {
                Ok(Event::Apply(entry)) => store.apply(entry),
                Ok(Event::Delete(reference)) => {
                    store.delete(&reference);
                }
                Ok(Event::Problems { problems: found, .. }) => problems.extend(found),
                Ok(Event::Synced) => break,
                Err(error) => {
                    return Err(Error::new(ErrorKind::Source, error.to_string()).caused_by(error));
                }
            }
        }
    }
    Ok((store, problems))
}

/// A `namespace/name` pair.
#[derive(Clone, Debug)]
struct Named {
    namespace: String,
    name: String,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err("expected NAMESPACE/NAME".to_owned()),
        }
    }
}
