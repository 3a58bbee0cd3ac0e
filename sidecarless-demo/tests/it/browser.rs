//! The demo's page in a real browser: every act's button is pressed, and what it does is looked at twice, on the page and by
//! requests of our own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use inmesh_tests::kit::Browser;
use serde_json::{Value, json};

use crate::plain;
use crate::town::{Town, eventually};

/// How long a step may take to be seen, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(90);
const PAGE: &str = "http://productpage.bookinfo:9080/productpage";
const LOGIN: &str = "http://productpage.bookinfo:9080/login";
const REVIEWS: &str = "http://reviews.bookinfo:9080/reviews/0";

/// A page in a browser.
struct Visit {
    browser: Browser,
    town: Town,
}

impl Visit {
    async fn start() -> Result<Option<Self>> {
        let Some(browser) = Browser::start(1500, 1600).await? else {
            return Ok(None);
        };
        let town = Town::start().await?;
        browser.open(town.told("the guide")?).await?;
        browser.until("document.body.dataset.shown").await;
        Ok(Some(Self { browser, town }))
    }

    /// Opens the card of an act.
    async fn open(&self, act: usize) -> Result<()> {
        let card = format!("document.getElementById('act-{act}')");
        self.browser
            .run(&format!("{card}.open = true; {card}.scrollIntoView();"))
            .await
            .map(drop)
    }

    /// Chooses a manifest of a step by its name.
    async fn choose(&self, step: &str, choice: &str) -> Result<()> {
        let pressed = format!(
            "const buttons = [...document.querySelectorAll('[data-step={step}] .choice')];\
             buttons.find((button) => button.textContent === {choice:?}).click();"
        );
        self.browser.run(&pressed).await.map(drop)
    }

    /// Presses a button of a step and waits until it is over and nothing was wrong.
    async fn press(&self, step: &str, button: &str) -> Result<String> {
        let done = format!(
            "const lines = document.querySelectorAll('[data-step={step}] .lines .did'); return lines.length + ' ' + \
             document.querySelector('[data-step={step}] .lines').textContent;"
        );
        let before = self.browser.run(&done).await?;
        self.browser
            .click(&format!("[data-step={step}] .{button}"))
            .await?;
        eventually(&format!("{step} to be over"), PATIENCE, async || {
            let now = self.browser.run(&done).await?;
            let busy = self
                .browser
                .run(&format!(
                    "return document.querySelector('[data-step={step}] .lines .busy') !== null;"
                ))
                .await?;
            ensure!(now != before && busy == false, "it is not: {now}");
            Ok(())
        })
        .await?;
        let lines = self.browser.text(&format!("[data-step={step}] .lines")).await?;
        let failed = format!("return document.querySelectorAll('[data-step={step}] .lines .failed').length;");
        ensure!(self.browser.run(&failed).await? == 0, "{step}: {lines}");
        Ok(lines)
    }

    /// Waits until a step's badge says this.
    async fn badge(&self, step: &str, text: &str) -> Result<()> {
        let badge = format!("document.querySelector('[data-step={step}] .badge').textContent === {text:?}");
        self.browser.until(&badge).await;
        Ok(())
    }

    /// A request of our own, as one of the callers.
    async fn call(&self, caller: &str, method: &str, url: &str) -> Result<Value> {
        let control = format!("{}:8081", self.town.address(&format!("default/{caller}-1"))?);
        plain::ask(&control, "/call", &json!({ "method": method, "url": url })).await
    }

    /// Of all that was asked meanwhile nothing failed.
    async fn nothing_failed(&self) -> Result<()> {
        let failed = self.number("#failed").await?;
        let how = "return document.getElementById('failures-table').tBodies[0].innerText";
        ensure!(
            failed == 0,
            "{failed} requests failed: {}",
            self.browser.run(how).await?
        );
        ensure!(self.number("#requests").await? > 100, "hardly anything was asked");
        Ok(())
    }

    /// Opens the page anew.
    async fn reload(&self) -> Result<()> {
        self.browser.run("location.reload()").await?;
        self.browser.until("document.body.dataset.shown").await;
        Ok(())
    }

