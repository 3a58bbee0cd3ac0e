//! BackendTLSPolicies: which ports they hold for, and what is said of them.

use super::kit::*;
use crate::compile::Compiled;
use crate::identity::dev_ca::DevCa;
use crate::policy::tls::{Origination, Roots, Subject};
use crate::snapshot::AppProtocol;

/// A service with two ports and somebody behind them, roots, and a Gateway with a route to it.
fn shop() -> String {
    let ca = DevCa::new_in_memory().unwrap();
    let root = ca.root_pem().trim_end().replace('\n', "\n    ");
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: shop, namespace: default}}
spec:
  selector: {{app: shop}}
  ports: [{{name: web, port: 443, appProtocol: HTTPS}}, {{name: plain, port: 80}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: shop-1, namespace: default, labels: {{app: shop}}}}
spec: {{serviceAccountName: shop}}
status: {{phase: Running, podIP: 10.0.0.7, conditions: [{{type: Ready, status: 'True'}}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: ca, namespace: default}}
data:
  ca.crt: |
    {root}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: bad, namespace: default}}
data: {{ca.crt: nonsense}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: front, namespace: default}}
spec: {{gatewayClassName: istio, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: default}}
spec: {{parentRefs: [{{name: front}}], rules: [{{backendRefs: [{{name: shop, port: 443}}]}}]}}
"
    )
}

const CA: &str = "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]";

fn policy(name: &str, target: &str, validation: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}, namespace: default, generation: 2}}
spec:
  targetRefs: [{{group: '', kind: Service, name: {target}}}]
  validation: {{hostname: shop.example.com, {validation}}}
"
    )
}

fn seen(texts: &[&str]) -> Compiled {
    let shop = shop();
    let mut all = vec![TOWN, &shop];
    all.extend(texts);
    seen_by(&gateway("default", "front"), &all)
}

fn tls<'s>(seen: &'s Compiled, authority: &str) -> &'s Origination {
    &seen.cluster(authority).endpoints.endpoints()[0].tls
}

/// What is said of a policy by each ancestor: `ancestor: Accepted ResolvedRefs`.
fn said(seen: &Compiled, name: &str) -> Vec<String> {
    let status = seen
        .statuses
        .iter()
        .find(|it| it.resource.kind == crate::name::Kind::BackendTLSPolicy && *it.resource.name == *name);
    let status = status.unwrap_or_else(|| panic!("nothing of {name}"));
    let reason =
        |it: &crate::compile::status::AncestorStatus, kind| it.condition(kind).unwrap().reason.clone();
    let lines = status.ancestors.iter();
    lines
        .map(|it| {
            assert!(it.conditions.iter().all(|it| it.observed_generation == Some(2)));
            format!(
                "{}: {} {}",
                it.ancestor_ref,
                reason(it, "Accepted"),
                reason(it, "ResolvedRefs")
            )
        })
        .collect()
}

#[test]
fn a_policy_holds_for_its_service_or_for_one_port_of_it() {
    let bare = seen(&[]);
    assert_eq!(*tls(&bare, "shop:443"), Origination::None);
    assert_eq!(
        bare.port("shop:443").protocol,
        AppProtocol::Tcp,
        "the caller's own TLS"
    );
    assert_eq!(
        bare.reason("HTTPRoute default/r", "ResolvedRefs"),
        "UnsupportedProtocol"
    );

    let whole = seen(&[&policy("p", "shop", CA)]);
    for authority in ["shop:443", "shop:80"] {
        let Origination::Tls(origin) = tls(&whole, authority) else {
            panic!("{:?}", tls(&whole, authority));
        };
        assert_eq!(&*origin.server_name, "shop.example.com");
        assert!(origin.subjects.is_empty());
        assert!(matches!(&origin.roots, Roots::Given(roots) if roots.len() == 1));
    }
    assert_eq!(
        whole.port("shop:443").protocol,
        AppProtocol::Http1,
        "HTTP is in the TLS that we begin"
    );
    assert_eq!(
        whole.reason("HTTPRoute default/r", "ResolvedRefs"),
        "ResolvedRefs"
    );
    assert_eq!(
        said(&whole, "p"),
        ["Gateway default/front: Accepted ResolvedRefs"]
    );

    let one = seen(&[&policy("p", "shop, sectionName: web", CA)]);
    assert!(matches!(tls(&one, "shop:443"), Origination::Tls(_)));
    assert_eq!(*tls(&one, "shop:80"), Origination::None);
    assert_eq!(*tls(&one, "reviews:9080"), Origination::None);
}

