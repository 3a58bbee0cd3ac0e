//! The life of one pod.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::process::{Process, is_ready};
use super::{Phase, PodSpec, Program, Shared};

/// How often a process that is not ready is asked.
const ASK_STARTING: Duration = Duration::from_millis(50);
/// How often a process that is ready is asked.
const ASK_READY: Duration = Duration::from_millis(500);
/// How many unanswered questions in a row make a pod unready, as with a cluster's probes.
const MISSES: u32 = 3;
/// The time between a pod leaving the endpoints and its process being told to stop, so that callers have heard
/// of it. A cluster's pods do the same with a `preStop` sleep.
const NOTICE: Duration = Duration::from_millis(500);
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
                    Some(ended) => report(&key, ended),
                    None => {
                        wind_down(&shared, &spec, process).await;
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

/// Out of the endpoints, a moment for callers to hear of it, then SIGTERM.
async fn wind_down(shared: &Shared, spec: &PodSpec, process: Process) {
    let key = spec.key();
    match &spec.program {
        // Nobody calls a caller.
        Program::Service(name) if name == "client" => {}
        Program::Service(_) => {
            shared.turn(&key, Phase::Stopping);
            sleep(NOTICE).await;
        }
        // Callers must hear that the Gateway is gone before they hear that nothing serves it: a Gateway that is there and
        // down fails closed, as it should.
        Program::Gateway { .. } => {
            sleep(NOTICE).await;
            shared.turn(&key, Phase::Stopping);
            sleep(NOTICE).await;
        }
    }
    let how = process.stop().await;
    shared
        .exits
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((key, how));
}

fn report(key: &str, ended: std::io::Result<ExitStatus>) {
    match ended {
        Ok(status) => eprintln!("{key} ended by itself ({status}) and is started again"),
        Err(error) => eprintln!("{key}: {error}"),
    }
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
}
