//! The bounded queue between requests and a collector.
//!
//! OpenTelemetry's own batch processor would do, but for three things we promise: to count what was dropped where it can
//! be read, to cut off a slow collector at a deadline, and to send spans, logs and metrics in the same way. All need the
//! queue in hand.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Error;
use super::destination::{Carrier, Destination, Verdict};
use super::parcel::Parcel;

/// Before the second attempt to send a batch; each later one waits twice as long.
const BACK_OFF: Duration = Duration::from_millis(250);
/// A collector that asks for more patience than this loses the batch.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(8);
/// How often a batch is sent at most: with the back-off above, for some fifteen seconds.
const ATTEMPTS: u32 = 6;

/// How much waits, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How many may wait.
    pub(crate) queue: usize,
    /// How many are sent at once, at most.
    pub(crate) batch: usize,
    /// How long one waits for company.
    pub(crate) interval: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            queue: 2_048,
            batch: 512,
            interval: Duration::from_secs(1),
        }
    }
}

/// Who is told what became of what was given to a queue.
pub(crate) trait Tally: Send + Sync + 'static {
    /// So many arrived.
    fn arrived(&self, many: u64);
    /// So many were lost.
    fn lost(&self, many: u64);
}

/// What is on its way to a collector. Clones share the queue.
pub(crate) struct Queue<T>(Arc<Shared<T>>);

struct Shared<T> {
    waiting: ArrayQueue<T>,
    batch: usize,
    tally: Box<dyn Tally>,
    closed: AtomicBool,
    /// Set once: when the exporter has to be done.
    deadline: Mutex<Option<Instant>>,
    wake: Notify,
    closing: Notify,
    lost_at_close: AtomicU64,
    done: Mutex<bool>,
    done_changed: Condvar,
}

/// Empties a queue.
pub(crate) struct Worker<T> {
    shared: Arc<Shared<T>>,
    to: Destination,
    carrier: Carrier,
    resource: Resource,
    interval: Duration,
}

/// A queue to a collector, and who empties it: to be run on a thread of its own, or as a task.
pub(crate) fn queue<T: Parcel>(
    to: Destination,
    carrier: Carrier,
    resource: Resource,
    pace: Pace,
    tally: impl Tally,
) -> (Queue<T>, Worker<T>) {
    let room = pace.queue.max(1);
    let shared = Arc::new(Shared {
        waiting: ArrayQueue::new(room),
        batch: pace.batch.clamp(1, room),
        tally: Box::new(tally),
        closed: AtomicBool::new(false),
        deadline: Mutex::default(),
        wake: Notify::new(),
        closing: Notify::new(),
        lost_at_close: AtomicU64::new(0),
        done: Mutex::new(false),
        done_changed: Condvar::new(),
    });
    let worker = Worker {
        shared: Arc::clone(&shared),
        to,
        carrier,
        resource,
        interval: pace.interval,
    };
    (Queue(shared), worker)
}

// ===== impl Queue =====

impl<T: Parcel> Queue<T> {
    /// Never blocks: what finds no room is counted and gone.
    pub(crate) fn push(&self, one: T) {
        let shared = &self.0;
        if shared.closed.load(Ordering::Acquire) || shared.waiting.push(one).is_err() {
            shared.tally.lost(1);
        } else if shared.waiting.len() >= shared.batch {
            shared.wake.notify_one();
        }
    }

    /// Whether anybody but a keeper and the worker may still put something in.
    pub(super) fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 2
    }

    /// Asks for what waits to be sent now.
    pub(super) fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Begins to close: what waits is sent within `within`, and nothing is taken any more. Does not wait.
    pub(crate) fn end(&self, within: Duration) {
        let shared = &self.0;
        lock(&shared.deadline).get_or_insert_with(|| Instant::now() + within);
        // Stored after the deadline, so that who sees the one sees the other.
        if !shared.closed.swap(true, Ordering::AcqRel) {
            shared.closing.notify_one();
        }
    }

    /// Sends what is queued and stops; `true` if nothing was lost. Returns within `within`, also when called again.
    /// Blocks its thread, so whoever empties the queue must have another.
    pub(crate) fn close(&self, within: Duration) -> bool {
        let shared = &self.0;
        let until = Instant::now() + within;
        // The worker stops a little earlier, so that it is this call that learns what was lost.
        self.end(within.mul_f64(0.9));
        let mut done = lock(&shared.done);
        while !*done {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let (guard, _) = shared
                .done_changed
                .wait_timeout(done, left)
                .unwrap_or_else(PoisonError::into_inner);
            done = guard;
        }
        shared.lost_at_close.load(Ordering::Relaxed) == 0
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("waiting", &self.0.waiting.len())
            .finish_non_exhaustive()
    }
}

