//! The waypoint command as one types it.

use std::process::{Command, Output};

use anyhow::Result;
use inmesh_tests::kit::Cluster;

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
