//! Configuration as people write it, good and bad, and the commands that look at it.

use std::process::Command;

use anyhow::Result;
use inmesh_tests::cluster::{Cluster, shown, until};

#[tokio::test]
async fn bad_files_are_reported_and_lose_nothing() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    let _server = town.server("web-1", "web").await?;
    let curl = town.caller("curl").await?;
    let works = || async {
        Ok(curl
            .mesh
            .client()
            .get("http://web/")
            .await
            .ok()
            .filter(|it| it.status() == 200))
    };
    until("web answers", works).await?;
    let huge = format!("# {}\n", "x".repeat(10 << 20));
    let cases: [(&str, &str, &str); 5] = [
        (
            "broken",
            "apiVersion: v1\nkind: Service\nmetadata: {name: [\n",
            "broken.yaml:",
        ),
        (
            "unknown",
            "apiVersion: example.com/v1\nkind: Teapot\nmetadata: {name: x}\n",
            "Teapot",
        ),
        (
            "types",
            "apiVersion: v1\nkind: Service\nmetadata: {name: odd}\nspec: {ports: [{port: many}]}\n",
            "types.yaml:4:",
        ),
        (
            "twice",
            "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec: {ports: [{port: 81}]}\n",
            "twice.yaml",
        ),
        ("huge", &huge, "huge.yaml"),
    ];
    for (name, yaml, said) in cases {
        town.apply(name, yaml)?;
        until(&format!("{name} is reported"), || async {
            let problems = curl.mesh.status().borrow().problems.clone();
            Ok(problems
                .iter()
                .any(|problem| problem.to_string().contains(said))
                .then_some(()))
        })
        .await?;
        assert!(works().await?.is_some(), "{name} takes nothing away");
        town.delete(name)?;
    }
    // The service's own file breaks: its last good version stays.
    town.apply(
        "service-web",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec: {ports: 7}\n",
    )?;
    until("the broken version is reported", || async {
        let problems = curl.mesh.status().borrow().problems.clone();
        Ok(problems
            .iter()
            .any(|problem| problem.place.file.ends_with("service-web.yaml"))
            .then_some(()))
    })
    .await?;
    assert!(works().await?.is_some());
    Ok(())
}

#[tokio::test]
async fn strict_mode_does_not_start_with_what_is_not_enforced() -> Result<()> {
    let town = Cluster::new()?;
    town.apply(
        "odd",
        "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: default}\nspec: {sessionAffinity: ClientIP, ports: [{port: 80}]}\n",
    )?;
    let error = town
        .builder("a-1", "a", town.address())?
        .strict(true)
        .start()
        .await
        .expect_err("strict refuses");
    assert_eq!(error.kind(), inmesh::ErrorKind::Strict);
    assert!(
        error.to_string().contains("sessionAffinity") && error.to_string().contains("odd.yaml:4:"),
        "{error}"
    );
    town.builder("a-1", "a", town.address())?.start().await?;
    Ok(())
}

#[tokio::test]
async fn the_admin_endpoint_tells_what_is_in_force_and_no_secret() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    let (ip, name) = (town.address(), "a-1");
    let mesh = town
        .builder(name, "a", ip)?
        .admin((ip, 15000).into())
        .start()
        .await?;
    let get = |path: &'static str| async move {
        let stream = tokio::net::TcpStream::connect((ip, 15000)).await?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        let request = http::Request::get(path)
            .header("host", "localhost")
            .body(String::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await?
            .to_bytes();
        anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    assert_eq!(get("/ready").await?, (200, "LIVE\n".to_owned()));
    let (_, dump) = get("/config_dump").await?;
    assert!(dump.contains("web.default.svc.cluster.local"), "{dump}");
    let (_, metrics) = get("/metrics").await?;
    assert!(metrics.contains("mesh_config_generation"), "{metrics}");
    let (_, status) = get("/status").await?;
    assert!(
        status.contains("spiffe://cluster.local/ns/default/sa/a"),
        "{status}"
    );
    for text in [dump, status] {
        assert!(!text.contains("PRIVATE") && !text.contains("BEGIN"), "{text}");
    }
    assert_eq!(get("/nothing").await?.0, 404);
    drop(mesh);
    Ok(())
}

#[tokio::test]
async fn check_and_explain_say_what_the_mesh_would_do() -> Result<()> {
    let town = Cluster::new()?;
    town.service("web", "web", "")?;
    town.pod_object("web-1", "web", town.address(), "app: web")?;
    let waypoint = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_test-waypoint"))
            .args(args)
            .output()?;
        anyhow::Ok((
            output.status.code(),
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        ))
    };
    let path = shown(&town.mesh_dir());
    let (code, said, _) = waypoint(&["check", &path])?;
    assert_eq!((code, said.contains("0 errors")), (Some(0), true), "{said}");
    town.apply(
        "policy",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: default}\nspec:\n  targetRefs: \
         [{kind: Service, group: '', name: web}]\n  rules:\n  - to: [{operation: {methods: [GET]}}]\n",
    )?;
    let from = "spiffe://cluster.local/ns/default/sa/curl";
    let (code, said, _) = waypoint(&["explain", "GET", "http://web/", &path, "--from", from])?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("AuthorizationPolicy default/p rule 0"), "{said}");
    let (code, said, _) = waypoint(&[
        "explain",
        "POST",
        "http://web/",
        &path,
        "--from",
        from,
        "-o",
        "json",
    ])?;
    assert_eq!(code, Some(1), "{said}");
    let story: serde_json::Value = serde_json::from_str(&said)?;
    assert_eq!(story["outcome"]["result"], "refused");
    town.apply("policy", "kind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nmetadata: {name: p}\nspec: {rule: []}\n")?;
    let (code, said, _) = waypoint(&["check", &format!("default={path}")])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("policy.yaml:4:"), "{said}");
    let (code, _, said) = waypoint(&["check", "/nowhere/at/all"])?;
    assert_eq!(
        (code, said.contains("/nowhere/at/all")),
        (Some(1), true),
        "{said}"
    );
    assert_eq!(waypoint(&["run"])?.0, Some(2));
    let (code, help, _) = waypoint(&["run", "--help"])?;
    assert_eq!((code, help.contains("--gateway")), (Some(0), true), "{help}");

    Ok(())
}