// ===== impl Worker =====

impl<T: Parcel> Worker<T> {
    /// Runs on a thread of its own until the queue is closed.
    pub(crate) fn spawn_thread(self, name: &str) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Exporting must not itself leave spans to export.
            tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::new(), || {
                runtime.block_on(self.run());
            });
        })?;
        Ok(())
    }

    /// Sends until the queue is closed and empty, or its deadline has passed.
    pub(crate) async fn run(self) {
        // Whoever drops the task loses what waits; nobody who closes must wait for it.
        let done = Done(&self.shared);
        let shared = &self.shared;
        while !shared.closed.load(Ordering::Acquire) {
            tokio::select! {
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(self.interval) => {}
                () = shared.closing.notified() => break,
            }
            while self.send_some().await {
                if shared.closed.load(Ordering::Acquire) {
                    break;
                }
            }
        }
        while self.send_some().await {}
        drop(done);
    }

    /// Sends one batch, if there is one.
    async fn send_some(&self) -> bool {
        let waiting = &self.shared.waiting;
        let batch: Vec<T> = std::iter::from_fn(|| waiting.pop())
            .take(self.shared.batch)
            .collect();
        if batch.is_empty() {
            return false;
        }
        let many = batch.len() as u64;
        let request = T::pack(batch, &self.resource, self.to.encoding());
        let lost = match self.deliver(request).await {
            Ok(rejected) => rejected.min(many),
            Err(why) => {
                tracing::debug!(collector = self.to.base, %why, lost = many, "telemetry was not delivered");
                many
            }
        };
        self.count(many - lost, lost);
        true
    }

    /// Sends a batch, more than once if need be; how many of it were rejected, or why nothing arrived.
    async fn deliver(&self, batch: Bytes) -> Result<u64, String> {
        let mut pause = BACK_OFF;
        for attempt in 1.. {
            let request = self.to.request(T::SIGNAL, batch.clone())?;
            let answer = self.within(self.to.timeout, self.carrier.carry(request)).await;
            let verdict = match answer {
                Some(Ok(answer)) => self.to.judge(&answer),
                Some(Err(why)) => Verdict::Later { after: None, why },
                None => Verdict::Later {
                    after: None,
                    why: "the collector did not answer in time".to_owned(),
                },
            };
            let (after, why) = match verdict {
                Verdict::Taken { rejected: 0, .. } => return Ok(0),
                Verdict::Taken { rejected, why } => {
                    tracing::debug!(collector = self.to.base, rejected, why, "telemetry was rejected");
                    return Ok(rejected);
                }
                Verdict::Refused { why } => return Err(why),
                Verdict::Later { after, why } => (after, why),
            };
            let wait = after.unwrap_or_else(|| pause.mul_f64(0.5 + fastrand::f64() / 2.0));
            if attempt >= ATTEMPTS || wait > LONGEST_BACK_OFF || self.left().is_some() {
                return Err(why);
            }
            pause = (pause * 2).min(LONGEST_BACK_OFF);
            // Closing cuts the pause short: what comes after it is the last attempt.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shared.closing.notified() => {}
            }
        }
        Ok(0)
    }

    /// What a future comes to within this time, or once closing has begun, within the deadline.
    async fn within<R>(&self, limit: Duration, future: impl Future<Output = R>) -> Option<R> {
        if let Some(left) = self.left() {
            return timeout(left.min(limit), future).await.ok();
        }
        let future = timeout(limit, future);
        tokio::pin!(future);
        tokio::select! {
            result = &mut future => result.ok(),
            () = self.shared.closing.notified() => {
                // A batch under way may still arrive.
                let left = self.left().unwrap_or_default();
                timeout(left, future).await.ok().and_then(Result::ok)
            }
        }
    }

    /// How much time is left, once closing has begun.
    fn left(&self) -> Option<Duration> {
        let deadline = lock(&self.shared.deadline);
        deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn count(&self, arrived: u64, lost: u64) {
        let shared = &self.shared;
        if arrived > 0 {
            shared.tally.arrived(arrived);
        }
        if lost > 0 {
            shared.tally.lost(lost);
            if shared.closed.load(Ordering::Acquire) {
                shared.lost_at_close.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }
}

/// Says that nothing more is sent, however a worker ends.
struct Done<'a, T>(&'a Shared<T>);

impl<T> Drop for Done<'_, T> {
    fn drop(&mut self) {
        let shared = self.0;
        shared.closed.store(true, Ordering::Release);
        let mut left = 0;
        while shared.waiting.pop().is_some() {
            left += 1;
        }
        if left > 0 {
            shared.tally.lost(left);
            shared.lost_at_close.fetch_add(left, Ordering::Relaxed);
        }
        *lock(&shared.done) = true;
        shared.done_changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
