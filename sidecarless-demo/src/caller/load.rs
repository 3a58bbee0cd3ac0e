//! Requests without end, counted: they run while the acts change the town.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use inmesh::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::process::send;
use super::{Call, Counts, Load};

/// At most this many failures are reported one by one.
const MAX_FAILURES: usize = 8;

/// A load that runs.
pub(super) struct Running {
    counts: Arc<std::sync::Mutex<Counts>>,
    workers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Running {
    /// Starts the workers.
    pub(super) fn start(client: &Client, load: &Load) -> Self {
        let counts = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for _ in 0..load.width.max(1) {
            workers.spawn(work(
                client.clone(),
                load.clone(),
                Arc::clone(&counts),
                stopped.clone(),
            ));
        }
        Self {
            counts,
            workers,
            stop,
        }
    }

    /// Lets the requests under way finish, and counts.
    pub(super) async fn stop(mut self) -> Counts {
        self.stop.send_replace(true);
        while self.workers.join_next().await.is_some() {}
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn work(
    client: Client,
    load: Load,
    counts: Arc<std::sync::Mutex<Counts>>,
    stopped: watch::Receiver<bool>,
) {
    let call = Call {
        method: "GET".to_owned(),
        url: load.url,
        grpc: false,
    };
    while !*stopped.borrow() {
        let fault = send(&client, &call).await.fault();
        counts.lock().unwrap_or_else(PoisonError::into_inner).add(fault);
        tokio::time::sleep(Duration::from_millis(load.pause)).await;
    }
}

impl Counts {
    fn add(&mut self, fault: Option<String>) {
        match fault {
            None => self.good += 1,
            Some(fault) => {
                self.failed += 1;
                if self.failures.len() < MAX_FAILURES {
                    self.failures.push(fault);
                }
            }
        }
    }
}