    /// Waits until nothing is looked for in any step, and gives how often something was done in this one.
    async fn quiet(&self, step: &str) -> Result<u64> {
        self.browser
            .until("document.body.dataset.shown && document.querySelector('.lines .busy') === null")
            .await;
        let done = format!("return document.querySelectorAll('[data-step={step}] .lines .did').length");
        self.browser.run(&done).await?.as_u64().context("no number")
    }

    /// What stands there, digit by digit.
    async fn number(&self, selector: &str) -> Result<u64> {
        let text = self.browser.text(selector).await?;
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        digits.parse().with_context(|| format!("{selector}: {text}"))
    }

    async fn status(&self, caller: &str, method: &str, url: &str) -> Result<u64> {
        let answer = self.call(caller, method, url).await?;
        answer["status"].as_u64().with_context(|| answer.to_string())
    }

    /// Whom the answering workload was called by.
    async fn peer(&self, url: &str) -> Result<String> {
        let answer = self.call("curl", "GET", url).await?;
        let peer = answer["headers"]["x-mesh-peer"].as_str();
        Ok(peer.with_context(|| answer.to_string())?.to_owned())
    }
}

const CURL: &str = "spiffe://cluster.local/ns/default/sa/curl";
const WAYPOINT: &str = "spiffe://cluster.local/ns/bookinfo/sa/waypoint";
const WAYPOINT_FOO: &str = "spiffe://cluster.local/ns/foo/sa/waypoint-foo";

#[tokio::test(flavor = "multi_thread")]
async fn every_act_can_be_played_by_its_buttons() -> Result<()> {
    let Some(visit) = Visit::start().await? else {
        return Ok(());
    };
    plain_mesh(&visit).await.context("act 1")?;
    waypoints(&visit).await.context("act 2")?;
    split(&visit).await.context("act 3")?;
    policy(&visit).await.context("act 4")?;
    mutual_tls(&visit).await.context("act 5")?;
    clean_up(&visit).await.context("act 6")?;
    visit.nothing_failed().await?;
    let complaints = visit.browser.complaints().await?;
    ensure!(complaints.is_empty(), "the browser complains: {complaints:?}");
    Ok(())
}

async fn plain_mesh(visit: &Visit) -> Result<()> {
    visit.open(1).await?;
    let lines = visit.press("look", "run").await?;
    ensure!(
        lines.contains(&format!("productpage-v1 was called by {CURL}")),
        "{lines}"
    );
    ensure!(visit.peer(PAGE).await? == CURL, "the page was not called by curl");
    Ok(())
}

async fn waypoints(visit: &Visit) -> Result<()> {
    visit.open(2).await?;
    // The demo starts with the Gateway; it goes and comes back.
    visit.press("gateway", "delete").await?;
    visit.badge("gateway", "not applied").await?;
    let lines = visit.press("gateway", "apply").await?;
    ensure!(lines.contains("bookinfo/waypoint-1 is ready"), "{lines}");
    visit.badge("gateway", "in force: for services").await?;

    visit.press("bind", "apply").await?;
    ensure!(
        visit.peer(REVIEWS).await? == WAYPOINT,
        "reviews is not called by the waypoint"
    );
    visit.choose("service", "none").await?;
    visit.press("service", "apply").await?;
    ensure!(
        visit.peer(REVIEWS).await? == CURL,
        "reviews is not called directly"
    );
    visit.press("service", "delete").await?;
    visit
        .browser
        .until("document.querySelector('#town [data-from=curl][data-to=waypoint]')")
        .await;

    visit.press("foo", "apply").await?;
    visit.choose("bind", "waypoint-foo in foo").await?;
    visit.press("bind", "apply").await?;
    ensure!(
        visit.peer(PAGE).await? == WAYPOINT_FOO,
        "the page is not called by waypoint-foo"
    );
    visit.press("bind", "delete").await?;
    ensure!(visit.peer(PAGE).await? == CURL, "the page is not called directly");
    visit.press("foo", "delete").await?;

    visit.choose("gateway", "for workloads").await?;
    visit.press("gateway", "apply").await?;
    visit.press("pod", "apply").await?;
    let by_address = format!(
        "http://{}:9080/reviews/0",
        visit.town.address("bookinfo/reviews-v1-1")?
    );
    ensure!(
        visit.peer(&by_address).await? == WAYPOINT,
        "the pod is not called by the waypoint"
    );
    visit.press("pod", "delete").await.map(drop)
}

