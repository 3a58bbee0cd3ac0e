//! The waypoint command as one types it.

use std::process::{Command, Output};

use anyhow::{Context, Result};
use inmesh_tests::kit::cluster::gateway;
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::{Cluster, Shape, World};

const WAYPOINT: &str = env!("CARGO_BIN_EXE_test-waypoint");

fn waypoint(args: &[&str]) -> Result<(i32, String)> {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(WAYPOINT).args(args).output()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    Ok((status.code().unwrap_or(-1), text))
}

fn cluster() -> Result<(Cluster, String)> {
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    cluster.declare(
        &cluster
            .pod("reviews-v1")
            .account("reviews")
            .label("app", "reviews"),
    )?;
    let folder = cluster.folder().display().to_string();
    Ok((cluster, folder))
}

const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: only-curl\n  namespace: default\nspec:\n  selector:\n    matchLabels: {app: reviews}\n  \
                      rules:\n  - from:\n    - source:\n        principals: [cluster.local/ns/default/sa/curl]\n    to:\n    - operation:\n        methods: [GET]\n";

#[test]
fn check_says_what_is_wrong_and_where() -> Result<()> {
    let (cluster, folder) = cluster()?;
    let (code, text) = waypoint(&["check", &folder])?;
    assert_eq!(code, 0, "{text}");
    cluster.apply("policy", &POLICY.replace("methods", "methodz"))?;
    let (code, text) = waypoint(&["check", &folder])?;
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("policy.yaml:15:9") && text.contains("methodz"),
        "{text}"
    );
    let (code, text) = waypoint(&["check", "-o", "json", &folder])?;
    assert_eq!(code, 1);
    let json: serde_json::Value = serde_json::from_str(&text)?;
    assert_eq!(json["errors"], 1, "{text}");
    let (code, text) = waypoint(&["check", "/there/is/no/such/folder"])?;
    assert_eq!(code, 1, "{text}");
    Ok(())
}

#[test]
fn explain_tells_the_verdict_and_who_gave_it() -> Result<()> {
    let (cluster, folder) = cluster()?;
    cluster.apply("policy", POLICY)?;
    let curl = "spiffe://cluster.local/ns/default/sa/curl";
    let url = "http://reviews:9080/reviews/0";
    let (code, text) = waypoint(&["explain", "GET", url, &folder, "--from", curl])?;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("only-curl"), "{text}");
    let (code, text) = waypoint(&["explain", "POST", url, &folder, "--from", curl])?;
    assert_eq!(code, 1, "{text}");
    let (code, text) = waypoint(&["explain", "GET", "http://nobody/", &folder, "--from", curl])?;
    assert_eq!(code, 1, "{text}");
    for form in ["json", "yaml"] {
        let (code, text) = waypoint(&["explain", "POST", url, &folder, "--from", curl, "-o", form])?;
        assert_eq!(code, 1, "{text}");
        // JSON is YAML.
        let told: serde_json::Value = serde_saphyr::from_str(&text)?;
        assert_eq!(told["outcome"]["result"], "refused", "{text}");
        let hops = told["hops"].as_array().map(Vec::as_slice).unwrap_or_default();
        let judged = hops.iter().find(|hop| !hop["authorization"].is_null());
        assert_eq!(
            judged.map(|hop| &hop["authorization"]["allowed"]),
            Some(&false.into()),
            "{text}"
        );
    }
    Ok(())
}

const DATABASE: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {selector: {app: db}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: db-old, namespace: default}
spec: {selector: {app: db, version: old}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-old-1, namespace: default, labels: {app: db, version: old, networking.istio.io/tunnel: http}}
spec: {serviceAccountName: db}
status: {phase: Running, podIP: 10.0.0.20, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: db, namespace: default}
spec:
  parentRefs: [{group: '', kind: Service, name: db}]
  hostnames: [old.example.com, '*.old.example.com']
  rules: [{backendRefs: [{name: db-old, port: 5432, weight: 3}, {name: missing, port: 5432}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: db-only-curl, namespace: default}
spec:
  selector: {matchLabels: {app: db}}
  action: ALLOW
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}], to: [{operation: {ports: ['5432']}}]}]
";

