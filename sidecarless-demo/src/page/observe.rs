//! What is looked at after each step: answers, pages and what processes say of themselves, as the acts look at them.

use anyhow::{Context, bail, ensure};
use examples::bookinfo::hops;
use serde_json::Value;

use super::log::Notes;
use super::watch::weights;
use crate::acts::look::{self, eventually};
use crate::acts::stage::{PAGE, REVIEWS, Stage};
use crate::ca::identity;
use crate::caller::{Caller, Tally};
use crate::kubelet::Phase;
use crate::plain;
use crate::town::{PATIENCE, Town};

/// How many requests show that a split is known, and how many measure it.
const GLANCE: usize = 40;
const COUNTED: usize = 400;
/// What only a policy keeps a caller from.
const LOGIN: &str = "http://productpage.bookinfo:9080/login";
/// Whose plaintext port is knocked at.
const KNOCKED: &str = "bookinfo/reviews-v2-1";

/// Looks at what came of a step; `applied` is what was written, nothing if it was taken away.
pub(super) async fn step(town: &Town, id: &str, applied: Option<&str>, notes: &Notes) -> anyhow::Result<()> {
    let curl = town.caller("curl")?;
    match (id, applied) {
        ("look", _) => who_calls_whom(town, &curl, notes).await,
        ("gateway", applied) => gateway(town, "bookinfo/waypoint-1", applied, notes).await,
        ("foo", applied) => gateway(town, "foo/waypoint-foo-1", applied, notes).await,
        ("bind", applied) => bound(town, &curl, applied, notes).await,
        ("service", applied) => service(&curl, applied, notes).await,
        ("pod", applied) => pod(town, &curl, applied, notes).await,
        ("route", Some(yaml)) => split(&curl, yaml, notes).await,
        ("route", None) => no_split(&curl, notes).await,
        ("policy", Some(_)) => enforced(town, &curl, notes).await,
        ("policy", None) => lifted(town, notes).await,
        ("mtls", applied) => mtls(town, applied, notes).await,
        ("clean", _) => clean_up(town, notes).await,
        _ => bail!("there is nothing to look at"),
    }
}

async fn who_calls_whom(town: &Town, curl: &Caller, notes: &Notes) -> anyhow::Result<()> {
    let page = look::page(curl).await?;
    for (service, peer) in look::hops(&page)? {
        notes.saw(format!("{service} was called by {peer}"));
    }
    for (name, pod) in [("reviews-v2", KNOCKED)] {
        match plain::get(&format!("{}:9080", town.address(pod)?), "/health").await {
            Ok(_) => notes.saw(format!("{name} also answers plaintext: its mode is PERMISSIVE")),
            Err(error) => notes.saw(format!("{name} refuses plaintext: {error:#}")),
        }
    }
    Ok(())
}

async fn gateway(town: &Town, pod: &str, applied: Option<&str>, notes: &Notes) -> anyhow::Result<()> {
    if applied.is_none() {
        town.kubelet.gone(pod, PATIENCE).await?;
        let how = town.kubelet.exit_of(pod);
        notes.saw(match how.as_deref() {
            Some("clean") => format!("{pod} drained and ended by itself"),
            Some(how) => format!("{pod} ended: {how}"),
            None => format!("{pod} was not there"),
        });
        return Ok(());
    }
    town.kubelet.ready(&[pod], PATIENCE).await?;
    let it = town.pod(pod)?;
    let process = it.process.unwrap_or_default();
    notes.saw(format!("{pod} is ready: process {process} at {}", it.address));
    complaints(town, "bookinfo/productpage-v1-1", &["AttachmentDenied"], notes).await
}

/// Says whether one of these words stands in what a process reports.
async fn complaints(town: &Town, pod: &str, words: &[&str], notes: &Notes) -> anyhow::Result<()> {
    let complaints = look::complaints(town, pod).await?;
    let name = pod.rsplit_once('/').map_or(pod, |(_, name)| name);
    for word in words.iter().filter(|word| complaints.contains(**word)) {
        notes.saw(format!("{name} reports {word}"));
    }
    Ok(())
}

/// The waypoint that a binding's manifest names, as its identity; nothing for `none` and for no binding.
fn waypoint(applied: Option<&str>) -> Option<String> {
    let object: Value = serde_saphyr::from_str(applied?).ok()?;
    let labels = &object["metadata"]["labels"];
    let name = labels["istio.io/use-waypoint"]
        .as_str()
        .filter(|name| *name != "none")?;
    let namespace = labels["istio.io/use-waypoint-namespace"]
        .as_str()
        .unwrap_or("bookinfo");
    Some(identity(namespace, name))
}

