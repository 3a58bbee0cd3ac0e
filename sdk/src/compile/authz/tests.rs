use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::*;
use crate::config::istio::{AuthorizationPolicy, PeerAuthentication};
use crate::config::{Entry, Labels, Problem, Resource, Severity};
use crate::name::{ServiceName, SpiffeId};
use crate::policy::authz::{AuthzEngine, Decision, Layer};
use crate::policy::{Caller, ConnectionHead, RequestHead};

fn settings() -> MeshSettings<'static> {
    static DOMAINS: std::sync::OnceLock<Vec<Arc<str>>> = std::sync::OnceLock::new();
    let domains = DOMAINS.get_or_init(|| vec!["cluster.local".into()]);
    MeshSettings {
        root_namespace: "istio-system",
        trust_domains: domains,
        authorizers: &(),
    }
}

fn entry(resource: Resource) -> Arc<Entry> {
    Arc::new(Entry::from_resource(resource, "mesh/policies.yaml"))
}

fn policy(namespace: &str, name: &str, spec: Value) -> Arc<Entry> {
    let object = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
    let policy: AuthorizationPolicy = serde_json::from_value(object).unwrap();
    entry(Resource::AuthorizationPolicy(policy))
}

fn peer(namespace: &str, name: &str, made: Option<&str>, spec: Value) -> Arc<Entry> {
    let metadata = json!({"name": name, "namespace": namespace, "creationTimestamp": made});
    let policy: PeerAuthentication =
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
    entry(Resource::PeerAuthentication(policy))
}

fn inputs(entries: &[Arc<Entry>]) -> impl Iterator<Item = PolicyInput<'_>> {
    entries.iter().filter_map(|entry| match &entry.resource {
        Resource::AuthorizationPolicy(policy) => Some(PolicyInput { policy, entry }),
        _ => None,
    })
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn for_workload(entries: &[Arc<Entry>], layer: Layer) -> (AuthzEngine, Vec<Problem>) {
    let labels = labels(&[("app", "productpage")]);
    let target = Target::Workload {
        namespace: "default",
        labels: &labels,
    };
    engine(
        &attached(inputs(entries), &target, &settings()),
        layer,
        &settings(),
    )
}

/// Asks as a service account of `default`, and gives the reason of a denial.
fn ask(engine: &AuthzEngine, method: &Method, account: &str) -> Result<(), String> {
    let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}")).unwrap();
    let headers = HeaderMap::new();
    let mut head = RequestHead::unsent(method, "productpage", "/productpage", None, &headers);
    head.caller.identity = Some(&id);
    match engine.decide(&head) {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny { why, .. } => Err(why.to_owned()),
    }
}

fn connect(engine: &AuthzEngine, port: u16) -> bool {
    let nowhere = IpAddr::from([10, 0, 0, 1]);
    let caller = Caller {
        identity: None,
        addr: nowhere,
        remote: nowhere,
    };
    let head = ConnectionHead {
        caller,
        destination: (nowhere, port).into(),
        sni: "",
    };
    engine.decide_connection(&head).is_allowed()
}

/// The policy of the ambient guide: only curl, only GET.
fn productpage_waypoint() -> Value {
    json!({
        "targetRefs": [{"kind": "Service", "group": "", "name": "productpage"}],
        "action": "ALLOW",
        "rules": [{
            "from": [{"source": {"principals": ["cluster.local/ns/default/sa/curl"]}}],
            "to": [{"operation": {"methods": ["GET"]}}],
        }],
    })
}

#[test]
fn the_guide_s_policy_lets_curl_get_and_nothing_else() {
    let entries = [policy("default", "productpage-waypoint", productpage_waypoint())];
    let service = ServiceName::new("default", "productpage");
    let gateway = GatewayTarget {
        namespace: "default",
        name: "waypoint",
        class: "istio-waypoint",
    };
    for waypoint in [Some(gateway), None] {
        let target = Target::Service {
            service: &service,
            registry: Registry::Kubernetes,
            waypoint,
        };
        let found = attached(inputs(&entries), &target, &settings());
        let (engine, problems) = engine(&found, Layer::Http, &settings());
        assert_eq!(problems, []);
        assert_eq!(ask(&engine, &Method::GET, "curl"), Ok(()));
        assert_eq!(
            ask(&engine, &Method::POST, "curl"),
            Err("no ALLOW rule matched".into())
        );
        assert!(ask(&engine, &Method::GET, "sleep").is_err());
    }
    assert!(
        !for_workload(&entries, Layer::Http).0.restricts(),
        "a workload's own policies have no targetRefs"
    );
}

