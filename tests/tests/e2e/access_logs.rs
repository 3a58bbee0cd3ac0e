//! Access logs: a line per request, as Istio's users know them, wherever a request is judged.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use http::Method;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, status};
use inmesh_tests::kit::{Shape, World};

in_both_shapes!(
    the_default_line_is_written_for_what_is_served_and_for_what_is_denied,
    a_telemetry_chooses_what_is_written_and_how,
    a_file_that_was_moved_away_is_opened_anew,
    a_caller_that_leaves_is_written_down,
);

const URL: &str = "http://reviews:9080";

const CLOSED: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  action: DENY
  rules: [{to: [{operation: {paths: [/admin*]}}]}]
";

/// The mesh configuration.
fn mesh(text: &str) -> String {
    let text: String = text.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n{text}"
    )
}

fn file(world: &World, name: &str) -> PathBuf {
    world.cluster.path().join(name)
}

/// The first line that holds all the words, once it has been written.
async fn line(file: &Path, words: &[&str]) -> String {
    let found = || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| words.iter().all(|word| line.contains(word)));
        line.map(str::to_owned)
    };
    until(&format!("{words:?} is in {}", file.display()), || async {
        found().is_some()
    })
    .await;
    found().unwrap_or_default()
}

/// A line's parts: what is between quotes or brackets is one.
fn parts(line: &str) -> Vec<String> {
    let (mut parts, mut rest) = (Vec::new(), line);
    while !rest.is_empty() {
        let (end, skip) = match rest.as_bytes()[0] {
            b'"' => (rest[1..].find('"').map_or(rest.len(), |at| at + 2), 1),
            b'[' => (rest.find(']').map_or(rest.len(), |at| at + 1), 1),
            _ => (rest.find(' ').unwrap_or(rest.len()), 1),
        };
        parts.push(rest[..end].to_owned());
        rest = rest.get(end + skip..).unwrap_or_default();
    }
    parts
}

async fn the_default_line_is_written_for_what_is_served_and_for_what_is_denied(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("closed", CLOSED)]).await?;
    let log = file(&world, "access.log");
    world
        .cluster
        .apply("istio", &mesh(&format!("accessLogFile: {}", log.display())))?;
    world.settled().await?;
    let asked = request(
        Method::POST,
        &format!("{URL}/mirror?a=b"),
        &[("user-agent", "curl/8"), ("x-request-id", "r-1")],
    );
    let (mut head, _) = asked.into_parts();
    head.headers.insert("content-length", 5.into());
    let asked = http::Request::from_parts(head, inmesh::Body::from("12345"));
    assert_eq!(status(world.curl.request(asked).await), 200);
    let (cluster, route) = match shape {
        Shape::InProcess => ("inbound|9080||", "default"),
        Shape::Waypoint => (
            "inbound-vip|9080|http|reviews.default.svc.cluster.local",
            "default",
        ),
    };
    let written = line(&log, &["\"POST /mirror?a=b HTTP/1.1\"", cluster]).await;
    let parts_of = parts(&written);
    assert_eq!(parts_of.len(), 22, "{written}");
    assert!(
        parts_of[0].starts_with("[20") && parts_of[0].ends_with("Z]"),
        "{written}"
    );
    assert_eq!(parts_of[2..6], ["200", "-", "via_upstream", "-"], "{written}");
    assert_eq!(
        (parts_of[6].as_str(), parts_of[7].as_str()),
        ("\"-\"", "5"),
        "{written}"
    );
    assert_eq!(parts_of[8], "5", "{written}");
    parts_of[9].parse::<u64>().context("a duration")?;
    assert_eq!(
        parts_of[11..15],
        ["\"-\"", "\"curl/8\"", "\"r-1\"", "\"reviews:9080\""],
        "{written}"
    );
    match shape {
        Shape::InProcess => assert_eq!((parts_of[10].as_str(), parts_of[15].as_str()), ("-", "\"-\"")),
        Shape::Waypoint => {
            parts_of[10]
                .parse::<u64>()
                .context("how long the upstream took")?;
            let endpoint = parts_of[15].trim_matches('"').to_owned();
            let pods = [&world.v1, &world.v2].map(|pod| format!("{}:9080", pod.spec.ip));
            assert!(pods.contains(&endpoint), "{written}");
        }
    }
    assert!(parts_of[18].ends_with(":9080"), "{written}");
    assert!(parts_of[19].starts_with("127."), "{written}");
    assert_eq!(
        (parts_of[16].as_str(), parts_of[20].as_str()),
        (cluster, "-"),
        "{written}"
    );
    assert!(written.ends_with(route), "{written}");

    assert_eq!(status(world.other.get(format!("{URL}/admin/x")).await), 403);
    let denied = line(&log, &["/admin/x"]).await;
    assert!(
        denied.contains(
            "\" 403 - rbac_access_denied_matched_policy[ns[default]-policy[closed]-rule[0]] - \"-\" 0 19 "
        ),
        "{denied}"
    );
    let metrics = match &world.waypoint {
        None => world.v1.mesh.metrics() + &world.v2.mesh.metrics(),
        Some(waypoint) => waypoint.mesh().metrics(),
    };
    assert!(
        metrics.contains("mesh_access_log_lines_total{result=\"written\"}"),
        "{metrics}"
    );
    Ok(())
}