async fn bound(town: &Town, curl: &Caller, applied: Option<&str>, notes: &Notes) -> anyhow::Result<()> {
    let Some(waypoint) = waypoint(applied) else {
        Stage::set(town)?.calls_are_direct().await?;
        notes.saw("every service sees its caller's own identity again");
        return Ok(());
    };
    let seen = eventually("every call to pass the waypoint", async || {
        look::peers_are(curl, |_| waypoint.clone()).await
    });
    if let Err(error) = seen.await {
        complaints(
            town,
            "bookinfo/productpage-v1-1",
            &["WaypointMissing", "AttachmentDenied"],
            notes,
        )
        .await?;
        return Err(error);
    }
    notes.saw(format!("every service is called by {waypoint}"));
    Ok(())
}

/// Waits until whoever answers `url` sees this peer, several times in a row.
async fn sees(curl: &Caller, url: &str, what: &str, peer: &str, notes: &Notes) -> anyhow::Result<()> {
    eventually(&format!("{what} to be called by {peer}"), async || {
        for _ in 0..6 {
            let answer = curl.get(url).await?;
            ensure!(answer.fault().is_none(), "{:?}", answer.fault());
            let seen = answer.header(hops::PEER);
            ensure!(seen == peer, "it was called by {seen}");
        }
        Ok(())
    })
    .await?;
    notes.saw(format!("{what} is called by {peer}"));
    Ok(())
}

async fn service(curl: &Caller, applied: Option<&str>, notes: &Notes) -> anyhow::Result<()> {
    let peer = match (waypoint(applied), applied) {
        (Some(waypoint), _) => waypoint,
        (None, Some(_)) => identity("default", "curl"),
        // What the namespace says counts again.
        (None, None) => {
            let answer = curl.get(REVIEWS).await?;
            notes.saw(format!("reviews is called by {}", answer.header(hops::PEER)));
            return Ok(());
        }
    };
    sees(curl, REVIEWS, "reviews", &peer, notes).await
}

async fn pod(town: &Town, curl: &Caller, applied: Option<&str>, notes: &Notes) -> anyhow::Result<()> {
    let url = format!("http://{}:9080/reviews/0", town.address("bookinfo/reviews-v1-1")?);
    let peer = waypoint(applied).unwrap_or_else(|| identity("default", "curl"));
    sees(curl, &url, "reviews-v1 by its address", &peer, notes).await?;
    let answer = curl.get(REVIEWS).await?;
    notes.saw(format!(
        "Service reviews is called by {}",
        answer.header(hops::PEER)
    ));
    Ok(())
}

async fn split(curl: &Caller, yaml: &str, notes: &Notes) -> anyhow::Result<()> {
    let Some(weights) = weights(yaml) else {
        notes.saw("these rules are not one split by weight: watch the plot for what they do");
        return Ok(());
    };
    let allowed = |tally: &Tally| {
        ensure!(
            tally.failures.is_empty(),
            "requests failed: {}",
            tally.failures.join(" | ")
        );
        let stray = tally
            .answers
            .keys()
            .find(|service| weights.get(*service).is_none_or(|weight| *weight == 0));
        ensure!(stray.is_none(), "{} answered", stray.map_or("", String::as_str));
        Ok(())
    };
    eventually("the route to be known", async || {
        allowed(&curl.volley(REVIEWS, GLANCE).await?)
    })
    .await?;
    notes.saw(format!("the route is known: {GLANCE} requests went nowhere else"));
    let tally = curl.volley(REVIEWS, COUNTED).await?;
    allowed(&tally)?;
    notes.saw(shares(&tally));
    Ok(())
}

/// How many of a tally's requests each service answered, and who sent them there.
fn shares(tally: &Tally) -> String {
    let sum: usize = tally.answers.values().flat_map(|peers| peers.values()).sum();
    let parts = tally.answers.iter().map(|(service, peers)| {
        let count: usize = peers.values().sum();
        format!(
            "{service} {count} ({:.1} %)",
            count as f64 * 100.0 / sum.max(1) as f64
        )
    });
    let parts: Vec<String> = parts.collect();
    let mut peers: Vec<&str> = tally
        .answers
        .values()
        .flat_map(|peers| peers.keys().map(String::as_str))
        .collect();
    peers.sort_unstable();
    peers.dedup();
    format!(
        "of {sum} requests: {}; they came from {}",
        parts.join(", "),
        peers.join(" and ")
    )
}

async fn no_split(curl: &Caller, notes: &Notes) -> anyhow::Result<()> {
    eventually("reviews-v3 to answer again", async || {
        let tally = curl.volley(REVIEWS, GLANCE).await?;
        ensure!(tally.answers.contains_key("reviews-v3"), "it does not");
        notes.saw(shares(&tally));
        Ok(())
    })
    .await
}