#[test]
fn an_invalid_policy_closes_its_targets_and_says_where_it_stands() {
    let spec = json!({"action": "ALOW", "rules": [{}]});
    let (engine, problems) = for_workload(&[policy("default", "typo", spec)], Layer::Http);
    let why = ask(&engine, &Method::GET, "curl").unwrap_err();
    assert!(
        why.contains("AuthorizationPolicy default/typo at mesh/policies.yaml"),
        "{why}"
    );
    assert!(
        problems
            .iter()
            .any(|one| one.severity == Severity::Error && one.text.contains("ALOW"))
    );
}

#[test]
fn a_broken_object_closes_every_target_that_it_may_have_had() {
    let mut entry = policy("default", "unread", json!({}));
    Arc::get_mut(&mut entry).unwrap().broken = Some("unknown field `rulez`".into());
    let entries = [entry];
    let service = ServiceName::new("default", "reviews");
    let elsewhere = ServiceName::new("other", "reviews");
    let at = |service| Target::Service {
        service,
        registry: Registry::Kubernetes,
        waypoint: None,
    };
    let found = attached(inputs(&entries), &at(&service), &settings());
    let (closed, _) = engine(&found, Layer::Http, &settings());
    assert!(ask(&closed, &Method::GET, "curl").unwrap_err().contains("rulez"));
    assert!(attached(inputs(&entries), &at(&elsewhere), &settings()).is_empty());

    let mut nowhere = policy("", "unread", json!({"selector": {"matchLabels": {"app": "x"}}}));
    Arc::get_mut(&mut nowhere).unwrap().broken = Some("its namespace cannot be told".into());
    assert_eq!(
        attached(inputs(&[nowhere]), &at(&elsewhere), &settings()).len(),
        1
    );
}

#[test]
fn a_dry_run_that_is_invalid_closes_nothing_and_is_reported() {
    let object = json!({
        "metadata": {"name": "dry", "namespace": "default", "annotations": {"istio.io/dry-run": "true"}},
        "spec": {"action": "DENY"},
    });
    let policy: AuthorizationPolicy = serde_json::from_value(object).unwrap();
    let (engine, problems) = for_workload(&[entry(Resource::AuthorizationPolicy(policy))], Layer::Http);
    assert!(!engine.restricts());
    assert_eq!(problems.len(), 1);
}

#[test]
fn custom_fails_closed_and_says_so() {
    let spec = json!({
        "action": "CUSTOM",
        "provider": {"name": "opa"},
        "rules": [{"to": [{"operation": {"methods": ["POST"]}}]}],
    });
    let (engine, problems) = for_workload(&[policy("default", "ext", spec)], Layer::Http);
    assert_eq!(ask(&engine, &Method::GET, "curl"), Ok(()));
    assert!(ask(&engine, &Method::POST, "curl").is_err());
    assert!(
        problems
            .iter()
            .any(|one| one.text.contains("`opa` cannot be asked"))
    );
}

/// §9: the same DENY rule on three layers.
#[test]
fn a_deny_rule_about_http_means_different_things_without_http() {
    let only_http = json!({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["POST"]}}]}]});
    let with_port =
        json!({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["POST"], "ports": ["80"]}}]}]});
    for (spec, layer, port, allowed) in [
        (&only_http, Layer::Tcp, 80, false),
        (&only_http, Layer::L4, 80, true),
        (&with_port, Layer::Tcp, 80, false),
        (&with_port, Layer::Tcp, 81, true),
        (&with_port, Layer::L4, 80, false),
        (&with_port, Layer::L4, 81, true),
    ] {
        let (engine, _) = for_workload(&[policy("default", "deny", spec.clone())], layer);
        assert_eq!(connect(&engine, port), allowed, "{spec} {layer:?} {port}");
    }
}

fn strict(entries: &[Arc<Entry>]) -> (crate::snapshot::StrictPorts, Vec<Problem>) {
    let peers = entries.iter().filter_map(|entry| match &entry.resource {
        Resource::PeerAuthentication(policy) => Some(PeerInput { policy, entry }),
        _ => None,
    });
    strict_ports(peers, "default", &labels(&[("app", "reviews")]), &settings())
}

#[test]
fn the_oldest_peer_authentication_of_a_level_wins() {
    let mode = |mode: &str| json!({"mtls": {"mode": mode}});
    let entries = [
        peer("default", "a-new", Some("2026-02-01T00:00:00Z"), mode("STRICT")),
        peer(
            "default",
            "b-old",
            Some("2026-01-01T00:00:00Z"),
            mode("PERMISSIVE"),
        ),
        peer("default", "c-timeless", None, mode("STRICT")),
    ];
    let (strict, problems) = strict(&entries);
    assert!(!strict.default);
    let younger: Vec<_> = problems
        .iter()
        .map(|one| one.resource.as_ref().unwrap().name.to_string())
        .collect();
    assert_eq!(younger, ["a-new", "c-timeless"]);
    assert!(problems.iter().all(|one| one.text.contains("b-old")));
}