async fn a_telemetry_chooses_what_is_written_and_how(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("closed", CLOSED)]).await?;
    let log = file(&world, "chosen.log");
    let config = format!(
        "extensionProviders:\n- name: json\n  envoyFileAccessLog:\n    path: {}\n    logFormat:\n      labels:\n        \
         code: '%RESPONSE_CODE%'\n        path: '%REQ(:PATH)%'\n        tenant: '%REQ(X-TENANT)%'\n        trace: '%TRACE_ID%'\n        \
         peer: '%DOWNSTREAM_PEER_URI_SAN%'\n",
        log.display()
    );
    world.cluster.apply("istio", &mesh(&config))?;
    world.cluster.apply(
        "telemetry",
        "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: denied, namespace: istio-system}
spec:
  accessLogging:
  - providers: [{name: json}]
    filter: {expression: \"response.code >= 400 || request.headers['x-tenant'] == 'acme'\"}
",
    )?;
    world.settled().await?;
    assert_eq!(status(world.curl.get(format!("{URL}/admin/first")).await), 403);
    assert_eq!(status(world.curl.get(format!("{URL}/unseen")).await), 200);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let seen = request(
        Method::GET,
        &format!("{URL}/seen"),
        &[("x-tenant", "acme"), ("traceparent", trace)],
    );
    assert_eq!(status(world.curl.request(seen).await), 200);
    let written: serde_json::Value = serde_json::from_str(&line(&log, &["/seen"]).await)?;
    assert_eq!(written["code"], 200);
    assert_eq!(written["tenant"], "acme");
    assert_eq!(written["trace"], "0af7651916cd43dd8448eb211c80319c");
    assert!(
        written["peer"]
            .as_str()
            .is_some_and(|peer| peer.starts_with("spiffe://cluster.local/ns/default/sa/")),
        "{written}"
    );
    let denied: serde_json::Value = serde_json::from_str(&line(&log, &["/admin/first"]).await)?;
    assert_eq!(
        (&denied["code"], &denied["tenant"]),
        (&403.into(), &serde_json::Value::Null)
    );
    assert!(!std::fs::read_to_string(&log)?.contains("/unseen"));
    Ok(())
}

async fn a_file_that_was_moved_away_is_opened_anew(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let log = file(&world, "access.log");
    let config = format!(
        "accessLogFile: {}\naccessLogFormat: '%REQ(:PATH)%'",
        log.display()
    );
    world.cluster.apply("istio", &mesh(&config))?;
    world.settled().await?;
    assert_eq!(status(world.curl.get(format!("{URL}/before")).await), 200);
    // Lines are written behind the requests' backs: one may still be on its way when the file moves.
    line(&log, &["/before"]).await;
    let moved = file(&world, "access.log.1");
    std::fs::rename(&log, &moved)?;
    world.everybody().for_each(inmesh::Mesh::reopen_logs);
    assert_eq!(status(world.curl.get(format!("{URL}/after")).await), 200);
    line(&log, &["/after"]).await;
    assert!(std::fs::read_to_string(&moved)?.contains("/before"));
    Ok(())
}

async fn a_caller_that_leaves_is_written_down(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let log = file(&world, "access.log");
    world
        .cluster
        .apply("istio", &mesh(&format!("accessLogFile: {}", log.display())))?;
    world.settled().await?;
    let served = world.v1.echo.served() + world.v2.echo.served();
    let client = world.curl.clone();
    let asking = tokio::spawn(async move { client.get(format!("{URL}/sleep/60000")).await });
    until("the application has it", || async {
        world.v1.echo.served() + world.v2.echo.served() > served
    })
    .await;
    asking.abort();
    let left = line(&log, &["/sleep/60000"]).await;
    assert!(
        left.contains("\" 0 DC downstream_remote_disconnect - \"-\" 0 0 "),
        "{left}"
    );
    Ok(())
}
