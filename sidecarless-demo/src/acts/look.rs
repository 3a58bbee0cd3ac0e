//! Looking: at what answers report, at admin pages, at traces. Everything is waited for by looking again.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use examples::bookinfo::hops;
use tokio::time::{Instant, sleep};

use super::stage::PAGE;
use crate::caller::{Caller, Outcome};
use crate::plain;
use crate::town::Town;
use crate::traces::Trace;

/// How long something may take to be seen.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(25);
/// How many pages in a row must look right: each comes from another reviews, which reads its configuration by itself.
const PAGES: usize = 12;

/// Looks until it goes well, and says at the end what was wrong the last time.
pub(crate) async fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(seen) => return Ok(seen),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("waited {PATIENCE:?} for {what}")));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// A whole page, as `curl` gets it.
pub(crate) async fn page(curl: &Caller) -> anyhow::Result<Outcome> {
    let page = curl.get(PAGE).await?;
    match page.fault() {
        Some(fault) => bail!("the page: {fault}"),
        None => Ok(page),
    }
}

/// Asks for pages and compares whom each service saw with whom it should see.
pub(crate) async fn peers_are(curl: &Caller, expected: impl Fn(&str) -> String) -> anyhow::Result<()> {
    let mut rated = false;
    for _ in 0..PAGES {
        let page = page(curl).await?;
        for (service, peer) in hops(&page)? {
            let app = service.split_once('-').map_or(service, |(app, _)| app);
            rated |= app == "ratings";
            let expected = expected(app);
            ensure!(
                peer == expected,
                "{service} was called by {peer}, not by {expected}"
            );
        }
    }
    ensure!(rated, "no page of {PAGES} had ratings");
    Ok(())
}

/// The services behind a page and whom each of them saw.
pub(crate) fn hops(page: &Outcome) -> anyhow::Result<Vec<(&str, &str)>> {
    let hops = page
        .header(hops::HOPS)
        .split(", ")
        .filter_map(|hop| hop.split_once('='))
        .collect::<Vec<_>>();
    ensure!(hops.len() >= 3, "the page reports {} services", hops.len());
    Ok(hops)
}

/// Calls a workload's port without the mesh: `Ok` with what came back if it answered well, `Err` if it refused.
async fn plaintext(town: &Town, pod: &str) -> anyhow::Result<plain::Answer> {
    let answer = plain::get(&format!("{}:9080", town.address(pod)?), "/health").await?;
    ensure!(answer.status.is_success(), "it answered {}", answer.status);
    Ok(answer)
}

/// Waits until a workload answers plaintext.
pub(crate) async fn answers_plaintext(town: &Town, pod: &str) -> anyhow::Result<()> {
    let what = format!("{pod} to answer plaintext");
    eventually(&what, async || plaintext(town, pod).await.map(drop)).await
}

/// Waits until a workload refuses plaintext, and says how.
pub(crate) async fn refuses_plaintext(town: &Town, pod: &str) -> anyhow::Result<String> {
    let what = format!("{pod} to refuse plaintext");
    eventually(&what, async || match plaintext(town, pod).await {
        Ok(_) => bail!("it answered"),
        Err(error) => Ok(format!("{error:#}")),
    })
    .await
}

/// Waits for the whole trace of a page that satisfies `wanted`; a fresh page for every look, because exporters drop
/// spans rather than slow a request.
pub(crate) async fn trace<T>(
    town: &Town,
    curl: &Caller,
    what: &str,
    wanted: impl Fn(&Trace) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    eventually(what, async || {
        let page = page(curl).await?;
        let id = page.header(hops::TRACE_ID);
        ensure!(!id.is_empty(), "the page was not traced");
        let deadline = Instant::now() + Duration::from_secs(6);
        loop {
            let trace = town.traces.trace(id);
            match complete(&trace).and_then(|()| wanted(&trace)) {
                Ok(seen) => return Ok(seen),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        }
    })
    .await
}

/// One root, every other span below a span that is there, and what a process serves below what another asked for.
fn complete(trace: &Trace) -> anyhow::Result<()> {
    ensure!(!trace.spans().is_empty(), "no span has arrived");
    ensure!(
        trace.roots().count() == 1,
        "{} roots in one trace",
        trace.roots().count()
    );
    let orphans = trace.orphans();
    ensure!(
        orphans.is_empty(),
        "{} spans without their parent, {:?} first",
        orphans.len(),
        orphans.first()
    );
    for span in trace.spans().iter().filter(|span| span.kind == "server") {
        let asked = trace
            .parent(span)
            .is_none_or(|parent| parent.service != span.service);
        ensure!(asked, "{} serves what it asked for itself", span.service);
    }
    Ok(())
}

/// What a process finds wrong with the configuration, and what it would report on the resources themselves.
pub(crate) async fn complaints(town: &Town, pod: &str) -> anyhow::Result<String> {
    let admin = town.admin(pod)?;
    let problems = plain::get(&admin, "/problems")
        .await
        .context("asking for problems")?;
    let conditions = plain::get(&admin, "/conditions")
        .await
        .context("asking for conditions")?;
    Ok(problems.body + &conditions.body)
}

/// How many requests a process refused with 403, by its own count.
pub(crate) async fn refusals(town: &Town, pod: &str) -> anyhow::Result<f64> {
    let metrics = plain::get(&town.admin(pod)?, "/metrics")
        .await
        .context("asking for metrics")?
        .body;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("istio_requests_total"));
    let refused = lines.filter(|line| line.contains("response_code=\"403\""));
    Ok(refused
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}