async fn split(visit: &Visit) -> Result<()> {
    visit.open(3).await?;
    let lines = visit.press("route", "apply").await?;
    ensure!(lines.contains("of 400 requests: reviews-v1"), "{lines}");
    for _ in 0..20 {
        let answer = visit.call("curl", "GET", REVIEWS).await?;
        ensure!(
            answer["headers"]["x-served-by"] != "reviews-v3",
            "reviews-v3 answered"
        );
    }
    visit
        .browser
        .until("document.querySelector('#split-figures').textContent.includes('of 90 % configured')")
        .await;
    visit
        .browser
        .until("document.querySelector('#split .band')")
        .await;
    // A person may change what stands there.
    let changed = visit
        .browser
        .run("return document.querySelector('[data-step=route] textarea').value;")
        .await?;
    let changed = changed
        .as_str()
        .context("no YAML")?
        .replace("weight: 90", "weight: 0");
    visit
        .browser
        .run("document.querySelector('[data-step=route] textarea').value = '';")
        .await?;
    visit.browser.fill("[data-step=route] textarea", &changed).await?;
    visit.press("route", "apply").await?;
    visit.badge("route", "in force, changed").await?;
    for _ in 0..20 {
        let answer = visit.call("curl", "GET", REVIEWS).await?;
        ensure!(
            answer["headers"]["x-served-by"] == "reviews-v2",
            "not reviews-v2: {answer}"
        );
    }
    visit.press("route", "delete").await.map(drop)
}

async fn policy(visit: &Visit) -> Result<()> {
    visit.open(4).await?;
    visit.press("policy", "apply").await?;
    ensure!(visit.status("curl", "GET", PAGE).await? == 200, "GET as curl");
    ensure!(visit.status("curl", "POST", LOGIN).await? == 403, "POST as curl");
    ensure!(visit.status("other", "GET", PAGE).await? == 403, "GET as other");
    visit.press("policy", "delete").await?;
    ensure!(
        visit.status("other", "GET", PAGE).await? == 200,
        "GET as other, later"
    );
    Ok(())
}

async fn mutual_tls(visit: &Visit) -> Result<()> {
    visit.open(5).await?;
    let door = format!("{}:9080", visit.town.address("bookinfo/reviews-v2-1")?);
    visit.press("mtls", "apply").await?;
    visit.badge("mtls", "in force: STRICT").await?;
    ensure!(
        plain::get(&door, "/health").await.is_err(),
        "plaintext was answered under STRICT"
    );
    visit.choose("mtls", "DISABLE").await?;
    let lines = visit.press("mtls", "apply").await?;
    ensure!(lines.contains("DISABLE is ignored"), "{lines}");
    ensure!(
        plain::get(&door, "/health").await.is_ok(),
        "plaintext was not answered under DISABLE"
    );
    Ok(())
}

async fn clean_up(visit: &Visit) -> Result<()> {
    visit.open(6).await?;
    visit.press("clean", "run").await?;
    visit.badge("mtls", "not applied").await?;
    visit.badge("gateway", "not applied").await?;
    visit
        .browser
        .until("!document.querySelector('#town .waypoint')")
        .await;
    Ok(())
}

