//! `tls` of DestinationRules, as endpoints are told of it.

use super::kit::*;
use crate::compile::{Compiled, Content, Handover, compile};
use crate::config::{Severity, yaml};
use crate::identity::dev_ca::DevCa;
use crate::policy::tls::{Origination, Roots, Subject};
use crate::snapshot::{AppProtocol, Cluster};

/// A host outside, by HTTPS.
const OUTSIDE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: default}
spec:
  hosts: [api.example.com]
  subjectAltNames: [of-entry.example.com]
  resolution: STATIC
  ports: [{number: 443, name: https, protocol: HTTPS}, {number: 444, name: https-b, protocol: HTTPS}]
  endpoints: [{address: 10.1.0.1, labels: {v: one}}]
";

fn rule(host: &str, policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: default}}\n\
         spec: {{host: {host}, {policy}}}\n"
    )
}

fn outside(policy: &str) -> Compiled {
    caller(&[OUTSIDE, &rule("api.example.com", policy)])
}

fn spoken<'c>(seen: &'c Compiled, authority: &str) -> &'c Origination {
    of(seen.cluster(authority))
}

fn of(cluster: &Cluster) -> &Origination {
    &cluster.endpoints.endpoints()[0].tls
}

#[test]
fn simple_begins_tls_with_the_systems_roots_and_the_destinations_name() {
    let seen = outside("trafficPolicy: {tls: {mode: SIMPLE}}");
    let Origination::Tls(origin) = spoken(&seen, "api.example.com:443") else {
        panic!()
    };
    assert_eq!(
        (&*origin.server_name, &origin.roots),
        ("api.example.com", &Roots::System)
    );
    // A rule without names of its own takes the entry's.
    assert!(
        matches!(origin.subjects.as_slice(), [Subject::Host(host)] if host.to_string() == "of-entry.example.com")
    );
    // What is within is HTTP, for routes as for requests without one.
    assert_eq!(seen.cluster("api.example.com:443").protocol, AppProtocol::Http1);
    assert_eq!(seen.port("api.example.com:443").protocol, AppProtocol::Http1);
    assert!(
        !seen
            .problems
            .iter()
            .any(|it| it.field.starts_with("spec.subjectAltNames"))
    );
    let plain = caller(&[OUTSIDE]);
    assert_eq!(
        plain.problem("nobody proves this name").field,
        "spec.subjectAltNames[0]"
    );
    assert_eq!(*spoken(&plain, "api.example.com:443"), Origination::None);
    assert_eq!(plain.port("api.example.com:443").protocol, AppProtocol::Tcp);
}

