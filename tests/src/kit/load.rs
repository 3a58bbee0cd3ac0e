//! Requests in the background, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::BodyExt;
use inmesh::Client;
use tokio::task::JoinSet;

use super::wait::until;

/// Load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    ok: AtomicUsize,
    failed: Mutex<BTreeMap<String, usize>>,
}

/// What became of the requests.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Answered with 200, to the last byte.
    pub ok: usize,
    /// Everything else, by what it was.
    pub failed: BTreeMap<String, usize>,
}

impl Tally {
    /// How many failed.
    pub fn failures(&self) -> usize {
        self.failed.values().sum()
    }
}

impl Load {
    /// Sends GETs, `concurrency` at a time.
    pub fn start(client: &Client, url: &str, concurrency: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let mut workers = JoinSet::new();
        for _ in 0..concurrency {
            workers.spawn(work(client.clone(), url.to_owned(), Arc::clone(&shared)));
        }
        Self { shared, workers }
    }

    /// How many requests have been answered with 200 so far.
    pub fn ok(&self) -> usize {
        self.shared.ok.load(Ordering::SeqCst)
    }

    /// Waits until `more` further requests have succeeded.
    pub async fn see(&self, more: usize) {
        let goal = self.ok() + more;
        until(
            &format!("{more} more requests succeed; so far {:?}", self.tally()),
            || async { self.ok() >= goal },
        )
        .await;
    }

    /// Ends the load when the requests under way are answered.
    pub async fn stop(mut self) -> Tally {
        self.shared.stop.store(true, Ordering::SeqCst);
        while self.workers.join_next().await.is_some() {}
        self.tally()
    }

    /// What became of the requests so far.
    pub fn tally(&self) -> Tally {
        Tally {
            ok: self.ok(),
            failed: self
                .shared
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

async fn work(client: Client, url: String, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::SeqCst) {
        let failure = match client.get(url.as_str()).await {
            Ok(response) if response.status() == 200 => match response.into_body().collect().await {
                Ok(_) => {
                    shared.ok.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                Err(error) => format!("body: {error}"),
            },
            Ok(response) => {
                let status = response.status();
                let body = response
                    .into_body()
                    .collect()
                    .await
                    .map(|body| body.to_bytes())
                    .unwrap_or_default();
                format!("{status} {}", String::from_utf8_lossy(&body))
            }
            Err(refusal) => refusal.to_string(),
        };
        *shared
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(failure)
            .or_default() += 1;
        // A failing destination must not turn this into a busy loop.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
