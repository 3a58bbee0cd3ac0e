//! The live view in a real browser. Where none is installed these tests say so and pass.
//!
//! With `INMESH_PICTURES=DIR` they leave pictures of what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inmesh_tests::kit::cluster::gateway;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, status};
use inmesh_tests::kit::{Admin, Browser, Shape, World};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const URL: &str = "http://reviews:9080";
const ESCAPE: &str = "\u{e00c}";
const ENTER: &str = "\u{e007}";
const DOWN: &str = "\u{e015}";
const RIGHT: &str = "\u{e014}";

const RULES: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: reviews}\nspec:\n  parentRefs:\n  \
    - {group: '', kind: Service, name: reviews, port: 9080}\n  rules:\n  - matches:\n    - headers: [{name: end-user, value: jason}]\n    \
    backendRefs: [{name: reviews-v2, port: 9080}]\n  - backendRefs:\n    - {name: reviews-v1, port: 9080, weight: 90}\n    \
    - {name: reviews-v2, port: 9080, weight: 10}\n---\n\
    apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: readers}\nspec:\n  targetRefs:\n  \
    - {group: '', kind: Service, name: reviews}\n  action: ALLOW\n  rules:\n  - from:\n    - source: {principals: [cluster.local/ns/default/sa/curl]}\n";

/// Keeps a picture, if somebody wants them.
async fn picture(browser: &Browser, name: &str) -> Result<()> {
    match std::env::var_os("INMESH_PICTURES") {
        Some(folder) => {
            browser
                .picture(&PathBuf::from(folder).join(format!("{name}.png")))
                .await
        }
        None => Ok(()),
    }
}

/// Nothing was asked for but of this origin, and the page complained of nothing.
async fn is_quiet(browser: &Browser, origin: SocketAddr) -> Result<()> {
    let origin = format!("http://{origin}/");
    let requested = browser.requested().await?;
    assert!(!requested.is_empty());
    // What a `data:` URL holds is asked of nobody.
    let foreign = requested
        .iter()
        .filter(|url| !url.starts_with(&origin) && !url.starts_with("data:"));
    assert_eq!(foreign.collect::<Vec<_>>(), Vec::<&String>::new());
    // A filter that is none, and an application that logs as it likes, are answered so.
    let complaints = browser.complaints().await?.into_iter();
    let meant = |it: &str| {
        it.contains("filter=form%3Dx - Failed to load resource") && it.contains(" 400 ")
            || it.contains("/logging - Failed to load resource") && it.contains(" 501 ")
    };
    let complaints: Vec<String> = complaints.filter(|it| !meant(it)).collect();
    assert_eq!(complaints, Vec::<String>::new());
    Ok(())
}

/// Whatever can be pressed or filled in says what it is to those who do not see it, and each view says what it is of.
async fn is_accessible(browser: &Browser) -> Result<()> {
    let nameless = "const named = it => it.getAttribute('aria-label') || it.labels?.length || it.textContent.trim() || it.title;\
         return [...document.querySelectorAll('button, input, select, textarea, a, [role=tab], [role=button], [role=tabpanel]')]\
         .filter(it => !named(it) && !it.getAttribute('aria-labelledby')).map(it => it.outerHTML.slice(0, 120))";
    assert_eq!(browser.run(nameless).await?, json!([]));
    let lost = "return [...document.querySelectorAll('[aria-controls], [aria-labelledby]')].flatMap(it => [it.getAttribute('aria-controls'), it.getAttribute('aria-labelledby')])\
         .filter(id => id && !document.getElementById(id))";
    assert_eq!(browser.run(lost).await?, json!([]));
    let said = "return [document.documentElement.lang, document.querySelectorAll('[role=tab][aria-selected=true]').length, document.querySelectorAll('[role=tabpanel]:not([hidden])').length]";
    assert_eq!(browser.run(said).await?, json!(["en", 1, 1]));
    Ok(())
}

