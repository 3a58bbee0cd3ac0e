//! RequestAuthentication: what it attaches to, and what becomes of one that cannot be enforced.

use super::kit::{BOUND, TOWN, gateway, seen_by, store, workload};
use crate::compile::{Handover, compile};
use crate::config::{ResourceStore, Severity, yaml};
use crate::snapshot::{Gate, KeySource, Place};

const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn policy(name: &str, target: &str, rules: &str) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: {name}, namespace: default}}
spec:
  {target}
  jwtRules: {rules}
"
    )
}

fn issuers(gate: &Gate) -> Vec<String> {
    let tokens = gate.tokens.iter();
    tokens
        .flat_map(|tokens| tokens.rules.rules())
        .map(|rule| rule.issuer.to_string())
        .collect()
}

const SERVICE: &str = "targetRefs: [{kind: Service, group: '', name: reviews}]";
const GATEWAY: &str = "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]";
const SELECTOR: &str = "selector: {matchLabels: {app: reviews}}";

#[test]
fn it_attaches_as_other_policies_do_and_its_rules_are_sorted_by_issuer() {
    let rules = |issuers: &[&str]| {
        let rules = issuers
            .iter()
            .map(|issuer| format!("{{issuer: {issuer}, jwks: '{KEYS}'}}"));
        format!("[{}]", rules.collect::<Vec<_>>().join(", "))
    };
    let all = [
        policy("svc", SERVICE, &rules(&["z", "b"])),
        policy("gw", GATEWAY, &rules(&["c"])),
        policy("wl", SELECTOR, &rules(&["d", "a"])),
    ];
    let texts = [TOWN, BOUND, &all[0], &all[1], &all[2]];
    let at_workload = seen_by(&workload("reviews-v1-1"), &texts);
    let inbound = at_workload.inbound();
    assert_eq!(issuers(&inbound.http), ["a", "d"]);
    assert_eq!(issuers(&inbound.ports[&9080][0].http), ["b", "c", "z"]);
    let at_waypoint = seen_by(&gateway("default", "waypoint"), &texts);
    let guard = at_waypoint.serves().services.values().flatten().next().unwrap();
    assert_eq!(issuers(&guard.http), ["b", "c", "z"]);
}

#[test]
fn keys_of_a_source_outlive_a_swap() {
    let rules = format!(
        "[{{issuer: a, jwksUri: 'http://idp/keys', timeout: 2s}}, {{issuer: 'https://b'}}, {{issuer: c, jwks: '{KEYS}'}}]"
    );
    let text = policy("wl", SELECTOR, &rules);
    let store = store(&[TOWN, &text]);
    let node = workload("reviews-v1-1");
    let first = compile(&store, &node, &Handover::default(), None).snapshot;
    let sources: Vec<_> = first.keys.iter().map(|cell| cell.source().clone()).collect();
    assert_eq!(sources.len(), 3);
    assert!(sources.contains(&KeySource::Url {
        url: "http://idp/keys".into(),
        timeout: std::time::Duration::from_secs(2),
    }));
    assert!(sources.contains(&KeySource::Discovery {
        issuer: "https://b".into(),
        timeout: std::time::Duration::from_secs(5),
    }));
    let second = compile(&store, &node, &Handover::default(), Some(&first)).snapshot;
    assert!(
        first
            .keys
            .iter()
            .zip(&second.keys)
            .all(|(old, new)| std::sync::Arc::ptr_eq(old, new))
    );
}

/// A policy about tokens that is not understood closes what it applies to, whatever else allows it.
#[test]
fn one_that_cannot_be_enforced_denies() {
    for text in [
        policy("bad", SELECTOR, "[{issuer: a, jwks: 'not json'}]"),
        policy("bad", SELECTOR, "[{issuer: ''}]"),
        policy("bad", SELECTOR, "[{issuer: a, fromHeader: [{name: x}]}]"),
        policy("bad", SELECTOR, "[{issuer: a, timeout: soon}]"),
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: bad, namespace: default}\nspec: [".into(),
        "apiVersion: security.istio.io/v9\nkind: RequestAuthentication\nmetadata: {name: bad, namespace: default}".into(),
    ] {
        let mut store = ResourceStore::default();
        for entry in yaml::read("town.yaml", TOWN, None).entries {
            store.apply(entry);
        }
        let parsed = yaml::read("bad.yaml", &text, None);
        let mut problems = parsed.problems;
        for entry in parsed.entries {
            store.apply(entry);
        }
        let compiled = compile(&store, &workload("reviews-v1-1"), &Handover::default(), None);
        problems.extend(compiled.problems);
        let (method, headers) = (http::Method::GET, http::HeaderMap::new());
        let head = crate::policy::RequestHead::unsent(&method, "reviews", "/", None, &headers);
        let decision = compiled.snapshot.authorize(&Place::Workload { port: 9080 }, &head);
        assert!(!decision.is_allowed(), "{text}");
        assert!(problems.iter().any(|one| one.severity == Severity::Error), "{text}: {problems:?}");
    }
}

#[test]
fn rules_about_tokens_are_warned_of_where_none_is_verified() {
    let needs = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: needs, namespace: default}
spec: {selector: {matchLabels: {app: reviews}}, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}
";
    let warned = |texts: &[&str]| {
        let compiled = seen_by(&workload("reviews-v1-1"), texts);
        let mut problems = compiled.problems.iter();
        problems.any(|one| one.text.contains("no RequestAuthentication applies"))
    };
    assert!(warned(&[TOWN, needs]));
    let verified = policy("jwt", SELECTOR, &format!("[{{issuer: a, jwks: '{KEYS}'}}]"));
    assert!(!warned(&[TOWN, needs, &verified]));
}