#[test]
fn explain_tells_where_a_connection_goes_and_who_lets_it_in() -> Result<()> {
    let (cluster, folder) = cluster()?;
    cluster.apply("db", DATABASE)?;
    let ask = |url: &str, more: &[&str]| -> Result<(i32, serde_json::Value)> {
        let mut args = vec!["explain", "CONNECT", url, &folder, "-o", "json"];
        args.extend(more);
        let (code, text) = waypoint(&args)?;
        let told = serde_json::from_str(&text).with_context(|| text.clone())?;
        Ok((code, told))
    };
    let (curl, other) = (
        "spiffe://cluster.local/ns/default/sa/curl",
        "spiffe://cluster.local/ns/default/sa/other",
    );

    let (_, told) = ask("tls://old.example.com:5432", &["--from", curl])?;
    assert_eq!(
        told["outcome"]["result"], "refused",
        "nobody is called so: {told}"
    );
    let (code, told) = ask("tls://db:5432", &["--sni", "a.old.example.com", "--from", curl])?;
    assert_eq!((code, &told["outcome"]["result"]), (1, &"mixed".into()), "{told}");
    let routing = &told["hops"][0]["routing"];
    assert_eq!(routing["rule"]["resource"], "TLSRoute default/db");
    let candidates = routing["candidates"].as_array().context("candidates")?;
    let verdicts: Vec<_> = candidates.iter().map(|it| &it["verdict"]).collect();
    assert_eq!(verdicts, ["does not match", "decides"], "{told}");
    assert_eq!(candidates[0]["asks"][0]["asked"], "TLS for old.example.com");
    assert_eq!(routing["backends"][0]["share"], 0.75);
    let workload = &told["hops"][1];
    assert_eq!(workload["at"], "workload default/db-old-1 at 10.0.0.20:5432");
    assert_eq!(
        workload["authorization"]["policy"], "AuthorizationPolicy default/db-only-curl",
        "{told}"
    );

    let (code, told) = ask("tls://db:5432", &["--sni", "old.example.com", "--from", other])?;
    assert_eq!(code, 1);
    let denied = &told["hops"][1]["authorization"];
    assert_eq!(
        (&denied["allowed"], &denied["rules"][0]["matches"]),
        (&false.into(), &false.into()),
        "{told}"
    );

    let (code, told) = ask("tcp://db:5432", &["--from", curl])?;
    assert_eq!((code, &told["outcome"]["result"]), (1, &"refused".into()));
    assert_eq!(told["request"]["path"], "no TLS");
    let (code, told) = ask("tcp://db-old:5432", &["--from", curl])?;
    assert_eq!(
        (code, &told["outcome"]["result"]),
        (0, &"allowed".into()),
        "{told}"
    );
    let (code, text) = waypoint(&["explain", "GET", "tcp://db:5432", &folder])?;
    assert!(
        code == 1 && text.contains("a connection is asked for by CONNECT"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_wrong_command_line_is_code_2_and_help_is_0() -> Result<()> {
    assert_eq!(waypoint(&["fly"])?.0, 2);
    assert_eq!(waypoint(&["run"])?.0, 2);
    let (code, help) = waypoint(&["--help"])?;
    assert_eq!(code, 0);
    for word in ["run", "check", "explain", "Exit codes"] {
        assert!(help.contains(word), "{help}");
    }
    Ok(())
}

/// The commands that ask a running waypoint, at its admin endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_waypoint_can_be_asked() -> Result<()> {
    let world = World::start(
        Shape::Waypoint,
        &[(
            "policy",
            &POLICY.replace(
                "selector:\n    matchLabels: {app: reviews}",
                "targetRefs:\n  - {group: '', kind: Service, name: reviews}",
            ),
        )],
    )
    .await?;
    let mesh = world.waypoint.as_ref().expect("there is one").mesh();
    let admin = mesh.snapshot().my_ip.expect("it has an address").to_string();
    let ask = |args: &[&str]| {
        let args: Vec<String> = args
            .iter()
            .map(|arg| (*arg).to_owned())
            .chain(["-a".to_owned(), admin.clone()])
            .collect();
        tokio::task::spawn_blocking(move || waypoint(&args.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    // Somebody must look on for what goes well to be remembered.
    let tap = ask(&["tap", "-n", "2", "-o", "json", "from=curl", "path=/tapped"]);
    until("the tap has seen enough", || async {
        let _ = world.curl.get("http://reviews:9080/tapped").await;
        tap.is_finished()
    })
    .await;
    let (code, text) = tap.await??;
    assert_eq!(code, 0, "{text}");
    for line in text.lines() {
        let request: serde_json::Value = serde_json::from_str(line)?;
        assert_eq!(request["status"], 200, "{line}");
    }
    assert_eq!(text.lines().count(), 2, "{text}");
    let _ = world.other.get("http://reviews:9080/refused").await;
    until("the refusal is remembered", || async {
        let shown = ask(&["tap", "--last", "is:denied"]).await;
        shown.is_ok_and(|shown| shown.is_ok_and(|(_, text)| text.contains("403 GET    reviews:9080/refused")))
    })
    .await;

    let (code, text) = ask(&["graph", "-w", "1"]).await??;
    assert!(code == 0 && text.starts_with("FROM"), "{text}");
    assert!(
        text.contains("default/reviews (service)") && text.contains("mTLS"),
        "{text}"
    );
    let (code, text) = ask(&["graph", "-o", "json"]).await??;
    let graph: serde_json::Value = serde_json::from_str(&text)?;
    assert!(
        code == 0 && graph["edges"].as_array().is_some_and(|edges| edges.len() >= 2),
        "{text}"
    );
    let (code, text) = ask(&["top", "--sort", "denied"]).await??;
    assert!(
        code == 0 && text.contains("CALLED") && text.contains("default/reviews (service)"),
        "{text}"
    );
    let (code, text) = ask(&["top", "-o", "json"]).await??;
    let top: serde_json::Value = serde_json::from_str(&text)?;
    let called = top["called"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(
        code == 0 && called.iter().any(|it| it["name"] == "default/reviews (service)"),
        "{text}"
    );
    let (code, text) = ask(&["tap", "--last", "-o", "json", "is:denied"]).await??;
    let refused: serde_json::Value = serde_json::from_str(text.lines().next().unwrap_or_default())?;
    assert!(code == 0 && refused["status"] == 403, "{text}");
    let id = refused["id"].to_string();
    let (code, text) = ask(&["dump", "requests", &id, "-o", "json"]).await??;
    let whole: serde_json::Value = serde_json::from_str(&text)?;
    assert!(code == 0 && whole["refusal"]["reason"] == "denied", "{text}");
    let (code, text) = ask(&["top", "-o", "yaml"]).await??;
    assert!(code == 0 && text.contains("called:"), "{text}");
    for (what, sign) in [
        ("config", "reviews.default.svc.cluster.local"),
        ("status", "/sa/waypoint"),
        ("certificates", "ROLE"),
        ("generations", "GENERATION"),
        ("problems", ""),
        ("requests", "/tapped"),
    ] {
        let (code, text) = ask(&["dump", what]).await??;
        assert!(code == 0 && text.contains(sign), "{what}: {text}");
        let (code, text) = ask(&["dump", what, "-o", "json"]).await??;
        assert!(
            code == 0 && serde_json::from_str::<serde_json::Value>(&text).is_ok(),
            "{what}: {text}"
        );
    }

    // What goes wrong is said, with code 1.
    let (code, text) = ask(&["tap", "form=curl"]).await??;
    assert!(
        code == 1 && text.contains("`form=curl` is nothing to filter by"),
        "{text}"
    );
    let (code, text) = ask(&["dump", "requests", "99999"]).await??;
    assert!(code == 1 && text.contains("404"), "{text}");
    let (code, text) = ask(&["log", "debug"]).await??;
    assert!(code == 1 && text.contains("gave the mesh no filter"), "{text}");
    let nobody = world.cluster.address().to_string();
    let (code, text) = waypoint(&["graph", "-a", &nobody])?;
    assert!(
        code == 1 && text.contains(&format!("nobody answers at {nobody}:15000")),
        "{text}"
    );
    assert_eq!(waypoint(&["tap", "--nothing"])?.0, 2);
    Ok(())
}

/// A waypoint as a process logs as it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_waypoint_logs_is_changed_while_it_runs() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
    let spec = cluster.waypoint_pod("default", "waypoint");
    cluster.declare(&spec)?;
    let _process = Process::waypoint(WAYPOINT, &cluster, &spec, &[])?;
    let admin = spec.ip.to_string();
    until("it answers", || async {
        waypoint(&["log", "-a", &admin]).is_ok_and(|(code, _)| code == 0)
    })
    .await;
    let (code, text) = waypoint(&["log", "-a", &admin, "inmesh::control=error", "warn"])?;
    assert!(
        code == 0 && text.starts_with("warn,") && text.trim_end().ends_with("inmesh::control=error"),
        "{text}"
    );
    let (code, text) = waypoint(&["log", "-a", &admin, "-o", "json"])?;
    let shown: serde_json::Value = serde_json::from_str(&text)?;
    assert!(
        code == 0 && shown["directives"].to_string().contains("inmesh::control=error"),
        "{text}"
    );
    assert_eq!(waypoint(&["log", "-a", &admin, "loud"])?.0, 1);
    // Each generation is told of at `info`: this one is not, and the next one is again.
    let log = cluster.path().join("waypoint-0.log");
    let told = || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .matches("published")
            .count()
    };
    let before = told();
    cluster.service("silent", "silent", None)?;
    until("the change is in force", || async {
        let shown = waypoint(&["dump", "generations", "-a", &admin]);
        shown.is_ok_and(|(_, text)| text.contains("added Service default/silent"))
    })
    .await;
    assert_eq!(told(), before);
    assert_eq!(waypoint(&["log", "-a", &admin, "info"])?.0, 0);
    assert_eq!(waypoint(&["log", "-a", &admin, "inmesh::control=info"])?.0, 0);
    cluster.service("loud", "loud", None)?;
    until("it says more", || async { told() > before }).await;
    let (code, text) = waypoint(&["log", "-a", &admin, "--reset"])?;
    assert!(code == 0 && !text.contains("inmesh::control"), "{text}");
    Ok(())
}
