//! The demo's own page: the guide's acts as buttons, and what they do while it happens.
//!
//! ```text
//! steps    what the buttons write into the watched folder, and take out of it again
//! bench    carries a step out, and notes what is seen of it
//! watch    requests that never stop: shares of a split, times with and without a waypoint, failures
//! graph    who calls whom, from the live view of every process
//! server   the page, and its state as JSON
//! ```

mod bench;
mod graph;
mod log;
mod observe;
mod server;
mod state;
mod steps;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

use self::bench::Bench;
use self::graph::Graph;
use self::log::Log;
use self::watch::Watch;
use crate::town::Town;

/// The page, served until this is dropped.
pub(crate) struct Page {
    address: SocketAddr,
    /// Held, not joined: aborted with this.
    _tasks: JoinSet<()>,
}

/// What the page's parts share.
struct Shared {
    town: Arc<Town>,
    bench: Bench,
    watch: Watch,
    graph: Graph,
    log: Arc<Log>,
}

impl Page {
    /// Starts the requests that the page shows, and serves it on a free port of this machine alone.
    pub(crate) async fn start(town: Arc<Town>) -> anyhow::Result<Self> {
        let log = Arc::<Log>::default();
        let shared = Arc::new(Shared {
            bench: Bench::new(Arc::clone(&town), Arc::clone(&log)),
            watch: Watch::default(),
            graph: Graph::default(),
            town,
            log,
        });
        let mut tasks = JoinSet::new();
        let (listener, address) = server::bind().await?;
        tasks.spawn(watch::follow(Arc::clone(&shared)));
        tasks.spawn(graph::follow(Arc::clone(&shared)));
        tasks.spawn(server::serve(listener, address, shared));
        Ok(Self {
            address,
            _tasks: tasks,
        })
    }

    /// Where a browser finds it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}