#[test]
fn within_the_mesh_it_holds_for_who_calls_the_workloads() {
    let shop = shop();
    let policy = policy("p", "reviews", CA);
    let caller = caller(&[TOWN, &shop, &policy]);
    assert!(matches!(tls(&caller, "reviews:9080"), Origination::Tls(_)));
    assert_eq!(
        said(&caller, "p"),
        ["Service default/reviews: Accepted ResolvedRefs"]
    );
    let bound = super::kit::caller(&[TOWN, BOUND, &shop, &policy]);
    assert_eq!(
        *tls(&bound, "reviews:9080"),
        Origination::None,
        "the waypoint begins it"
    );
    let waypoint = seen_by(&gateway("default", "waypoint"), &[TOWN, BOUND, &shop, &policy]);
    assert!(matches!(tls(&waypoint, "reviews:9080"), Origination::Tls(_)));
}

#[test]
fn names_that_may_be_proved_instead_of_the_host_name() {
    let names = format!(
        "{CA}, subjectAltNames: [{{type: Hostname, hostname: '*.example.com'}}, {{type: URI, uri: 'spiffe://a/b'}}]"
    );
    let seen = seen(&[&policy("p", "shop", &names)]);
    let Origination::Tls(origin) = tls(&seen, "shop:443") else {
        panic!("{:?}", tls(&seen, "shop:443"));
    };
    let [Subject::Host(host), Subject::Uri(uri)] = origin.subjects.as_slice() else {
        panic!("{:?}", origin.subjects);
    };
    assert_eq!(
        (host.to_string().as_str(), &**uri),
        ("*.example.com", "spiffe://a/b")
    );
}

#[test]
fn what_cannot_be_carried_out_stops_its_traffic() {
    let reference = |group: &str, kind: &str, name: &str| {
        format!("caCertificateRefs: [{{group: '{group}', kind: {kind}, name: {name}}}]")
    };
    let table = [
        (
            reference("", "ConfigMap", "none"),
            "NoValidCACertificate InvalidCACertificateRef",
        ),
        (
            reference("", "ConfigMap", "bad"),
            "NoValidCACertificate InvalidCACertificateRef",
        ),
        (reference("", "Secret", "ca"), "NoValidCACertificate InvalidKind"),
        (
            reference("x.example", "ConfigMap", "ca"),
            "NoValidCACertificate InvalidKind",
        ),
        (
            "wellKnownCACertificates: Strange".to_owned(),
            "Invalid ResolvedRefs",
        ),
        (
            format!("wellKnownCACertificates: System, {CA}"),
            "Invalid ResolvedRefs",
        ),
        (String::new(), "Invalid ResolvedRefs"),
        (
            format!("{CA}, subjectAltNames: [{{type: Email, hostname: a}}]"),
            "Invalid ResolvedRefs",
        ),
        (
            format!("{CA}, subjectAltNames: [{{type: Hostname, uri: 'a:b'}}]"),
            "Invalid ResolvedRefs",
        ),
    ];
    for (validation, expected) in table {
        let seen = seen(&[&policy("p", "shop", &validation)]);
        assert_eq!(
            said(&seen, "p"),
            [format!("Gateway default/front: {expected}")],
            "{validation}"
        );
        assert!(
            matches!(tls(&seen, "shop:443"), Origination::Refused(_)),
            "{validation}"
        );
        seen.problem(expected.split(' ').next().unwrap());
    }
    let nameless = seen(&[&policy("p", "shop", CA).replace("shop.example.com", "'*.example.com'")]);
    assert_eq!(
        said(&nameless, "p"),
        ["Gateway default/front: Invalid ResolvedRefs"]
    );
    let option = policy("p", "shop", CA) + "  options: {example.com/min-version: '1.3'}\n";
    assert!(matches!(
        tls(&seen(&[&option]), "shop:443"),
        Origination::Refused(_)
    ));
    let partly =
        reference("", "ConfigMap", "ca").replace("}]", "}, {group: '', kind: ConfigMap, name: none}]");
    let partly = seen(&[&policy("p", "shop", &partly)]);
    assert_eq!(
        said(&partly, "p"),
        ["Gateway default/front: Accepted InvalidCACertificateRef"]
    );
    assert!(matches!(tls(&partly, "shop:443"), Origination::Tls(_)));
    let system = seen(&[&policy("p", "shop", "wellKnownCACertificates: System")]);
    assert_eq!(
        said(&system, "p"),
        ["Gateway default/front: Accepted ResolvedRefs"]
    );
}

#[test]
fn a_policy_without_a_target_may_mean_any_service_of_its_namespace() {
    let lost = policy("p", "shop", CA).replace("[{group: '', kind: Service, name: shop}]", "[]");
    let seen = seen(&[&lost]);
    for authority in ["shop:443", "shop:80"] {
        assert!(
            matches!(tls(&seen, authority), Origination::Refused(_)),
            "{authority}"
        );
    }
    let told = seen.problems.iter().filter(|it| it.field == "spec.targetRefs");
    assert_eq!(told.count(), 1);
}

