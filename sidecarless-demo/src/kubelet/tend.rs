//! The life of one pod.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::process::{ADMIN, Process, is_ready};
use super::{Phase, PodSpec, Program, Shared};
use crate::plain;

/// How often a process that is not ready is asked.
const ASK_STARTING: Duration = Duration::from_millis(50);
/// How often a process that is ready is asked.
const ASK_READY: Duration = Duration::from_millis(500);
/// How many unanswered questions in a row make a pod unready, as with a cluster's probes. That a process died is not learned
/// so: these are for one that hangs, and one on a busy machine does not.
const MISSES: u32 = 5;
/// How long callers are waited for that have not heard yet that a pod leaves the endpoints. A cluster's pods sleep so long,
/// in a `preStop` hook; the town can ask.
const NOTICE: Duration = Duration::from_secs(10);
/// The pause before the first restart; it doubles from there.
const BACK_OFF: Duration = Duration::from_millis(250);
/// The longest pause before a restart.
const MAX_BACK_OFF: Duration = Duration::from_secs(10);
/// A process that ran this long has earned a short pause again.
const GOOD_RUN: Duration = Duration::from_secs(20);

/// Runs a pod until it is told to stop.
pub(super) async fn tend(
    shared: Arc<Shared>,
    spec: Arc<PodSpec>,
    address: Ipv4Addr,
    credentials: PathBuf,
    mut stopped: watch::Receiver<bool>,
) {
    let key = spec.key();
    let mut pause = BACK_OFF;
    while !*stopped.borrow() {
        let began = Instant::now();
        match Process::spawn(&shared, &spec, address, &credentials) {
            Ok(mut process) => {
                shared.started(&key, process.id());
                let probe = process.readiness();
                let ended = tokio::select! {
                    ended = process.ended() => Some(ended),
                    () = probed(&shared, &key, probe) => None,
                    _ = stopped.wait_for(|stop| *stop) => None,
                };
                match ended {
                    Some(ended) => shared.ended(&key, ended),
                    None => {
                        wind_down(&shared, &spec, address, process).await;
                        break;
                    }
                }
            }
            Err(error) => eprintln!("{key}: {error:#}"),
        }
        shared.turn(&key, Phase::Starting);
        if began.elapsed() > GOOD_RUN {
            pause = BACK_OFF;
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
        pause = (pause * 2).min(MAX_BACK_OFF);
    }
    shared.forget(&spec, address);
}

/// Asks a process over and over whether it is ready, and writes down the answer.
async fn probed(shared: &Shared, key: &str, probe: (String, &'static str)) {
    let mut misses = MISSES;
    loop {
        if is_ready(&probe).await {
            misses = 0;
            shared.turn(key, Phase::Ready);
        } else {
            misses += 1;
        }
        if misses >= MISSES {
            shared.turn(key, Phase::Starting);
        }
        sleep(if misses == 0 { ASK_READY } else { ASK_STARTING }).await;
    }
}

/// Out of the endpoints, then, once nobody sends it anything new, SIGTERM.
async fn wind_down(shared: &Shared, spec: &PodSpec, address: Ipv4Addr, process: Process) {
    let key = spec.key();
    match &spec.program {
        // Nobody calls a caller.
        Program::Service(name) if name == "client" => {}
        Program::Service(_) => {
            shared.turn(&key, Phase::Stopping);
            unknown(shared, &key, address).await;
        }
        // Callers must hear that the Gateway is gone before they hear that nothing serves it: a Gateway that is there and
        // down fails closed, as it should.
        Program::Gateway { .. } => {
            unknown(shared, &key, address).await;
            shared.turn(&key, Phase::Stopping);
        }
    }
    let how = process.stop().await;
    shared
        .exits
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((key, how));
}

/// Waits until no other process has an endpoint at this address any more; not at all if the whole town is on its way out.
async fn unknown(shared: &Shared, key: &str, address: Ipv4Addr) {
    let waited = timeout(NOTICE, async {
        while !shared.closing.load(Ordering::Relaxed) && is_known(shared, key, address).await {
            sleep(ASK_STARTING).await;
        }
    });
    if waited.await.is_err() {
        eprintln!("{key}: after {NOTICE:?} somebody still sends requests to {address}");
    }
}

/// Whether another process has an endpoint at this address, by the configuration that is in force there.
async fn is_known(shared: &Shared, key: &str, address: Ipv4Addr) -> bool {
    let pods = shared.pods.borrow().clone();
    let others = pods
        .iter()
        .filter(|(other, pod)| *other != key && pod.process.is_some());
    let mut asked: JoinSet<bool> = others
        .map(|(_, pod)| {
            let admin = format!("{}:{ADMIN}", pod.address);
            async move {
                // Who does not answer sends nothing either.
                let dump = plain::get(&admin, "/config_dump").await;
                dump.is_ok_and(|dump| dump.body.contains(&format!("\"{address}:")))
            }
        })
        .collect();
    while let Some(known) = asked.join_next().await {
        if known.unwrap_or(false) {
            return true;
        }
    }
    false
}

impl Shared {
    /// Notes the process of a pod.
    fn started(&self, key: &str, process: Option<u32>) {
        self.pods.send_modify(|pods| {
            if let Some(pod) = pods.get_mut(key) {
                pod.process = process;
                pod.started += 1;
            }
        });
    }

    /// Notes that the process of a pod ended by itself.
    fn ended(&self, key: &str, ended: std::io::Result<ExitStatus>) {
        let how = match ended {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        eprintln!("{key} ended by itself ({how}) and is started again");
        self.pods.send_modify(|pods| {
            if let Some(pod) = pods.get_mut(key) {
                pod.process = None;
                pod.ended = Some(how);
            }
        });
    }
}
