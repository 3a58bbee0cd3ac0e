//! What a process of the town is: this same program, told to be a service, a caller or the waypoint.

use std::ffi::OsString;
use std::io::Read;
use std::process::ExitCode;

use anyhow::bail;
use examples::bookinfo::{details, productpage, ratings, reviews};
use inmesh::MeshBuilder;

use crate::caller;

/// Is that process until it is told to stop.
pub(crate) fn run(name: &str, arguments: Vec<OsString>) -> ExitCode {
    die_with_parent();
    if name == "waypoint" {
        return inmesh::waypoint::cli::run(std::iter::once(OsString::from("waypoint")).chain(arguments));
    }
    match serve(name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(name: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()?;
    let telemetry = examples::telemetry()?;
    runtime.block_on(async {
        let mesh = telemetry.changeable(MeshBuilder::from_env()?).start().await?;
        match name {
            "productpage" => productpage::run(mesh).await,
            "details" => details::run(mesh).await,
            "reviews" => reviews::run(mesh).await,
            "ratings" => ratings::run(mesh).await,
            "client" => caller::run(mesh).await,
            _ => bail!("there is no program for a container named {name}"),
        }
    })
}

/// Ends this process as soon as the demo is gone, however it went: its end of our standard input closes then.
fn die_with_parent() {
    std::thread::spawn(|| {
        let mut input = std::io::stdin().lock();
        let mut buffer = [0; 64];
        while matches!(input.read(&mut buffer), Ok(read) if read > 0) {}
        std::process::exit(0);
    });
}
