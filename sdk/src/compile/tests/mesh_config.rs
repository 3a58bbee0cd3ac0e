//! The mesh-wide configuration: what it changes, and what becomes of one that cannot be read.

use super::kit::{TOWN, seen_by, store, workload};
use crate::compile::{Compiled, Handover, compile};
use crate::config::{ResourceStore, Severity, yaml};
use crate::policy::normalize::PathNormalization;
use crate::snapshot::{CheckProtocol, Place};

fn mesh(text: &str) -> String {
    let indented = text
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect::<String>();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |-\n{indented}"
    )
}

fn allows(compiled: &Compiled, path: &str) -> bool {
    let (method, headers) = (http::Method::GET, http::HeaderMap::new());
    let head = crate::policy::RequestHead::unsent(&method, "reviews", path, None, &headers);
    compiled
        .snapshot
        .authorize(&Place::Workload { port: 9080 }, &head)
        .is_allowed()
}

const CUSTOM: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: default}
spec: {selector: {matchLabels: {app: reviews}}, action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {paths: [/asked]}}]}]}
";

#[test]
fn headers_of_proxies_are_as_it_says() {
    let headers = |text: &str| {
        let compiled = seen_by(&workload("reviews-v1-1"), &[TOWN, &mesh(text)]);
        let texts = compiled.problems.iter().map(|it| it.text.clone());
        let problems: Vec<_> = texts.filter(|it| it.contains("proxyHeaders")).collect();
        let mesh = compiled.snapshot.mesh.clone().expect("it was read");
        (
            mesh.proxy_headers.server.clone(),
            mesh.proxy_headers.untimed,
            problems,
        )
    };
    let said = "defaultConfig: {proxyHeaders: {server: {value: edge}, envoyDebugHeaders: {disabled: true}}}";
    assert_eq!(headers(said), (Some("edge".parse().unwrap()), true, vec![]));
    let off = "defaultConfig: {proxyHeaders: {server: {value: edge, disabled: true}, envoyDebugHeaders: {}}}";
    assert_eq!(headers(off), (None, false, vec![]));
    let (server, _, problems) = headers("defaultConfig: {proxyHeaders: {server: {value: \"a\\nb\"}}}");
    assert_eq!(server, None);
    assert!(problems[0].contains("proxyHeaders.server.value"), "{problems:?}");
}

#[test]
fn it_says_how_paths_are_read_whom_policies_mean_and_who_is_asked() {
    let text = mesh(
        "trustDomain: td1
trustDomainAliases: [old]
rootNamespace: mesh-root
pathNormalization: {normalization: MERGE_SLASHES}
defaultConfig: {gatewayTopology: {numTrustedProxies: 2}}
extensionProviders:
- name: opa
  envoyExtAuthzHttp:
    service: default/opa
    port: 8181
    timeout: 0.5s
    pathPrefix: /check
    statusOnError: '503'
    includeRequestHeadersInCheck: [X-Token, x-b3-*]
    headersToUpstreamOnAllow: [x-user]
- name: bad
  envoyExtAuthzGrpc: {service: '', port: 0}
",
    );
    let everywhere = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: everywhere, namespace: mesh-root}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/everywhere]}}]}]}
";
    let compiled = seen_by(&workload("reviews-v1-1"), &[TOWN, &text, CUSTOM, everywhere]);
    let snapshot = &compiled.snapshot;
    assert_eq!(snapshot.paths, PathNormalization::MergeSlashes);
    let facts = snapshot.mesh.as_ref().unwrap();
    assert_eq!((facts.trusted_proxies, facts.trust_domain_aliases.len()), (2, 1));
    let opa = facts.authorizers["opa"].as_ref().unwrap();
    assert_eq!(
        (opa.host.as_str(), opa.port),
        ("opa.default.svc.cluster.local", 8181)
    );
    assert_eq!(opa.status_on_error, 503);
    let CheckProtocol::Http(check) = &opa.protocol else {
        panic!("{opa:?}")
    };
    assert!(
        check.told.matches("x-token") && check.told.matches("x-b3-traceid") && !check.told.matches("cookie")
    );
    assert!(facts.authorizers["bad"].is_err());
    assert!(
        compiled
            .problems
            .iter()
            .any(|one| one.severity == Severity::Error && one.text.contains("`bad`"))
    );
    assert!(compiled.inbound().http.authorizer.is_some());
    assert!(!allows(&compiled, "/everywhere") && allows(&compiled, "/") && !allows(&compiled, "/asked"));
}

#[test]
fn whoever_cannot_be_asked_allows_nothing() {
    for text in [
        "",
        "extensionProviders: [{name: other, envoyExtAuthzGrpc: {service: a, port: 1}}]",
    ] {
        let text = mesh(text);
        let compiled = seen_by(&workload("reviews-v1-1"), &[TOWN, &text, CUSTOM]);
        assert!(compiled.inbound().http.authorizer.is_none());
        assert!(allows(&compiled, "/") && !allows(&compiled, "/asked"));
        assert!(
            compiled
                .problems
                .iter()
                .any(|one| one.severity == Severity::Error && one.text.contains("`opa`"))
        );
    }
}

#[test]
fn one_that_cannot_be_read_leaves_what_was_and_without_that_closes_everything() {
    let node = workload("reviews-v1-1");
    let read = |text: &str| {
        let mut all = store(&[TOWN]);
        yaml::read("mesh.yaml", text, None)
            .entries
            .into_iter()
            .for_each(|entry| all.apply(entry));
        all
    };
    let good = compile(
        &read(&mesh("pathNormalization: {normalization: NONE}")),
        &node,
        &Handover::default(),
        None,
    );
    for bad in [
        "pathNormalization: {normalization: SOME}",
        "trustDomain: [x]",
        "a: [",
    ] {
        let bad: ResourceStore = read(&mesh(bad));
        let fresh = compile(&bad, &node, &Handover::default(), None);
        assert!(!allows(&fresh, "/"));
        let later = compile(&bad, &node, &Handover::default(), Some(&good.snapshot));
        assert!(allows(&later, "/"));
        assert_eq!(later.snapshot.paths, PathNormalization::None);
        for compiled in [fresh, later] {
            assert!(
                compiled
                    .problems
                    .iter()
                    .any(|one| one.severity == Severity::Error && one.field == "data.mesh")
            );
        }
    }
}
