//! The Gateway API conformance cases, every one of them, in both shapes.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use inmesh::compile::{Handover, compile};
use inmesh::config::{ResourceStore, yaml};
use inmesh::snapshot::{Node, Role};
use inmesh_tests::conformance::args::{read, run_all};
use inmesh_tests::conformance::case::Test;
use inmesh_tests::conformance::gateway::Program;
use inmesh_tests::conformance::report::totals;
use inmesh_tests::conformance::shape::Shapes;
use inmesh_tests::conformance::town::Town;

/// How many tests run at a time.
const JOBS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn every_case_comes_out_as_the_suite_expects() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let both = |inside: &str| ["conformance", "conformance-own"].map(|it| root.join(it).join(inside));
    let waypoint = Program {
        path: env!("CARGO_BIN_EXE_test-waypoint").into(),
        args: Vec::new(),
    };
    let town = Town::new(both("manifests").into(), waypoint)?;
    let files = read(&both("cases"), &[])?;
    let reports = run_all(&town, &files, Shapes::Both, JOBS, |report| {
        print!("{}", report.text())
    })
    .await;
    let totals = totals(&reports);
    println!("{} passed, {} failed", totals.passed, totals.failed);
    assert_eq!(totals.failed, 0, "see above");
    assert!(
        totals.passed >= 300,
        "only {} cases were tried: have they been found?",
        totals.passed
    );
    Ok(())
}

/// Features that no case needs, each with a test that shows it.
const SHOWN_ELSEWHERE: [(&str, &str, &str); 8] = [
    (
        "GatewayAddressEmpty",
        "sdk/src/compile/tests/gateway.rs",
        "an_address_without_a_value_is_whichever_there_is",
    ),
    (
        "GatewayBackendClientCertificate",
        "tests/tests/e2e/backend_tls.rs",
        "a_gateway_proves_itself_to_backends_by_the_certificate_that_it_has_for_them",
    ),
    (
        "GatewayFrontendClientCertificateValidation",
        "tests/tests/e2e/gateway.rs",
        "clients_prove_who_they_are_where_the_gateway_demands_it",
    ),
    (
        "GatewayFrontendClientCertificateValidationInsecureFallback",
        "tests/tests/e2e/gateway.rs",
        "clients_prove_who_they_are_where_the_gateway_demands_it",
    ),
    (
        "GatewayPort8080",
        "tests/tests/e2e/gateway.rs",
        "listeners_share_a_port_and_the_most_specific_host_decides_alone",
    ),
    (
        "HTTPRouteRetryBackendTimeout",
        "tests/tests/e2e/retries.rs",
        "an_attempt_that_takes_too_long_is_retried",
    ),
    (
        "ListenerSet",
        "tests/tests/e2e/gateway.rs",
        "a_listener_set_adds_listeners_to_a_gateway_that_takes_it",
    ),
    (
        "HTTPRouteRetryConnectionError",
        "tests/tests/e2e/scenarios/mod.rs",
        "a_killed_replica_costs_what_it_had_in_hand_and_with_retries_nothing",
    ),
];

/// Features that the suite names and nobody has here.
const MISSING: [&str; 2] = ["GatewayInfrastructurePropagation", "GatewayStaticAddresses"];

/// Features of connections, which `features.md` leaves out.
const OF_CONNECTIONS: [&str; 2] = ["TCPRoute", "TLSRoute"];

#[test]
fn classes_name_the_features_that_are_shown_and_no_others() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut shown = BTreeSet::new();
    for cases in ["conformance/cases", "conformance-own/cases"] {
        for file in std::fs::read_dir(root.join(cases))? {
            shown.extend(Test::read(&std::fs::read_to_string(file?.path())?)?.features);
        }
    }
    for (feature, file, test) in SHOWN_ELSEWHERE {
        let path = root.parent().context("a workspace")?.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| file)?;
        assert!(text.contains(&format!("fn {test}(")), "{file} has no {test}");
        assert!(shown.insert(feature.to_owned()), "{feature} has a case");
    }
    let text = std::fs::read_to_string(root.join("conformance/features.md"))?;
    let named = text.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells.next()?;
        // Fields of resources have rows, too.
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && name.starts_with(|first: char| first.is_ascii_uppercase());
        let is_feature = is_name && matches!(cells.next()?, "standard" | "experimental");
        is_feature.then(|| name.to_owned())
    });
    let mut named: BTreeSet<String> = named.collect();
    named.retain(|it| !MISSING.contains(&it.as_str()));
    named.extend(OF_CONNECTIONS.map(str::to_owned));

    let class = |name: &str, controller: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: {name}}}\n\
             spec: {{controllerName: {controller}}}\n"
        )
    };
    let edge = class("istio", "istio.io/gateway-controller");
    let mesh = class("istio-waypoint", "istio.io/mesh-controller");
    let parsed = yaml::read("classes.yaml", &format!("{edge}---\n{mesh}"), None);
    let mut store = ResourceStore::default();
    for entry in parsed.entries {
        store.apply(entry);
    }
    let node = Node {
        namespace: "default".into(),
        pod: None,
        addr: None,
        labels: Default::default(),
        identity: None,
        role: Role::Workload,
        root_namespace: "istio-system".into(),
        trust_domains: vec!["cluster.local".into()],
        cluster_domain: "cluster.local".into(),
        cluster_id: "Kubernetes".into(),
        propagation: Default::default(),
        paths: Default::default(),
    };
    let compiled = compile(&store, &node, &Handover::default(), None);
    let statuses = compiled.statuses.iter().flat_map(|it| &it.supported_features);
    let claimed: BTreeSet<String> = statuses.map(|it| it.name.to_owned()).collect();
    assert_eq!(claimed, shown, "claimed, and shown");
    assert_eq!(claimed, named, "claimed, and named by the suite");
    Ok(())
}

#[test]
fn a_file_with_anything_unknown_in_it_is_not_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/cases/MeshTrafficSplit.yaml");
    let text = std::fs::read_to_string(path).expect("the case is there");
    assert!(Test::read(&text).is_ok());
    for (known, unknown) in [
        ("kind: http", "kind: smtp"),
        ("status:", "stature:"),
        ("mode: native", "mode: imagined"),
        ("case_count: 2", "case_count: 3"),
        (
            "format: gwapi-conformance-cases/1",
            "format: gwapi-conformance-cases/2",
        ),
        ("path: /v1", "path: /v1\n      unheard_of: 1"),
        ("comparator: mesh", "comparator: mesh\nunheard_of: 1"),
        (
            "service: gateway-conformance-mesh/echo",
            "service: gateway-conformance-mesh",
        ),
    ] {
        let changed = text.replacen(known, unknown, 1);
        assert_ne!(changed, text, "{known} is not in the file");
        assert!(Test::read(&changed).is_err(), "{unknown} was read");
    }
}
