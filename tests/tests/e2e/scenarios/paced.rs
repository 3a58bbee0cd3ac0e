//! Requests at a steady rate, and what became of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use examples::bookinfo::productpage::UNAVAILABLE;
use http::Response;
use http_body_util::BodyExt;
use inmesh::{Body, Client};
use inmesh_tests::kit::Shape;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// Requests at a steady rate, each a task of its own: one that is slow holds up no other.
pub(super) struct Paced {
    stop: watch::Sender<bool>,
    task: JoinHandle<Seen>,
}

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How long those took that were answered with 200, to the last byte.
    pub(super) times: Vec<Duration>,
    /// Who has answered those, where they said so.
    pub(super) by: BTreeMap<String, usize>,
    /// How many were under way at once, at most.
    pub(super) most_under_way: usize,
    /// Everything else, by what it was.
    pub(super) failed: BTreeMap<String, usize>,
}

impl Seen {
    pub(super) fn failures(&self) -> usize {
        self.failed.values().sum()
    }

    /// What a share of the requests took at most.
    pub(super) fn within(&mut self, share: f64) -> Duration {
        self.times.sort_unstable();
        let at = (self.times.len() as f64 * share) as usize;
        self.times
            .get(at)
            .or_else(|| self.times.last())
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn say(&mut self, what: &str, shape: Shape) {
        let (median, tail, longest) = (self.within(0.5), self.within(0.99), self.within(1.0));
        println!(
            "{what} ({shape:?}): {} answered, {} failed {:?}, p50 {median:?}, p99 {tail:?}, longest {longest:?}",
            self.times.len(),
            self.failures(),
            self.failed,
        );
    }
}

impl Paced {
    /// GETs of `url`, so many a second, whatever becomes of them.
    pub(super) fn start(client: &Client, url: &str, rate: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (client, url) = (client.clone(), url.to_owned());
        let task = tokio::spawn(async move {
            let seen = Arc::new(Mutex::new(Seen::default()));
            let mut requests = JoinSet::new();
            let mut most = 0;
            let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / rate));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while !*stopped.borrow() {
                ticks.tick().await;
                requests.spawn(one(client.clone(), url.clone(), Arc::clone(&seen)));
                while requests.try_join_next().is_some() {}
                most = most.max(requests.len());
            }
            while requests.join_next().await.is_some() {}
            let seen = Arc::into_inner(seen);
            let seen = seen.map(|it| it.into_inner().unwrap_or_else(PoisonError::into_inner));
            Seen {
                most_under_way: most,
                ..seen.unwrap_or_default()
            }
        });
        Self { stop, task }
    }

    /// Starts no more, and waits for those under way.
    pub(super) async fn stop(self) -> Result<Seen> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

async fn one(client: Client, url: String, seen: Arc<Mutex<Seen>>) {
    let began = Instant::now();
    let answer = match client.get(url).await {
        Ok(response) => answer(response).await,
        Err(refusal) => Err(format!("{} {refusal}", refusal.reason.as_str())),
    };
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Ok(by) => {
            seen.times.push(began.elapsed());
            *seen.by.entry(by).or_default() += 1;
        }
        Err(what) => *seen.failed.entry(what).or_default() += 1,
    }
}

/// Who has answered; or, of another answer than 200, its status and words: Envoy's tell who has failed at what. A page of
/// bookinfo's is whole, or has failed too.
async fn answer(response: Response<Body>) -> Result<String, String> {
    let status = response.status();
    if let Some(lacks) = response.headers().get(UNAVAILABLE) {
        return Err(format!("{status} without {lacks:?}"));
    }
    let by = response.headers().get("x-pod").and_then(|it| it.to_str().ok());
    let by = by.unwrap_or_default().to_owned();
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| format!("body: {error}"))?.to_bytes();
    match status.as_u16() {
        200 => Ok(by),
        _ => Err(format!("{status} {}", String::from_utf8_lossy(&body))),
    }
}
