//! One of three falls silent: requests that wait for it are sent elsewhere when pings go unanswered, and until it answers
//! again nobody waits for it any more.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use inmesh_tests::kit::Shape;
use inmesh_tests::kit::cluster::PodSpec;
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::sockets::connections;
use inmesh_tests::kit::town::{KEEPALIVE, Town, URL};
use inmesh_tests::kit::wait::{PATIENCE, until};
use inmesh_tests::kit::world::status;

use super::{BINARIES, RETRIES, is_long, load, seconds};

in_both_shapes!(
    a_peer_that_answers_no_more_is_noticed_by_its_silence,
    a_peer_behind_a_black_hole_is_noticed_too,
    what_is_not_acknowledged_ends_a_connection,
);

/// Every second, and two seconds to answer: time enough on a busy machine.
const ATTENTIVE: (u64, u64) = (1, 2);

/// How often peers are asked, and for how long one is silent: so long that somebody who dialled it time and again would have
/// waited for a dial to fail, 10 s. In the long run at the default pace too.
fn paces() -> impl Iterator<Item = ((u64, u64), u64)> {
    let short = if is_long() { 60 } else { 15 };
    [(ATTENTIVE, short)]
        .into_iter()
        .chain(is_long().then_some((KEEPALIVE, 60)))
}

/// Stopped: its kernel acknowledges and takes connections, nobody answers.
async fn a_peer_that_answers_no_more_is_noticed_by_its_silence(shape: Shape) -> Result<()> {
    for (pace, lasting) in paces() {
        let town = silence(shape, "is stopped, and silent", pace, lasting, |_, pod| {
            pod.signal("STOP")
        })
        .await?;
        let (spec, pod) = &town.pods[0];
        pod.signal("CONT")?;
        until("it is asked again, since it answers", || async {
            let answer = town.curl.get(URL).await;
            answer.is_ok_and(|it| it.headers().get("x-pod").is_some_and(|by| *by == *spec.name))
        })
        .await;
    }
    Ok(())
}

/// Nothing gets there any more, and nothing comes back.
async fn a_peer_behind_a_black_hole_is_noticed_too(shape: Shape) -> Result<()> {
    if std::env::var_os(OWN_NETWORK).is_none() {
        let name = match shape {
            Shape::InProcess => "in_process",
            Shape::Waypoint => "through_a_waypoint",
        };
        return in_a_network_of_its_own(&format!(
            "scenarios::silence::a_peer_behind_a_black_hole_is_noticed_too::{name}"
        ));
    }
    for (pace, lasting) in paces() {
        silence(shape, "is behind a black hole", pace, lasting, |spec, _| {
            let address = spec.ip.to_string();
            let args = ["route", "add", "blackhole", &address, "table", "local"];
            let made = Command::new("ip").args(args).status()?;
            anyhow::ensure!(made.success(), "there is no black hole");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn silence(
    shape: Shape,
    what: &str,
    pace: (u64, u64),
    lasting: u64,
    fall_silent: impl FnOnce(&PodSpec, &Process) -> Result<()>,
) -> Result<Town> {
    let town = Town::watching(BINARIES, shape, 3, &[("retries", RETRIES)], pace).await?;
    let load = load(&town, "/");
    seconds(1, 1).await;
    let (spec, pod) = &town.pods[0];
    fall_silent(spec, pod)?;
    tokio::time::sleep(Duration::from_secs(lasting)).await;
    let mut seen = load.stop().await?;
    let noticed = pace.0 + pace.1;
    seen.say(&format!("one of three {what}, noticed within {noticed} s"), shape);
    assert_eq!(seen.failures(), 0, "{:?}", seen.failed);
    // As long as pings take to tell, and then elsewhere; never as long as dialling takes after that.
    let longest = seen.within(1.0);
    assert!(longest < Duration::from_secs(noticed + 5), "{longest:?}");
    Ok(town)
}

/// Says to a run that the network is its own to break: nothing that can be seen of one does.
const OWN_NETWORK: &str = "INMESH_TEST_OWN_NETWORK";

/// Runs one test again in a network of its own, where there are `unshare` and `ip` and the system lets anybody have one.
fn in_a_network_of_its_own(test: &str) -> Result<()> {
    let inside = |script: &str, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-rn", "sh", "-c", script]).args(args);
        command.env(OWN_NETWORK, "1");
        command
    };
    let lo = "ip link set lo up && ip route add blackhole 127.200.200.200 table local";
    match inside(lo, &[]).output() {
        Ok(tried) if tried.status.success() => {}
        tried => {
            eprintln!("SKIPPED: {test}: there is no network of its own to be had: {tried:?}");
            return Ok(());
        }
    }
    let binary = std::env::current_exe()?;
    let binary = binary.to_str().context("the path of the test is text")?;
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    let output = inside(script, &[binary, test, "--exact", "--nocapture"]).output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(told.contains("1 passed"), "{told}");
    Ok(())
}

/// The sockets of tunnels, at both ends, as the kernel has them.
async fn what_is_not_acknowledged_ends_a_connection(shape: Shape) -> Result<()> {
    let town = Town::watching(BINARIES, shape, 1, &[], ATTENTIVE).await?;
    assert_eq!(status(town.curl.get(URL).await), 200);
    let (spec, pod) = &town.pods[0];
    let chooses = town.waypoint.as_ref().map_or_else(std::process::id, Process::id);
    let tunnel = Some((spec.ip, 15008).into());
    let (interval, timeout) = ATTENTIVE;
    let attentive = Duration::from_secs(interval + timeout);
    let default = Duration::from_secs(KEEPALIVE.0 + KEEPALIVE.1);
    for (whose, near, far, expected) in [
        (chooses, None, tunnel, attentive),
        (pod.id(), tunnel, None, default),
    ] {
        // On a busy machine a tunnel may just have been given up.
        let there = async {
            loop {
                status(town.curl.get(URL).await);
                match connections(whose, near, far)? {
                    Some(none) if none.is_empty() => tokio::time::sleep(Duration::from_millis(50)).await,
                    found => return anyhow::Ok(found),
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, there).await;
        let Some(sockets) = found.with_context(|| format!("{whose} has no tunnel"))?? else {
            return Ok(());
        };
        for socket in sockets {
            let socket = socket.options();
            assert_eq!(socket.tcp_user_timeout()?, Some(expected), "{whose}");
            assert_eq!(socket.tcp_keepalive_time()?, Duration::from_secs(180), "{whose}");
            assert!(socket.keepalive()? && socket.tcp_nodelay()?, "{whose}");
        }
    }
    Ok(())
}