#[test]
fn a_policy_that_is_not_understood_stops_its_traffic() {
    let broken = |text: &str| {
        let shop = shop();
        let mut store = store(&[TOWN, &shop]);
        let parsed = crate::config::yaml::read("p.yaml", text, None);
        parsed.entries.into_iter().for_each(|it| store.apply(it));
        crate::compile::compile(&store, &gateway("default", "front"), &Default::default(), None)
    };
    let good = policy("p", "shop, sectionName: web", CA);
    let unknown = broken(&good.replace("hostname", "hostnames"));
    assert!(matches!(tls(&unknown, "shop:443"), Origination::Refused(_)));
    assert_eq!(
        *tls(&unknown, "shop:80"),
        Origination::None,
        "its target is known"
    );
    assert_eq!(
        said(&unknown, "p"),
        ["Gateway default/front: Invalid ResolvedRefs"]
    );
    let lost = broken(&good.replace("sectionName", "section"));
    for authority in ["shop:443", "shop:80", "reviews:9080"] {
        assert!(
            matches!(tls(&lost, authority), Origination::Refused(_)),
            "{authority}: not even the target is known"
        );
    }
}

#[test]
fn of_two_policies_for_one_target_the_older_counts_then_the_first_by_name() {
    let other = CA.replace("name: ca}]", "name: bad}]");
    let (a, b) = (policy("a", "shop", CA), policy("b", "shop", &other));
    let by_name = seen(&[&a, &b]);
    assert!(matches!(tls(&by_name, "shop:443"), Origination::Tls(_)));
    assert_eq!(
        said(&by_name, "a"),
        ["Gateway default/front: Accepted ResolvedRefs"]
    );
    assert_eq!(
        said(&by_name, "b"),
        ["Gateway default/front: Conflicted InvalidCACertificateRef"]
    );
    by_name.problem("BackendTLSPolicy default/a is older");

    let dated = |text: &str, year: u16| {
        text.replace(
            "generation: 2",
            &format!("generation: 2, creationTimestamp: '{year}-01-01T00:00:00Z'"),
        )
    };
    let by_age = seen(&[&dated(&a, 2025), &dated(&b, 2024)]);
    assert!(matches!(tls(&by_age, "shop:443"), Origination::Refused(_)));
    assert_eq!(
        said(&by_age, "a"),
        ["Gateway default/front: Conflicted ResolvedRefs"]
    );

    // One port of a target is another target, and the narrower.
    let narrow = seen(&[&a, &policy("b", "shop, sectionName: web", &other)]);
    assert!(matches!(tls(&narrow, "shop:443"), Origination::Refused(_)));
    assert!(matches!(tls(&narrow, "shop:80"), Origination::Tls(_)));
    assert_eq!(
        said(&narrow, "a"),
        ["Gateway default/front: Accepted ResolvedRefs"]
    );
}

#[test]
fn a_target_that_does_not_exist_is_said() {
    for target in ["none", "shop, sectionName: none"] {
        let seen = seen(&[&policy("p", target, CA)]);
        assert!(
            said(&seen, "p")[0].ends_with(": TargetNotFound ResolvedRefs"),
            "{:?}",
            said(&seen, "p")
        );
        seen.problem("TargetNotFound");
    }
    let kind = policy("p", "shop", CA).replace("kind: Service", "kind: Deployment");
    assert_eq!(
        said(&seen(&[&kind]), "p"),
        ["Deployment default/shop: TargetNotFound ResolvedRefs"]
    );
}

#[test]
fn connections_are_kept_as_long_as_the_demand_stays_the_same() {
    let (shop, p) = (shop(), policy("p", "shop", CA));
    let node = gateway("default", "front");
    let compile = |texts: &[&str], before: Option<&Compiled>| {
        let handover = Default::default();
        crate::compile::compile(&store(texts), &node, &handover, before.map(|it| &it.snapshot))
    };
    let first = compile(&[TOWN, &shop, &p], None);
    let cell =
        |seen: &Compiled| std::sync::Arc::as_ptr(&seen.cluster("shop:443").endpoints.endpoints()[0].cell);
    let same = compile(&[TOWN, BOUND, &shop, &p], Some(&first));
    assert_eq!(cell(&same), cell(&first));
    let (Origination::Tls(one), Origination::Tls(two)) = (tls(&first, "shop:443"), tls(&same, "shop:443"))
    else {
        panic!();
    };
    assert!(std::sync::Arc::ptr_eq(one, two), "what was made of it stays");
    let other = compile(
        &[TOWN, &shop, &p.replace("shop.example.com", "other.example.com")],
        Some(&first),
    );
    assert_ne!(
        cell(&other),
        cell(&first),
        "connections that proved another name are not used again"
    );
    assert_ne!(cell(&compile(&[TOWN, &shop], Some(&first))), cell(&first));
}
