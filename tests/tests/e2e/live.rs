//! The process while it runs, as the admin endpoint shows it.

use anyhow::Result;
use http::Method;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, seen, status};
use inmesh_tests::kit::{Admin, Shape, World};
use serde_json::{Value, json};

in_both_shapes!(
    who_calls_whom_is_read_from_the_metrics,
    a_request_is_told_of_as_it_ends_and_explained,
    what_was_refused_is_kept_though_nobody_looked,
    no_secret_of_a_request_is_shown,
);

const URL: &str = "http://reviews:9080";

const RULES: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: reviews}\nspec:\n  parentRefs:\n  \
    - {group: '', kind: Service, name: reviews, port: 9080}\n  rules:\n  - matches:\n    - headers: [{name: end-user, value: jason}]\n    \
    backendRefs: [{name: reviews-v2, port: 9080}]\n  - backendRefs: [{name: reviews-v1, port: 9080}]\n---\n\
    apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: readers}\nspec:\n  targetRefs:\n  \
    - {group: '', kind: Service, name: reviews}\n  - {group: '', kind: Service, name: reviews-v1}\n  \
    - {group: '', kind: Service, name: reviews-v2}\n  action: ALLOW\n  rules:\n  - from:\n    - source: {principals: [cluster.local/ns/default/sa/curl]}\n    \
    to:\n    - operation: {methods: [GET]}\n";

/// Who judges: the waypoint, or the workload that is called.
fn judge(world: &World) -> Admin {
    match &world.waypoint {
        Some(waypoint) => {
            let snapshot = waypoint.mesh().snapshot();
            Admin::of(snapshot.my_ip.expect("a waypoint has an address"))
        }
        None => Admin::of(world.v1.spec.ip),
    }
}

fn edge<'g>(graph: &'g Value, from: &str, to: &str) -> Option<&'g Value> {
    let id = |name: &str| {
        let nodes = graph["nodes"].as_array()?;
        let node = nodes
            .iter()
            .find(|node| node["name"] == name || node["id"] == name)?;
        node["id"].as_str()
    };
    let (from, to) = (id(from)?, id(to)?);
    let edges = graph["edges"].as_array()?;
    edges
        .iter()
        .find(|edge| edge["source"] == from && edge["target"] == to)
}

async fn who_calls_whom_is_read_from_the_metrics(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("rules", RULES)]).await?;
    let admin = judge(&world);
    let before = admin.json("/live/graph").await?;
    assert_eq!(before["windowSeconds"], Value::Null);
    for _ in 0..5 {
        assert_eq!(status(world.curl.get(URL).await), 200);
    }
    assert_eq!(status(world.other.get(URL).await), 403);
    until("the window has a beginning", || async {
        let graph = admin.json("/live/graph?window=1").await.unwrap_or_default();
        graph["windowSeconds"].is_number()
    })
    .await;
    let graph = admin.json("/live/graph").await?;
    // A waypoint tells which service's endpoint answered, as Istio's do: the route leads to another than was called.
    let answered = match shape {
        Shape::InProcess => "reviews",
        Shape::Waypoint => "reviews-v1",
    };
    let called = edge(&graph, "curl", answered).unwrap_or_else(|| panic!("{graph:#}"));
    assert_eq!(
        (&called["requests"], &called["failed"]),
        (&json!(5), &json!(0)),
        "{called:#}"
    );
    assert_eq!(called["mtls"], true);
    assert_eq!(
        called["sourceIdentity"],
        "spiffe://cluster.local/ns/default/sa/curl"
    );
    assert!(called["p99Ms"].as_f64().is_some_and(|ms| ms > 0.0), "{called:#}");
    let refused = edge(&graph, "other", "reviews").unwrap_or_else(|| panic!("{graph:#}"));
    assert_eq!((&refused["requests"], &refused["denied"]), (&json!(1), &json!(1)));
    assert!(
        edge(&graph, answered, "workload:default/reviews-v1").is_some(),
        "{graph:#}"
    );
    Ok(())
}

