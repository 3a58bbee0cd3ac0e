//! The load: workers that each send one request after the other.

use std::future::Future;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// How many bytes a right answer has.
pub(super) const ANSWER: usize = 64;

/// What is measured: sends one request and reads its answer to the end.
pub(super) trait Caller: Clone + Send + 'static {
    /// Which configuration is in force.
    fn generation(&self) -> u64 {
        0
    }

    /// Fails unless the answer is 200 and [`ANSWER`] bytes long.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// One measurement, as the program asks for it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) concurrency: usize,
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
}

/// What came of it. Times are microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) requests: u64,
    pub(super) failures: u64,
    /// The first failure.
    pub(super) failure: Option<String>,
    pub(super) seconds: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
    /// How often the configuration changed meanwhile.
    pub(super) swaps: u64,
}

/// Said on standard output when the window opens.
pub(super) const OPEN: &str = "open";
/// Said when it closes; the outcome follows.
pub(super) const CLOSED: &str = "closed";

/// Carries out orders, one JSON object a line on standard input, until it ends.
///
/// The input is read by a thread, so that between orders the connections are still served: their pings answered.
pub(super) async fn serve_orders(caller: impl Caller) -> Result<()> {
    let (sender, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let order: Order = serde_json::from_str(&line).context("reading an order")?;
        let outcome = carry_out(order, &caller).await?;
        say(&serde_json::to_string(&outcome)?)?;
    }
    Ok(())
}

/// Prints a line at once.
pub(super) fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

async fn carry_out(order: Order, caller: &impl Caller) -> Result<Outcome> {
    let opens = Instant::now() + order.warm_up;
    let closes = opens + order.window;
    let workers: Vec<_> = (0..order.concurrency)
        .map(|_| tokio::spawn(work(caller.clone(), opens, closes)))
        .collect();
    tokio::time::sleep_until(opens.into()).await;
    say(OPEN)?;
    let before = caller.generation();
    tokio::time::sleep_until(closes.into()).await;
    let swaps = caller.generation() - before;
    say(CLOSED)?;
    let mut all = Tally::default();
    for worker in workers {
        all.add(worker.await?);
    }
    all.outcome(order.window, swaps)
}

#[derive(Debug, Default)]
struct Tally {
    /// Nanoseconds of each request that was sent and answered within the window.
    times: Vec<u32>,
    failures: u64,
    failure: Option<String>,
}

async fn work(mut caller: impl Caller, opens: Instant, closes: Instant) -> Tally {
    let mut tally = Tally {
        times: Vec::with_capacity(1 << 16),
        ..Tally::default()
    };
    let mut sent = Instant::now();
    while sent < closes {
        let result = caller.call().await;
        let answered = Instant::now();
        match result {
            Err(error) => {
                tally.failures += 1;
                tally.failure.get_or_insert_with(|| format!("{error:#}"));
                // A backend that is gone would otherwise be asked as fast as it can refuse.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(()) if sent >= opens && answered <= closes => {
                let nanos = (answered - sent).as_nanos();
                tally.times.push(u32::try_from(nanos).unwrap_or(u32::MAX));
            }
            Ok(()) => {}
        }
        sent = Instant::now();
    }
    tally
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.failures += other.failures;
        if self.failure.is_none() {
            self.failure = other.failure;
        }
    }

    fn outcome(mut self, window: Duration, swaps: u64) -> Result<Outcome> {
        if self.times.is_empty() {
            let why = self.failure.as_deref().unwrap_or("no answer came in time");
            bail!("not one request succeeded: {why}");
        }
        self.times.sort_unstable();
        let at = |share: f64| {
            let index = (self.times.len() as f64 * share) as usize;
            f64::from(self.times[index.min(self.times.len() - 1)]) / 1e3
        };
        Ok(Outcome {
            requests: self.times.len() as u64,
            failures: self.failures,
            seconds: window.as_secs_f64(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
            swaps,
            failure: self.failure.clone(),
        })
    }
}