#[test]
fn narrower_levels_overrule_wider_ones_unless_unset() {
    let mesh = peer("istio-system", "mesh", None, json!({"mtls": {"mode": "STRICT"}}));
    assert!(strict(std::slice::from_ref(&mesh)).0.default);
    let unset = peer("default", "ns", None, json!({"mtls": {"mode": "UNSET"}}));
    assert!(strict(&[mesh.clone(), unset]).0.default);
    let permissive = peer("default", "ns", None, json!({"mtls": {"mode": "PERMISSIVE"}}));
    assert!(!strict(&[mesh.clone(), permissive.clone()]).0.default);
    let workload = peer(
        "default",
        "wl",
        None,
        json!({
            "selector": {"matchLabels": {"app": "reviews"}},
            "mtls": {"mode": "UNSET"},
            "portLevelMtls": {"9080": {"mode": "STRICT"}, "9090": {"mode": "UNSET"}},
        }),
    );
    let (ports, _) = strict(&[mesh, permissive, workload]);
    assert!(!ports.is_strict(80) && ports.is_strict(9080) && !ports.is_strict(9090));
    let foreign = peer(
        "istio-system",
        "wl",
        None,
        json!({
            "selector": {"matchLabels": {"app": "reviews"}}, "mtls": {"mode": "STRICT"},
        }),
    );
    assert!(
        !strict(&[foreign]).0.default,
        "a selector in the root namespace selects nothing"
    );
}

#[test]
fn disable_is_permissive_and_reported_as_ignored() {
    let (strict, problems) = strict(&[peer("default", "off", None, json!({"mtls": {"mode": "DISABLE"}}))]);
    assert!(!strict.default);
    let [problem] = &problems[..] else {
        panic!("{problems:?}")
    };
    assert_eq!(
        (problem.severity, problem.field.as_str()),
        (Severity::Ignored, "spec.mtls.mode")
    );
    assert!(problem.text.starts_with("DISABLE is ignored: "));
    assert_eq!(
        (&*problem.place.file, problem.remedy.is_empty()),
        ("mesh/policies.yaml", false)
    );
}

#[test]
fn an_invalid_peer_authentication_refuses_plaintext_everywhere() {
    let spec = json!({"mtls": {"mode": "PERMISIVE"}});
    let (strict, problems) = strict(&[peer("default", "typo", None, spec)]);
    assert!(strict.is_strict(80));
    assert!(problems.iter().any(|one| one.severity == Severity::Error));
}

#[test]
fn validation_refuses_what_admission_refuses() {
    for (spec, fragment) in [
        (
            json!({"rules": [{"to": [{"operation": {"paths": ["/a/{**}/{*}"]}}]}]}),
            "no operator may follow",
        ),
        (
            json!({"rules": [{"to": [{"operation": {"paths": ["/a{*}"]}}]}]}),
            "whole segment",
        ),
        (
            json!({"rules": [{"to": [{"operation": {"paths": ["/users/{id}"]}}]}]}),
            "whole segment",
        ),
        (
            json!({"rules": [{"when": [{"key": "request.auth.claims[a][]", "values": ["x"]}]}]}),
            "format a[b]",
        ),
        (
            json!({"rules": [{"when": [{"key": "source.ip", "values": ["x"]}]}]}),
            "bad IP",
        ),
        (
            json!({"rules": [{"when": [{"key": "destination.port", "values": ["+80"]}]}]}),
            "bad port",
        ),
        (
            json!({"rules": [{"from": [{"source": {"serviceAccounts": ["a/"]}}]}]}),
            "expected format",
        ),
        (
            json!({"rules": [{"from": [{"source": {"trustDomains": ["*a*"]}}]}]}),
            "wildcard",
        ),
        (json!({"rules": [{"from": [{}]}]}), "source must not be empty"),
        (
            json!({"rules": [{"when": [{"key": "experimental.envoy.filters.x[k]", "values": ["v"]}]}]}),
            "Envoy",
        ),
    ] {
        let entry = policy("default", "p", spec.clone());
        let Resource::AuthorizationPolicy(policy) = &entry.resource else {
            unreachable!()
        };
        let problems = validate(policy, &entry);
        let [problem] = &problems[..] else {
            panic!("{spec}: {problems:?}")
        };
        assert!(problem.text.contains(fragment), "{spec}: {problem}");
        assert!(problem.field.starts_with("spec.rules[0]."), "{problem}");
    }
}