async fn a_request_is_told_of_as_it_ends_and_explained(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("rules", RULES)]).await?;
    let admin = judge(&world);
    assert_eq!(status(world.curl.get(format!("{URL}/unseen")).await), 200);
    let mut events = admin.events("path=/seen").await?;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let asked = request(
        Method::GET,
        &format!("{URL}/seen?a=1"),
        &[
            ("x-request-id", "r-1"),
            ("traceparent", &format!("00-{trace}-b7ad6b7169203331-01")),
        ],
    );
    assert_eq!(seen(world.curl.request(asked).await).await?.pod, "reviews-v1");
    let told = events.next().await?;
    for (field, expected) in [
        ("method", "GET"),
        ("path", "/seen?a=1"),
        ("host", "reviews:9080"),
        ("outcome", "ok"),
        ("flags", "-"),
        ("requestId", "r-1"),
        ("traceId", trace),
    ] {
        assert_eq!(told[field], expected, "{told:#}");
    }
    assert_eq!(told["status"], 200);
    assert_eq!(
        told["source"]["identity"],
        "spiffe://cluster.local/ns/default/sa/curl"
    );
    assert_eq!(told["mtls"], true);
    assert!(told["responseBytes"].as_u64() > Some(0), "{told:#}");

    let whole = admin.json(&format!("/live/requests/{}", told["id"])).await?;
    let bars = whole["waterfall"].as_array().expect("a list");
    let bar = |name: &str| {
        let found = bars.iter().find(|bar| bar["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {whole:#}"))
    };
    let all = bar("request")["durationUs"].as_u64();
    assert!(
        bars.iter().all(|bar| bar["durationUs"].as_u64() <= all),
        "{whole:#}"
    );
    bar("authorization");
    assert_eq!(whole["decision"]["allowed"], true);
    assert_eq!(whole["decision"]["policy"], "AuthorizationPolicy default/readers");
    assert_eq!(whole["decision"]["clause"], "from[0] to[0]");
    assert_eq!(whole["explanation"]["authorization"]["allowed"], true);
    if shape == Shape::Waypoint {
        assert_eq!(told["rule"], "default/reviews/1");
        assert_eq!(told["destination"]["workload"], "reviews-v1");
        bar("routing");
        bar("waiting for the answer");
        assert_eq!(whole["attemptList"][0]["workload"], "default/reviews-v1");
        assert_eq!(whole["attemptList"][0]["status"], 200);
        // And why it was no other rule.
        let candidates = whole["explanation"]["routing"]["candidates"]
            .as_array()
            .expect("a list");
        let lost = candidates.iter().find(|it| it["rule"] == "default/reviews/0");
        assert_eq!(
            lost.expect("the other rule is told of")["decides"],
            false,
            "{whole:#}"
        );
    } else {
        bar("application");
    }

    // Nobody looks any more: what comes now is not collected.
    drop(events);
    until("nobody is told of requests", || async {
        let before = admin
            .json("/live/requests?filter=path=/after")
            .await
            .unwrap_or_default();
        let _ = world.curl.get(format!("{URL}/after")).await;
        let after = admin
            .json("/live/requests?filter=path=/after")
            .await
            .unwrap_or_default();
        before == after
    })
    .await;
    let listed = admin.json("/live/requests?filter=path=/unseen").await?;
    assert_eq!(listed["requests"], json!([]));
    let refused = admin.get("/live/requests?filter=form=curl").await?;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text.contains("`form=curl` is nothing to filter by"),
        "{refused:?}"
    );
    assert_eq!(admin.get("/live/requests/123456").await?.status, 404);
    Ok(())
}

async fn what_was_refused_is_kept_though_nobody_looked(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("rules", RULES)]).await?;
    let admin = judge(&world);
    assert_eq!(status(world.other.get(format!("{URL}/no?token=abc")).await), 403);
    until("the refusal is listed", || async {
        let listed = admin.json("/live/requests?filter=is:denied+from=other").await;
        listed.is_ok_and(|listed| listed["requests"][0]["path"] == "/no?token=(hidden)")
    })
    .await;
    let listed = admin.json("/live/requests").await?;
    let told = &listed["requests"][0];
    assert_eq!(
        (&told["refused"], &told["status"]),
        (&json!("denied"), &json!(403))
    );
    assert_eq!(told["followed"], false);
    let whole = admin.json(&format!("/live/requests/{}", told["id"])).await?;
    assert!(
        whole["refusal"]["why"]
            .as_str()
            .is_some_and(|why| why.starts_with("denied: ")),
        "{whole:#}"
    );
    Ok(())
}

