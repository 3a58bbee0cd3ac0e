//! Bookinfo without sidecars, in one command.
//!
//! The demo plays what a cluster plays around the sample: it keeps the manifests in a watched folder, runs a process
//! per pod, issues certificates and starts waypoints where Gateways ask for them. Every process is this very
//! program in another role, and every one of them links inmesh.
//!
//! `cargo run --release -p sidecarless-demo` leaves the town standing until Ctrl-C; `-- --check` walks through the
//! guide's acts and says what was observed.

mod acts;
mod address;
mod ca;
mod caller;
mod controllers;
mod folder;
mod guard;
mod kubelet;
mod manifests;
mod observability;
mod page;
mod plain;
mod report;
mod role;
mod town;
mod traces;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::page::Page;
use crate::town::Town;

/// Bookinfo without sidecars: starts the sample's services as processes that speak HBONE themselves.
#[derive(Debug, Parser)]
#[command(name = "sidecarless-demo", version)]
struct Flags {
    /// Walk through the acts unattended and exit non-zero if one fails.
    #[arg(long)]
    check: bool,
    /// Which acts to check, for instance `1,3`; all if absent.
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS", value_parser = clap::value_parser!(u8).range(1..=6))]
    acts: Vec<u8>,
    /// Where to keep configuration, credentials and logs; a temporary folder, removed at the end, if absent.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Be one process of the town; the demo starts these itself.
    #[command(hide = true)]
    Role {
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(Role::Role { name, arguments }) = flags.role {
        return role::run(&name, arguments);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("starting a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(demo(flags)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the town, does what was asked, and takes it down again whatever happened.
async fn demo(flags: Flags) -> anyhow::Result<bool> {
    let temporary = tempfile::Builder::new()
        .prefix("sidecarless-")
        .tempdir()
        .context("making a temporary folder")?;
    let root = match flags.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => temporary.path().to_owned(),
    };
    let town = Arc::new(Town::build(&root).await?);
    let check = flags.check || !flags.acts.is_empty();
    let result = tokio::select! {
        result = live(&town, check, &flags.acts) => result,
        // A check that was cut short has not succeeded.
        () = examples::told_to_stop() => Ok(!check),
    };
    println!("stopping every process");
    town.shut_down().await;
    result
}

async fn live(town: &Arc<Town>, check: bool, acts: &[u8]) -> anyhow::Result<bool> {
    town.ready().await?;
    if check {
        return acts::run(town, acts).await;
    }
    town.folder
        .apply("bookinfo", "waypoint.yaml", manifests::WAYPOINT)?;
    town.kubelet
        .ready(&["bookinfo/waypoint-1"], town::PATIENCE)
        .await?;
    let page = Page::start(Arc::clone(town)).await?;
    println!("{}", report::welcome(town, &page)?);
    std::future::pending().await
}
