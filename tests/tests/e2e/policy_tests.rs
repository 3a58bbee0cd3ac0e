//! `waypoint test`: the real program, on files of cases.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

const WAYPOINT: &str = env!("CARGO_BIN_EXE_test-waypoint");

const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: default}
spec:
  selector: {matchLabels: {app: reviews}}
  rules:
  - from: [{source: {principals: [td1/ns/default/sa/curl]}}]
    to: [{operation: {methods: [GET]}}]
  - to: [{operation: {paths: [/healthz]}}]
";

const MESH: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    trustDomain: td1
    trustDomainAliases: [td2]
";

const CASES: &str = "id: readers
layer: http
target: {kind: workload, namespace: default, labels: {app: reviews}}
requests:
- {id: read, peer: 'spiffe://td1/ns/default/sa/curl', expect: allow}
- {id: aliased, peer: 'spiffe://td2/ns/default/sa/curl', expect: allow}
- {id: write, method: POST, peer: 'spiffe://td1/ns/default/sa/curl', expect: deny}
";

fn run(args: &[&Path]) -> Result<(i32, String, String)> {
    let output = Command::new(WAYPOINT).arg("test").args(args).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    ))
}

#[test]
fn cases_are_tried_on_the_configuration_and_what_fails_has_a_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mesh, cases) = (folder.path().join("mesh"), folder.path().join("cases.yaml"));
    std::fs::create_dir(&mesh)?;
    std::fs::write(mesh.join("policy.yaml"), POLICY)?;
    std::fs::write(mesh.join("istio.yaml"), MESH)?;
    std::fs::write(&cases, CASES)?;
    let config = Path::new("--config");
    let coverage = Path::new("--coverage");

    let (code, out, err) = run(&[&cases, config, &mesh, coverage])?;
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("ok     readers/aliased: expected allow, observed allow"),
        "{out}"
    );
    let unreached = format!(
        "{}:9:5: AuthorizationPolicy default/readers rule 1",
        mesh.join("policy.yaml").display()
    );
    assert!(
        out.contains("1 of 2 rules reached") && out.contains(&unreached),
        "{out}"
    );
    assert!(out.ends_with("3 passed, 0 failed\n"), "{out}");
    let (code, ..) = run(&[&cases, config, &mesh, Path::new("--require-coverage")])?;
    assert_eq!(code, 1);

    // What fails is named with its line; the others are tried all the same.
    let wrong = CASES.replace("method: POST", "method: GET");
    std::fs::write(&cases, &wrong)?;
    let (code, out, _) = run(&[&cases, config, &mesh])?;
    assert_eq!(code, 1, "{out}");
    let failed = out
        .lines()
        .find(|line| line.starts_with("FAILED"))
        .unwrap_or_default();
    assert!(
        failed.contains("readers/write: expected deny, observed allow"),
        "{out}"
    );
    assert!(failed.ends_with(&format!("at {}:7", cases.display())), "{out}");
    assert!(out.ends_with("2 passed, 1 failed\n"), "{out}");

    let (code, out, _) = run(&[
        &cases,
        config,
        &mesh,
        coverage,
        Path::new("-o"),
        Path::new("json"),
    ])?;
    assert_eq!(code, 1, "{out}");
    let told: serde_json::Value = serde_json::from_str(&out)?;
    assert_eq!(
        (&told["passed"], &told["failed"]),
        (&2.into(), &1.into()),
        "{out}"
    );
    assert_eq!(told["cases"][2]["at"], format!("{}:7", cases.display()));
    assert_eq!(told["cases"][2]["observed"], "allow");
    assert_eq!(told["coverage"]["rules"], 2);
    assert_eq!(told["coverage"]["unreached"][0]["rule"], 1);
    Ok(())
}

#[test]
fn what_cannot_be_tried_has_not_passed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cases = folder.path().join("cases.yaml");
    for (text, said) in [
        (CASES.replace("expect: deny", "expekt: deny"), "expekt"),
        (CASES.replace("layer: http", "layer: smtp"), "unknown layer smtp"),
        ("id: [".to_owned(), "FAILED"),
        (CASES.replace("target:", "targets:"), "unknown field"),
    ] {
        std::fs::write(&cases, &text)?;
        let (code, out, err) = run(&[&cases])?;
        assert_eq!(code, 1, "{out}{err}");
        assert!(
            out.contains(said) && out.contains(&cases.display().to_string()),
            "{said}: {out}{err}"
        );
    }
    // A configuration whose policies are wrong is not one to try.
    std::fs::write(&cases, CASES)?;
    let policy = folder.path().join("policy");
    std::fs::write(&policy, POLICY.replace("methods", "methodz"))?;
    let (code, _, err) = run(&[&cases, Path::new("--config"), &policy])?;
    assert_eq!(code, 1);
    assert!(err.contains("methodz") && err.contains("policy:8:"), "{err}");
    assert_eq!(run(&[Path::new("/there/is/nothing")])?.0, 1);
    std::fs::create_dir(folder.path().join("empty"))?;
    let (code, _, err) = run(&[&folder.path().join("empty")])?;
    assert_eq!(code, 1);
    assert!(err.contains("there are no cases"), "{err}");
    assert_eq!(run(&[])?.0, 2);
    Ok(())
}

#[test]
fn the_corpus_passes_through_the_program() -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/authz");
    let (code, out, err) = run(&[&corpus, Path::new("--coverage")])?;
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains(" rules reached") && out.contains(" 0 failed"),
        "{out}"
    );
    Ok(())
}