/// Every view fits on a desk, on half of one, and on a telephone: nothing is wider than the window.
async fn fits(browser: &Browser) -> Result<()> {
    for (width, height) in [(1440, 900), (1024, 768), (390, 844)] {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser
            .devtools("Emulation.setDeviceMetricsOverride", size)
            .await?;
        browser.until(&format!("innerWidth === {width}")).await;
        for view in ["graph", "requests", "config", "generations", "certificates"] {
            browser.run(&format!("location.hash = '#{view}'")).await?;
            browser
                .until(&format!("!document.getElementById('{view}').hidden"))
                .await;
            let wide = "return document.documentElement.scrollWidth - innerWidth";
            assert_eq!(browser.run(wide).await?, 0, "{view} at {width}");
            picture(browser, &format!("{view}-{width}")).await?;
        }
    }
    browser
        .devtools("Emulation.clearDeviceMetricsOverride", json!({}))
        .await
}

/// What is drawn: from whom to whom.
async fn edges(browser: &Browser) -> Result<BTreeSet<String>> {
    let script = "return [...document.querySelectorAll('#graph-svg .edge')].map(edge => `${edge.dataset.source} ${edge.dataset.target}`)";
    Ok(serde_json::from_value(browser.run(script).await?)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_who_calls_whom_and_what_became_of_it() -> Result<()> {
    let Some(browser) = Browser::start(1600, 900).await? else {
        return Ok(());
    };
    let world = World::start(Shape::Waypoint, &[("rules", RULES)]).await?;
    let waypoint = world.waypoint.as_ref().context("there is one")?;
    let admin = Admin::of(waypoint.mesh().snapshot().my_ip.context("it has an address")?);
    for user in ["jason", "someone", "someone"] {
        let asked = request(http::Method::GET, URL, &[("end-user", user)]);
        // Of twenty and more to `v1` and `v2` some go to each.
        assert_eq!(status(world.curl.request(asked).await), 200);
    }
    for _ in 0..20 {
        assert_eq!(status(world.curl.get(URL).await), 200);
    }
    assert_eq!(status(world.other.get(URL).await), 403);
    browser.prefer("dark").await?;
    browser.open(&format!("http://{}/", admin.addr())).await?;

    // Who calls whom, as counted.
    browser
        .until("document.querySelectorAll('#graph-svg .edge').length >= 3")
        .await;
    let graph = admin.json("/live/graph").await?;
    let counted = graph["edges"].as_array().context("a list")?.iter();
    let counted: BTreeSet<_> = counted
        .map(|edge| {
            format!(
                "{} {}",
                edge["source"].as_str().unwrap_or(""),
                edge["target"].as_str().unwrap_or("")
            )
        })
        .collect();
    browser.click("#graph-fold").await?;
    assert_eq!(edges(&browser).await?, counted);
    // As Istio's waypoints tell it: for the service whose endpoint answered.
    let called =
        "identity:spiffe://cluster.local/ns/default/sa/curl service:reviews-v1.default.svc.cluster.local";
    assert!(counted.contains(called), "{counted:?}");
    let text = browser
        .run("return document.getElementById('graph-svg').textContent")
        .await?;
    for name in ["curl", "other", "reviews-v1"] {
        assert!(text.to_string().contains(name), "{text}");
    }
    // What is wrong comes before what is busy.
    let listed = browser.text("#graph-side").await?.to_lowercase();
    let first = listed.find("look at these").zip(listed.find("busiest calls"));
    assert!(first.is_some_and(|(wrong, busy)| wrong < busy), "{listed}");
    assert!(listed.contains("mutual tls"), "{listed}");
    assert!(browser.text("#identity").await?.ends_with("/sa/waypoint"));
    browser
        .run("document.querySelector('[data-id$=\"/curl\"]').dispatchEvent(new MouseEvent('click'))")
        .await?;
    browser
        .until("document.querySelector('#graph-side .card dd.mono')?.textContent.endsWith('/sa/curl')")
        .await;
    picture(&browser, "graph").await?;
    browser.press(ESCAPE).await?;

    // What is asked, as it ends.
    browser.press("2").await?;
    browser
        .until("document.getElementById('tap-note').textContent.startsWith('live')")
        .await;
    browser
        .until("[...document.querySelectorAll('#rows tr')].some(row => row.className.includes('denied'))")
        .await;
    // The stream has begun once it tells of something.
    until("requests are shown as they end", || async {
        let _ = world.curl.get(format!("{URL}/begun")).await;
        let shown = browser.text("#rows").await.unwrap_or_default();
        shown.contains("/begun")
    })
    .await;
    let asked = request(
        http::Method::GET,
        &format!("{URL}/looked-at?token=abc"),
        &[("end-user", "jason")],
    );
    assert_eq!(status(world.curl.request(asked).await), 200);
    browser
        .until("document.getElementById('rows').innerText.includes('/looked-at?token=(hidden)')")
        .await;
    browser.fill("#filter", "path=/looked").await?;
    browser
        .until("document.querySelectorAll('#rows tr').length === 1")
        .await;
    browser.click("#rows tr").await?;
    browser.until("document.getElementById('waterfall')").await;
    let bars = browser.text("#waterfall").await?;
    for bar in [
        "request",
        "authorization",
        "routing",
        "attempt 1 to default/reviews-v2",
        "waiting for the answer",
    ] {
        assert!(bars.contains(bar), "{bars}");
    }
    let decision = browser.text("#decision").await?;
    assert!(
        decision.starts_with("allowed by AuthorizationPolicy default/readers, rule 0, from[0]"),
        "{decision}"
    );
    assert!(browser.text("#route").await?.contains("default/reviews/0"));
    // And why it was no other.
    assert!(browser.text("#detail").await?.contains("default/reviews/1"));
    picture(&browser, "request").await?;
    browser.press(ESCAPE).await?;
    browser.run("document.getElementById('filter').blur()").await?;
    browser.press(ESCAPE).await?;
    browser.until("document.getElementById('detail').hidden").await;

    browser.run("const it = document.getElementById('filter'); it.value = 'form=x'; it.dispatchEvent(new Event('input'))").await?;
    browser
        .until("document.getElementById('filter-error').textContent.includes('nothing to filter by')")
        .await;
    browser.run("const it = document.getElementById('filter'); it.value = ''; it.dispatchEvent(new Event('input'))").await?;
    browser
        .until("document.querySelectorAll('#rows tr').length > 1")
        .await;
    // By keyboard alone.
    browser.press("j").await?;
    browser.until("document.querySelector('#rows tr.picked')").await;
    let first = browser
        .run("return document.querySelector('#rows tr.picked').dataset.id")
        .await?;
    browser.press(DOWN).await?;
    // Requests are told of behind their backs: another may have come above meanwhile.
    browser
        .until(&format!(
            "document.querySelector('#rows tr.picked')?.previousElementSibling?.dataset.id === {first}"
        ))
        .await;
    browser.press(ENTER).await?;
    browser.until("!document.getElementById('detail').hidden").await;
    picture(&browser, "requests").await?;

    // What is configured, and what changed.
    let broken = RULES.replace(
        "reviews-v2, port: 9080, weight: 10",
        "reviews-v4, port: 9080, weight: 50",
    );
    world.cluster.apply("rules", &broken)?;
    world.cluster.apply(
        "lonely",
        &gateway("default", "lonely", "service").replace("spec:", "spec:\n  unheard: of"),
    )?;
    browser.press("3").await?;
    browser
        .until("document.getElementById('badge').hidden === false")
        .await;
    until("the problem is shown where it is written", || async {
        let _ = browser.press("3").await;
        let shown = browser.text("#config-body").await.unwrap_or_default();
        shown.contains("rules.yaml:13") && shown.contains("reviews-v4") && shown.contains("unheard")
    })
    .await;
    picture(&browser, "configuration").await?;
    browser.press("4").await?;
    browser.until("document.getElementById('generation-list').innerText.includes('changed HTTPRoute default/reviews')").await;
    browser
        .run("[...document.querySelectorAll('#generation-list button')].find(it => it.innerText.includes('changed HTTPRoute')).click()")
        .await?;
    browser
        .until("[...document.querySelectorAll('#generation-detail del')].some(it => it.textContent === '10')")
        .await;
    assert!(!browser.text("#generation-detail ins").await?.is_empty());
    picture(&browser, "generations").await?;
    browser.press("5").await?;
    browser
        .until("document.getElementById('certificate-body').innerText.includes('/sa/waypoint')")
        .await;
    picture(&browser, "certificates").await?;
    browser.prefer("light").await?;
    // Tabs as tabs are, and the address as addresses are.
    browser
        .run("document.getElementById('tab-certificates').focus()")
        .await?;
    browser.press(RIGHT).await?;
    browser
        .until("!document.getElementById('graph').hidden && document.activeElement.id === 'tab-graph'")
        .await;
    browser.until("document.querySelector('#graph-svg .edge')").await;
    picture(&browser, "light").await?;
    browser.run("location.hash = '#requests'").await?;
    browser.until("!document.getElementById('requests').hidden").await;
    is_accessible(&browser).await?;
    fits(&browser).await?;
    is_quiet(&browser, admin.addr()).await
}

// ===== what no real mesh shows =====

/// The page of a real participant, with other documents behind it.
struct Canned {
    at: SocketAddr,
    _world: World,
}

impl Canned {
    async fn start(documents: BTreeMap<&'static str, Value>) -> Result<Self> {
        let world = World::start(Shape::InProcess, &[]).await?;
        let admin = Admin::of(world.v1.spec.ip);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let at = listener.local_addr()?;
        let documents = Arc::new(documents);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let documents = Arc::clone(&documents);
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let documents = Arc::clone(&documents);
                    async move { Ok::<_, Infallible>(answer(admin, &documents, request.uri().path()).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { at, _world: world })
    }
}

async fn answer(
    admin: Admin,
    documents: &BTreeMap<&'static str, Value>,
    path: &str,
) -> Response<Full<Bytes>> {
    let canned = documents.iter().find(|(known, _)| match known.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == **known,
    });
    if let Some((_, document)) = canned {
        let (kind, text) = match document {
            Value::String(text) => ("text/event-stream", text.clone()),
            document => ("application/json", document.to_string()),
        };
        let response = Response::builder().header("content-type", kind);
        return response.body(text.into()).expect("it is a response");
    }
    let request = Request::get(path)
        .header("accept", "text/html")
        .body(String::new());
    let answer = admin.send(request.expect("it is a request")).await;
    let Ok(answer) = answer else {
        return Response::default();
    };
    let mut response = Response::new(Full::from(answer.text));
    for name in [
        "content-type",
        "content-security-policy",
        "x-content-type-options",
    ] {
        if let Some(value) = answer.headers.get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// Texts that would do something if they became anything but text.
const HOSTILE: [&str; 6] = [
    "<script>window.pwned = 1</script>",
    "\"><img src=x onerror=\"window.pwned = 2\">",
    "'};window.pwned=3;//</script><svg onload=window.pwned=4>",
    "\u{202e}gnorw siht daer\u{2066}\u{0000}\u{0007}\u{feff}",
    "javascript:window.pwned=5",
    "\u{fffd}\u{fffd}ab\u{fffd}",
];

/// Every text of a document made hostile, but for those by which the page tells kinds apart.
fn poisoned(value: &mut Value, at: &mut usize) {
    const TOLD: [&str; 12] = [
        "kind",
        "protocol",
        "outcome",
        "direction",
        "severity",
        "role",
        "reporter",
        "source",
        "target",
        "id",
        "verdict",
        "result",
    ];
    match value {
        Value::String(text) => {
            *text = match *at % 7 {
                6 => "long ".repeat(4_000),
                index => HOSTILE[index].to_owned(),
            };
            *at += 1;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| poisoned(item, at)),
        Value::Object(fields) => {
            for (name, field) in fields {
                if !(TOLD.contains(&name.as_str()) && field.is_string()) {
                    poisoned(field, at);
                }
            }
        }
        _ => {}
    }
}

fn node(id: &str, kind: &str, name: &str, namespace: &str) -> Value {
    json!({ "id": id, "kind": kind, "name": name, "namespace": namespace, "version": "v1", "identity": "spiffe://a/ns/b/sa/c" })
}

fn edge(source: &str, target: &str, rate: f64) -> Value {
    json!({
        "source": source, "target": target, "protocol": "http", "reporter": "waypoint", "mtls": true,
        "sourceIdentity": "spiffe://a/ns/b/sa/c", "targetIdentity": "spiffe://a/ns/b/sa/d", "requests": 100, "failed": 1, "denied": 0,
        "rate": rate, "failedShare": 0.01, "deniedShare": 0.0, "p50Ms": 3.2, "p99Ms": 41.0, "connections": null,
    })
}

fn documents() -> BTreeMap<&'static str, Value> {
    let end = json!({ "workload": "w", "namespace": "n", "version": "v", "identity": "i", "address": "a", "service": "s" });
    let asks = json!([{ "of": "o", "clause": "c", "asked": "a", "given": "g", "holds": false }]);
    let exchange = json!({
        "id": 7, "timeMs": 1_700_000_000_000_u64, "requestId": "r", "traceId": "t", "direction": "waypoint", "source": end,
        "destination": end, "mtls": true, "protocol": "http", "method": "GET", "host": "h", "path": "/p", "status": 403,
        "grpcStatus": null, "flags": "-", "outcome": "denied", "durationUs": 1234, "requestBytes": 1, "responseBytes": 2,
        "attempts": 1, "rule": "r", "policy": "p", "refused": "d", "generation": 1, "followed": true,
    });
    let mut whole = exchange.clone();
    let detail = json!({
        "cluster": "c", "refusal": { "reason": "r", "why": "w", "policy": "p", "rule": 0 },
        "decision": { "allowed": false, "policy": "p", "rule": 0, "clause": "c", "inputs": "i", "costNs": 100 },
        "waterfall": [{ "name": "n", "depth": 0, "startUs": 0, "durationUs": 1234, "note": "n", "failed": true }],
        "attemptList": [{ "workload": "w", "version": "v", "address": "a", "dialled": "d", "tunnelled": true, "identity": "i",
            "startUs": 1, "durationUs": 2, "status": null, "failed": "f" }],
        "explanation": {
            "authorization": { "rules": [{ "policy": "p", "rule": 0, "action": "ALLOW", "dryRun": false, "matches": true,
                "decides": true, "asks": asks }], "remarks": ["r"] },
            "routing": { "candidates": [{ "rule": "r", "matchIndex": 0, "decides": true, "verdict": "v", "asks": asks }],
                "backends": [{ "service": "s", "share": 1.0, "via": "v", "endpointCount": 1, "error": "e" }] },
        },
    });
    if let (Some(whole), Value::Object(detail)) = (whole.as_object_mut(), detail) {
        whole.extend(detail);
    }
    let problems: Vec<Value> = ["error", "ignored"]
        .map(|severity| json!({ "severity": severity, "place": "p", "resource": "r", "field": "f", "text": "t", "remedy": "m" }))
        .into();
    let change = json!({ "resource": "r", "place": "p", "kind": "changed", "fields": [{ "field": "f", "before": "b", "after": "a" }] });
    let generation = json!({ "generation": 3, "publishedMs": 1_700_000_000_000_u64, "compileMs": 1.0, "resources": 1, "problems": 1,
        "changeCount": 1, "appeared": 1, "resolved": 0, "summary": ["s"] });
    let mut changed = generation.clone();
    changed["changes"] = json!([change]);
    changed["appeared"] = json!(problems);
    changed["resolved"] = json!(problems);
    let event = |exchange: &Value| json!(format!(": watching\n\nevent: request\ndata: {exchange}\n\n"));
    BTreeMap::from([
        (
            "/live/graph",
            json!({ "generation": 1, "windowSeconds": 10.0, "edges": [edge("a", "b", 2.0)],
                "nodes": [node("a", "workload", "n", "n"), node("b", "service", "n", "n")] }),
        ),
        ("/live/requests", json!({ "requests": [exchange] })),
        ("/live/requests/*", whole),
        ("/live/stream", event(&exchange)),
        (
            "/live/summary",
            json!({ "generation": 1, "publishedMs": 1_700_000_000_000_u64, "resources": 1, "ready": true, "identity": "i",
                "failed": { "strict": true, "text": "t" }, "problems": { "errors": 1, "warnings": 0, "ignored": 1 } }),
        ),
        (
            "/live/config",
            json!({ "generation": 1, "publishedMs": 1_700_000_000_000_u64, "resources": 1, "ready": true, "identity": "i",
                "failed": { "strict": true, "text": "t" }, "problems": problems, "unserved": [{ "listener": "l", "text": "t" }],
                "dump": { "services": [{ "name": "s", "host": "h", "ports": [{ "port": 1, "protocol": "p", "rules": ["r"], "cluster": 0 }] }],
                    "clusters": [{ "service": "s", "port": 1, "subset": null, "via": "v", "endpoints": [{ "workload": "w", "dial": "d" }] }] } }),
        ),
        (
            "/live/generations",
            json!({ "current": 3, "generations": [generation] }),
        ),
        ("/live/generations/*", changed),
        (
            "/live/certificates",
            json!({ "identity": "i", "nowMs": 1_700_000_000_000_u64, "certificates": [{ "role": "own", "of": "o", "subject": "s", "issuer": "i",
                "serial": "s", "names": ["n"], "notBeforeMs": 1_600_000_000_000_u64, "notAfterMs": 1_800_000_000_000_u64, "secondsLeft": 1, "expired": false, "ca": false }] }),
        ),
        ("/logging", json!({ "directives": "d" })),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_texts_stay_texts_wherever_they_are() -> Result<()> {
    let Some(browser) = Browser::start(1400, 900).await? else {
        return Ok(());
    };
    let mut at = 0;
    let mut all = documents();
    for (path, document) in &mut all {
        // That one is text with a document in it.
        if *path == "/live/stream" {
            let mut exchange = documents()["/live/requests"]["requests"][0].clone();
            exchange["id"] = json!(8);
            poisoned(&mut exchange, &mut at);
            *document = json!(format!(": watching\n\nevent: request\ndata: {exchange}\n\n"));
        } else {
            poisoned(document, &mut at);
        }
    }
    assert!(at > 100, "{at} texts are hostile");
    let canned = Canned::start(all).await?;
    browser.open(&format!("http://{}/", canned.at)).await?;
    browser
        .until("document.querySelectorAll('#graph-svg .node').length === 2")
        .await;
    picture(&browser, "hostile-graph").await?;
    let mut seen = String::new();
    let look = "return document.body.textContent";
    seen.push_str(browser.run(look).await?.as_str().unwrap_or_default());
    browser.press("2").await?;
    browser
        .until("document.querySelectorAll('#rows tr').length === 2")
        .await;
    browser.click("#rows tr").await?;
    browser.until("document.getElementById('waterfall')").await;
    picture(&browser, "hostile-request").await?;
    seen.push_str(browser.run(look).await?.as_str().unwrap_or_default());
    for (key, sign) in [
        ("3", "#config-body .problems"),
        ("4", "#generation-detail .diff"),
        ("5", ".certificate"),
    ] {
        browser.press(key).await?;
        browser.until(&format!("document.querySelector('{sign}')")).await;
        seen.push_str(browser.run(look).await?.as_str().unwrap_or_default());
    }
    for text in HOSTILE.iter().filter(|text| text.is_ascii()) {
        assert!(seen.contains(text), "{text} is shown as it is");
    }
    // What cannot be seen, or turns around what can, is written out.
    assert!(
        seen.contains("\\u202egnorw siht daer\\u2066\\u0000\\u0007\\ufeff") && !seen.contains('\u{202e}')
    );
    assert_eq!(browser.run("return window.pwned ?? null").await?, Value::Null);
    let made = "return [document.scripts.length, document.images.length, document.querySelectorAll('[onerror],[onload],svg[onload]').length]";
    assert_eq!(browser.run(made).await?, json!([1, 0, 0]));
    is_quiet(&browser, canned.at).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_services_can_be_found_one_by_one() -> Result<()> {
    let Some(browser) = Browser::start(1600, 900).await? else {
        return Ok(());
    };
    let (mut nodes, mut edges, mut services) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..1_000_u32 {
        let team = format!("team-{}", index % 20);
        nodes.push(node(
            &format!("workload:{index}"),
            "workload",
            &format!("svc-{index}-v1"),
            &team,
        ));
        nodes.push(node(
            &format!("service:{index}"),
            "service",
            &format!("svc-{index}"),
            &team,
        ));
        edges.push(edge(
            &format!("service:{index}"),
            &format!("workload:{index}"),
            2.0,
        ));
        for step in [1, 7] {
            let to = (index * 31 + step) % 1_000;
            edges.push(edge(
                &format!("workload:{index}"),
                &format!("service:{to}"),
                f64::from(index % 50),
            ));
        }
        let port = json!({ "port": 80, "protocol": "Http1", "rules": [], "cluster": index });
        services.push(
            json!({ "name": format!("{team}/svc-{index}"), "host": format!("svc-{index}"), "ports": [port] }),
        );
    }
    let mut all = documents();
    all.insert(
        "/live/graph",
        json!({ "generation": 1, "windowSeconds": 10.0, "edges": edges, "nodes": nodes }),
    );
    let mut config = all["/live/config"].clone();
    config["dump"]["services"] = json!(services);
    all.insert("/live/config", config);
    let canned = Canned::start(all).await?;
    browser.open(&format!("http://{}/", canned.at)).await?;
    browser
        .until("document.querySelectorAll('#graph-svg .edge').length === 40")
        .await;
    browser.until("document.getElementById('graph-note').textContent.startsWith('40 of 2,000 calls, 2,000 workloads and services')").await;
    picture(&browser, "thousand").await?;
    // Beside it, too, no more than one reads, and how many there are besides.
    browser
        .run("const it = document.getElementById('graph-most'); it.value = '120'; it.dispatchEvent(new Event('input', { bubbles: true }))")
        .await?;
    browser
        .until("document.querySelectorAll('#graph-side .call').length === 60 && document.getElementById('graph-side').innerText.includes('and 60 more')")
        .await;
    // The most that can be drawn; the page answers meanwhile.
    browser
        .run("const it = document.getElementById('graph-most'); it.value = '400'; it.dispatchEvent(new Event('input', { bubbles: true }))")
        .await?;
    browser
        .until("document.querySelectorAll('#graph-svg .edge').length === 400")
        .await;
    picture(&browser, "thousand-most").await?;
    browser.press("/").await?;
    browser.fill("#graph-search", "svc-731").await?;
    browser
        .until("[...document.querySelectorAll('#graph-svg .node .name')].some(it => it.textContent === 'svc-731')")
        .await;
    browser
        .until("document.querySelectorAll('#graph-svg .edge').length < 10")
        .await;
    browser
        .run("const it = document.getElementById('graph-search'); it.value = ''; document.getElementById('graph-collapse').click()")
        .await?;
    browser
        .until("document.querySelectorAll('#graph-svg .node').length === 20")
        .await;
    picture(&browser, "thousand-namespaces").await?;
    browser
        .run("document.getElementById('graph-search').blur()")
        .await?;
    browser.press("3").await?;
    browser
        .until("document.getElementById('config-body').innerText.includes('the first 200 of 1,000')")
        .await;
    is_quiet(&browser, canned.at).await
}

/// The same with a mesh that has them, and requests to some dozens: what is configured, counted and shown is that many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_of_a_thousand_services_is_shown() -> Result<()> {
    let Some(browser) = Browser::start(1600, 900).await? else {
        return Ok(());
    };
    let service = |n: u32| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: svc-{n}}}\nspec:\n  selector: {{app: reviews}}\n  \
             ports: [{{name: http, port: 9080}}]\n---\n"
        )
    };
    let thousand: String = (0..1_000).map(service).collect();
    let world = World::start(Shape::Waypoint, &[("thousand", &thousand)]).await?;
    let waypoint = world.waypoint.as_ref().context("there is one")?;
    let admin = Admin::of(waypoint.mesh().snapshot().my_ip.context("it has an address")?);
    let called: BTreeSet<String> = (0..=36).map(|n| format!("svc-{}", 20 * n + 11)).collect();
    for name in &called {
        for _ in 0..2 {
            assert_eq!(status(world.curl.get(format!("http://{name}:9080/")).await), 200);
        }
    }
    // A request is counted when its answer has gone out, a moment after the caller has it.
    let counted = async || {
        let graph = admin.json("/live/graph").await.unwrap_or_default();
        let node = |id: &Value| {
            let mut nodes = graph["nodes"].as_array().into_iter().flatten();
            nodes.find(|node| node["id"] == *id)?["name"]
                .as_str()
                .map(str::to_owned)
        };
        let edges = graph["edges"].as_array().into_iter().flatten();
        let from_curl =
            edges.filter(|edge| node(&edge["source"]).as_deref() == Some("curl") && edge["requests"] == 2);
        from_curl
            .filter_map(|edge| node(&edge["target"]))
            .collect::<BTreeSet<_>>()
    };
    until("each call is counted", || async { counted().await == called }).await;
    let config = admin.json("/live/config").await?;
    // And those that every world has.
    let services = config["dump"]["services"].as_array().context("a list")?;
    assert_eq!(services.len(), 1_003);
    browser.open(&format!("http://{}/", admin.addr())).await?;
    browser
        .until("document.querySelectorAll('#graph-svg .edge').length === 40")
        .await;
    browser.press("/").await?;
    browser.fill("#graph-search", "svc-731").await?;
    browser
        .until("[...document.querySelectorAll('#graph-svg .node .name')].some(it => it.textContent === 'svc-731')")
        .await;
    browser
        .run("document.getElementById('graph-search').blur()")
        .await?;
    browser.press("3").await?;
    browser
        .until("document.getElementById('config-body').innerText.includes('the first 200 of 1,003')")
        .await;
    picture(&browser, "thousand-real").await?;
    is_quiet(&browser, admin.addr()).await
}