async fn no_secret_of_a_request_is_shown(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("rules", RULES)]).await?;
    let admin = judge(&world);
    let mut events = admin.events("").await?;
    let asked = request(
        Method::GET,
        &format!("{URL}/x?access_token=s3cr3t"),
        &[
            ("authorization", "Bearer s3cr3t"),
            ("cookie", "session=s3cr3t"),
            ("end-user", "s3cr3t"),
        ],
    );
    assert_eq!(status(world.curl.request(asked).await), 200);
    let told = events.next().await?;
    let whole = admin.get(&format!("/live/requests/{}", told["id"])).await?;
    // What a route compares is shown: the value of `end-user` is, of what is called a secret nothing is.
    let shown = whole.text.replace("\"given\": \"s3cr3t\"", "");
    assert!(
        !told.to_string().contains("s3cr3t") && !shown.contains("s3cr3t"),
        "{shown}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_is_told_generation_by_generation() -> Result<()> {
    let world = World::start(Shape::Waypoint, &[("rules", RULES)]).await?;
    let admin = judge(&world);
    let broken = RULES.replace(
        "name: reviews-v2, port: 9080",
        "name: reviews-v3, port: 9080, weight: 7",
    );
    world.cluster.apply("rules", &broken)?;
    let change = || async {
        let told = admin.json("/live/generations").await.unwrap_or_default();
        let about = |it: &&Value| {
            it["summary"]
                .to_string()
                .contains("changed HTTPRoute default/reviews")
        };
        let all = told["generations"].as_array();
        all.and_then(|all| all.iter().find(about).cloned())
    };
    until("the change is told of", || async { change().await.is_some() }).await;
    let changed = change().await.unwrap_or_default();
    let whole = admin
        .json(&format!("/live/generations/{}", changed["generation"]))
        .await?;
    let fields = whole["changes"][0]["fields"].to_string();
    assert!(
        fields.contains("spec.rules[0].backendRefs[0].name") && fields.contains("reviews-v3"),
        "{whole:#}"
    );
    let appeared = whole["appeared"].as_array().expect("a list");
    let problem = appeared
        .iter()
        .find(|it| it["text"].to_string().contains("reviews-v3"));
    let place = problem.unwrap_or_else(|| panic!("{whole:#}"))["place"].to_string();
    assert!(place.contains("rules.yaml:"), "{place}");
    let config = admin.json("/live/config").await?;
    assert!(
        config["problems"].to_string().contains("reviews-v3"),
        "{config:#}"
    );
    assert_eq!(admin.get("/live/generations/999999").await?.status, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_shown_with_their_end_and_without_their_keys() -> Result<()> {
    let world = World::start(Shape::InProcess, &[]).await?;
    let answer = Admin::of(world.v1.spec.ip).get("/live/certificates").await?;
    assert!(!answer.text.contains("PRIVATE") && !answer.text.contains("BEGIN"));
    let told: Value = serde_json::from_str(&answer.text)?;
    let all = told["certificates"].as_array().expect("a list");
    let own = all
        .iter()
        .find(|it| it["role"] == "own")
        .expect("our own is among them");
    assert_eq!(own["names"][0], "spiffe://cluster.local/ns/default/sa/reviews");
    let left = own["secondsLeft"].as_u64().unwrap_or_default();
    assert!(
        (3000..=3600).contains(&left) && own["expired"] == false,
        "{own:#}"
    );
    assert!(
        all.iter().any(|it| it["role"] == "root" && it["ca"] == true),
        "{told:#}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_our_own_and_nothing_is_for_other_pages() -> Result<()> {
    let world = World::start(Shape::InProcess, &[]).await?;
    let admin = Admin::of(world.v1.spec.ip);
    let get = |path: &'static str, name: &'static str, value: &'static str| async move {
        let request = http::Request::get(path).header(name, value);
        admin.send(request.body(String::new())?).await
    };
    let page = get("/", "accept", "text/html,*/*").await?;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let policy = page.headers["content-security-policy"].to_str()?;
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    // With curl it is text, as it always was.
    assert!(admin.get("/").await?.text.starts_with("inmesh admin"));
    for path in [
        "/live/app.js",
        "/live/data.js",
        "/live/graph.js",
        "/live/style.css",
    ] {
        assert_eq!(admin.get(path).await?.status, 200, "{path}");
    }
    assert_eq!(get("/live/requests", "host", "evil.example").await?.status, 421);
    assert_eq!(
        get("/live/requests", "sec-fetch-site", "cross-site")
            .await?
            .status,
        403
    );
    let logging = admin.post("/logging", r#"{"level": "debug"}"#).await?;
    assert_eq!(logging.status, 501, "the application gave no filter");
    assert_eq!(admin.post("/live/requests", "{}").await?.status, 405);
    Ok(())
}

/// An address of this machine that is not a loopback one. Nothing is sent to find it.
fn elsewhere() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_on_this_machine_gets_readiness_and_metrics_alone() -> Result<()> {
    let Some(ip) = elsewhere() else {
        eprintln!("SKIPPED: this machine has no address but loopback: nobody comes from elsewhere");
        return Ok(());
    };
    let world = World::start(Shape::InProcess, &[]).await?;
    for remote in [false, true] {
        let mut port = 0;
        let mut mesh = None;
        // Somebody else may take the port in between.
        for _ in 0..20 {
            port = std::net::TcpListener::bind((ip, 0))?.local_addr()?.port();
            let participant = world.cluster.participant("default", "curl")?;
            let started = participant
                .admin((ip, port).into())
                .admin_remote(remote)
                .start()
                .await;
            if let Ok(started) = started {
                mesh = Some(started);
                break;
            }
        }
        let _mesh = mesh.expect("a port is free");
        let admin = Admin::at((ip, port).into());
        for path in ["/ready", "/healthz/ready", "/metrics", "/stats/prometheus"] {
            assert_eq!(admin.get(path).await?.status, 200, "{path}");
        }
        let expected = if remote { 200 } else { 403 };
        for path in [
            "/",
            "/status",
            "/config_dump",
            "/live/summary",
            "/live/requests",
            "/live/stream",
            "/live/app.js",
        ] {
            // A stream has no end: its head is enough.
            let status = match (path, remote) {
                ("/live/stream", true) => continue,
                _ => admin.get(path).await?.status,
            };
            assert_eq!(status, expected, "{path}");
        }
        let asked = admin.post("/logging", r#"{"level": "debug"}"#).await?;
        assert_eq!(asked.status, if remote { 501 } else { 403 }, "{asked:?}");
        // Rules in full are for this machine, whoever else is let in.
        assert_eq!(admin.post("/explain", "{}").await?.status, 403);
    }
    Ok(())
}

/// A process that links the library and gave the mesh its filter: as a waypoint's, module by module.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_application_logs_is_changed_while_it_runs() -> Result<()> {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::reload;

    let world = World::start(Shape::InProcess, &[]).await?;
    let targets = |text: &str| text.parse::<Targets>().map_err(|error| error.to_string());
    let (layer, handle) = reload::Layer::new(targets("info").expect("it is a level"));
    let subscriber = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let enabled = |target: &'static str| {
        tracing::dispatcher::with_default(&subscriber, || match target {
            "inmesh::control" => tracing::enabled!(target: "inmesh::control", tracing::Level::DEBUG),
            _ => tracing::enabled!(target: "shop", tracing::Level::DEBUG),
        })
    };
    let filter = inmesh::telemetry::LogFilter::new("info", move |text| {
        handle.reload(targets(text)?).map_err(|error| error.to_string())
    });
    let ip = world.cluster.address();
    let participant = world.cluster.participant("default", "curl")?;
    let _mesh = participant
        .admin((ip, 15000).into())
        .log_filter(filter)
        .start()
        .await?;
    let admin = Admin::of(ip);
    assert!(!enabled("inmesh::control"));
    let told = admin
        .post("/logging", r#"{"module": "inmesh::control", "level": "debug"}"#)
        .await?;
    assert!(
        told.status == 200 && told.text.contains("info,inmesh::control=debug"),
        "{told:?}"
    );
    assert!(enabled("inmesh::control") && !enabled("shop"));
    assert_eq!(
        admin
            .post("/logging", r#"{"module": "a b", "level": "debug"}"#)
            .await?
            .status,
        400
    );
    assert_eq!(admin.post("/logging", r#"{"level": "loud"}"#).await?.status, 400);
    assert_eq!(admin.post("/logging", r#"{"reset": true}"#).await?.status, 200);
    assert!(!enabled("inmesh::control"));
    Ok(())
}