async fn enforced(town: &Town, curl: &Caller, notes: &Notes) -> anyhow::Result<()> {
    let other = town.caller("other")?;
    let judges = judges(town);
    let mut before = Vec::new();
    for pod in &judges {
        before.push(look::refusals(town, pod).await?);
    }
    let peer = eventually("the policy", async || {
        let page = curl.get(PAGE).await?;
        ensure!(page.status == Some(200), "GET as curl: {:?}", page.status);
        status_is(curl, "POST", LOGIN, 403).await?;
        status_is(&other, "GET", PAGE, 403).await?;
        Ok(page.header(hops::PEER).to_owned())
    })
    .await?;
    notes.saw(format!("GET as curl: 200; productpage was called by {peer}"));
    notes.saw("POST as curl: 403");
    notes.saw("GET as other: 403");
    for (pod, before) in judges.iter().zip(before) {
        let refused = look::refusals(town, pod).await? - before;
        if refused > 0.0 {
            notes.saw(format!("refused by {pod}: {refused} so far"));
        }
    }
    Ok(())
}

/// Who might refuse a request to productpage.
fn judges(town: &Town) -> Vec<String> {
    let pods = town.kubelet.pods();
    let pods = pods.borrow();
    let ready = pods.iter().filter(|(_, pod)| pod.phase == Phase::Ready);
    let judges = ready.filter(|(key, _)| key.contains("/waypoint") || key.contains("/productpage"));
    judges.map(|(key, _)| key.clone()).collect()
}

async fn lifted(town: &Town, notes: &Notes) -> anyhow::Result<()> {
    let other = town.caller("other")?;
    eventually("the policy to be gone", async || {
        status_is(&other, "GET", PAGE, 200).await
    })
    .await?;
    notes.saw("GET as other: 200");
    Ok(())
}

async fn status_is(caller: &Caller, method: &str, url: &str, status: u16) -> anyhow::Result<()> {
    let answer = caller.call(method, url).await?;
    ensure!(
        answer.status == Some(status),
        "{method} {url}: {:?} {:?}, not {status}",
        answer.status,
        answer.error
    );
    Ok(())
}

async fn mtls(town: &Town, applied: Option<&str>, notes: &Notes) -> anyhow::Result<()> {
    let object: Value = applied
        .and_then(|yaml| serde_saphyr::from_str(yaml).ok())
        .unwrap_or_default();
    if object["spec"]["mtls"]["mode"] == "STRICT" {
        let how = look::refuses_plaintext(town, KNOCKED).await?;
        notes.saw(format!("reviews-v2 refuses plaintext: {how}"));
    } else {
        look::answers_plaintext(town, KNOCKED).await?;
        notes.saw("reviews-v2 answers plaintext, too");
    }
    if object["spec"]["mtls"]["mode"] == "DISABLE" {
        let ignored = "DISABLE is ignored";
        eventually("the mode to be reported as ignored", async || {
            let found = look::complaints(town, KNOCKED).await?.contains(ignored);
            ensure!(found, "nothing says that {ignored}");
            Ok(())
        })
        .await?;
        complaints(town, KNOCKED, &[ignored], notes).await?;
    }
    let page = look::page(&town.caller("curl")?).await?;
    let hops = look::hops(&page)?;
    ensure!(
        hops.iter().all(|(_, peer)| peer.starts_with("spiffe://")),
        "a call proved no identity: {hops:?}"
    );
    notes.saw(format!("all {} calls behind a page are mutual TLS", hops.len()));
    Ok(())
}

/// The guide's clean-up, but for the sample itself.
async fn clean_up(town: &Town, notes: &Notes) -> anyhow::Result<()> {
    let gone = |namespace: &str, file: &str, what: &str| {
        if town.folder.read(namespace, file).is_ok() {
            town.folder.delete(namespace, file)?;
            notes.did(format!("kubectl delete -n {namespace} {what}"));
        }
        anyhow::Ok(())
    };
    gone(
        "bookinfo",
        "productpage-waypoint.yaml",
        "AuthorizationPolicy productpage-waypoint",
    )?;
    gone("bookinfo", "reviews.yaml", "HTTPRoute reviews")?;
    gone("bookinfo", "mtls.yaml", "PeerAuthentication mtls")?;
    let waypoints = ["bookinfo/waypoint-1", "foo/waypoint-foo-1"].map(|pod| (pod, town.pod(pod).is_ok()));
    Stage::set(town)?
        .reset()
        .await
        .context("putting everything back")?;
    notes.saw("every service sees its caller's own identity");
    for (pod, _) in waypoints.iter().filter(|(_, there)| *there) {
        notes.saw(format!("{pod} drained and ended by itself"));
    }
    Ok(())
}