#[test]
fn a_ports_and_a_subsets_settings_take_the_place_of_the_rules() {
    let seen = outside(
        "trafficPolicy: {tls: {mode: SIMPLE, sni: all.test}, portLevelSettings: [{port: {number: 444}, loadBalancer: {simple: \
         RANDOM}}]}, subsets: [{name: one, labels: {v: one}, trafficPolicy: {tls: {mode: SIMPLE, sni: one.test}}}]",
    );
    let name = |origination: &Origination| match origination {
        Origination::Tls(origin) => origin.server_name.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(name(spoken(&seen, "api.example.com:443")), "all.test");
    assert_eq!(
        name(spoken(&seen, "api.example.com:444")),
        "None",
        "nothing is inherited"
    );
    let subset = seen
        .snapshot
        .clusters
        .iter()
        .find(|it| it.subset.is_some() && it.port == 443);
    assert_eq!(name(of(subset.unwrap())), "one.test");
}

#[test]
fn within_the_mesh_hbone_is_what_istio_mutual_means() {
    let texts = [
        TOWN,
        &rule("reviews", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"),
    ];
    let seen = caller(&texts);
    let all = seen.cluster("reviews.default:9080").endpoints.endpoints();
    assert!(
        all.iter()
            .all(|it| it.is_tunnelled() && it.tls == Origination::None)
    );
    let plain = TOWN.replace(", networking.istio.io/tunnel: http", "");
    let seen = caller(&[&plain, texts[1]]);
    assert!(
        matches!(spoken(&seen, "reviews.default:9080"), Origination::Refused(why) if why.contains("ISTIO_MUTUAL"))
    );
}

#[test]
fn what_cannot_be_carried_out_sends_nothing_and_is_told() {
    for (tls, field) in [
        ("{mode: SIMPLE, caCrl: /x}", "caCrl"),
        ("{mode: SIMPLE, sni: '*.a'}", "sni"),
        ("{mode: SIMPLE, subjectAltNames: [10.0.0.1]}", "subjectAltNames"),
        ("{mode: MUTUAL, credentialName: none}", "credentialName"),
    ] {
        let seen = outside(&format!("trafficPolicy: {{tls: {tls}}}"));
        assert!(
            matches!(spoken(&seen, "api.example.com:443"), Origination::Refused(_)),
            "{tls}"
        );
        let problem = seen.problem("nothing is sent to api.example.com");
        assert_eq!(problem.severity, Severity::Error);
        assert_eq!(problem.field, format!("spec.trafficPolicy.tls.{field}"));
    }
    let wild = OUTSIDE.replace("[api.example.com]", "['*.example.com']");
    let seen = caller(&[
        &wild,
        &rule("'*.example.com'", "trafficPolicy: {tls: {mode: SIMPLE}}"),
    ]);
    assert_eq!(
        seen.problem("is the name to ask for").field,
        "spec.trafficPolicy.tls.sni"
    );
}

#[test]
fn files_are_asked_for_and_used_once_they_were_read() {
    let texts = [
        OUTSIDE,
        &rule(
            "api.example.com",
            "trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /ca.pem}}",
        ),
    ];
    let (store, node) = (store(&texts), workload("productpage-1"));
    let of_rule = |seen: &Compiled| {
        let ours = seen
            .problems
            .iter()
            .filter(|it| it.to_string().contains("DestinationRule"));
        ours.count()
    };
    let first = compile(&store, &node, &Handover::default(), None);
    assert_eq!(
        first.files.iter().map(|it| &**it).collect::<Vec<_>>(),
        ["/ca.pem"]
    );
    assert!(matches!(
        spoken(&first, "api.example.com:443"),
        Origination::Refused(_)
    ));
    assert_eq!(of_rule(&first), 0, "it is only a matter of time");
    let told = |content: Result<&str, &str>| {
        let content = content.map(|text| Content::from(text.as_bytes().to_vec()));
        let handover = Handover {
            files: [("/ca.pem".into(), content.map_err(Into::into))].into(),
            ..Handover::default()
        };
        compile(&store, &node, &handover, None)
    };
    let ca = DevCa::new_in_memory().unwrap();
    let read = told(Ok(ca.root_pem()));
    assert!(
        matches!(spoken(&read, "api.example.com:443"), Origination::Tls(it) if matches!(it.roots, Roots::Given(_)))
    );
    assert_eq!(of_rule(&read), 0);
    for bad in [Ok("nonsense"), Err("no such file")] {
        let seen = told(bad);
        assert!(matches!(
            spoken(&seen, "api.example.com:443"),
            Origination::Refused(_)
        ));
        assert_eq!(of_rule(&seen), 1);
    }
}

/// What must not happen: a mistake in a rule, and what was meant for TLS is sent in the clear.
#[test]
fn a_rule_that_speaks_of_tls_and_cannot_be_read_lets_nothing_through() {
    let seen = |policy: &str| {
        let mut store = store(&[OUTSIDE]);
        let read = yaml::read("rule.yaml", &rule("api.example.com", policy), None);
        assert!(!read.problems.is_empty(), "{policy}");
        read.entries.into_iter().for_each(|it| store.apply(it));
        compile(&store, &workload("productpage-1"), &Handover::default(), None)
    };
    for policy in [
        "trafficPolicy: {tls: {mode: SIMPEL}}",
        "trafficPolicy: {tls: {mode: SIMPLE, caCertificate: /ca.pem}}",
        "trafficPolicy: {tls: {mode: MUTUAL}}",
        "trafficPolicy: {tls: {mode: SIMPLE}, loadBalancer: {simple: 7}}",
        "trafficPolicy: {portLevelSettings: [{port: {number: x}, tls: {mode: SIMPLE}}]}",
    ] {
        let seen = seen(policy);
        let Origination::Refused(why) = spoken(&seen, "api.example.com:443") else {
            panic!("{policy}")
        };
        assert!(why.contains("DestinationRule default/r may demand TLS"), "{why}");
    }
    // One that does not speak of it costs what it says and no more.
    let other = seen("trafficPolicy: {loadBalancer: {simple: 7}}");
    assert_eq!(*spoken(&other, "api.example.com:443"), Origination::None);
}