/// What people do with pages: click twice, load anew in the middle, have two of them open.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_bears_impatience_and_a_second_window() -> Result<()> {
    let Some(visit) = Visit::start().await? else {
        return Ok(());
    };
    let Some(other) = Browser::start(390, 844).await? else {
        return Ok(());
    };
    visit.open(3).await?;
    let apply = "document.querySelector('[data-step=route] .apply')";
    visit
        .browser
        .run(&format!("{apply}.click(); {apply}.click();"))
        .await?;
    visit.badge("route", "in force: 90 / 10").await?;
    ensure!(visit.quiet("route").await? == 1, "a double click did it twice");

    // Loaded anew while it is looked for: the same act is open, and what was seen before and after is there.
    visit.open(2).await?;
    visit
        .browser
        .run("document.querySelector('[data-step=bind] .apply').click()")
        .await?;
    visit
        .browser
        .until("document.querySelector('[data-step=bind] .lines .did')")
        .await;
    visit.reload().await?;
    visit.browser.until("document.getElementById('act-2').open").await;
    visit.badge("bind", "in force: waypoint").await?;
    ensure!(visit.quiet("bind").await? == 1, "it was forgotten, or done again");
    let lines = visit
        .browser
        .run("return document.querySelector('[data-step=bind] .lines').textContent")
        .await?;
    ensure!(
        lines.to_string().contains("every service is called by"),
        "{lines}"
    );

    // In another window, on a telephone, somebody has begun to write; nothing that happens here takes that away.
    other.open(visit.town.told("the guide")?).await?;
    other.until("document.body.dataset.shown").await;
    other.run("document.getElementById('act-3').open = true").await?;
    other.fill("[data-step=route] textarea", "# mine").await?;
    visit.open(3).await?;
    visit.choose("route", "50 / 50").await?;
    visit.browser.run(&format!("{apply}.click()")).await?;
    let both = "document.querySelector('[data-step=route] .badge').textContent === 'in force: 50 / 50'";
    other.until(both).await;
    visit.browser.until(both).await;
    let written = other
        .run("return document.querySelector('[data-step=route] textarea').value")
        .await?;
    ensure!(written.to_string().contains("# mine"), "{written}");
    // Both at once: one comes last, and both windows say which.
    other.run("[...document.querySelectorAll('[data-step=route] .choice')].find(it => it.textContent === '90 / 10').click()").await?;
    let (here, there) = (format!("{apply}.click()"), format!("{apply}.click()"));
    tokio::try_join!(visit.browser.run(&here), other.run(&there))?;
    visit.quiet("route").await?;
    let badge = "return document.querySelector('[data-step=route] .badge').textContent";
    eventually("both windows to agree", PATIENCE, async || {
        let (here, there) = tokio::try_join!(visit.browser.run(badge), other.run(badge))?;
        ensure!(
            here == there && here.to_string().contains("in force: "),
            "{here} and {there}"
        );
        Ok(())
    })
    .await?;
    ensure!(
        other
            .run("return document.documentElement.scrollWidth <= innerWidth")
            .await?
            == true,
        "on a telephone the page is wider than the screen"
    );
    visit.nothing_failed().await?;
    for browser in [&visit.browser, &other] {
        let complaints = browser.complaints().await?;
        ensure!(complaints.is_empty(), "the browser complains: {complaints:?}");
    }
    Ok(())
}

/// A process that dies is shown, started again, and served again; requests that fail for it are told one by one.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_is_shown_and_comes_back() -> Result<()> {
    let Some(visit) = Visit::start().await? else {
        return Ok(());
    };
    for (pod, url) in [
        (
            "bookinfo/details-v1-1",
            Some("http://details.bookinfo:9080/details/0"),
        ),
        // The page asks through this one: it must be told again what to ask.
        ("default/curl-1", None),
    ] {
        let row = format!("document.querySelector('[data-pod=\"{pod}\"]')");
        let id = visit
            .browser
            .run(&format!("return Number({row}.cells[3].textContent)"))
            .await?;
        let id = id.as_i64().and_then(|id| i32::try_from(id).ok());
        let id = id
            .and_then(rustix::process::Pid::from_raw)
            .context("no process")?;
        rustix::process::kill_process(id, rustix::process::Signal::KILL)?;
        visit
            .browser
            .until(&format!("{row}.cells[4].textContent.startsWith('1') && {row}.cells[4].textContent.includes('signal: 9')"))
            .await;
        visit
            .browser
            .until(&format!("{row}.cells[1].textContent === 'ready'"))
            .await;
        if let Some(url) = url {
            eventually("it to serve again", PATIENCE, async || {
                ensure!(visit.status("curl", "GET", url).await? == 200, "not yet");
                Ok(())
            })
            .await?;
        }
        // And is asked again.
        let asked = visit.number("#requests").await?;
        eventually("more requests", PATIENCE, async || {
            ensure!(visit.number("#requests").await? > asked + 20, "none");
            Ok(())
        })
        .await?;
    }
    let failed = visit.number("#failed").await?;
    if failed > 0 {
        let told = visit.browser.run("return document.getElementById('failures').hidden ? 0 : document.getElementById('failures-table').tBodies[0].rows.length").await?;
        ensure!(
            told.as_u64() == Some(failed.min(20)),
            "{failed} failed, {told} are told"
        );
    }
    Ok(())
}
