//! The roles that this program plays for itself.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use inmesh_tests::pki::PemFiles;
use serde::{Deserialize, Serialize};

use super::bare::{self, Bare};
use super::load::{say, serve_orders};
use super::mesh::{self, MeshCaller};
use super::world::World;

/// What a process says when it can be used.
pub(super) const READY: &str = "ready";

/// What a process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    /// Serves bare hyper.
    BareBackend {
        /// The folder of its certificates.
        identity: PathBuf,
    },
    /// Asks bare hyper.
    BareLoad {
        /// The folder of its certificates.
        identity: PathBuf,
        /// Whom.
        backend: SocketAddr,
    },
    /// Serves with inmesh.
    MeshBackend {
        /// Where everything is.
        world: World,
    },
    /// Asks with inmesh.
    MeshLoad {
        /// Where everything is.
        world: World,
    },
    /// Is our waypoint.
    Waypoint {
        /// Where everything is.
        world: World,
    },
}

/// Plays a role until the program that started this one ends.
pub(super) fn play(role: &str) -> Result<()> {
    let role: Role = serde_json::from_str(role).context("--role is for this program itself")?;
    // One thread for everything, as one core is what every process gets.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match role {
        Role::BareBackend { identity } => {
            end_with_input();
            runtime.block_on(bare::serve(&PemFiles::in_dir(&identity), |addr| {
                say(&format!("{READY} {addr}"))
            }))
        }
        Role::BareLoad { identity, backend } => runtime.block_on(async {
            let caller = Bare::connect(backend, &PemFiles::in_dir(&identity)).await?;
            say(READY)?;
            serve_orders(caller).await
        }),
        Role::MeshBackend { world } => {
            end_with_input();
            runtime.block_on(mesh::serve(&world, || say(READY)))
        }
        Role::MeshLoad { world } => runtime.block_on(async {
            let caller = MeshCaller::start(&world).await?;
            say(READY)?;
            serve_orders(caller).await
        }),
        Role::Waypoint { world } => {
            end_with_input();
            drop(runtime); // it brings its own
            match inmesh::waypoint::cli::run(mesh::waypoint_args(&world)) {
                code if code == std::process::ExitCode::SUCCESS => Ok(()),
                code => anyhow::bail!("the waypoint ended with {code:?}"),
            }
        }
    }
}

/// Ends this process when its input ends, which is when the one that started it does, however that came about.
fn end_with_input() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}
